"""Locks of a SQLite database: services hold a shared lock, a restore an exclusive one.

A lock ends with its process.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from sluice.errors import ConfigError


class DatabaseInUse(ConfigError):
    """The database is in use, or is being restored."""


class SharedLock:
    """Marks the database at `path` as in use. Raises DatabaseInUse while it is being restored."""

    def __init__(self, path: str) -> None:
        self._file = _open(path)
        try:
            fcntl.flock(self._file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            raise DatabaseInUse(
                f"the database {path} is being restored: wait for sluice db restore to end"
            ) from None

    def release(self) -> None:
        """Release the lock."""
        os.close(self._file)


@contextmanager
def exclusive_lock(path: str) -> Iterator[None]:
    """Keep all others from using the database at `path`. Raises DatabaseInUse if it is in use."""
    file = _open(path)
    try:
        _take(file, path)
        yield
    finally:
        os.close(file)


def _take(file: int, path: str) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise DatabaseInUse(
            f"the database {path} is in use: stop the services first, for example with systemctl stop "
            "sluice-web sluice-authority"
        ) from None


def _open(path: str) -> int:
    return os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
