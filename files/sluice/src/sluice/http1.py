"""HTTP/1.1 over asyncio streams, client side: what relay (to front) and front (to engine) need of it.

A connection carries one exchange at a time: `start`, `send`…, `finish`, `head`, `data`… until it returns
b"". Writing waits while the peer does not read, and reading takes at most what the peer has sent: memory
stays bounded. Every wait for the peer has a deadline, kept by a timer that aborts the transport (cheaper
than a task per read, and free of the races of `asyncio.wait_for` in Python 3.9).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Optional

import h11

READ_SIZE = 65536
KEEPALIVE_IDLE, KEEPALIVE_INTERVAL, KEEPALIVE_COUNT = 15, 5, 3


class PeerError(Exception):
    """The peer broke the connection or spoke nonsense. The text names the step, never what was sent.

    `nonsense` tells a peer that breaks the protocol from one that went away.
    """

    def __init__(self, step: str, *, nonsense: bool = False) -> None:
        super().__init__(step)
        self.nonsense = nonsense


class PeerTimeout(PeerError):
    """The peer did not do its part in time."""


@dataclass(frozen=True)
class Head:
    """The start of an answer. `headers` has lower-case names; of a repeated one it holds the last."""

    status: int
    headers: dict[str, str]

    @property
    def media_type(self) -> str:
        """Return the content type without parameters, in lower case; "" if there is none."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def delimited(self) -> bool:
        """Whether the end of the body can be told from a break: by its length or by chunks."""
        return "content-length" in self.headers or "transfer-encoding" in self.headers


class ClientConnection:
    """One connection to a peer that serves HTTP/1.1."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.CLIENT)
        self._expired = False
        self._ended = False
        self._unsent = b""

    def start(self, method: str, path: str, headers: Sequence[tuple[str, str]]) -> None:
        """Begin a request. Its head leaves with the first part of the body, or with `finish`."""
        head = self._http.send(h11.Request(method=method, target=path, headers=list(headers)))
        self._unsent = head or b""

    async def send(self, data: bytes, timeout: Optional[float] = None) -> None:
        """Send a part of the body; waits while the peer takes nothing. Raises PeerError."""
        with self._deadline(timeout):
            for begin in range(0, len(data), READ_SIZE):
                await self._write(self._http.send(h11.Data(data=data[begin : begin + READ_SIZE])))

    async def finish(self) -> None:
        """End the request. Raises PeerError."""
        await self._write(self._http.send(h11.EndOfMessage()))

    async def head(self, timeout: Optional[float] = None) -> Head:
        """Wait for the start of the answer. Raises PeerError, PeerTimeout."""
        with self._deadline(timeout):
            event = await self._event()
            while isinstance(event, h11.InformationalResponse):
                event = await self._event()
        if not isinstance(event, h11.Response):
            raise PeerError("the answer has no head", nonsense=True)
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in event.headers}
        return Head(event.status_code, headers)

    async def data(self, timeout: Optional[float] = None) -> bytes:
        """Return the next bytes of the answer's body, b"" at its end. Raises PeerError, PeerTimeout.

        Everything that one read brought is returned at once, whatever its chunks.
        """
        if self._ended:
            return b""
        with self._deadline(timeout):
            parts = [await self._part()]
        while not self._ended:
            event = self._next()
            if event is h11.NEED_DATA:
                break
            parts.append(self._payload(event))
        return b"".join(parts)

    def reusable(self) -> bool:
        """Whether another request may be sent on this connection; if so, make it ready for it."""
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
            self._ended = False
        return self.idle()

    def idle(self) -> bool:
        """Whether the connection stands ready for a request: nothing came, and the peer has not left."""
        return (
            self._http.our_state is h11.IDLE
            and not self._http.trailing_data[0]
            and not self._reader.at_eof()
            and not self._writer.transport.is_closing()
        )

    def abort(self) -> None:
        """Close at once, without waiting for anything; safe to call twice and from callbacks."""
        self._writer.transport.abort()

    async def _part(self) -> bytes:
        part = b""
        while not part and not self._ended:
            part = self._payload(await self._event())
        return part

    def _payload(self, event: object) -> bytes:
        if isinstance(event, h11.Data):
            return bytes(event.data)
        if isinstance(event, h11.EndOfMessage):
            self._ended = True
            return b""
        raise PeerError("the answer's body", nonsense=True)

    async def _event(self) -> object:
        while True:
            event = self._next()
            if event is not h11.NEED_DATA:
                return event
            try:
                data = await self._reader.read(READ_SIZE)
            except OSError:
                raise self._broken("reading") from None
            if not data and self._expired:
                raise self._broken("reading")
            self._feed(data)

    def _next(self) -> object:
        try:
            event = self._http.next_event()
        except h11.RemoteProtocolError:
            raise self._broken("the answer", nonsense=not self._reader.at_eof()) from None
        if isinstance(event, h11.ConnectionClosed):
            raise self._broken("the answer")
        return event

    def _feed(self, data: bytes) -> None:
        try:
            self._http.receive_data(data)
        except h11.RemoteProtocolError:
            raise self._broken("the answer", nonsense=True) from None

    async def _write(self, data: Optional[bytes]) -> None:
        data = self._unsent + (data or b"")
        self._unsent = b""
        if data:
            self._writer.write(data)
        try:
            await self._writer.drain()
        except OSError:
            raise self._broken("sending") from None

    def _broken(self, step: str, *, nonsense: bool = False) -> PeerError:
        if self._expired:
            return PeerTimeout(step)
        return PeerError(step, nonsense=nonsense)

    @contextlib.contextmanager
    def _deadline(self, seconds: Optional[float]) -> Iterator[None]:
        if seconds is None:
            yield
            return
        timer = asyncio.get_running_loop().call_later(seconds, self._expire)
        try:
            yield
        finally:
            timer.cancel()

    def _expire(self) -> None:
        self._expired = True
        self.abort()


def keep_alive(writer: asyncio.StreamWriter) -> None:
    """Have the kernel notice, within about half a minute, a peer that vanished without a word."""
    sock = writer.get_extra_info("socket")
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_COUNT)
    sock.setsockopt(
        socket.IPPROTO_TCP,
        socket.TCP_USER_TIMEOUT,
        1000 * (KEEPALIVE_IDLE + KEEPALIVE_COUNT * KEEPALIVE_INTERVAL),
    )
