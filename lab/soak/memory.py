"""A transport without a network: it passes what is written to a function; tests hand in what arrives."""

from __future__ import annotations

import asyncio
from typing import Any, Callable, Optional


class Memory(asyncio.Transport):
    """Carries bytes for one protocol; `wrote` is called with what it writes."""

    def __init__(self, protocol: Any = None, wrote: Optional[Callable[[bytes], None]] = None) -> None:
        super().__init__()
        self.protocol = protocol
        self.wrote = wrote
        self.written = 0
        self._closing = False

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def set_write_buffer_limits(self, high: Optional[int] = None, low: Optional[int] = None) -> None:
        """Nothing is buffered here."""

    def get_write_buffer_size(self) -> int:
        return 0

    def write(self, data: Any) -> None:
        if self._closing:
            return
        self.written += len(data)
        if self.wrote is not None:
            self.wrote(bytes(data))

    def pause_reading(self) -> None:
        """Do nothing: little arrives, so it is handed in anyway."""

    def resume_reading(self) -> None:
        """See pause_reading."""

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    def abort(self) -> None:
        self.close()

    def give(self, data: bytes) -> None:
        """Hand bytes to the protocol."""
        if self._closing:
            return
        if isinstance(self.protocol, asyncio.BufferedProtocol):
            buffer = memoryview(self.protocol.get_buffer(len(data)))
            for place in range(0, len(data), len(buffer)):
                piece = data[place : place + len(buffer)]
                buffer[: len(piece)] = piece
                self.protocol.buffer_updated(len(piece))
                if self._closing:
                    return
        else:
            self.protocol.data_received(data)
