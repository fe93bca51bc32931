"""The format of errors on a path: OpenAI's, an event of the Responses API, or Anthropic's.

A fault is described once, in OpenAI's shape (`SluiceError.to_openai`); a dialect puts that in its own words.
"""

from __future__ import annotations

import json
import re
from typing import Any

from sluice.proxy.http.events import BOUNDARY

MESSAGES_PATH = "/v1/messages"
RESPONSES_PATH = "/v1/responses"

# Of an event that went out, its place in the stream; a quote in a model's text is escaped: this is no text.
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
    """Return JSON without needless spaces."""
    return json.dumps(body, separators=(",", ":")).encode()


class Dialect:
    """OpenAI's words.

    `id_header`: by what header beside X-Request-Id its clients know a request, or "". `remembered`: how many
    of the last bytes of a stream its events need to know.
    """

    id_header = ""
    remembered = len(BOUNDARY)

    def document(self, error: dict[str, Any], status: int) -> dict[str, Any]:
        """Return the body of an answer with `status` for an error in OpenAI's shape."""
        return error

    def event(self, error: dict[str, Any], status: int, before: bytes) -> bytes:
        """Return the event that ends a stream with an error; `before` is how what was sent last ends."""
        return b"data: " + dump(self.document(error, status)) + BOUNDARY


class _Responses(Dialect):
    """The Responses API's: its streams are of named, numbered events."""

    # The number of a longer event may be out of reach: then an event of our own has the number 0.
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
            # By this member clients know an error in any stream.
            "error": told,
        }
        return b"event: error\ndata: " + dump(event) + BOUNDARY


class _Anthropic(Dialect):
    """The Messages API's: its own types of errors, and the request's id beside them."""

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
    """Return the dialect of a path, be there such a path or not."""
    if path == MESSAGES_PATH or path.startswith(MESSAGES_PATH + "/"):
        return _ANTHROPIC
    return _RESPONSES if path == RESPONSES_PATH else OPENAI
