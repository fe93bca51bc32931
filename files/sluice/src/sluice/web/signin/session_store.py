"""The files of server-side sessions with the provider's tokens: each is removed when it has expired."""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from cachelib.file import FileSystemCache

# What a session has in which somebody is signed in.
SIGN_IN_KEY = "person"

# Sessions kept at once, half-finished sign-ins included; beyond it the store drops the oldest.
MAX_SESSIONS = 50_000

# How long a sign-in may take, in seconds: sessions without one are kept no longer.
UNFINISHED_SECONDS = 900

SWEEP_SECONDS = 3_600.0


class SessionStore(FileSystemCache):
    """cachelib's store in a folder that nobody else may look into."""

    def __init__(self, folder: str) -> None:
        Path(folder).mkdir(mode=0o700, parents=True, exist_ok=True)
        super().__init__(folder, threshold=MAX_SESSIONS, mode=0o600)
        self._lock = threading.Lock()
        self._swept = 0.0

    def set(
        self, key: str, value: Any, timeout: int | timedelta | None = None, mgmt_element: bool = False
    ) -> bool:
        """Keep a session; one that nobody is signed in with for minutes only.

        A full store drops first what ends first: whoever begins sign-ins by the thousand drops their own.
        """
        if isinstance(value, dict) and SIGN_IN_KEY not in value and isinstance(timeout, int):
            timeout = min(timeout, UNFINISHED_SECONDS)
        return bool(super().set(key, value, timeout, mgmt_element))

    def sweep(self) -> None:
        """Delete the files of sessions that are over, at most once an hour.

        By itself cachelib leaves them until the store is full: a browser that never came back would leave its
        tokens on disk for as long. Its own count of files must follow, so it does the deleting.
        """
        now = time.monotonic()
        with self._lock:
            if self._swept and now - self._swept < SWEEP_SECONDS:
                return
            self._swept = now
        self._remove_expired(time.time())
