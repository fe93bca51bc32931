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

# An engine's message about a refused request is cut to this many characters.
MAX_ENGINE_MESSAGE = 2000
# The messages of engines for a prompt that is too long: vLLM (three), llama.cpp, SGLang.
TOO_LONG = re.compile(
    r"maximum context length|maximum model length|exceeds the max_model_len"
    r"|exceeds the available context size|model's context length",
    re.IGNORECASE,
)
# The field with the prompt, by capability.
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
# A program that waits longer than this seems to hang (seconds): its user should decide instead.
LONGEST_RETRY = 60


def headers(context: RequestContext) -> dict[str, str]:
    """Return the headers of every answer and those of this one."""
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
    """Return an answer with a complete body."""
    return web.Response(body=body, status=status, content_type=content_type, headers=headers(context))


def preflight(context: RequestContext) -> web.Response:
    """Return the answer to a browser's preflight request: the headers say what a page may send."""
    return web.Response(status=204, headers=headers(context))


def description(context: RequestContext, found: Description, known: str | None) -> web.Response:
    """Return the API's description, or status 304 if the client has it already (tag `known`)."""
    if known == found.tag:
        response = web.Response(status=304, headers=headers(context))
    else:
        response = whole(context, found.body, 200, "application/json")
    response.headers["Cache-Control"] = f"public, max-age={CACHED_SECONDS}"
    response.headers["ETag"] = found.tag
    return response


class SmallAnswer(web.StreamResponse):
    """A small, complete answer: head and body are built by hand and written at once, which is faster."""

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
        """Do nothing: `prepare` has written everything."""


def _connection(request: web.BaseRequest) -> bytes:
    return b"Connection: keep-alive\r\n" if request.keep_alive else b"Connection: close\r\n"


def _date() -> bytes:
    return _date_at(int(time.time()))


@functools.lru_cache(maxsize=1)
def _date_at(second: int) -> bytes:
    return formatdate(second, usegmt=True).encode("ascii")


def error(context: RequestContext, fault: SluiceError, allow: str = "") -> web.Response:
    """Return the answer for an error; `allow` is the path's list of methods, for status 405."""
    told = context.dialect.document(fault.to_openai(context.request_id), fault.status)
    response = document(context, told, fault.status)
    if allow:
        response.headers["Allow"] = allow
    response.headers.update(_when_again(fault))
    if fault.status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def _when_again(fault: SluiceError) -> dict[str, str]:
    """Return the headers that say when to retry, and not to retry after a long time or never.

    Without `x-should-retry`, public clients wait for hours or retry at once: they treat a long `Retry-After`
    differently from version to version.
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
    """Return the event that ends a broken stream; `before`: the last bytes of the events sent so far."""
    return context.dialect.event(fault.to_openai(context.request_id), fault.status, before)


class _Events(web.StreamResponse):
    # The head is sent with the first event, in one write.
    _send_headers_immediately = False


def stream(context: RequestContext) -> web.StreamResponse:
    """Return the start of an event stream. X-Accel-Buffering stops nginx from buffering it."""
    return _Events(
        status=200,
        headers={**headers(context), "Content-Type": "text/event-stream", "X-Accel-Buffering": "no"},
    )


def refusal(request_id: str, status: int, raw: bytes, capability: str) -> tuple[dict[str, Any], int, str]:
    """Return the error (in OpenAI's format), status and code for an engine's error answer.

    `capability` is that of the path. The engine's message about a refused request (4xx) goes to the client;
    its message about its own failure does not.
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
    """Return a model as `GET /v1/models` shows it: OpenAI's fields and the current state.

    `stopped`: an administrator has stopped it at this gateway; that overrides the cluster's status.
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
