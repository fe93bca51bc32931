"""The proxy's side of one request: what the relay sends back on its stream, at the reader's pace."""

from __future__ import annotations

from typing import Optional

from sluice.contracts.heads import ErrorHead, ResponseHead
from sluice.endpoint import Endpoint
from sluice.relay.flow import Flow, Outflow


class Answer:
    """One stream towards the proxy; nothing is sent on it after its end.

    `status`: the HTTP status that was passed on, 0 before. `sent`: how many bytes of the body were passed on.
    """

    __slots__ = ("_endpoint", "_flow", "_outflow", "_stream", "sent", "status")

    def __init__(self, endpoint: Endpoint, outflow: Outflow, stream: int) -> None:
        self._endpoint = endpoint
        self._outflow = outflow
        self._stream = stream
        self._flow: Optional[Flow] = None
        self.status = 0
        self.sent = 0

    @property
    def begun(self) -> bool:
        """Whether the answer has begun: from then on no other instance can take over."""
        return self._flow is not None

    @property
    def waits_for_reader(self) -> bool:
        """Whether bytes are held here because the reader has not granted credit for them."""
        return bool(self._endpoint.connection.pending(self._stream))

    def consumed(self, size: int) -> None:
        """Let the proxy send `size` more bytes of the body."""
        self._endpoint.connection.consume(self._stream, size)

    def accepted(self) -> None:
        """Tell the proxy that an instance has accepted the stream."""
        self._endpoint.connection.accept(self._stream)
        self._endpoint.wake()

    def begin(self, head: ResponseHead, source: Endpoint, from_stream: int) -> None:
        """Pass the head on; credit for what follows goes back to `source`, on its `from_stream`."""
        self.status = head.status
        self._endpoint.connection.respond(self._stream, head)
        self._flow = Flow(self._stream, source, from_stream)

    def data(self, data: bytes) -> None:
        """Pass bytes of the body on, after `begin`."""
        size = len(data)
        self.sent += size
        self._endpoint.connection.send_data(self._stream, data)
        if self._flow is not None:
            self._outflow.passed(self._flow, size)
        self._endpoint.wake()

    def end(self) -> None:
        """Tell the proxy that the answer is complete."""
        self._endpoint.connection.send_end(self._stream)
        if self._flow is not None:
            self._outflow.finish(self._flow)
        self._endpoint.wake()

    def fail(self, error: ErrorHead) -> None:
        """End with an error, after the bytes that were passed on."""
        self._endpoint.connection.send_error(self._stream, error)
        self._endpoint.wake()

    def upload(self, stream: int) -> Flow:
        """Return the flow of the request's body from this stream to `stream` of an instance."""
        return Flow(stream, self._endpoint, self._stream)
