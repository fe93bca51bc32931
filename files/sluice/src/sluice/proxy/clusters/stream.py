"""One request on a session: the answer so far, and waiting for more.

All code here runs on the event loop's thread.
"""

from __future__ import annotations

import asyncio
import collections
import math
import time
from collections.abc import Callable
from typing import Protocol

from sluice.contracts.heads import ErrorHead, ResponseHead
from sluice.errors import SluiceError

TOO_LONG = "The request took longer than this service allows."


class SessionLost(Exception):
    """The session ended while a stream was open; the text names the cause."""


class RelayError(SluiceError):
    """A relay's error for a request; `breaks`: how many of its attempts have broken so far."""

    def __init__(self, error: ErrorHead) -> None:
        super().__init__(error.code, error.message, retry_after=error.retry_after)
        self.breaks = error.breaks


def failure(error: ErrorHead) -> SluiceError | SessionLost:
    """Return the exception for a relay's error frame on a stream."""
    if error.code == "cluster_unreachable":
        # The request crossed the relay's go-away. The relay did not start it; another session may take it.
        return SessionLost("the relay accepts no new requests on this session")
    return RelayError(error)


class Sink(Protocol):
    """Callbacks for an answer, instead of a task that reads it."""

    def received(self, data: bytes) -> None:
        """Take bytes; after they are sent on, the stream's `consume` must be called."""

    def ended(self) -> None:
        """The answer is complete."""

    def failed(self, failure: SluiceError | SessionLost) -> None:
        """The answer failed; nothing more will come."""


class Owner(Protocol):
    """The session that a stream belongs to."""

    @property
    def waiter(self) -> Callable[[], asyncio.Future[None]]:
        """Returns a new future for a handler to wait on."""

    def consume(self, number: int, size: int) -> None:
        """Grant credit for bytes that were sent on."""

    def forget(self, number: int) -> None:
        """Forget the stream, and cancel it if it is still open."""


class RequestStream:
    """One request on a session. `ends_by` (monotonic clock): when it fails with `instance_timeout`."""

    __slots__ = (
        "_chunks",
        "_complete",
        "_failure",
        "_head",
        "_session",
        "_sink",
        "_waiter",
        "accepted",
        "deadline",
        "ends_by",
        "number",
    )

    def __init__(self, session: Owner, number: int, ends_by: float = math.inf) -> None:
        self._session = session
        self.number = number
        self._head: ResponseHead | None = None
        self._chunks: collections.deque[bytes] = collections.deque()
        self._complete = False
        self._failure: SluiceError | SessionLost | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._sink: Sink | None = None
        self.accepted = False
        self.deadline = 0.0
        self.ends_by = ends_by

    async def response(self, timeout: float) -> ResponseHead:
        """Wait for the answer's head. Raises SluiceError (from the relay), SessionLost, TimeoutError."""
        while self._head is None:
            if self._failure is not None:
                raise self._failure
            await self._wait(timeout)
        return self._head

    async def begun(self, timeout: float) -> None:
        """Wait until bytes of the answer have come, or its end. Raises as `response` does."""
        while not self._chunks and not self._complete:
            if self._failure is not None:
                raise self._failure
            await self._wait(timeout)

    def has_begun(self) -> bool:
        """Whether bytes of the answer have come, or its end. Raises as `response` does."""
        if not self._chunks and not self._complete and self._failure is not None:
            raise self._failure
        return bool(self._chunks) or self._complete

    async def stirred(self, until: float) -> None:
        """Wait until anything comes, even the instance's acceptance, or until `until` (monotonic clock)."""
        timer = None
        if until < math.inf:
            loop = asyncio.get_running_loop()
            timer = loop.call_later(max(0.0, until - time.monotonic()), self._wake)
        try:
            await self._wait(math.inf)
        finally:
            if timer is not None:
                timer.cancel()

    async def read(self, timeout: float) -> bytes:
        """Return the bytes that have come, b"" at the end. Raises as `response` does, after all data.

        The caller calls `consume` when it has sent them on; until then the relay's credit is smaller.
        """
        while not self._chunks:
            if self._failure is not None:
                raise self._failure
            if self._complete:
                return b""
            await self._wait(timeout)
        if len(self._chunks) == 1:
            return self._chunks.popleft()
        data = b"".join(self._chunks)
        self._chunks.clear()
        return data

    def pass_to(self, sink: Sink) -> None:
        """Pass everything that has come and will come to `sink`; do not call `read` after this."""
        self._sink = sink
        while self._chunks:
            sink.received(self._chunks.popleft())
        if self._failure is not None:
            sink.failed(self._failure)
        elif self._complete:
            sink.ended()

    @property
    def complete(self) -> bool:
        """Whether the whole answer has come, even if it was not read yet."""
        return self._complete

    def consume(self, size: int) -> None:
        """Note that `size` bytes were sent on, so that the relay gets credit for more."""
        self._session.consume(self.number, size)

    def close(self) -> None:
        """End the stream; if it is still open, the relay is told at once."""
        self._session.forget(self.number)

    async def _wait(self, timeout: float) -> None:
        """Wait until something comes. Raises TimeoutError after `timeout` seconds or slightly more."""
        self.deadline = time.monotonic() + timeout
        self._waiter = self._session.waiter()
        try:
            await self._waiter
        finally:
            self._waiter = None

    # --- from the session ---------------------------------------------------------------------------------

    def started(self, head: ResponseHead) -> None:
        """Store the answer's head."""
        self._head = head
        self._wake()

    def accept(self) -> None:
        """Note that an instance has accepted the request."""
        self.accepted = True
        self._wake()

    def received(self, data: bytes) -> None:
        """Take bytes of the answer."""
        if self._sink is not None:
            self._sink.received(data)
            return
        self._chunks.append(data)
        self._wake()

    def ended(self) -> None:
        """Note that the answer is complete."""
        self._complete = True
        if self._sink is not None:
            self._sink.ended()
        self._wake()

    def failed(self, failure: SluiceError | SessionLost) -> None:
        """Note that the answer failed, unless it is complete."""
        if not self._complete and self._failure is None:
            self._failure = failure
            if self._sink is not None:
                self._sink.failed(failure)
            self._wake()

    def expire(self, now: float) -> None:
        """End a wait, or the whole stream, if its time has passed; `now` is of the monotonic clock."""
        if now > self.ends_by:
            self.failed(SluiceError("instance_timeout", TOO_LONG))
        if self._waiter is not None and now > self.deadline and not self._waiter.done():
            self._waiter.set_exception(TimeoutError())

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
