"""The files of this relay's program: if they are replaced while it runs, it makes room for the new one."""

from __future__ import annotations

import logging
import random
from pathlib import Path
from typing import Callable, Optional

logger = logging.getLogger(__name__)

# Sessions with one relay host do not leave together: while one is replaced, the others serve (seconds).
SPREAD = 5.0


class Program:
    """Notices that a file was replaced: the program, or its configuration.

    `usable`: whether what is there now can be run by; while it cannot, this relay stays. `now` is any clock
    that only goes forward, in seconds.
    """

    def __init__(self, path: str, usable: Callable[[], bool] = lambda: True) -> None:
        self._path = path
        self._usable = usable
        self._mine = _identity(path)
        self._leave_at: Optional[float] = None

    def outdated(self, now: float) -> bool:
        """Whether another file is there, and this relay's turn to go has come."""
        if self._leave_at is None:
            found = _identity(self._path)
            # A file that cannot be seen is no new one: whoever replaces it may be in the middle of that.
            if found is None or found == self._mine:
                return False
            if not self._usable():
                self._mine = found
                logger.error(
                    ("the new program or configuration cannot be used: this session keeps the old one"),
                    extra={"file": self._path},
                )
                return False
            self._leave_at = now + random.uniform(0, SPREAD)  # noqa: S311 - spreads, and keeps no secret
        return now >= self._leave_at


def _identity(path: str) -> Optional[tuple[int, int, int, int]]:
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size
