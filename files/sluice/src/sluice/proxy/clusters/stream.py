"""One request on a session, as its handler sees it: the answer so far, and waiting for more.

Everything here runs on the event loop's thread.
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
    """The session ended under a stream; the text names the cause."""


class RelayError(SluiceError):
    """What a relay says of a request; `breaks`: its attempts that broke an instance so far."""

    def __init__(self, error: ErrorHead) -> None:
        super().__init__(error.code, error.message, retry_after=error.retry_after)
        self.breaks = error.breaks


def failure(error: ErrorHead) -> SluiceError | SessionLost:
    """Return what a relay's word on a stream means to its handler."""
    if error.code == "cluster_unreachable":
        # It crossed the relay's go-away: nothing of it was done, and another session may take it.
        return SessionLost("the relay accepts no new requests on this session")
    return RelayError(error)


class Sink(Protocol):
    """Takes an answer as it comes, in place of a task that reads it."""

    def received(self, data: bytes) -> None:
        """Take bytes; whoever has passed them on says so by the stream's `consume`."""

    def ended(self) -> None:
        """Learn that the answer is whole."""

    def failed(self, failure: SluiceError | SessionLost) -> None:
        """Learn that nothing more will come."""


class Owner(Protocol):
    """The session that a stream belongs to."""

    @property
    def waiter(self) -> Callable[[], asyncio.Future[None]]:
        """Makes what a handler waits on."""

    def consume(self, number: int, size: int) -> None:
        """Give credit for bytes that were passed on."""

    def forget(self, number: int) -> None:
        """Cancel the stream if it is not over."""


class Stream:
    """One request on a session, as its handler sees it."""

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
        """Wait for the head of the answer. Raises SluiceError (the relay's), SessionLost, TimeoutError."""
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
        """Wait until something comes, the instance's acceptance included, or until `until` (monotonic)."""
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
        """Return the bytes that have come, or b"" at the end. Raises as `response` does, behind the data.

        Whoever has passed them on says so by `consume`; until then the relay sends only so much more.
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
        """Hand what has come, and all that comes, to `sink`; nothing is read any more."""
        self._sink = sink
        while self._chunks:
            sink.received(self._chunks.popleft())
        if self._failure is not None:
            sink.failed(self._failure)
        elif self._complete:
            sink.ended()

    @property
    def complete(self) -> bool:
        """Whether the answer has come whole, read or not."""
        return self._complete

    def consume(self, size: int) -> None:
        """Say that `size` bytes have been passed on."""
        self._session.consume(self.number, size)

    def close(self) -> None:
        """End the stream, wherever it stands: the relay is told at once if it still works on it."""
        self._session.forget(self.number)

    async def _wait(self, timeout: float) -> None:
        """Wait until something comes. Raises TimeoutError after `timeout` seconds, or a little more."""
        self.deadline = time.monotonic() + timeout
        self._waiter = self._session.waiter()
        try:
            await self._waiter
        finally:
            self._waiter = None

    # --- from the session ---------------------------------------------------------------------------------

    def started(self, head: ResponseHead) -> None:
        """Take the head of the answer."""
        self._head = head
        self._wake()

    def accept(self) -> None:
        """Learn that an instance has accepted the request."""
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
        """Learn that the answer is whole."""
        self._complete = True
        if self._sink is not None:
            self._sink.ended()
        self._wake()

    def failed(self, failure: SluiceError | SessionLost) -> None:
        """Learn that nothing more will come."""
        if not self._complete and self._failure is None:
            self._failure = failure
            if self._sink is not None:
                self._sink.failed(failure)
            self._wake()

    def expire(self, now: float) -> None:
        """Give up a wait, or all of the stream, whose time is over at `now`, on the monotonic clock."""
        if now > self.ends_by:
            self.failed(SluiceError("instance_timeout", TOO_LONG))
        if self._waiter is not None and now > self.deadline and not self._waiter.done():
            self._waiter.set_exception(TimeoutError())

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
