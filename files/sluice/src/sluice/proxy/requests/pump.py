"""Sends an event stream from its session to its client, with callbacks; its task only waits for the end.

For each token: bytes from the session are gathered during a turn of the event loop and written once. No task
is woken and no timer is set, except for a client that reads too slowly.
"""

from __future__ import annotations

import asyncio
import re
import time

from aiohttp import HttpVersion11, web

from sluice.errors import SluiceError
from sluice.proxy.clusters.stream import RequestStream, SessionLost
from sluice.proxy.http.events import BOUNDARY
from sluice.proxy.requests.context import RequestContext
from sluice.proxy.requests.metering import StreamFilter

# A client that reads nothing for this long is disconnected (seconds).
STALLED = 300.0
# A stream fails if nothing comes for this long (seconds). A second bound: the relay's own timeout is shorter.
SILENT = 180.0
SWEEP_SECONDS = 1.0
_COMMENT = re.compile(rb"\A((?::[^\n]*\n)+)\n")
_COMMENT_BETWEEN = re.compile(rb"(?<=\n\n)((?::[^\n]*\n)+)\n")


class Pumps:
    """All pumps that run: writes at the end of each turn of the loop what came for them in it."""

    def __init__(self) -> None:
        self._ready: list[Pump] = []
        self._running: set[Pump] = set()
        self._sweeping = False

    def open(self, pump: Pump) -> None:
        """Watch `pump` for silence from now on."""
        self._running.add(pump)
        self._watch()

    def close(self, pump: Pump) -> None:
        """Stop watching `pump`."""
        self._running.discard(pump)

    def due(self, pump: Pump) -> None:
        """Flush `pump` at the end of this turn of the loop."""
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
        """Fail streams that have been silent too long."""
        self._sweeping = False
        too_old = time.monotonic() - SILENT
        for pump in self._running:
            pump.expire(too_old)
        if self._running:
            self._watch()


class Pump:
    """Sends one stream to its client as fast as the client reads. It is the stream's sink.

    `last`: the last bytes that were written, also before the pump; as many as the dialect needs for an error
    event.
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
        stream: RequestStream,
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
        """Note that the answer is complete."""
        self._complete = True
        self._wake()

    def failed(self, failure: SluiceError | SessionLost) -> None:
        """Note that the answer failed; nothing more will come."""
        self._failure = failure
        self._wake()

    def expire(self, too_old: float) -> None:
        """Fail if nothing has come since `too_old` (monotonic clock), unless the client reads too slowly."""
        if self._heard < too_old and not self._owed and self._failure is None and not self._complete:
            self.failed(SluiceError("instance_timeout", "The instance stopped in the middle of its answer."))

    # --- to the client --------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Write the bytes that have come."""
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
            # The relay gets no credit before the client has read this.
            self._owed += size
            self._wake()
        else:
            self._stream.consume(size)

    def _write(self, data: bytes) -> None:
        if not data:
            return  # an empty chunk would end the answer
        told = without_gaps(data, self.last)
        size = len(told)
        self._transport.write(b"%x\r\n%b\r\n" % (size, told) if self._chunked else told)
        self._visit.sending(size)
        # As the engine sent it, with the blank line after a comment: the stream is between two events.
        self.last = (data if len(data) >= self._remembered else self.last + data)[-self._remembered :]

    async def run(self) -> None:
        """Wait until the stream has ended and is written; the answer's head must have been sent.

        Raises SluiceError if the stream fails, ConnectionError if the client has left.
        """
        self._pumps.open(self)
        try:
            self._stream.pass_to(self)
            await self._run()
        finally:
            self._pumps.close(self)
            # What came counts as used, also if the client has left.
            self._stream_filter.feed(b"".join(self._parts))
            self._parts.clear()
        # A part of an event that is held back when the stream fails is dropped.
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
        """Wait until the client has read, then give the relay credit."""
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
    """Return a part of a stream without blank lines after comments; `before`: the last bytes before the part.

    Engines send comments as a sign of life. Some clients read a blank line after one as the end of an event
    without data.
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
    """Write, and wait until the client has room for more. Raises ConnectionError if it has left."""
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
