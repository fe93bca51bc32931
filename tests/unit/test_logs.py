"""Log lines: JSON, with the caller's fields, and never the text of an exception."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

import pytest

from sluice.logs import JsonFormatter, log_loop_fault


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
