"""Opens a connection to an instance: checks the job's certificate, and limits connections at one time."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Callable, Optional, cast

from sluice.contracts.routing import Instance
from sluice.endpoint import Endpoint
from sluice.gate.pin import is_pinned

logger = logging.getLogger(__name__)

# What of one instance's bytes is worked on in one turn of the event loop: tiny frames cost far more than
# their bytes, and the other instances' answers wait meanwhile.
TURN_BYTES = 16_384


class Door(asyncio.Protocol):
    """Lets nothing out, not even the key, before the peer has shown the job's certificate.

    `trusted` is called with the connection to the peer that has. `reason`: why it was not let through.
    """

    def __init__(self, instance: Instance, trusted: Callable[[asyncio.Transport], None]) -> None:
        self.reason = ""
        self._instance = instance
        self._trusted = trusted
        self._shut = False

    def shut(self) -> None:
        """Let nobody through any more: whoever made the connection has given it up."""
        self._shut = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Let the peer through if it is the job, else hang up."""
        made = cast(asyncio.Transport, transport)
        if self._shut:
            made.abort()
        elif is_pinned(_shown(made), self._instance.certificate):
            self._trusted(made)
        else:
            made.abort()
            self.reason = "certificate"
            logger.warning("the server at this address is not the job", extra={"instance": self._instance.id})


def _shown(transport: asyncio.Transport) -> Optional[bytes]:
    """Return the certificate (DER) that the peer showed."""
    tls: Any = transport.get_extra_info("ssl_object")
    return cast(Optional[bytes], tls.getpeercert(binary_form=True))


class PacedEndpoint(Endpoint):
    """Ends at once where it would wait for the peer: nothing that an instance does may hold up a request.

    Nor may many tiny frames: in one turn of the event loop it takes at most TURN_BYTES, and reads no further
    before those are done.
    """

    broke_protocol = False
    _kept = b""
    _turn: Optional[asyncio.Handle] = None

    def data_received(self, data: bytes) -> None:
        """Take a turn's share, and the rest in the next turns."""
        if self._turn is not None:
            # TLS hands on what it had decrypted already.
            self._kept += data
        elif len(data) <= TURN_BYTES:
            super().data_received(data)
        else:
            self._kept = data
            if self.transport is not None:
                self.transport.pause_reading()
            self._take_turn()

    def eof_received(self) -> bool:
        """Take what came before the end: an answer may be whole with it."""
        self._take_all()
        return super().eof_received()

    def connection_lost(self, exc: Optional[Exception]) -> None:
        """Take what came before the end, then tell."""
        self._take_all()
        super().connection_lost(exc)

    def _take_turn(self) -> None:
        self._turn = None
        data, self._kept = self._kept[:TURN_BYTES], self._kept[TURN_BYTES:]
        if self._kept:
            self._turn = asyncio.get_running_loop().call_soon(self._take_turn)
        elif self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()
        super().data_received(data)

    def _take_all(self) -> None:
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
            data, self._kept = self._kept, b""
            super().data_received(data)

    def close(self, code: str, message: str) -> None:
        self.broke_protocol = code == "protocol"
        super().close(code, message)
        self.abort(message)
