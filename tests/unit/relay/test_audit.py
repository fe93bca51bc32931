"""Audit lines: they look like all log lines, and a syslog daemon may hang, end and start again."""

from __future__ import annotations

import json
import logging
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sluice.logs import JsonFormatter
from sluice.relay import audit as audit_module
from sluice.relay.audit import Audit
from tests.felt import Stopwatch

FIELDS: dict[str, Any] = {
    "request_id": "req-" + "0" * 32,
    "user": "u-1",
    "model": "tiny",
    "path": "/v1/chat/completions",
    "instance": "tiny-00000001",
    "status": 200,
    "outcome": "ok",
    "bytes_in": 10,
    "bytes_out": 20,
    "duration": 0.1234,
}


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[socket.socket]:
    with listening(tmp_path / "log") as sock:
        yield sock


def listening(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.bind(str(path))
    sock.settimeout(5)
    return sock


@pytest.fixture
def audit(tmp_path: Path) -> Iterator[Audit]:
    made = Audit(str(tmp_path / "log"))
    yield made
    made.close()


def test_a_line_is_what_the_logging_module_would_have_written(daemon: socket.socket, audit: Audit) -> None:
    audit.request(class_="api", **FIELDS)
    priority, _, text = daemon.recv(65536).decode().partition("sluice-relay: ")
    record = logging.makeLogRecord({"msg": "request", "levelname": "INFO", "class": "api", **FIELDS})
    expected = json.loads(JsonFormatter("relay").format(record))
    found = json.loads(text)
    # Facility daemon, severity informational.
    assert priority == f"<{3 * 8 + 6}>"
    assert abs(parsed(found.pop("time")) - parsed(expected.pop("time"))) < 60
    assert found == expected


def parsed(stamp: str) -> float:
    assert stamp.endswith("Z")
    seconds, _, fraction = stamp[:-1].partition(".")
    assert len(fraction) == 3
    return time.mktime(time.strptime(seconds, "%Y-%m-%dT%H:%M:%S")) + int(fraction) / 1000


def test_no_daemon_is_no_fault(audit: Audit, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(10):
        audit.request(class_="api", **FIELDS)
    assert caplog.records == []


def test_a_daemon_that_hangs_is_not_waited_for_and_the_loss_is_told(
    daemon: socket.socket, audit: Audit, caplog: pytest.LogCaptureFixture
) -> None:
    with Stopwatch() as felt:
        for _ in range(5000):
            audit.request(class_="api", **FIELDS)
    assert felt.seconds < 10
    daemon.settimeout(0)
    taken = 0
    while True:
        try:
            daemon.recv(65536)
        except BlockingIOError:
            break
        taken += 1
    audit.request(class_="api", **FIELDS)
    assert [vars(record)["lost"] for record in caplog.records] == [5000 - taken]
    assert taken < 5000


def test_a_daemon_that_was_restarted_is_found_again(
    tmp_path: Path, audit: Audit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_module, "REOPEN_SECONDS", 0.0)
    with listening(tmp_path / "log") as first:
        audit.request(class_="api", **FIELDS)
        first.recv(65536)
    (tmp_path / "log").unlink()
    audit.request(class_="api", **FIELDS)
    with listening(tmp_path / "log") as second:
        audit.request(class_="api", **FIELDS)
        assert b'"outcome": "ok"' in second.recv(65536)


def read_all(daemon: socket.socket) -> list[dict[str, Any]]:
    """Return every line that has arrived, as JSON."""
    daemon.settimeout(0)
    found = []
    while True:
        try:
            found.append(json.loads(daemon.recv(65536).decode().partition("sluice-relay: ")[2]))
        except BlockingIOError:
            return found


def test_a_flood_of_refused_requests_is_told_in_few_lines_and_none_is_lost(
    daemon: socket.socket, audit: Audit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without this, 32,000 heads in 3 s caused 26,405 lines."""
    lines: list[dict[str, Any]] = []
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    flooded = Audit(str(daemon.getsockname()))
    for _ in range(3):
        for number in range(10_000):
            outcome = "rate_limited" if number % 4 else "model_not_found"
            flooded.request(class_="api", **{**FIELDS, "instance": "", "status": 429, "outcome": outcome})
            lines += read_all(daemon)
        clock[0] += 1.0
        flooded.tick()
        lines += read_all(daemon)
    flooded.close()
    own = [line for line in lines if line["message"] == "request"]
    summaries = [line for line in lines if line["message"] == "requests without a line each"]
    assert len(own) == 3 * audit_module.UNSERVED_LINES and len(summaries) == 3
    assert len(own) + sum(line["count"] for line in summaries) == 30_000
    assert summaries[0]["outcomes"].keys() == {"rate_limited", "model_not_found"}
    assert sum(summaries[0]["outcomes"].values()) == summaries[0]["count"]


def test_requests_that_an_instance_answered_have_a_line_each_in_a_flood_too(
    daemon: socket.socket, audit: Audit
) -> None:
    for _ in range(500):
        audit.request(class_="api", **{**FIELDS, "instance": "", "outcome": "model_not_found"})
    read_all(daemon)
    found = []
    for _ in range(500):
        audit.request(class_="api", **FIELDS)
        found += read_all(daemon)
    assert len(found) == 500


def test_what_the_daemon_does_not_take_of_a_flood_is_told_later(tmp_path: Path) -> None:
    audit = Audit(str(tmp_path / "log"))
    for _ in range(100):
        audit.request(class_="api", **{**FIELDS, "instance": "", "outcome": "closed"})
    audit.tick()
    with listening(tmp_path / "log") as daemon:
        audit._opened = float("-inf")
        audit.close()
        (line,) = read_all(daemon)
    assert line["outcomes"]["closed"] == line["count"] == 100 - audit_module.UNSERVED_LINES
