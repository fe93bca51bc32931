"""Reads a request's body, with bounds on its size, its time and the memory of all bodies together."""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from sluice.bodies.costs import Bounds
from sluice.bodies.scan import BodyScanner
from sluice.errors import SluiceError
from sluice.proxy.bodies.body import INLINE_PARSE
from sluice.proxy.http.server import BrokenBody
from sluice.proxy.metrics import Metrics

# A body that stops arriving fails after IDLE_SECONDS; a slow one after BODY_SECONDS plus its time at SLOWEST
# bytes a second.
IDLE_SECONDS = 30.0
BODY_SECONDS = 60.0
SLOWEST = 65_536
# How long an unread body waits for memory (seconds), and how many bodies may wait, of all users and of one.
MEMORY_SECONDS = 10.0
MOST_WAITING = 1024
USER_WAITING = 128
# One part in this many of the memory is only for small bodies: they never wait for large ones.
SMALL_PART = 4
# No user has more than one part in this many of the memory.
USER_PART = 4
# A large body is scanned in pieces of this many bytes; between them the event loop runs.
PIECE = 65_536
# Chunks of fewer bytes are joined: if a client sends single bytes, each must not cost an object.
SMALL_CHUNK = 4096


class BodyReader:
    """Reads bodies of at most `max_body` bytes each; all bodies in memory have at most `max_buffered` bytes.

    Memory is reserved before a body is read. While there is none, the body is not read, which stops the
    client from sending, for at most MEMORY_SECONDS.
    """

    def __init__(self, max_body: int, max_buffered: int, metrics: Metrics) -> None:
        small = max_buffered // SMALL_PART
        self.max_body = max_body
        self._small = MemoryPool(small, small // USER_PART)
        self._large = MemoryPool(max_buffered - small, max(max_body, (max_buffered - small) // USER_PART))
        self._metrics = metrics

    def announce(self, request: web.BaseRequest) -> int | None:
        """Return the body's length in bytes from the headers, None for a chunked body.

        Raises SluiceError if the headers are not acceptable.
        """
        length = request.content_length
        coding = request.headers.get("Transfer-Encoding")
        if length is None and coding is None:
            raise SluiceError("length_required", "Send the body with Content-Length or in chunks.")
        if coding is not None and (coding.lower() != "chunked" or request.version < (1, 1)):
            raise SluiceError("invalid_request", "The only accepted Transfer-Encoding is `chunked`.")
        if length is not None and length > self.max_body:
            raise self.too_large()
        if request.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise SluiceError("invalid_request", "Send the body without Content-Encoding.")
        return length

    async def read(
        self, request: web.BaseRequest, length: int | None, user: str, capability: str, bounds: Bounds
    ) -> Body:
        """Return the body of `user`'s request; the caller must release it. Raises SluiceError.

        `length`: as `announce` returned it. `capability`: that of the path. `bounds`: on what an engine
        compiles.
        """
        body = Body(self, user, lambda: BodyScanner(capability, bounds))
        try:
            if length is not None and length <= INLINE_PARSE and request.content.is_eof():
                # The body came with the headers: it needs no timeout.
                if not self._small.take(user, length):
                    await self._wait(self._small, user, length)
                body.reserved(self._small, length)
                body.chunks = [request.content.read_nowait()]
                body.size = length
            else:
                await self._read_slowly(request, length, body)
        except BrokenBody:
            body.release()
            raise SluiceError("invalid_request", "The body's chunks are invalid.") from None
        except BaseException:
            body.release()
            raise
        return body

    async def _read_slowly(self, request: web.BaseRequest, length: int | None, body: Body) -> None:
        """Read a body that is large or incomplete, within its time. Raises SluiceError."""
        small = length is not None and length <= INLINE_PARSE
        await self._reserve(body, length or 0, large=length is not None and not small)
        loop = asyncio.get_running_loop()
        whole = self.max_body if length is None else length
        end = loop.time() + BODY_SECONDS + whole / SLOWEST
        try:
            async with asyncio.timeout_at(loop.time() + IDLE_SECONDS) as limit:
                while chunk := await request.content.readany():
                    if length is None:
                        await self._grow(body, len(chunk))
                    await body.add(chunk)
                    limit.reschedule(min(loop.time() + IDLE_SECONDS, end))
        except TimeoutError:
            raise SluiceError("invalid_request", "The body did not arrive in time.") from None
        body.complete()

    async def _grow(self, body: Body, size: int) -> None:
        """Reserve memory for a body of unknown length: if it is not small, for the largest body.

        Bodies that hold a part of their memory while they wait for more could deadlock.
        """
        total = body.size + size
        if total > self.max_body:
            raise self.too_large()
        if body.pool is self._small and total <= INLINE_PARSE:
            await self._reserve(body, total, large=False)
        elif body.pool is self._small:
            await self._reserve(body, self.max_body, large=True)

    async def _reserve(self, body: Body, size: int, *, large: bool) -> None:
        """Reserve `size` bytes for the body, in place of what it has."""
        body.give_back()
        pool = self._large if large else self._small
        if not pool.take(body.user, size):
            await self._wait(pool, body.user, size)
        body.reserved(pool, size)

    async def _wait(self, pool: MemoryPool, user: str, size: int) -> None:
        try:
            async with asyncio.timeout(MEMORY_SECONDS):
                if await pool.wait(user, size):
                    return
        except TimeoutError:
            pass
        raise SluiceError(
            "overloaded", ("Too many large requests at the same time. Try again soon."), retry_after=5.0
        )

    def note(self, change: int) -> None:
        """Add `change` bytes to the metric of held memory."""
        self._metrics.held_bytes += change

    def too_large(self) -> SluiceError:
        """Return the error for a body that is too large."""
        return SluiceError("body_too_large", f"The body is larger than {self.max_body} bytes.")


@dataclass(eq=False)
class _Waiter:
    user: str
    size: int
    granted: asyncio.Future[None]


class MemoryPool:
    """Memory for bodies: `most` bytes, `share` of them for one user. Waiting requests are served in order."""

    def __init__(self, most: int, share: int) -> None:
        self._most = most
        self._share = share
        self._held = 0
        self._by_user: dict[str, int] = {}
        self._waiters: collections.deque[_Waiter] = collections.deque()

    def take(self, user: str, size: int) -> bool:
        """Reserve memory if there is enough and nobody waits; return whether it was reserved."""
        if self._waiters or not self._fits(user, size):
            return False
        self._give(user, size)
        return True

    async def wait(self, user: str, size: int) -> bool:
        """Wait for memory and reserve it; return False at once if too many wait already."""
        own = sum(waiter.user == user for waiter in self._waiters)
        if len(self._waiters) >= MOST_WAITING or own >= USER_WAITING:
            return False
        waiter = _Waiter(user, size, asyncio.get_running_loop().create_future())
        self._waiters.append(waiter)
        self._serve()
        try:
            await waiter.granted
        except BaseException:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
                self._serve()
            else:
                self.put_back(user, size)
            raise
        return True

    def put_back(self, user: str, size: int) -> None:
        """Free reserved memory."""
        self._held -= size
        left = self._by_user.get(user, 0) - size
        if left > 0:
            self._by_user[user] = left
        else:
            self._by_user.pop(user, None)
        if self._waiters:
            self._serve()

    def _fits(self, user: str, size: int) -> bool:
        return self._held + size <= self._most and self._by_user.get(user, 0) + size <= self._share

    def _give(self, user: str, size: int) -> None:
        self._held += size
        self._by_user[user] = self._by_user.get(user, 0) + size

    def _serve(self) -> None:
        """Grant wishes in order; those who must wait for their own user's room let others pass."""
        for waiter in list(self._waiters):
            if self._held + waiter.size > self._most:
                return
            if not waiter.granted.done() and self._fits(waiter.user, waiter.size):
                self._waiters.remove(waiter)
                self._give(waiter.user, waiter.size)
                waiter.granted.set_result(None)


class Body:
    """A body in memory, in the chunks in which it arrived; it holds its memory until it is released.

    `scanner` has read a body of more than INLINE_PARSE bytes, which is never parsed as a whole.
    """

    def __init__(self, body_reader: BodyReader, user: str, make_scanner: Callable[[], BodyScanner]) -> None:
        self._body_reader = body_reader
        self._make_scanner = make_scanner
        self._reserved = 0
        self.user = user
        self.pool: MemoryPool | None = None
        self.chunks: list[bytes | bytearray] = []
        self.size = 0
        self.scanner: BodyScanner | None = None

    async def add(self, chunk: bytes) -> None:
        """Add the next bytes. Raises SluiceError if the scanner refuses them."""
        self.size += len(chunk)
        self._hold(chunk)
        if self.scanner is not None:
            await _scan(self.scanner, chunk)
        elif self.size > INLINE_PARSE:
            self.scanner = self._make_scanner()
            for earlier in self.chunks:
                await _scan(self.scanner, bytes(earlier))

    def _hold(self, chunk: bytes) -> None:
        last = self.chunks[-1] if self.chunks else b""
        if isinstance(last, bytearray) and len(last) < PIECE:
            last += chunk
        else:
            self.chunks.append(bytearray(chunk) if len(chunk) < SMALL_CHUNK else chunk)

    def replace(self, chunks: list[bytes | bytearray]) -> None:
        """Replace the chunks by slightly longer ones; the reserved memory stays the same."""
        self.chunks = chunks
        self.size = sum(map(len, chunks))

    def complete(self) -> None:
        """Free memory that was reserved and is not needed."""
        spare = self._reserved - self.size
        if spare > 0 and self.pool is not None:
            self.pool.put_back(self.user, spare)
            self._reserved -= spare
            self._body_reader.note(-spare)

    def bytes(self) -> bytes:
        """Return the whole body."""
        return bytes(self.chunks[0]) if len(self.chunks) == 1 else b"".join(self.chunks)

    def reserved(self, pool: MemoryPool, size: int) -> None:
        """Note the memory that was reserved for the body."""
        self.pool = pool
        self._reserved = size
        self._body_reader.note(size)

    def give_back(self) -> None:
        """Free the body's memory."""
        if self.pool is not None:
            self.pool.put_back(self.user, self._reserved)
            self._body_reader.note(-self._reserved)
            self.pool = None
            self._reserved = 0

    def release(self) -> None:
        """Forget the body. May be called twice."""
        self.give_back()
        self.chunks = []


async def _scan(scanner: BodyScanner, chunk: bytes) -> None:
    for start in range(0, len(chunk), PIECE):
        scanner.feed(chunk[start : start + PIECE] if len(chunk) > PIECE else chunk)
        await asyncio.sleep(0)
