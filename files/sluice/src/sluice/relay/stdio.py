"""Standard input and output as one asyncio transport, whatever kind of file sshd opened."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from typing import Any, Optional, cast


async def attach(protocol: asyncio.Protocol) -> None:
    """Give `protocol` a transport over file descriptors 0 and 1.

    sshd uses one socket for both (a socketpair) or two pipes; that depends on its build. A socket must get a
    socket's transport: asyncio's pipe transport believes that its peer has left when it becomes readable.
    """
    loop = asyncio.get_running_loop()
    if _one_socket():
        sock = socket.socket(fileno=os.dup(0))
        sock.setblocking(False)
        await loop.create_connection(lambda: protocol, sock=sock)
        return
    pair = Pair(protocol)
    await _attach_output(loop, pair)
    await loop.connect_read_pipe(lambda: _Input(pair), os.fdopen(os.dup(0), "rb", buffering=0))


class Pair(asyncio.Transport):
    """Two one-way transports as one: it reads from one and writes to the other.

    The protocol hears of the connection when both are open, and of its loss when the first of them ends.
    """

    def __init__(self, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self.protocol = protocol
        self.input: Optional[asyncio.ReadTransport] = None
        self.output: Optional[asyncio.WriteTransport] = None
        self._lost = False

    def begin(self) -> None:
        """Tell the protocol that both are open."""
        self.protocol.connection_made(self)

    def end(self, exc: Optional[Exception]) -> None:
        """One of the two has ended: end the other one, and tell the protocol, once."""
        if self._lost:
            return
        self._lost = True
        self.abort()
        self.protocol.connection_lost(exc)

    def write(self, data: Any) -> None:
        """Write; buffer what cannot be written at once."""
        if self.output is not None:
            self.output.write(data)

    def close(self) -> None:
        """Stop reading; end when everything has been written."""
        if self.input is not None:
            self.input.pause_reading()
        if self.output is not None:
            self.output.close()

    def abort(self) -> None:
        """End at once."""
        output, self.output = self.output, None
        # asyncio's pipe transport fails on an abort while it is already ending.
        if output is not None and not (output.is_closing() and not output.get_write_buffer_size()):
            output.abort()
        if self.input is not None:
            self.input.close()

    def is_closing(self) -> bool:
        """Whether it is closed or about to be."""
        return self.output is None or self.output.is_closing()

    def get_write_buffer_size(self) -> int:
        """Return the bytes that wait to be written."""
        return self.output.get_write_buffer_size() if self.output is not None else 0

    def set_write_buffer_limits(self, high: Optional[int] = None, low: Optional[int] = None) -> None:
        """Set the number of waiting bytes from which the protocol must pause."""
        if self.output is not None:
            self.output.set_write_buffer_limits(high, low)


class _Input(asyncio.Protocol):
    def __init__(self, pair: Pair) -> None:
        self._pair = pair

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._pair.input = cast(asyncio.ReadTransport, transport)
        self._pair.begin()

    def data_received(self, data: bytes) -> None:
        self._pair.protocol.data_received(data)

    def eof_received(self) -> Optional[bool]:
        return self._pair.protocol.eof_received()

    def connection_lost(self, exc: Optional[Exception]) -> None:
        self._pair.input = None
        self._pair.end(exc)


class _Output(asyncio.Protocol):
    """Reads nothing. Standard output may be a socket, and a socket's transport needs a protocol."""

    def __init__(self, pair: Pair) -> None:
        self._pair = pair

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._pair.output = cast(asyncio.WriteTransport, transport)

    def pause_writing(self) -> None:
        self._pair.protocol.pause_writing()

    def resume_writing(self) -> None:
        self._pair.protocol.resume_writing()

    def connection_lost(self, exc: Optional[Exception]) -> None:
        self._pair.output = None
        self._pair.end(exc)


async def _attach_output(loop: asyncio.AbstractEventLoop, pair: Pair) -> None:
    if _is_socket(1):
        sock = socket.socket(fileno=os.dup(1))
        sock.setblocking(False)
        await loop.create_connection(lambda: _Output(pair), sock=sock)
    else:
        await loop.connect_write_pipe(lambda: _Output(pair), os.fdopen(os.dup(1), "wb", buffering=0))


def _one_socket() -> bool:
    return _is_socket(0) and os.path.sameopenfile(0, 1)


def _is_socket(descriptor: int) -> bool:
    return stat.S_ISSOCK(os.fstat(descriptor).st_mode)
