"""Which requests a front lets through: pure checks of a head, before any byte of a body is read."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import Optional

import h11

from sluice.errors import SluiceError
from sluice.records import REQUEST_ID

ROUTES = {
    b"/health": b"GET",
    b"/metrics": b"GET",
    b"/v1/chat/completions": b"POST",
    b"/v1/completions": b"POST",
}


@dataclass(frozen=True)
class Accepted:
    """A request that may go on to the engine; `length` is that of the body to come, in bytes."""

    method: str
    path: str
    length: int
    request_id: str


def screen(request: h11.Request, key: str, max_body: int) -> Accepted:
    """Check a request's head against the closed list. Raises SluiceError.

    The key comes first: without it nothing is learnt, not even which paths exist.
    """
    if not _authorised(request, key):
        raise SluiceError("invalid_api_key", "the job's key is required")
    if bytes(request.http_version) != b"1.1":
        raise SluiceError("invalid_request", "HTTP/1.1 is required")
    method = ROUTES.get(bytes(request.target))
    if method is None:
        raise SluiceError("path_not_found", "no such path")
    if bytes(request.method) != method:
        raise SluiceError("method_not_allowed", "this path takes " + method.decode())
    return Accepted(
        method.decode(),
        bytes(request.target).decode(),
        _length(request, method == b"POST", max_body),
        _request_id(request),
    )


def _authorised(request: h11.Request, key: str) -> bool:
    offered = _values(request, b"authorization")
    return len(offered) == 1 and hmac.compare_digest(offered[0], b"Bearer " + key.encode())


def _length(request: h11.Request, body: bool, max_body: int) -> int:
    if _values(request, b"transfer-encoding"):
        raise SluiceError("length_required", "a body comes with Content-Length, never in chunks")
    given = _one(request, b"content-length")
    if given is None:
        if body:
            raise SluiceError("length_required", "Content-Length is required")
        return 0
    # h11 has already checked that it is a number.
    length = int(given)
    if length > max_body:
        raise SluiceError("body_too_large", f"a body has at most {max_body} bytes")
    if not body and length:
        raise SluiceError("invalid_request", "this path takes no body")
    return length


def _request_id(request: h11.Request) -> str:
    given = _one(request, b"x-request-id")
    if given is None:
        return ""
    text = given.decode("latin-1")
    if not REQUEST_ID.fullmatch(text):
        raise SluiceError("invalid_request", "X-Request-Id has the wrong form")
    return text


def _one(request: h11.Request, name: bytes) -> Optional[bytes]:
    values = _values(request, name)
    if len(values) > 1:
        raise SluiceError("invalid_request", "a header occurs twice")
    return values[0] if values else None


def _values(request: h11.Request, name: bytes) -> list[bytes]:
    return [bytes(value) for found, value in request.headers if found == name]
