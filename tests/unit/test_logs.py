"""Log lines: JSON, with the caller's fields, and never the text of an exception."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sluice import logs
from sluice.logs import JsonFormatter, LineWriter, log_loop_fault
from tests.felt import Stopwatch


def line(record: logging.LogRecord) -> dict[str, Any]:
    text = JsonFormatter("proxy").format(record)
    assert "\n" not in text
    decoded = json.loads(text)
    assert isinstance(decoded, dict)
    return decoded


def record(message: str, **fields: Any) -> logging.LogRecord:
    return logging.makeLogRecord(
        {"msg": message, "levelname": "INFO", "created": 1.5, "msecs": 500, **fields}
    )


def test_a_line_has_time_level_component_message_and_fields() -> None:
    assert line(record("request", request_id="req-1", status=200)) == {
        "time": "1970-01-01T00:00:01.500Z",
        "level": "info",
        "component": "proxy",
        "message": "request",
        "request_id": "req-1",
        "status": 200,
    }


def test_line_feeds_in_a_field_stay_inside_the_line() -> None:
    assert line(record("a\nb", problem="x\ny"))["problem"] == "x\ny"


def test_of_an_exception_the_type_and_place_are_kept_and_never_its_text() -> None:
    try:
        int("what a user wrote")
    except ValueError:
        decoded = line(record("unexpected fault", exc_info=sys.exc_info()))
    assert decoded["exception"] == "ValueError"
    assert "test_logs.py" in decoded["at"][-1]
    assert "what a user wrote" not in json.dumps(decoded)


def test_a_complaint_of_the_event_loop_keeps_its_words_to_itself(caplog: pytest.LogCaptureFixture) -> None:
    log_loop_fault(None, {"message": "canary", "exception": OSError("canary")})
    log_loop_fault(None, {"message": "canary"})
    lines = [line(entry) for entry in caplog.records]
    assert [entry.get("exception") for entry in lines] == ["OSError", None]
    assert "canary" not in json.dumps(lines)


@pytest.fixture
def syslog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A syslog daemon's socket that the root logger writes to; nobody reads it unless the test does."""
    path = str(tmp_path / "log")
    monkeypatch.setattr(logs, "SYSLOG_SOCKET", path)
    root = logging.getLogger()
    handlers, level, raising = root.handlers[:], root.level, logging.raiseExceptions
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as daemon:
        daemon.bind(path)
        daemon.settimeout(5)
        logs.configure("relay", syslog=True)
        yield daemon
    for handler in root.handlers:
        handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.raiseExceptions = raising


def test_a_syslog_daemon_that_hangs_holds_nobody_up_and_the_gap_is_told(
    syslog: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "SYSLOG_DEAF", 1.0)
    log = logging.getLogger("sluice.test")
    with Stopwatch() as felt:
        for _ in range(2000):
            log.info("request")
    assert felt.seconds < 10
    syslog.setblocking(False)
    with pytest.raises(BlockingIOError):
        while True:
            syslog.recv(65_536)
    time.sleep(1.1)
    log.info("after")
    syslog.settimeout(5)
    gap, after = (json.loads(syslog.recv(65_536).partition(b"sluice-relay: ")[2]) for _ in range(2))
    assert gap["message"] == "log lines were lost: the syslog daemon accepted none"
    assert gap["lost"] > 1000
    assert after["message"] == "after"


# --- lines past the logging module ------------------------------------------------------------------------


def pipe() -> tuple[int, int]:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    return reader, writer


def read_lines(reader: int) -> list[dict[str, Any]]:
    """Return the lines that are there now."""
    raw = b""
    try:
        while piece := os.read(reader, 1 << 20):
            raw += piece
    except BlockingIOError:
        pass
    assert raw.endswith(b"\n"), "a line was cut"
    return [json.loads(entry) for entry in raw.splitlines()]


async def test_a_line_past_the_logging_module_is_as_the_others() -> None:
    reader, descriptor = pipe()
    writer = LineWriter("proxy", descriptor)
    writer.info("request", '"status": 200')
    await asyncio.sleep(3 * logs.LINES_GATHER)
    (entry,) = read_lines(reader)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", entry.pop("time"))
    assert entry == {"level": "info", "component": "proxy", "message": "request", "status": 200}


async def test_a_level_above_info_keeps_those_lines_away() -> None:
    reader, descriptor = pipe()
    writer = LineWriter("proxy", descriptor, "warning")
    writer.info("request", '"status": 200')
    writer.flush()
    with pytest.raises(BlockingIOError):
        os.read(reader, 1)


async def test_a_journal_that_takes_nothing_holds_nobody_up_and_the_gap_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(logs, "LINES_HELD", 200_000)
    monkeypatch.setattr(logs, "LINES_RETRY", 0.01)
    reader, descriptor = pipe()
    writer = LineWriter("proxy", descriptor)
    with Stopwatch() as felt:
        for number in range(5000):
            writer.info("request", f'"number": {number}, "pad": "{"x" * 100}"')
            if number % 100 == 0:
                writer.flush()
    assert felt.seconds < 5
    assert writer._held <= 201_000
    found = read_lines(reader)
    for _ in range(200):
        await asyncio.sleep(0.01)
        try:
            found += read_lines(reader)
        except AssertionError:
            continue  # nothing was there
        if caplog.records:
            break
    numbers = [entry["number"] for entry in found]
    assert numbers == list(range(len(numbers))), "what is held back goes first, and whole"
    (gap,) = caplog.records
    assert gap.__dict__["lost"] == 5000 - len(numbers) > 1000


async def test_a_journal_that_is_gone_is_no_fault(caplog: pytest.LogCaptureFixture) -> None:
    reader, descriptor = pipe()
    writer = LineWriter("proxy", descriptor)
    os.close(reader)
    writer.info("request", '"status": 200')
    writer.flush()
    assert [entry.__dict__["lost"] for entry in caplog.records] == [1]
