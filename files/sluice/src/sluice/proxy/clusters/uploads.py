"""Uploads of bodies to a relay: few bytes at a time are copied into the wire's queue."""

from __future__ import annotations

from collections.abc import Iterable

from sluice.wire.connection import Connection

# The most bytes of one body in the wire's queue; the rest stays in the request's chunks.
UPLOAD_QUEUE = 192 * 1024
UPLOAD_PIECE = 64 * 1024


class Upload:
    """The part of a body that is not queued yet, in pieces."""

    def __init__(self, chunks: Iterable[bytes | bytearray]) -> None:
        self._chunks = iter(chunks)
        self._chunk = memoryview(b"")

    def piece(self) -> bytes:
        """Return the next bytes, at most UPLOAD_PIECE, or b"" at the end."""
        while not self._chunk:
            chunk = next(self._chunks, None)
            if chunk is None:
                return b""
            self._chunk = memoryview(chunk)
        piece, self._chunk = bytes(self._chunk[:UPLOAD_PIECE]), self._chunk[UPLOAD_PIECE:]
        return piece


class Uploads:
    """The unfinished uploads of one session. False if there are none."""

    def __init__(self, wire: Connection) -> None:
        self._wire = wire
        self._uploads: dict[int, Upload] = {}

    def __bool__(self) -> bool:
        return bool(self._uploads)

    def add(self, number: int, chunks: Iterable[bytes | bytearray]) -> None:
        """Send the chunks as the body of stream `number`; each is copied only when it is queued."""
        upload = Upload(chunks)
        if not self._fill(number, upload):
            self._uploads[number] = upload

    def fill(self) -> None:
        """Refill the queues of all bodies."""
        for number in [number for number, upload in self._uploads.items() if self._fill(number, upload)]:
            del self._uploads[number]

    def drop(self, number: int) -> None:
        """Stop the upload of a body."""
        self._uploads.pop(number, None)

    def clear(self) -> None:
        """Stop all uploads."""
        self._uploads.clear()

    def _fill(self, number: int, upload: Upload) -> bool:
        """Queue as much of a body as the bound allows; return whether all of it is queued."""
        wire = self._wire
        while wire.pending(number) <= UPLOAD_QUEUE - UPLOAD_PIECE:
            piece = upload.piece()
            if not piece:
                wire.send_end(number)
                return True
            wire.send_data(number, piece)
        return False
