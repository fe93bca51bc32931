"""Standard input and output as asyncio streams, whatever sshd made of them."""

from __future__ import annotations

import asyncio
import os
import socket
import stat

LIMIT = 65_536


async def open_stdio() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Return reader and writer over file descriptors 0 and 1.

    sshd hands over one socket as both (a socketpair) or two pipes, by build. asyncio's pipe transport takes
    a socket that becomes readable for one whose peer has left: a socket gets a socket's transport.
    """
    if _one_socket():
        sock = socket.socket(fileno=os.dup(0))
        sock.setblocking(False)
        return await asyncio.open_connection(sock=sock, limit=LIMIT)
    return await _reader(), await _writer()


def _one_socket() -> bool:
    return _is_socket(0) and os.path.sameopenfile(0, 1)


def _is_socket(descriptor: int) -> bool:
    return stat.S_ISSOCK(os.fstat(descriptor).st_mode)


async def _reader() -> asyncio.StreamReader:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=LIMIT)
    await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(os.dup(0), "rb", buffering=0)
    )
    return reader


async def _writer() -> asyncio.StreamWriter:
    loop = asyncio.get_running_loop()
    if _is_socket(1):
        sock = socket.socket(fileno=os.dup(1))
        sock.setblocking(False)
        _, writer = await asyncio.open_connection(sock=sock, limit=LIMIT)
        return writer
    transport, protocol = await loop.connect_write_pipe(
        lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader()),
        os.fdopen(os.dup(1), "wb", buffering=0),
    )
    return asyncio.StreamWriter(transport, protocol, None, loop)
