"""The front's connections to the engine: over a unix socket or loopback, kept alive between requests.

A request has no task of its own: callbacks from the relay's and the engine's connection drive it. Only
opening a connection takes a task, because the event loop's API is a coroutine.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections import deque
from typing import Optional, Protocol, cast

from sluice.front.config import EngineAddress
from sluice.front.http import AnswerHead, AnswerParser, InvalidAnswer
from sluice.front.tally import Tally

logger = logging.getLogger(__name__)

READ_SIZE = 16_384
# How many bytes are buffered for an engine that does not read; beyond it the relay gets no more credit.
HIGH_WATER = 65_536
# Common engines close an idle connection after five seconds; with less, the front usually closes first.
IDLE_SECONDS = 4.0
CONNECT_SECONDS = 10.0
# If a unix socket's backlog is full, connecting fails with EAGAIN, and nothing tells when there is room.
BACKLOG_PAUSE = 0.01
# A request on a kept connection may have to be sent again, so it is held until an answer begins. A request of
# more bytes than this gets a new connection.
MOST_HELD = 65_536

NO_INSTANCE, INSTANCE_FAILED = "no_instance", "instance_failed"


class Caller(Protocol):
    """The callbacks of the maker of a call; none is called after `abort` or `release`."""

    def answered(self, data: bytes) -> None:
        """Take bytes of the answer's body; `Call.head` is set, `Call.complete` is True at the end."""

    def accepted(self) -> None:
        """Called at most once: `Call.head` is set, and nothing of the body has come yet."""

    def broken(self, code: str, reason: str) -> None:
        """The call ended without a complete answer; `code` is `no_instance` if the engine never got it."""

    def room(self) -> None:
        """The engine accepts more of the body again."""


class Call:
    """One request to the engine and its answer.

    The head is sent with the first part of the body, or with `finish`. `length`: bytes of the body.
    """

    __slots__ = (
        "_caller",
        "_connection",
        "_engine",
        "_held",
        "_opening",
        "_over",
        "_ready",
        "_retried",
        "_told",
        "_unsent",
        "parser",
    )

    def __init__(self, engine: Engine, caller: Caller, head: bytes, length: int) -> None:
        self.parser = AnswerParser()
        self._engine = engine
        self._caller = caller
        self._unsent: list[bytes] = [head]
        self._held: Optional[list[bytes]] = None
        self._ready = False
        self._retried = False
        self._told = False
        self._over = False
        self._opening: Optional[asyncio.Task[None]] = None
        self._connection = engine.take_idle() if length <= MOST_HELD else None
        if self._connection is not None:
            self._held = []
            self._connection.call = self
        else:
            self._opening = engine.open(self)

    @property
    def head(self) -> Optional[AnswerHead]:
        """The answer's head, None until it has come."""
        return self.parser.head

    @property
    def complete(self) -> bool:
        """Whether the answer is complete."""
        return self.parser.complete

    @property
    def has_room(self) -> bool:
        """Whether the engine accepts more bytes."""
        return self._connection is not None and not self._connection.full

    def send(self, data: bytes) -> None:
        """Send a part of the body, as soon as there is a connection."""
        self._unsent.append(data)
        self._ready = True
        self._write()

    def finish(self) -> None:
        """Send everything that is left: the body is complete."""
        self._ready = True
        self._write()

    def pause(self) -> None:
        """Read no more of the answer for now."""
        if self._connection is not None:
            self._connection.transport.pause_reading()

    def resume(self) -> None:
        """Continue to read the answer."""
        if self._connection is not None:
            self._connection.transport.resume_reading()

    def abort(self) -> None:
        """Close the connection at once, so that the engine stops its work."""
        self._over = True
        if self._opening is not None:
            self._opening.cancel()
            self._opening = None
        if self._connection is not None:
            self._connection.abort()
            self._connection = None

    def release(self) -> None:
        """After a complete request and answer: keep the connection for another call if possible."""
        connection, self._connection = self._connection, None
        self._over = True
        if connection is None:
            return
        if self.parser.excess:
            self._engine.violations.add(problem="bytes after a complete answer")
        self._engine.keep(connection, self.parser.reusable)

    # --- from the engine's connection --------------------------------------------------------------------

    def connected(self, connection: EngineConnection) -> None:
        """The connection that was opened for this call is ready."""
        self._opening = None
        if self._over:
            connection.abort()
            return
        self._connection = connection
        self._write()
        self._caller.room()

    def made_room(self) -> None:
        """The connection accepts more bytes again."""
        self._caller.room()

    def unreachable(self) -> None:
        """The connection could not be opened."""
        self._opening = None
        if self._over or self._connection is not None:
            return
        self._over = True
        if self._retried:
            # The earlier connection may have delivered the request.
            self._caller.broken(INSTANCE_FAILED, "the engine closed the connection and no longer listens")
        else:
            self._caller.broken(NO_INSTANCE, "the engine does not listen")

    def receive(self, data: bytes) -> None:
        """Read a part of the answer."""
        parser = self.parser
        try:
            body = parser.feed(data)
        except InvalidAnswer as error:
            self._engine.violations.add(problem=str(error))
            self._fail("the engine's answer is not well-formed HTTP")
            return
        self._held = None
        if body or parser.complete:
            self._caller.answered(body)
        elif parser.head is not None and not self._told:
            self._told = True
            self._caller.accepted()

    def lost(self) -> None:
        """The engine closed the connection, or broke."""
        if self._over:
            return
        self._connection = None
        if self._held is not None and not self._retried and not self.parser.begun:
            # The engine may have been closing this kept connection already: that is no failure. Try a new
            # one.
            self._retried = True
            self._unsent = self._held + self._unsent
            self._held = None
            self._opening = self._engine.open(self)
            return
        self._engine.breaks.add()
        self._fail("the engine closed the connection before its answer was complete")

    def _fail(self, reason: str) -> None:
        self.abort()
        self._caller.broken(INSTANCE_FAILED, reason)

    def _write(self) -> None:
        connection = self._connection
        if connection is None or not self._ready or not self._unsent:
            return
        unsent = self._unsent
        if self._held is not None:
            self._held += unsent
        self._unsent = []
        connection.transport.write(unsent[0] if len(unsent) == 1 else b"".join(unsent))


class EngineConnection(asyncio.BufferedProtocol):
    """One connection to the engine; carries one call at a time."""

    def __init__(self, engine: Engine, call: Optional[Call]) -> None:
        self.call = call
        self.full = False
        self.idle_since = 0.0
        self.transport: asyncio.Transport
        self._engine = engine

    def abort(self) -> None:
        """Close at once, without telling the call."""
        self.call = None
        self._engine.forget(self)
        self.transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the call for which the connection was opened."""
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=HIGH_WATER)
        self._engine.open_connections[self] = None
        if self.call is not None:
            self.call.connected(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return the buffer to read into: all connections share one, because it is emptied at once."""
        return self._engine.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Pass the bytes to the call; without a call, close the connection."""
        if self.call is not None:
            self.call.receive(bytes(self._engine.buffer[:nbytes]))
        elif not self.transport.is_closing():
            self._engine.violations.add(problem="bytes without a request")
            self.abort()

    def eof_received(self) -> bool:
        """Close: an engine has no reason to half-close."""
        return False

    def connection_lost(self, exc: Optional[Exception]) -> None:
        """Tell the call."""
        self._engine.forget(self)
        call, self.call = self.call, None
        if call is not None:
            call.lost()

    def pause_writing(self) -> None:
        """Note that the engine does not read."""
        self.full = True

    def resume_writing(self) -> None:
        """Note that the engine reads again."""
        self.full = False
        if self.call is not None:
            self.call.made_room()


class Engine:
    """The engine's address and the connections to it.

    While more than `most_kept` connections exist, none is kept after its call: an engine may have a fixed
    number of threads, one for each connection, and idle connections would block requests.
    """

    def __init__(self, address: EngineAddress, most_kept: int) -> None:
        self.address = address
        self.buffer = memoryview(bytearray(READ_SIZE))
        self.violations = Tally(logger, "the engine violated HTTP")
        self.breaks = Tally(logger, "the engine closed the connection during an answer")
        # A dict serves as an ordered set.
        self.open_connections: dict[EngineConnection, None] = {}
        self._most_kept = most_kept
        self._idle: deque[EngineConnection] = deque()

    def take_idle(self) -> Optional[EngineConnection]:
        """Return the idle connection that was used last, None if there is none."""
        while self._idle:
            connection = self._idle.pop()
            if not connection.transport.is_closing():
                return connection
        return None

    def keep(self, connection: EngineConnection, reusable: bool) -> None:
        """Keep a connection after its call if it can carry another one, otherwise close it."""
        connection.call = None
        if not reusable or connection.full or len(self.open_connections) > self._most_kept:
            connection.abort()
            return
        connection.transport.resume_reading()
        connection.idle_since = time.monotonic()
        self._idle.append(connection)

    def forget(self, connection: EngineConnection) -> None:
        """Drop a connection that is lost."""
        if connection not in self.open_connections:
            return
        del self.open_connections[connection]
        if connection in self._idle:
            self._idle.remove(connection)

    def sweep(self, now: float) -> None:
        """Close connections that have been idle for IDLE_SECONDS; `now` is of the monotonic clock."""
        while self._idle and now - self._idle[0].idle_since > IDLE_SECONDS:
            self._idle.popleft().abort()

    def close(self) -> None:
        """Close all idle connections."""
        while self._idle:
            self._idle.pop().abort()

    def open(self, call: Call) -> asyncio.Task[None]:
        """Open a connection for a call; `Call.connected` or `Call.unreachable` reports the result."""
        return asyncio.get_running_loop().create_task(self._open(call))

    async def _open(self, call: Call) -> None:
        try:
            if self.address.path:
                await self._open_unix(call)
            else:
                await asyncio.wait_for(self._open_loopback(call), CONNECT_SECONDS)
        except (OSError, asyncio.TimeoutError):
            call.unreachable()

    async def _open_loopback(self, call: Call) -> None:
        loop = asyncio.get_running_loop()
        if self.address.door:
            with await _connected(self.address.door) as door:
                sock = await _handed(door)
            await loop.create_connection(lambda: EngineConnection(self, call), sock=sock)
        else:
            await loop.create_connection(lambda: EngineConnection(self, call), "127.0.0.1", self.address.port)

    async def _open_unix(self, call: Call) -> None:
        sock = await _connected(self.address.path)
        try:
            loop = asyncio.get_running_loop()
            await loop.create_unix_connection(lambda: EngineConnection(self, call), sock=sock)
        except BaseException:
            sock.close()
            raise


async def _connected(path: str) -> socket.socket:
    """Return a connection to a unix socket. Raises OSError.

    Symbolic links are not followed: the engine can write in the folder, and a link there could point to
    another job's socket, or to any other socket that the account may use.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        held = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            await _connect_unix(sock, f"/proc/self/fd/{held}")
        finally:
            os.close(held)
    except BaseException:
        sock.close()
        raise
    return sock


async def _connect_unix(sock: socket.socket, path: str) -> None:
    """Connect, and wait while the backlog is full: asyncio would take EAGAIN for success. Raises OSError."""
    deadline = time.monotonic() + CONNECT_SECONDS
    while True:
        try:
            sock.connect(path)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(BACKLOG_PAUSE)
        else:
            return


async def _handed(door: socket.socket) -> socket.socket:
    """Return the TCP connection that a box passes through its door, a unix socket. Raises OSError."""
    await _readable(door)
    _, descriptors, _, _ = socket.recv_fds(door, 1, 1)
    if not descriptors:
        raise ConnectionRefusedError("the box has no connection to its engine")
    try:
        sock = socket.socket(fileno=descriptors[0])
    except OSError:
        os.close(descriptors[0])
        raise
    # The engine could have replaced the box's socket with its own.
    if sock.family != socket.AF_INET or sock.type != socket.SOCK_STREAM:
        sock.close()
        raise ConnectionRefusedError("the box passed on something other than a connection")
    sock.setblocking(False)
    return sock


async def _readable(sock: socket.socket) -> None:
    """Wait until the socket is readable."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def note() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(sock, note)
    try:
        await ready
    finally:
        loop.remove_reader(sock)
