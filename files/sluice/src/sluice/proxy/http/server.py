"""The HTTP server below the API: aiohttp's, with Sluice's bounds and answers to invalid requests."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong
from aiohttp.web_protocol import _ErrInfo

from sluice.errors import SluiceError

# nginx has the same bounds. In bytes.
MAX_LINE = 8190
MAX_FIELD = 8190
# The client's header fields, and those that nginx adds: X-Request-Id, X-Forwarded-For, X-Forwarded-Proto.
MOST_FIELDS = 100
MAX_FIELDS = MOST_FIELDS + 3
# aiohttp buffers up to twice this many bytes of a body that is not read yet; then the client must wait.
READ_AHEAD = 65_536
# After an answer before the request's end, the rest of the request is read and dropped for this long
# (seconds): if the connection were closed at once, the client could lose the answer.
LINGER = 2.0

# How many bytes are buffered for a slow client, beyond the kernel's buffer, before its stream is slowed down.
WRITE_AHEAD = 8192

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
Refuse = Callable[[SluiceError], web.Response]


class BrokenBody(Exception):
    """A body cannot be read any further: its chunks are invalid."""


class ApiServer(web.Server):
    """Calls `handler` for each request; `refuse` makes the answer to an invalid one.

    A handler is cancelled when its client leaves; that stops the instance's work for it.
    """

    def __init__(self, handler: Handler, refuse: Refuse) -> None:
        super().__init__(
            handler,
            handler_cancellation=True,
            auto_decompress=False,
            access_log=None,
            max_line_size=MAX_LINE,
            max_field_size=MAX_FIELD,
            max_headers=MAX_FIELDS,
            lingering_time=LINGER,
            read_bufsize=READ_AHEAD,
        )
        self.refuse = refuse

    def __call__(self) -> web.RequestHandler:
        """Return the protocol of a new connection."""
        return _Connection(self, asyncio.get_running_loop(), **self._kwargs)


class _Connection(web.RequestHandler):
    __slots__ = ("_refuse",)

    def __init__(self, server: ApiServer, loop: asyncio.AbstractEventLoop, **settings: object) -> None:
        super().__init__(server, loop=loop, **settings)  # type: ignore[arg-type]  # as web.Server does
        self._refuse = server.refuse

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the transport and bound its buffer."""
        super().connection_made(transport)
        if isinstance(transport, asyncio.WriteTransport):
            transport.set_write_buffer_limits(high=WRITE_AHEAD)

    def data_received(self, data: bytes) -> None:
        """Take bytes. If a body's chunks are invalid, fail the read of a handler that waits for it.

        aiohttp only queues its own answer after the handler's, which would wait for the body for ever.
        """
        super().data_received(data)
        if self._messages and isinstance(self._messages[-1][0], _ErrInfo):
            bodies = [payload for _, payload in self._messages]
            if self._current_request is not None:
                bodies.append(self._current_request.content)
            for body in bodies:
                if not body.is_eof():
                    body.set_exception(BrokenBody())

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer an invalid request. aiohttp's own answer and its log would quote the request."""
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun")
        response = self._refuse(_fault(exc, message))
        response.force_close()
        return response

    def log_exception(self, *args: object, **kw: object) -> None:
        """Log that a connection failed, without any data from it."""
        logging.getLogger(__name__).warning("a connection to the API failed")


def _fault(exc: BaseException | None, message: str | None) -> SluiceError:
    """Return the error for what aiohttp's parser refused; the parser's message might quote the request."""
    # aiohttp has no separate exception for too many headers.
    if isinstance(exc, LineTooLong) or (message or "").startswith("Too many headers"):
        return SluiceError(
            "headers_too_large",
            (
                f"The request has more than {MOST_FIELDS} header fields, or a line of more than {MAX_LINE} "
                "bytes."
            ),
        )
    return SluiceError("invalid_request", "This is not a valid HTTP/1.1 request.")
