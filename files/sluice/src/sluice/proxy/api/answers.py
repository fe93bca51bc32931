"""HTTP answers in the format of the OpenAI API."""

from __future__ import annotations

import functools
import json
import math
import re
import time
from email.utils import formatdate
from typing import Any

from aiohttp import HttpVersion11, web

from sluice.contracts.status import ModelStatus
from sluice.errors import SluiceError, error_type
from sluice.proxy.accounts.stops import STOPPED
from sluice.proxy.api.openapi import CACHED_SECONDS, Description
from sluice.proxy.http.dialect import dump
from sluice.proxy.requests.context import RequestContext

# What an engine says of a request that it refuses is at most this long.
MAX_ENGINE_MESSAGE = 2000
# How engines say that a prompt does not fit: vLLM (three ways), llama.cpp, SGLang.
TOO_LONG = re.compile(
    r"maximum context length|maximum model length|exceeds the max_model_len"
    r"|exceeds the available context size|model's context length",
    re.IGNORECASE,
)
# The field in which each path's prompt is.
TEXT_FIELDS = {
    "chat": "messages",
    "completions": "prompt",
    "responses": "input",
    "embeddings": "input",
    "rerank": "documents",
    "messages": "messages",
    "count_tokens": "messages",
    "input_tokens": "input",
    "tokenize": "prompt",
}
# A program that waits for longer looks as if it hung (seconds): its person is to decide.
LONGEST_RETRY = 60


def headers(context: RequestContext) -> dict[str, str]:
    """Return the headers that every answer has, and this one's own."""
    return {
        "X-Request-Id": context.request_id,
        "Cache-Control": "no-store",
        "Server": "sluice",
        **context.headers,
    }


def document(context: RequestContext, body: dict[str, Any], status: int = 200) -> web.Response:
    """Return a JSON answer."""
    return whole(context, dump(body), status, "application/json")


def whole(context: RequestContext, body: bytes, status: int, content_type: str) -> web.Response:
    """Return an answer with all of its body."""
    return web.Response(body=body, status=status, content_type=content_type, headers=headers(context))


def preflight(context: RequestContext) -> web.Response:
    """Return the answer to a browser that asks what a page may send: all of it is in the headers."""
    return web.Response(status=204, headers=headers(context))


def description(context: RequestContext, found: Description, known: str | None) -> web.Response:
    """Return the API's description, or that it is still the one with the tag `known`."""
    if known == found.tag:
        response = web.Response(status=304, headers=headers(context))
    else:
        response = whole(context, found.body, 200, "application/json")
    response.headers["Cache-Control"] = f"public, max-age={CACHED_SECONDS}"
    response.headers["ETag"] = found.tag
    return response


class SmallAnswer(web.StreamResponse):
    """A small answer that is all there: head and body are put together by hand and written at once."""

    def __init__(self, context: RequestContext, body: bytes, content_type: str) -> None:
        super().__init__()
        more = "".join(f"{name}: {value}\r\n" for name, value in context.headers.items())
        self._rest = (
            f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n{more}"
            f"X-Request-Id: {context.request_id}\r\nCache-Control: no-store\r\nServer: sluice\r\n\r\n"
        ).encode("ascii") + body

    async def prepare(self, request: web.BaseRequest) -> None:
        """Write the answer. Raises ConnectionResetError when the client has left."""
        if request.transport is None:
            raise ConnectionResetError
        self._keep_alive = request.keep_alive
        close = b"" if request.keep_alive and request.version >= HttpVersion11 else _connection(request)
        request.transport.write(b"HTTP/1.1 200 OK\r\nDate: %b\r\n%b%b" % (_date(), close, self._rest))

    async def write_eof(self, data: bytes = b"") -> None:
        """Do nothing more: all of it is written."""


def _connection(request: web.BaseRequest) -> bytes:
    return b"Connection: keep-alive\r\n" if request.keep_alive else b"Connection: close\r\n"


def _date() -> bytes:
    return _date_at(int(time.time()))


@functools.lru_cache(maxsize=1)
def _date_at(second: int) -> bytes:
    return formatdate(second, usegmt=True).encode("ascii")


def error(context: RequestContext, fault: SluiceError, allow: str = "") -> web.Response:
    """Return the answer for a fault; `allow` is the list of methods that a path knows."""
    told = context.dialect.document(fault.to_openai(context.request_id), fault.status)
    response = document(context, told, fault.status)
    if allow:
        response.headers["Allow"] = allow
    response.headers.update(_when_again(fault))
    if fault.status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def _when_again(fault: SluiceError) -> dict[str, str]:
    """Return the headers that say when to come again, and not to if that is long or never.

    Public clients that are not told so wait for hours, or come back at once: what they make of a long
    `Retry-After` differs from version to version.
    """
    told = {}
    if fault.retry_after is not None:
        told["Retry-After"] = str(max(1, math.ceil(fault.retry_after)))
    elif fault.status != 429:
        return told
    if fault.retry_after is None or math.ceil(fault.retry_after) > LONGEST_RETRY:
        told["x-should-retry"] = "false"
    return told


def error_event(context: RequestContext, fault: SluiceError, before: bytes) -> bytes:
    """Return the event that ends a broken stream; `before` is what was sent last, of whole events."""
    return context.dialect.event(fault.to_openai(context.request_id), fault.status, before)


class _Events(web.StreamResponse):
    # The head leaves with the first event, in one write.
    _send_headers_immediately = False


def stream(context: RequestContext) -> web.StreamResponse:
    """Return the start of an event stream. X-Accel-Buffering keeps nginx from collecting it."""
    return _Events(
        status=200,
        headers={**headers(context), "Content-Type": "text/event-stream", "X-Accel-Buffering": "no"},
    )


def refusal(request_id: str, status: int, raw: bytes, capability: str) -> tuple[dict[str, Any], int, str]:
    """Return error (in OpenAI's shape), status and code for an engine's own error answer.

    `capability` is that of the path. What the engine says of a request that it does not take (4xx) is for the
    client; what it says of its own faults is not.
    """
    if status == 429:
        fault = SluiceError(
            "overloaded", "The instance accepts no more requests at the moment.", retry_after=1.0
        )
    elif 400 <= status < 500:
        message, param = _engine_error(raw)
        if TOO_LONG.search(message) is None:
            fault = SluiceError("invalid_request", message, param=param)
        else:
            fault = SluiceError("context_length_exceeded", message, param=TEXT_FIELDS[capability])
        body = fault.to_openai(request_id)
        body["error"]["type"] = error_type(status)
        return body, status, fault.code
    else:
        fault = SluiceError("instance_failed", "The instance failed to answer.")
    return fault.to_openai(request_id), fault.status, fault.code


def _engine_error(raw: bytes) -> tuple[str, str | None]:
    try:
        answer = json.loads(raw)
    except (ValueError, RecursionError):
        answer = None
    found = answer.get("error", answer) if isinstance(answer, dict) else None
    message = found.get("message", found.get("detail")) if isinstance(found, dict) else found
    param = found.get("param") if isinstance(found, dict) else None
    if not isinstance(message, str) or not message:
        message = "The engine refused this request."
    return message[:MAX_ENGINE_MESSAGE], param[:200] if isinstance(param, str) else None


def model(status: ModelStatus, *, stopped: bool = False) -> dict[str, Any]:
    """Return a model as `GET /v1/models` shows it: OpenAI's fields, and its live state.

    `stopped`: an administrator has stopped it at this gateway, whatever its cluster says.
    """
    return {
        "id": status.name,
        "object": "model",
        "created": status.created,
        "owned_by": "sluice",
        "status": STOPPED if stopped else status.status,
        "ready": status.ready,
        "starting": status.starting,
        "expected_ready": status.expected_ready,
        "context_length": status.context_length,
        "max_model_len": status.context_length,
        "capabilities": list(status.capabilities),
        "description": status.description,
    }
