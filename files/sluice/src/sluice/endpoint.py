"""A wire connection on an asyncio transport: reads, calls handlers, writes in batches, detects a silent peer.

Relay and front use it for all their connections: standard input and output behind sshd, and TLS between
relay and front.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any, Callable, Optional, cast

from sluice.wire import events
from sluice.wire.connection import Connection
from sluice.wire.frames import ProtocolError

logger = logging.getLogger(__name__)

WRITE_SIZE = 65_536
# How many bytes the transport buffers. More waits in the wire's queues, where streams take turns.
HIGH_WATER = 131_072
PING_INTERVAL = 15.0
# After this many ping intervals without a byte, the peer counts as gone. Intervals are counted, not measured:
# after a pause of this machine (a suspended virtual machine) the peer still has time to answer.
SILENT_PINGS = 3
HELLO_TIMEOUT = 10.0
# How long a peer may take to answer the end of a TLS connection.
CLOSE_TIMEOUT = 5.0
# With this many open streams or more, writes may be batched.
BUSY_STREAMS = 16

Handlers = Mapping[type, Callable[[Any], None]]


class Endpoint(asyncio.Protocol):
    """One connection of the wire and the transport below it.

    `handlers`: the function to call for each type of event; other events are dropped. `on_lost`: called once,
    with the reason, when the connection has ended. `batch`: the shortest time between two writes while many
    streams are open, in seconds. `after_flush`: called after each write, for an owner that forwards data and
    then gives credit back.
    """

    def __init__(
        self,
        connection: Connection,
        handlers: Handlers,
        *,
        on_lost: Callable[[str], None],
        batch: float = 0.0,
        ping_interval: float = PING_INTERVAL,
    ) -> None:
        self.connection = connection
        self.transport: Optional[asyncio.Transport] = None
        self.lost = False
        self.after_flush: Optional[Callable[[], None]] = None
        self._handlers = handlers
        self._on_lost = on_lost
        self._batch = batch
        self._ping_interval = ping_interval
        self._loop = asyncio.get_running_loop()
        # Whether a write is due in this turn of the loop, and the timer of a later one.
        self._soon = False
        self._later: Optional[asyncio.TimerHandle] = None
        self._paused = False
        self._closing = False
        self._closed = 0.0
        self._why = ""
        self._flushed = 0.0
        self._unanswered = 0
        self._born = self._pinged = time.monotonic()

    # --- calls of the owner ------------------------------------------------------------------------------

    def wake(self, *, urgent: bool = False) -> None:
        """Write everything that is queued at the end of this turn of the loop.

        While many streams are open, it may be up to `batch` seconds later, unless it is `urgent`.
        """
        if self._soon or (self._later is not None and not urgent):
            return
        wait = 0.0
        if self._batch and not urgent and self.connection.open_streams >= BUSY_STREAMS:
            wait = self._flushed + self._batch - self._loop.time()
        if wait > 0:
            self._later = self._loop.call_later(wait, self._flush)
        else:
            self._soon = True
            self._loop.call_soon(self._flush)

    def close(self, code: str, message: str) -> None:
        """Send go-away to an authenticated peer and close after what is written; `on_lost` gets `message`."""
        if self.lost or self._closing:
            return
        self._why = self._why or message
        self.connection.go_away(code, message)
        self._flush()
        self._closing = True
        self._closed = time.monotonic()
        if self.transport is not None:
            self.transport.close()

    def abort(self, why: str = "aborted") -> None:
        """Close at once; `on_lost` is called later, with `why`."""
        self._why = self._why or why
        if self.transport is not None:
            self.transport.abort()

    def tick(self, now: float) -> None:
        """Send pings and close the connection to a silent peer; the owner calls this about once a second.

        `now` is the time of the monotonic clock.
        """
        if self.lost:
            return
        if self._closing:
            if now - self._closed > CLOSE_TIMEOUT:
                self.abort()
        elif self.connection.peer is None and now - self._born > HELLO_TIMEOUT:
            self.abort("no hello arrived in time")
        elif self.connection.peer is not None and now - self._pinged >= self._ping_interval:
            self._pinged = now
            self._ping()

    def _ping(self) -> None:
        self._unanswered += 1
        if self._unanswered >= SILENT_PINGS:
            self.abort("the other side stopped sending")
            return
        self.connection.ping(b"sluice")
        self.wake()

    # --- from the transport ------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the transport and send the hello."""
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=HIGH_WATER)
        self._flush()

    def data_received(self, data: bytes) -> None:
        """Pass the received events to the handlers, in order."""
        if self._closing or self.lost:
            return
        self._unanswered = 0
        try:
            found = self.connection.receive(data)
        except ProtocolError as error:
            if self.connection.peer is not None:
                # Unauthenticated peers could fill the log; for them the owner only gets `on_lost`.
                logger.warning("the other side violated the protocol", extra={"problem": str(error)[:200]})
            self.close("protocol", str(error))
            return
        handlers = self._handlers
        for event in found:
            handler = handlers.get(type(event))
            if handler is not None:
                handler(event)
            if isinstance(event, events.CreditGranted):
                # When queued data leaves, whoever forwards data can queue more.
                self.wake()
            if self._closing or self.lost:
                return
        if self.connection.has_data():
            self.wake()

    def eof_received(self) -> bool:
        """Treat a half-closed connection as closed: the wire has no half-closed connections."""
        self._why = self._why or "the other side has left"
        return False

    def pause_writing(self) -> None:
        """Stop writing: the transport's buffer is full."""
        self._paused = True

    def resume_writing(self) -> None:
        """Continue to write."""
        self._paused = False
        self._flush()

    def connection_lost(self, exc: Optional[Exception]) -> None:
        """Call `on_lost`, once."""
        if self.lost:
            return
        self.lost = True
        self._on_lost(self._why or "the connection was closed")

    # --- bytes out ---------------------------------------------------------------------------------------

    def _flush(self) -> None:
        self._soon = False
        if self._later is not None:
            self._later.cancel()
            self._later = None
        if self.transport is None or self.lost or self._closing:
            return
        self._flushed = self._loop.time()
        connection = self.connection
        while not self._paused and connection.has_data():
            data = connection.data_to_send(WRITE_SIZE)
            if not data:
                break
            self.transport.write(data)
        if self.after_flush is not None:
            self.after_flush()
            # Credit given back there goes out on other connections, or on this one in the next turn.
