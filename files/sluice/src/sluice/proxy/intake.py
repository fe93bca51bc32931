"""Takes a request's body in: bounded in size, in time, and in what all bodies together may hold."""

from __future__ import annotations

import asyncio

from aiohttp import web

from sluice.errors import SluiceError
from sluice.proxy.metrics import Metrics

BODY_SECONDS = 120.0
# All bodies in memory together: this many of the largest.
BODIES_HELD = 16


class Intake:
    """Reads bodies of at most `max_body` bytes."""

    def __init__(self, max_body: int, metrics: Metrics) -> None:
        self._max_body = max_body
        self._most = max_body * BODIES_HELD
        self._held = 0
        self._metrics = metrics

    def announce(self, request: web.BaseRequest) -> None:
        """Refuse by the headers alone. Raises SluiceError."""
        length = request.content_length
        if length is None and "chunked" not in request.headers.get("Transfer-Encoding", "").lower():
            raise SluiceError("length_required", "Send the body with Content-Length or in chunks.")
        if length is not None and length > self._max_body:
            raise self._too_large()
        if request.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise SluiceError("invalid_request", "Send the body without Content-Encoding.")

    async def read(self, request: web.BaseRequest) -> Body:
        """Return the body; the caller releases it. Raises SluiceError."""
        body = Body(self)
        if request.content.is_eof():  # it came with its headers: no need to wait, nor to watch the time
            body.add(request.content.read_nowait())
            return body
        try:
            async with asyncio.timeout(BODY_SECONDS):
                while chunk := await request.content.readany():
                    body.add(chunk)
        except TimeoutError:
            body.release()
            raise SluiceError(
                "invalid_request", f"The body did not come within {BODY_SECONDS:.0f} s."
            ) from None
        except BaseException:
            body.release()
            raise
        return body

    def hold(self, size: int, total: int) -> None:
        """Reserve room for `size` more bytes of a body that has `total` with them."""
        if total > self._max_body:
            raise self._too_large()
        if self._held + size > self._most:
            raise SluiceError(
                "overloaded", "Too many large requests at once; try again soon.", retry_after=1.0
            )
        self._held += size
        self._metrics.held_bytes.set(self._held)

    def let_go(self, size: int) -> None:
        """Give room back."""
        self._held -= size
        self._metrics.held_bytes.set(self._held)

    def _too_large(self) -> SluiceError:
        return SluiceError("body_too_large", f"The body is larger than {self._max_body} bytes.")


class Body:
    """A body in memory, counted until it is released."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._chunks: list[bytes] = []
        self.size = 0

    def add(self, chunk: bytes) -> None:
        """Take the next bytes. Raises SluiceError when they are too many."""
        self._intake.hold(len(chunk), self.size + len(chunk))
        self.size += len(chunk)
        self._chunks.append(chunk)

    def bytes(self) -> bytes:
        """Return the whole body."""
        if len(self._chunks) > 1:
            self._chunks = [b"".join(self._chunks)]
        return self._chunks[0] if self._chunks else b""

    def release(self) -> None:
        """Forget the body. Harmless a second time."""
        self._intake.let_go(self.size)
        self.size = 0
        self._chunks = []
