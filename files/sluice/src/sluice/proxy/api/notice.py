"""What a client of a stream is told while it waits."""

from __future__ import annotations

import math
from typing import Any

from aiohttp import web

from sluice.errors import SluiceError
from sluice.proxy.api import answers
from sluice.proxy.requests.context import RequestContext


class Notice:
    """The beginning of an event stream before its first event: comment lines, which clients ignore.

    `response` is None until something is told or an instance has accepted the stream. From then on the answer
    has begun, and an error can only be an event in it.
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
        """Tell that an instance works on the request: first with the answer's head, later with a comment."""
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
        # Without a blank line: some clients would read it as the end of an event without data.
        response = self.response or await self._begin()
        await response.write(f": {text}\n".encode())

    async def fail(self, fault: SluiceError) -> web.StreamResponse:
        """End the answer with an error event; only after the answer has begun."""
        document = fault.to_openai(self._visit.request_id)
        if fault.retry_after is not None:
            # It is too late for the header Retry-After.
            document["error"]["retry_after"] = math.ceil(fault.retry_after)
        return await self.end(document, fault.status)

    async def end(self, error: dict[str, Any], status: int) -> web.StreamResponse:
        """End the answer with `error` (in OpenAI's format) as an event; only after the answer has begun."""
        response = self.response
        if response is None:
            raise RuntimeError("no answer has begun, so no event can end it")
        await response.write(self._visit.dialect.event(error, status, b""))
        await response.write_eof()
        return response
