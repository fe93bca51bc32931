"""The files of server-side sessions, which contain the provider's tokens; expired ones are removed."""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from cachelib.file import FileSystemCache

# The key of the sign-in in a session. It is in stored sessions: changing it signs everybody out.
SIGN_IN_KEY = "person"

# How many sessions are kept, including unfinished sign-ins; above this, those that expire first are
# dropped.
MAX_SESSIONS = 50_000

# How long a sign-in may take, in seconds: sessions without a user are kept no longer.
UNFINISHED_SECONDS = 900

SWEEP_SECONDS = 3_600.0


class SessionStore(FileSystemCache):
    """cachelib's file store, in a folder that only this account can read."""

    def __init__(self, folder: str) -> None:
        Path(folder).mkdir(mode=0o700, parents=True, exist_ok=True)
        super().__init__(folder, threshold=MAX_SESSIONS, mode=0o600)
        self._lock = threading.Lock()
        self._swept = 0.0

    def set(
        self, key: str, value: Any, timeout: int | timedelta | None = None, mgmt_element: bool = False
    ) -> bool:
        """Store a session; without a signed-in user, for UNFINISHED_SECONDS at most.

        A full store drops first what expires first. So whoever begins thousands of sign-ins drops their own.
        """
        if isinstance(value, dict) and SIGN_IN_KEY not in value and isinstance(timeout, int):
            timeout = min(timeout, UNFINISHED_SECONDS)
        return bool(super().set(key, value, timeout, mgmt_element))

    def sweep(self) -> None:
        """Delete the files of expired sessions, at most once an hour.

        cachelib itself deletes them only when the store is full: tokens would stay on disk for a long time.
        It also counts the files, so the deletion uses its own method.
        """
        now = time.monotonic()
        with self._lock:
            if self._swept and now - self._swept < SWEEP_SECONDS:
                return
            self._swept = now
        self._remove_expired(time.time())
