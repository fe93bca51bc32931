"""What a client that asked for a stream is told while it waits."""

from __future__ import annotations

import math
from typing import Any

from aiohttp import web

from sluice.errors import SluiceError
from sluice.proxy.api import answers
from sluice.proxy.requests.context import RequestContext


class Notice:
    """The beginning of an event stream, before there is an event: comment lines, which clients pass over.

    `response` is None until something was told, or an instance has accepted the stream; from then on the
    answer has begun, and an error can only be an event in it.
    """

    def __init__(self, request: web.BaseRequest, context: RequestContext) -> None:
        self._request = request
        self._visit = context
        self.response: web.StreamResponse | None = None

    @property
    def begun(self) -> bool:
        """Whether the answer has begun."""
        return self.response is not None

    async def tell(self, position: int, expected: float | None) -> None:
        """Tell the position in the queue, and in how many seconds the answer is expected to begin."""
        seconds = "" if expected is None else f" expected={math.ceil(expected)}s"
        await self._comment(f"queued position={position}{seconds}")

    async def working(self) -> None:
        """Tell that an instance works on the request: by the answer's head, and then now and then."""
        if self.response is None:
            await self._begin()
            self._request.writer.send_headers()
        else:
            await self._comment("working")

    async def _begin(self) -> web.StreamResponse:
        response = self.response = answers.stream(self._visit)
        await response.prepare(self._request)
        return response

    async def _comment(self, text: str) -> None:
        # No blank line behind it: some clients take each for the end of an event, here one without data.
        response = self.response or await self._begin()
        await response.write(f": {text}\n".encode())

    async def fail(self, fault: SluiceError) -> web.StreamResponse:
        """End the answer with an error event; only after something was told."""
        document = fault.to_openai(self._visit.request_id)
        if fault.retry_after is not None:
            # The header that would say so is gone already.
            document["error"]["retry_after"] = math.ceil(fault.retry_after)
        return await self.end(document, fault.status)

    async def end(self, error: dict[str, Any], status: int) -> web.StreamResponse:
        """End the answer with `error` (in OpenAI's shape) as its event; only after something was told."""
        response = self.response
        if response is None:
            raise RuntimeError("no answer has begun, so no event can end it")
        await response.write(self._visit.dialect.event(error, status, b""))
        await response.write_eof()
        return response
