"""Passes data from one connection to another at the reader's pace.

Data that arrives on one side is queued on the other at once. The sender gets new credit only when the data
has been sent to the reader. So a reader that stops also stops its sender, and the relay never holds more than
the sender's window.
"""

from __future__ import annotations

from sluice.endpoint import Endpoint
from sluice.wire.events import CreditGranted

# Credit is returned to a sender in lumps of at least this many bytes (the wire grants larger ones anyway), so
# that small pieces of an answer need no bookkeeping.
LUMP = 8192


class Flow:
    """One body on its way; `held`: bytes that were queued and whose credit was not returned yet."""

    __slots__ = ("from_stream", "held", "source", "stream")

    def __init__(self, stream: int, source: Endpoint, from_stream: int) -> None:
        self.stream = stream
        self.source = source
        self.from_stream = from_stream
        self.held = 0


class Outflow:
    """All flows that leave through one endpoint."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._moving: dict[int, Flow] = {}
        # Flows that wait for the reader's credit: checked again only when it grants some.
        self._stalled: dict[int, Flow] = {}
        endpoint.after_flush = self.return_credit

    def passed(self, flow: Flow, size: int) -> None:
        """Note that `size` bytes were queued."""
        flow.held += size
        if flow.held >= LUMP:
            self._moving[flow.stream] = flow

    def finish(self, flow: Flow) -> None:
        """The body is complete: return all of its credit as soon as it has been sent."""
        if flow.held:
            self._moving[flow.stream] = flow

    def return_credit(self) -> None:
        """Return credit for the bytes that have been sent."""
        if not self._moving:
            return
        connection = self._endpoint.connection
        waits_for_credit = not connection.has_data()
        moving, self._moving = self._moving, {}
        for stream, flow in moving.items():
            left = connection.pending(stream)
            if left < flow.held:
                source = flow.source
                source.connection.consume(flow.from_stream, flow.held - left)
                flow.held = left
                if source.connection.has_data():
                    source.wake()
            if left:
                (self._stalled if waits_for_credit else self._moving)[stream] = flow

    def granted(self, event: CreditGranted) -> None:
        """After the next flush, check again the flows for which the reader has granted credit."""
        if not self._stalled:
            return
        if event.stream == 0:
            self._moving.update(self._stalled)
            self._stalled.clear()
        else:
            self.dropped(event.stream)

    def dropped(self, stream: int) -> None:
        """The stream has ended, or has credit again: check it after the next flush."""
        flow = self._stalled.pop(stream, None)
        if flow is not None:
            self._moving[stream] = flow
