"""Files that others may write: jobs, relays, other accounts of a shared file system.

Whatever lies in such a place, to look at it costs a bounded time and memory, follows no link and waits for
nobody: folders are opened by descriptor, a file is asked about before it is opened, and read up to a limit.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Optional

from sluice.errors import RecordError

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
# Without O_NONBLOCK a pipe laid in a file's place would be waited for.
FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
PIECE = 1 << 16


@contextmanager
def folder(path: str, name: str = "") -> Iterator[int]:
    """Give the descriptor of a folder, or of the one called `name` in it. Raises OSError.

    Neither of the two is followed if it is a link, but for a `path` that is root's own link. A path's earlier
    parts are not for strangers to change.
    """
    descriptor = _outer(path)
    try:
        if name:
            outer, descriptor = descriptor, os.open(name, FOLDER, dir_fd=descriptor)
            os.close(outer)
        yield descriptor
    finally:
        os.close(descriptor)


def _outer(path: str) -> int:
    try:
        return os.open(path, FOLDER)
    except OSError as error:
        if not is_link(error) or os.lstat(path).st_uid != 0:
            raise
    return os.open(path, FOLDER & ~os.O_NOFOLLOW)


def is_link(error: OSError) -> bool:
    """Whether an open failed because something else than what was looked for lies there, such as a link."""
    return error.errno in (errno.ELOOP, errno.ENOTDIR)


def read(inside: int, name: str, limit: int, owner: Optional[int] = None) -> bytes:
    """Return what a file in the folder `inside` (a descriptor) holds.

    Raises OSError, and RecordError for what is no regular file, not `owner`'s (where one is given), or
    larger than `limit` bytes.
    """
    raw = _content(inside, name, limit + 1, 0, owner)
    if len(raw) > limit:
        raise RecordError("", f"{name} is larger than {limit} bytes")
    return raw


def at(path: str, limit: int) -> bytes:
    """Return what the file at `path` holds; links are followed, since a person named the path.

    Raises OSError, and RecordError for what is no regular file or larger than `limit` bytes.
    """
    descriptor = opened(path)
    try:
        raw = _pieces(descriptor, 0, limit + 1)
    finally:
        os.close(descriptor)
    if len(raw) > limit:
        raise RecordError("", f"{path} is larger than {limit} bytes")
    return raw


def opened(path: str) -> int:
    """Return the descriptor of the regular file at `path`, links followed. Raises OSError and RecordError."""
    descriptor = os.open(path, FILE & ~os.O_NOFOLLOW)
    try:
        regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
    except OSError:
        regular = False
    if not regular:
        os.close(descriptor)
        raise RecordError("", f"{path} is not a regular file")
    return descriptor


def tail(inside: int, name: str, limit: int, owner: Optional[int] = None) -> bytes:
    """Return the last `limit` bytes of a file in the folder `inside`. Raises OSError and RecordError."""
    return _content(inside, name, limit, -limit, owner)


def _content(inside: int, name: str, limit: int, offset: int, owner: Optional[int]) -> bytes:
    # Asked before it is opened, since to open a device may do something; and again afterwards.
    _check(os.stat(name, dir_fd=inside, follow_symlinks=False), name, owner)
    descriptor = os.open(name, FILE, dir_fd=inside)
    try:
        found = os.fstat(descriptor)
        _check(found, name, owner)
        if offset < 0:
            offset = max(0, found.st_size + offset)
        return _pieces(descriptor, offset, limit)
    finally:
        os.close(descriptor)


def _pieces(descriptor: int, offset: int, most: int) -> bytes:
    parts = []
    while most > 0:
        part = os.pread(descriptor, min(most, PIECE), offset)
        if not part:
            break
        parts.append(part)
        offset, most = offset + len(part), most - len(part)
    return b"".join(parts)


def _check(found: os.stat_result, name: str, owner: Optional[int]) -> None:
    if stat.S_ISLNK(found.st_mode):
        raise RecordError("", f"{name} is a link")
    if not stat.S_ISREG(found.st_mode) or found.st_uid != (found.st_uid if owner is None else owner):
        raise RecordError("", f"{name} is not a regular file of this account")


class Removal:
    """Removes folders with all that is in them, as far as `steps` and `seconds` go; they serve all of them.

    No link is followed, and depth costs nothing: what lies deeper is moved up before it is removed.
    """

    def __init__(self, steps: int, seconds: float) -> None:
        self._steps = steps
        self._deadline = time.monotonic() + seconds
        self._name = secrets.token_hex(8)

    @property
    def over(self) -> bool:
        """Whether nothing more may be done."""
        return self._steps <= 0 or time.monotonic() >= self._deadline

    def remove(self, inside: int, name: str) -> bool:
        """Remove one folder; return whether it has gone. What was not done is left for another time."""
        try:
            top = os.open(name, FOLDER, dir_fd=inside)
        except OSError:
            return False
        try:
            before = os.fstat(top)
            # What is moved up is found by the next look.
            while self._empty(top, top) and not self.over:
                pass
            # It lay still as long as before: the next time goes on with it.
            os.utime(top, ns=(before.st_atime_ns, before.st_mtime_ns))
            os.rmdir(name, dir_fd=inside)
        except OSError:
            return False
        finally:
            os.close(top)
        return True

    def _empty(self, folder: int, top: int) -> bool:
        """Take everything out of a folder once; return whether anything was moved up, or is left to be."""
        moved = False
        with os.scandir(folder) as entries:
            for entry in entries:
                if self.over:
                    return True
                self._steps -= 1
                if not self._unlink(folder, entry.name) and self._descend(folder, entry.name, top):
                    moved = True
        return moved

    def _unlink(self, folder: int, name: str) -> bool:
        """Remove whatever is no folder."""
        try:
            os.unlink(name, dir_fd=folder)
        except IsADirectoryError:
            return False
        except OSError:
            # It stays, and with it its folder.
            return True
        return True

    def _descend(self, folder: int, name: str, top: int) -> bool:
        """Empty a folder and remove it, or move it up to the top; return whether there is more to do."""
        if folder != top:
            return self._move_up(folder, name, top)
        try:
            inner = os.open(name, FOLDER, dir_fd=folder)
        except OSError:
            return False
        try:
            moved = self._empty(inner, top)
        finally:
            os.close(inner)
        try:
            os.rmdir(name, dir_fd=folder)
        except OSError:
            return moved
        return moved

    def _move_up(self, folder: int, name: str, top: int) -> bool:
        try:
            os.rename(name, f".{self._name}-{self._steps}", src_dir_fd=folder, dst_dir_fd=top)
        except OSError:
            # Not ours to move: it stays.
            return False
        return True
