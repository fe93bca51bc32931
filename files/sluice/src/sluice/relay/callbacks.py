"""What a connection to an instance reports to its requests."""

from __future__ import annotations

from typing import Protocol

from sluice.contracts.heads import ErrorHead, ResponseHead


class RequestCallbacks(Protocol):
    """A request, as the connection calls it; `places`: how many places of the instance it takes."""

    places: int

    def connection_open(self, *, fresh: bool) -> None:
        """The connection is open; `fresh`: it was opened for the requests that waited for it."""

    def instance_unreachable(self, reason: str) -> None:
        """No trusted connection could be made: neither a byte of the request nor the key has been sent."""

    def connection_lost(self, *, protocol_broken: bool) -> None:
        """The connection was lost during the request; `protocol_broken`: the instance broke the protocol."""

    def answer_begins(self, head: ResponseHead) -> None:
        """The answer's head has arrived."""

    def answer_data(self, data: bytes) -> None:
        """Bytes of the answer's body have arrived."""

    def answer_ends(self) -> None:
        """The answer is complete."""

    def answer_fails(self, error: ErrorHead) -> None:
        """The front ended the stream with an error."""

    def answered_since(self, when: float) -> bool:
        """Whether bytes of its answer arrived after `when` (monotonic clock)."""
