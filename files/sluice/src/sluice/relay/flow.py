"""Data that goes from one connection to another at its reader's pace.

What arrives on one side is queued on the other at once; its credit goes back to the sender only when it
has left for the reader. So a reader that stops holds back its own sender, and all that lies here is what
the sender's window allows.
"""

from __future__ import annotations

from sluice.endpoint import Endpoint
from sluice.wire.events import CreditGranted

# Credit goes back to a sender in lumps of at least this much (the wire grants in larger ones anyway), so
# that a token does not cost a book entry.
LUMP = 8192


class Flow:
    """One body on its way: `held` bytes were passed on and their credit not given back yet."""

    __slots__ = ("from_stream", "held", "source", "stream")

    def __init__(self, stream: int, source: Endpoint, from_stream: int) -> None:
        self.stream = stream
        self.source = source
        self.from_stream = from_stream
        self.held = 0


class Outflow:
    """All flows out of one endpoint."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._moving: dict[int, Flow] = {}
        # Waiting for the reader's credit: looked at again only when some is granted.
        self._stalled: dict[int, Flow] = {}
        endpoint.after_flush = self.settle

    def passed(self, flow: Flow, size: int) -> None:
        """Note that `size` bytes were queued."""
        flow.held += size
        if flow.held >= LUMP:
            self._moving[flow.stream] = flow

    def finish(self, flow: Flow) -> None:
        """The body is complete: give back all of its credit as soon as it has left."""
        if flow.held:
            self._moving[flow.stream] = flow

    def settle(self) -> None:
        """Give credit back for what has left."""
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
        """Look again, after the next flush, at what the reader has granted more for."""
        if not self._stalled:
            return
        if event.stream == 0:
            self._moving.update(self._stalled)
            self._stalled.clear()
        else:
            self.dropped(event.stream)

    def dropped(self, stream: int) -> None:
        """The stream is over, or moves again: settle it after the next flush."""
        flow = self._stalled.pop(stream, None)
        if flow is not None:
            self._moving[stream] = flow
