"""The way out of a session: what the wire wants written, written as fast as the other side reads."""

from __future__ import annotations

import asyncio

from sluice.wire.connection import Connection

# What one stream may have queued before its exchange waits. Beyond credit already granted, this is all
# that a slow reader costs here.
ROOM = 65_536
WRITE_SIZE = 65_536


class Outlet:
    """Writes what the connection has to send; lets exchanges wait for room."""

    def __init__(self, connection: Connection, writer: asyncio.StreamWriter) -> None:
        self._connection = connection
        self._writer = writer
        self._wanted = asyncio.Event()
        self._waiting: dict[int, asyncio.Future[None]] = {}

    def wake(self) -> None:
        """Say that the connection may have something to send, or that there may be room."""
        self._wanted.set()

    async def room(self, stream: int) -> None:
        """Wait until little of the stream is queued."""
        if self._connection.pending(stream) < ROOM:
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[stream] = waiter
        try:
            await waiter
        finally:
            self._waiting.pop(stream, None)

    async def run(self) -> None:
        """Write for ever. Raises OSError when the other side is gone."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            await self.flush()

    async def flush(self) -> None:
        """Write what may be written now. Raises OSError."""
        while True:
            data = self._connection.data_to_send(WRITE_SIZE)
            if data:
                self._writer.write(data)
                await self._writer.drain()
            self._free()
            if not data:
                return

    def _free(self) -> None:
        for stream, waiter in self._waiting.items():
            if not waiter.done() and self._connection.pending(stream) < ROOM:
                waiter.set_result(None)
