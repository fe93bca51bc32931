"""The body of one request: scanned as it arrives, kept or passed on. Pure.

A body of at most COLLECTED bytes is kept until an answer begins, so that it can be sent to another instance.
A larger one streams through. Its last byte is sent only when the whole body has passed the checks.
"""

from __future__ import annotations

from typing import Optional

from sluice.bodies.costs import Bounds
from sluice.bodies.scan import BodyScanner
from sluice.contracts.heads import RequestHead
from sluice.contracts.paths import PATHS
from sluice.errors import SluiceError

# Bodies of up to this many bytes are kept for another attempt; the relay holds no more bytes of a larger one.
COLLECTED = 262_144


class Body:
    """A request's body, as far as it has arrived.

    `streams`: whether it is too large to be kept. `received`: how many bytes have arrived. `complete`:
    whether all of it has arrived and passed the checks.
    """

    __slots__ = ("_data", "_length", "_scanner", "complete", "received", "streams")

    def __init__(self, head: RequestHead, schemas: Bounds) -> None:
        self._length = head.length
        self._scanner = BodyScanner(PATHS[head.path], schemas)
        # One buffer, no list of pieces: many tiny frames would cost many times their bytes.
        self._data = bytearray()
        self.streams = head.length > COLLECTED
        self.received = 0
        self.complete = False

    @property
    def model(self) -> Optional[str]:
        """The model that the body names, None until its name has arrived."""
        return self._scanner.model

    @property
    def places(self) -> int:
        """How many places the body needs, as far as it has arrived."""
        return self._scanner.places

    def receive(self, data: bytes) -> None:
        """Add the next bytes. Raises SluiceError if the checks refuse them."""
        self.received += len(data)
        if self.received > self._length:
            raise SluiceError("invalid_request", "the body is longer than announced")
        self._scanner.feed(data)
        self._data += data

    def finish(self) -> str:
        """Note the end of the body; return the model that it names. Raises SluiceError.

        The caller sets `complete` when its own checks have passed too.
        """
        if self.received != self._length:
            raise SluiceError("invalid_request", "the body is shorter than announced")
        return self._scanner.finish()

    def whole(self) -> bytes:
        """Return the whole of a body that is kept."""
        return bytes(self._data)

    def next(self) -> bytes:
        """Return the bytes of a streaming body that may be passed on now, and forget them."""
        keep = 1 if self.received == self._length and not self.complete else 0
        data = bytes(self._data[: len(self._data) - keep])
        del self._data[: len(data)]
        return data

    def let_go(self) -> None:
        """Free the body's memory."""
        self._data = bytearray()
