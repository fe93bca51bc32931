"""Which answers of an instance go back to the gateway VM. Pure."""

from __future__ import annotations

from sluice.errors import SluiceError

# An engine that refuses credentials means those of the job; users must not believe it means theirs.
WITHHELD_STATUSES = frozenset({401, 403, 407})


def may_pass(status: int) -> bool:
    """Return whether an answer with this HTTP status is passed on unchanged."""
    return 200 <= status < 300 or (400 <= status < 500 and status not in WITHHELD_STATUSES)


def check_size(size: int, most: int) -> None:
    """Raise SluiceError for an answer of more than `most` bytes."""
    if size > most:
        raise SluiceError("answer_too_large", "the answer is longer than this cluster allows")
