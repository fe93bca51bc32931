"""The checks of a session that apply to every request. Pure; every check raises SluiceError."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from sluice.errors import SluiceError
from sluice.gate.limits import BodyMemory, Rate

# How many answers to questions (models, metrics) may be unread; a correct proxy has at most two.
MAX_UNREAD = 8


def check_open(closed: bool) -> None:
    """Refuse all requests while the gate is closed."""
    if closed:
        raise SluiceError("closed", "the cluster's administrators have closed the gate", retry_after=60)


def check_rate(rate: Rate, now: float) -> None:
    """Refuse a request beyond the rate of the cluster's configuration; `now` is the monotonic clock."""
    if not rate.take(now):
        raise SluiceError("rate_limited", "more requests than this cluster allows", retry_after=1)


def check_unread(unread: int) -> None:
    """Refuse a question from a proxy that does not read the answers: they would fill the memory."""
    if unread >= MAX_UNREAD:
        raise SluiceError("overloaded", "earlier answers have not been read", retry_after=1)


def reserve(memory: BodyMemory, size: int) -> None:
    """Reserve memory for a body of `size` bytes."""
    if not memory.reserve(size):
        raise SluiceError("overloaded", "this session's memory for bodies is full", retry_after=1)


def demand(waiting: Mapping[str, int], known: Collection[str], most: int) -> dict[str, int]:
    """Return the part of a proxy's demand report that counts: `known` models, at most `most` for each."""
    return {model: min(count, most) for model, count in waiting.items() if model in known}
