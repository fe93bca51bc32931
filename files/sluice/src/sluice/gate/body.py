"""The body of one request: scanned as it arrives, kept or passed on. Pure.

A body of at most COLLECTED bytes is kept until an answer begins, so that another instance can be asked. A
larger one streams through. Either way its last byte leaves only when the whole has been found good.
"""

from __future__ import annotations

from typing import Optional

from sluice.bodies.costs import Bounds
from sluice.bodies.scan import BodyScanner
from sluice.contracts.heads import RequestHead
from sluice.contracts.paths import PATHS
from sluice.errors import SluiceError

# Bodies up to this many bytes are kept for another try; of a larger one the relay holds at most as much.
COLLECTED = 262_144


class Body:
    """What has come of a request's body.

    `streams`: whether it is too large to be kept. `received`: the bytes that came. `complete`: whether all
    of it came and was found good.
    """

    __slots__ = ("_data", "_length", "_scanner", "complete", "received", "streams")

    def __init__(self, head: RequestHead, schemas: Bounds) -> None:
        self._length = head.length
        self._scanner = BodyScanner(PATHS[head.path], schemas)
        # One buffer, not pieces: many tiny frames must not cost many times their bytes.
        self._data = bytearray()
        self.streams = head.length > COLLECTED
        self.received = 0
        self.complete = False

    @property
    def model(self) -> Optional[str]:
        """The model that the body names, once that has come."""
        return self._scanner.model

    @property
    def places(self) -> int:
        """How many places the body takes, as far as it has come."""
        return self._scanner.places

    def receive(self, data: bytes) -> None:
        """Take a part. Raises SluiceError when it is not good."""
        self.received += len(data)
        if self.received > self._length:
            raise SluiceError("invalid_request", "the body is longer than announced")
        self._scanner.feed(data)
        self._data += data

    def finish(self) -> str:
        """Learn that nothing more comes; return the model that the body names. Raises SluiceError.

        The caller sets `complete` when nothing else speaks against the body.
        """
        if self.received != self._length:
            raise SluiceError("invalid_request", "the body is shorter than announced")
        return self._scanner.finish()

    def whole(self) -> bytes:
        """Return all of a body that is kept."""
        return bytes(self._data)

    def next(self) -> bytes:
        """Return what may be passed on now of a body that streams, and forget it."""
        keep = 1 if self.received == self._length and not self.complete else 0
        data = bytes(self._data[: len(self._data) - keep])
        del self._data[: len(data)]
        return data

    def let_go(self) -> None:
        """Keep nothing of it any more."""
        self._data = bytearray()
