"""What of an instance's answer goes back to the gateway VM. Pure."""

from __future__ import annotations

from sluice.errors import SluiceError

# An engine that refuses credentials means the job's, never the user's.
WITHHELD_STATUSES = frozenset({401, 403, 407})


def may_pass(status: int) -> bool:
    """Return whether an answer with this HTTP status goes back as it is."""
    return 200 <= status < 300 or (400 <= status < 500 and status not in WITHHELD_STATUSES)


def check_size(size: int, most: int) -> None:
    """Refuse to pass on more than `most` bytes of an answer. Raises SluiceError."""
    if size > most:
        raise SluiceError("answer_too_large", "the answer is longer than this cluster allows")
