"""The transport of a connection to an instance: the check of the job's certificate, and bounded turns."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Callable, Optional, cast

from sluice.contracts.routing import RoutedInstance
from sluice.endpoint import Endpoint
from sluice.gate.pin import is_pinned

logger = logging.getLogger(__name__)

# How many bytes of one instance are processed in one turn of the event loop: tiny frames cost much more than
# their bytes, and the answers of other instances wait meanwhile.
TURN_BYTES = 16_384


class CertificateCheck(asyncio.Protocol):
    """Sends nothing, not even the key, before the peer has shown the job's certificate.

    `trusted` is called with the connection if the peer has shown it. `reason`: why it was refused.
    """

    def __init__(self, instance: RoutedInstance, trusted: Callable[[asyncio.Transport], None]) -> None:
        self.reason = ""
        self._instance = instance
        self._trusted = trusted
        self._shut = False

    def shut(self) -> None:
        """Refuse the connection from now on: it is not needed any more."""
        self._shut = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Accept the peer if it is the job, otherwise close."""
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
    """Closes without waiting for the peer, so that no instance can delay a request.

    Many tiny frames must not delay others either: in one turn of the event loop it processes at most
    TURN_BYTES, and reads no more until they are done.
    """

    broke_protocol = False
    _kept = b""
    _turn: Optional[asyncio.Handle] = None

    def data_received(self, data: bytes) -> None:
        """Process the bytes of one turn now, and the rest in the next turns."""
        if self._turn is not None:
            # TLS still passes on bytes that it had decrypted before the pause.
            self._kept += data
        elif len(data) <= TURN_BYTES:
            super().data_received(data)
        else:
            self._kept = data
            if self.transport is not None:
                self.transport.pause_reading()
            self._take_turn()

    def eof_received(self) -> bool:
        """Process the bytes before the end: they may complete an answer."""
        self._take_all()
        return super().eof_received()

    def connection_lost(self, exc: Optional[Exception]) -> None:
        """Process the bytes before the end, then report it."""
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
