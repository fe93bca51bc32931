"""Watches the files of this relay's program: if one is replaced, the session ends and a new one can begin."""

from __future__ import annotations

import logging
import random
from pathlib import Path
from typing import Callable, Optional

logger = logging.getLogger(__name__)

# The sessions on one login node do not all end together: the others serve while one is replaced (seconds).
SPREAD = 5.0


class WatchedFile:
    """Notices that a file was replaced: the program, or its configuration.

    `usable`: whether the new file can be used; if it cannot, this relay continues. `now`: any clock that only
    goes forward, in seconds.
    """

    def __init__(self, path: str, usable: Callable[[], bool] = lambda: True) -> None:
        self._path = path
        self._usable = usable
        self._mine = _identity(path)
        self._leave_at: Optional[float] = None

    def outdated(self, now: float) -> bool:
        """Whether the file was replaced, and it is time for this relay to end."""
        if self._leave_at is None:
            found = _identity(self._path)
            # A missing file is not a new one: somebody may be replacing it just now.
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
