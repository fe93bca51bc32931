"""A file system on which another host's writes appear late, as over NFS with attribute caching.

What a *writer's* host has done to the files below `source` is seen below `view` only `delay` seconds after,
in the order in which it was done. Until then a reader sees what was there before: no file, or the old
content. As on a real client, the old and the new file may each be seen, never a mixture, provided that the
writer renames into place; a file written in place may be seen cut short, since its states are copied as
they are found every `interval` seconds.

A thread compares the two trees; nothing is mounted. Bounded: it ends with `stop`, or after `lifetime`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Optional

_Signature = tuple[int, int, int]


@dataclass(frozen=True)
class _Change:
    """One thing done to `name`, to be seen at `due`; without content and not a directory it was removed."""

    due: float
    name: str
    directory: bool = False
    content: Optional[bytes] = None
    mode: int = 0


class LateFileSystem:
    """Makes `view` follow `source` with a delay. Both are directories; `view` belongs to this object."""

    def __init__(
        self, source: Path, view: Path, delay: float, interval: float = 0.01, lifetime: float = 600.0
    ) -> None:
        self.delay = delay
        self._source = source
        self._view = view
        self._interval = interval
        self._ends = time.monotonic() + lifetime
        self._seen: dict[str, _Signature] = {}
        self._queue: deque[_Change] = deque()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="late-fs")

    def __enter__(self) -> LateFileSystem:
        self._view.mkdir(parents=True, exist_ok=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End; what is not visible yet never becomes visible."""
        self._stopped.set()
        self._thread.join(5)

    def settle(self, seconds: float = 10.0) -> None:
        """Wait until the view shows what the source has now. Raises TimeoutError."""
        deadline = time.monotonic() + seconds
        while self._scan() != _tree(self._view):
            if time.monotonic() > deadline:
                raise TimeoutError("the view does not catch up: does somebody keep writing?")
            time.sleep(self._interval)

    def _scan(self) -> dict[str, Optional[bytes]]:
        return _tree(self._source)

    def _run(self) -> None:
        while not self._stopped.wait(self._interval) and time.monotonic() < self._ends:
            self._notice()
            self._show()

    def _notice(self) -> None:
        due = time.monotonic() + self.delay
        found = _signatures(self._source)
        # Parents before children when they appear, after them when they go.
        for name in sorted(found):
            if found[name] != self._seen.get(name):
                change = self._read(name, due)
                if change is None:
                    # Gone between the two reads: the next round finds what became of it.
                    del found[name]
                else:
                    self._queue.append(change)
        self._queue.extend(_Change(due, name) for name in sorted(self._seen.keys() - found, reverse=True))
        self._seen = found

    def _read(self, name: str, due: float) -> Optional[_Change]:
        path = self._source / name
        try:
            mode = path.stat().st_mode & 0o7777
            if path.is_dir():
                return _Change(due, name, directory=True, mode=mode)
            return _Change(due, name, content=path.read_bytes(), mode=mode)
        except OSError:
            return None

    def _show(self) -> None:
        now = time.monotonic()
        while self._queue and self._queue[0].due <= now:
            self._apply(self._queue.popleft())

    def _apply(self, change: _Change) -> None:
        path = self._view / change.name
        if change.directory:
            path.mkdir(exist_ok=True)
            path.chmod(change.mode)
        elif change.content is None:
            _remove(path)
        else:
            # Next to the view, so that readers of the view see no name that the source never had.
            staged = self._view.with_name(f".{self._view.name}.staged")
            staged.write_bytes(change.content)
            staged.chmod(change.mode)
            if path.is_dir():
                shutil.rmtree(path)
            staged.replace(path)


def _remove(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _signatures(root: Path) -> dict[str, _Signature]:
    found: dict[str, _Signature] = {}
    for place, directories, files in os.walk(root):
        for name in (*directories, *files):
            path = Path(place) / name
            with contextlib.suppress(FileNotFoundError):
                stat = path.lstat()
                size = 0 if path.is_dir() else stat.st_size
                stamp = 0 if path.is_dir() else stat.st_mtime_ns
                found[str(path.relative_to(root))] = (stat.st_ino, size, stamp)
    return found


def _tree(root: Path) -> dict[str, Optional[bytes]]:
    found: dict[str, Optional[bytes]] = {}
    for name in _signatures(root):
        path = root / name
        with contextlib.suppress(OSError):
            found[name] = None if path.is_dir() else path.read_bytes()
    return found
