"""Log lines for events that others can cause at will: all are counted, few are written."""

from __future__ import annotations

import logging
import time

# Seconds between two lines of one kind.
PAUSE = 10.0


class Tally:
    """Counts one kind of event; logs the count at most once in PAUSE seconds."""

    def __init__(self, logger: logging.Logger, message: str) -> None:
        self.count = 0
        self._logger = logger
        self._message = message
        self._written = -PAUSE

    def add(self, **fields: object) -> None:
        """Count one event; `fields` are for the log line, never content."""
        self.count += 1
        now = time.monotonic()
        if now - self._written >= PAUSE:
            self._written = now
            self._logger.warning(self._message, extra={"count": self.count, **fields})
