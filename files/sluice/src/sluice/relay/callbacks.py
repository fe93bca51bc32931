"""What the connection to an instance tells a request of it."""

from __future__ import annotations

from typing import Protocol

from sluice.contracts.heads import ErrorHead, ResponseHead


class Asker(Protocol):
    """A request, as a line calls it; `places`: how many of the instance's it takes."""

    places: int

    def line_open(self, *, fresh: bool) -> None:
        """The line stands; `fresh`: it was made for those who waited for it."""

    def line_unreachable(self, reason: str) -> None:
        """No trusted connection could be made: neither a byte of the request nor the key has been sent."""

    def line_lost(self, *, nonsense: bool) -> None:
        """The line was lost under the request; `nonsense`: the instance broke the protocol."""

    def answer_begins(self, head: ResponseHead) -> None:
        """The instance's answer has a head."""

    def answer_data(self, data: bytes) -> None:
        """Bytes of the answer's body."""

    def answer_ends(self) -> None:
        """The answer is complete."""

    def answer_fails(self, error: ErrorHead) -> None:
        """The front ended the stream with an error."""

    def answered_since(self, when: float) -> bool:
        """Whether bytes of its answer came after `when` (monotonic clock)."""
