"""The file that closes the gate."""

from __future__ import annotations

from pathlib import Path

# The relay looks at its files at most this often (seconds), not for every request.
STALE_SECONDS = 0.01


class ClosedFile:
    """The gate is closed while the file exists. Looks every STALE_SECONDS; `now` is monotonic."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._closed = False
        self._seen = float("-inf")

    def closed(self, now: float) -> bool:
        """Return whether the gate is closed: the file exists, or the relay cannot tell."""
        if now - self._seen >= STALE_SECONDS:
            self._seen = now
            self._closed = self._look()
        return self._closed

    def _look(self) -> bool:
        try:
            self._path.stat()
        except FileNotFoundError:
            return False
        except OSError:
            return True
        return True
