"""The format of errors on a path: OpenAI's, an event of the Responses API, or Anthropic's.

An error is written once in OpenAI's format (`SluiceError.to_openai`); a dialect converts it.
"""

from __future__ import annotations

import json
import re
from typing import Any

from sluice.proxy.http.events import BOUNDARY

MESSAGES_PATH = "/v1/messages"
RESPONSES_PATH = "/v1/responses"

# An event's number. Quotes in a model's text are escaped, so this never matches inside a text.
_SEQUENCE = re.compile(rb'(?<!\\)"sequence_number":\s*([0-9]{1,18})')
_ANTHROPIC_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}


def dump(body: dict[str, Any]) -> bytes:
    """Return JSON without spaces between tokens."""
    return json.dumps(body, separators=(",", ":")).encode()


class Dialect:
    """OpenAI's format.

    `id_header`: a second header for the request id, or "". `remembered`: how many of a stream's last bytes
    `event` needs.
    """

    id_header = ""
    remembered = len(BOUNDARY)

    def document(self, error: dict[str, Any], status: int) -> dict[str, Any]:
        """Return the body of an answer with `status`, for an error in OpenAI's format."""
        return error

    def event(self, error: dict[str, Any], status: int, before: bytes) -> bytes:
        """Return the event that ends a stream with an error; `before`: the last bytes that were sent."""
        return b"data: " + dump(self.document(error, status)) + BOUNDARY


class _Responses(Dialect):
    """The Responses API's format: streams have named, numbered events."""

    # If the last event is longer than this, its number may be missed; then the error's number is 0.
    remembered = 4096

    def event(self, error: dict[str, Any], status: int, before: bytes) -> bytes:
        told = error["error"]
        numbers = _SEQUENCE.findall(before)
        event = {
            "type": "error",
            "code": told["code"],
            "message": told["message"],
            "param": told["param"],
            "sequence_number": int(numbers[-1]) + 1 if numbers else 0,
            # Clients recognise an error in any stream by this member.
            "error": told,
        }
        return b"event: error\ndata: " + dump(event) + BOUNDARY


class _Anthropic(Dialect):
    """The Messages API's format: its own error types, and the request id outside of the error."""

    id_header = "Request-Id"

    def document(self, error: dict[str, Any], status: int) -> dict[str, Any]:
        told = dict(error["error"])
        told["type"] = _anthropic_type(status)
        return {"type": "error", "error": told, "request_id": told.pop("request_id")}

    def event(self, error: dict[str, Any], status: int, before: bytes) -> bytes:
        return b"event: error\n" + super().event(error, status, before)


def _anthropic_type(status: int) -> str:
    return _ANTHROPIC_TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")


OPENAI = Dialect()
_RESPONSES = _Responses()
_ANTHROPIC = _Anthropic()


def of(path: str) -> Dialect:
    """Return the dialect of a path, even of an unknown one."""
    if path == MESSAGES_PATH or path.startswith(MESSAGES_PATH + "/"):
        return _ANTHROPIC
    return _RESPONSES if path == RESPONSES_PATH else OPENAI
