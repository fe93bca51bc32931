"""Progress lines: what is being done and how long it has taken so far."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

Report = Callable[[str], None]
"""Takes one line that says what is being done."""


class Progress:
    """Prints each line with the time since it was made, on standard error."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def __call__(self, line: str) -> None:
        elapsed = time.monotonic() - self._start
        print(f"[{elapsed:6.1f}s] {line}", file=sys.stderr, flush=True)


def silent(line: str) -> None:
    """Report nothing."""
