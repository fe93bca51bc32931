"""Passes an event stream from its session to its client: callbacks, and one turn of a task at its end.

A token's way through the proxy: bytes from the session, gathered for this turn of the event loop, one write.
No task wakes for it and no timer is set; only a client who reads too slowly wakes his own.
"""

from __future__ import annotations

import asyncio
import re
import time

from aiohttp import HttpVersion11, web

from sluice.errors import SluiceError
from sluice.proxy.clusters.stream import SessionLost, Stream
from sluice.proxy.http.events import BOUNDARY
from sluice.proxy.requests.context import RequestContext
from sluice.proxy.requests.metering import StreamFilter

# A client that reads nothing for this long is gone (seconds).
STALLED = 300.0
# An engine that says nothing for this long, in the middle of its answer, is given up (seconds). The relay's
# own limit is shorter; this one holds if it should not keep it.
SILENT = 180.0
SWEEP_SECONDS = 1.0
_COMMENT = re.compile(rb"\A((?::[^\n]*\n)+)\n")
_COMMENT_BETWEEN = re.compile(rb"(?<=\n\n)((?::[^\n]*\n)+)\n")


class Pumps:
    """All event streams that pass now: what came for them in one turn of the loop goes out at its end."""

    def __init__(self) -> None:
        self._ready: list[Pump] = []
        self._running: set[Pump] = set()
        self._sweeping = False

    def open(self, pump: Pump) -> None:
        """Watch over `pump` from now on."""
        self._running.add(pump)
        self._watch()

    def close(self, pump: Pump) -> None:
        """Watch over it no more."""
        self._running.discard(pump)

    def due(self, pump: Pump) -> None:
        """Write for `pump` at the end of this turn."""
        if not self._ready:
            asyncio.get_running_loop().call_soon(self._flush)
        self._ready.append(pump)

    def _flush(self) -> None:
        ready, self._ready = self._ready, []
        for pump in ready:
            pump.flush()

    def _watch(self) -> None:
        if not self._sweeping:
            self._sweeping = True
            asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._sweep)

    def _sweep(self) -> None:
        """Give up engines that went silent."""
        self._sweeping = False
        too_old = time.monotonic() - SILENT
        for pump in self._running:
            pump.expire(too_old)
        if self._running:
            self._watch()


class Pump:
    """Passes one stream on, as fast as its client reads. It is the stream's sink.

    `last` is how what was written ends, before it began too: as much as the dialect must know for an event of
    our own.
    """

    __slots__ = (
        "_chunked",
        "_complete",
        "_due",
        "_failure",
        "_heard",
        "_owed",
        "_parts",
        "_pumps",
        "_remembered",
        "_request",
        "_stream",
        "_stream_filter",
        "_transport",
        "_visit",
        "_waiter",
        "last",
    )

    def __init__(
        self,
        pumps: Pumps,
        request: web.BaseRequest,
        context: RequestContext,
        stream: Stream,
        stream_filter: StreamFilter,
        last: bytes = b"",
    ) -> None:
        transport = request.transport
        if transport is None:
            raise ConnectionResetError
        self._pumps = pumps
        self._request = request
        self._transport = transport
        self._chunked = request.version >= HttpVersion11
        self._visit = context
        self._stream = stream
        self._stream_filter = stream_filter
        self._remembered = context.dialect.remembered
        self._parts: list[bytes] = []
        self._due = False
        self._owed = 0
        self._complete = False
        self._failure: SluiceError | SessionLost | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._heard = time.monotonic()
        self.last = last or BOUNDARY

    # --- from the session -----------------------------------------------------------------------------------

    def received(self, data: bytes) -> None:
        """Take bytes of the answer."""
        self._parts.append(data)
        if not self._due:
            self._due = True
            self._pumps.due(self)

    def ended(self) -> None:
        """Learn that the answer is whole."""
        self._complete = True
        self._wake()

    def failed(self, failure: SluiceError | SessionLost) -> None:
        """Learn that nothing more will come."""
        self._failure = failure
        self._wake()

    def expire(self, too_old: float) -> None:
        """Give up if nothing has come since `too_old` (monotonic clock), and not for a slow client's sake."""
        if self._heard < too_old and not self._owed and self._failure is None and not self._complete:
            self.failed(SluiceError("instance_timeout", "The instance stopped in the middle of its answer."))

    # --- to the client --------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Write what has come."""
        self._due = False
        if not self._parts:
            return
        data = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts.clear()
        if self._transport.is_closing():
            return  # the handler is being cancelled
        size = len(data)
        self._write(self._stream_filter.feed(data))
        self._heard = time.monotonic()
        if self._owed or self._request.protocol.writing_paused:
            # The relay may send no more before the client has taken this.
            self._owed += size
            self._wake()
        else:
            self._stream.consume(size)

    def _write(self, data: bytes) -> None:
        if not data:
            return  # as a chunk, nothing would say that the answer is over
        told = without_gaps(data, self.last)
        size = len(told)
        self._transport.write(b"%x\r\n%b\r\n" % (size, told) if self._chunked else told)
        self._visit.sending(size)
        # As the engine sent it: a comment without its blank line leaves the stream between two events.
        self.last = (data if len(data) >= self._remembered else self.last + data)[-self._remembered :]

    async def run(self) -> None:
        """Come back when the stream has ended and all of it is written; the answer's head must be out.

        Raises SluiceError when the stream breaks off, ConnectionError when the client has left.
        """
        self._pumps.open(self)
        try:
            self._stream.pass_to(self)
            await self._run()
        finally:
            self._pumps.close(self)
            # Of a client who has left too, what came is what was used.
            self._stream_filter.feed(b"".join(self._parts))
            self._parts.clear()
        # What is held back of an event that broke off with its stream is of no use to anybody.
        if isinstance(self._failure, SessionLost):
            raise broken_off()
        if self._failure is not None:
            raise self._failure
        if not self._transport.is_closing():
            self._write(self._stream_filter.rest())

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            if self._owed:
                await self._drain(loop)
            elif self._complete or self._failure is not None:
                self.flush()
                if not self._owed:
                    break
            else:
                self._waiter = loop.create_future()
                try:
                    await self._waiter
                finally:
                    self._waiter = None

    async def _drain(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wait until the client has read, then let the relay send as much again."""
        stalled = loop.call_later(STALLED, self._transport.abort)
        try:
            await self._request.writer.drain()
        finally:
            stalled.cancel()
        owed, self._owed = self._owed, 0
        self._heard = time.monotonic()
        self._stream.consume(owed)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def without_gaps(data: bytes, before: bytes) -> bytes:
    """Return a part of a stream without blank lines behind comments; `before` is how what came before ends.

    Engines say so that they are alive: to some clients a blank line is the end of an event, here one without
    data.
    """
    starts = data[:1] == b":" and before.endswith(BOUNDARY)
    if not starts and b"\n\n:" not in data:
        return data
    if starts:
        data = _COMMENT.sub(rb"\1", data, count=1)
    return _COMMENT_BETWEEN.sub(rb"\1", data)


async def pass_on(
    request: web.BaseRequest, context: RequestContext, response: web.StreamResponse, data: bytes
) -> None:
    """Write, and come back when the client has room for more."""
    transport = request.transport
    if transport is None:
        raise ConnectionResetError
    context.sending(len(data))
    stalled = asyncio.get_running_loop().call_later(STALLED, transport.abort)
    try:
        await response.write(data)
        await request.writer.drain()
    finally:
        stalled.cancel()


def broken_off() -> SluiceError:
    """Return the error for a session that was lost in the middle of an answer."""
    return SluiceError(
        "cluster_unreachable",
        "The connection to the cluster was lost in the middle of the answer.",
        retry_after=1.0,
    )
