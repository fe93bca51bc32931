"""Log lines: JSON, with the caller's fields, and never the text of an exception."""

from __future__ import annotations

import json
import logging
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sluice import logs
from sluice.logs import JsonFormatter, log_loop_fault
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
    """A syslog socket to which the root logger writes; only the test reads it."""
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
