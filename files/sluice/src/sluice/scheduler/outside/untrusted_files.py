"""Reads and removes files that others may write: jobs, relays, other accounts of a shared file system.

Whatever they put there, reading takes bounded time and memory, follows no link and never blocks: folders are
opened by descriptor, a file's type is checked before it is opened, and it is read up to a limit.
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
# Without O_NONBLOCK, opening a named pipe in place of a file would block.
FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
PIECE = 1 << 16


@contextmanager
def folder(path: str, name: str = "") -> Iterator[int]:
    """Yield the descriptor of the folder `path`, or of the folder `name` in it. Raises OSError.

    Links are refused for both, except that `path` may be a link that belongs to root. The parents of `path`
    must not be writable by others.
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
    """Whether an open failed because there is a link, or no folder, at that name."""
    return error.errno in (errno.ELOOP, errno.ENOTDIR)


def read(inside: int, name: str, limit: int, owner: Optional[int] = None) -> bytes:
    """Return the content of a file in the folder `inside` (a descriptor).

    Raises OSError, and RecordError if it is not a regular file, does not belong to `owner` (if one is given),
    or is larger than `limit` bytes.
    """
    raw = _content(inside, name, limit + 1, 0, owner)
    if len(raw) > limit:
        raise RecordError("", f"{name} is larger than {limit} bytes")
    return raw


def at(path: str, limit: int) -> bytes:
    """Return the content of the file at `path`; links are followed, because a person named the path.

    Raises OSError, and RecordError if it is not a regular file or is larger than `limit` bytes.
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
    """Open the regular file at `path`, following links. Raises OSError, and RecordError for other files."""
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
    # Checked before opening, because opening a device can have effects, and again afterwards.
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
    """Removes folders with their content, within `steps` (entries) and `seconds` for all of them together.

    No link is followed. Depth does not matter: deeper folders are moved up before they are removed.
    """

    def __init__(self, steps: int, seconds: float) -> None:
        self._steps = steps
        self._deadline = time.monotonic() + seconds
        self._name = secrets.token_hex(8)

    @property
    def over(self) -> bool:
        """Whether the steps or the time are used up."""
        return self._steps <= 0 or time.monotonic() >= self._deadline

    def remove(self, inside: int, name: str) -> bool:
        """Remove one folder; return whether it is gone. A later call continues what was not finished."""
        try:
            top = os.open(name, FOLDER, dir_fd=inside)
        except OSError:
            return False
        try:
            before = os.fstat(top)
            # The next round removes what was moved up.
            while self._empty(top, top) and not self.over:
                pass
            # With its old time it still counts as unused, so the next cleaning continues with it.
            os.utime(top, ns=(before.st_atime_ns, before.st_mtime_ns))
            os.rmdir(name, dir_fd=inside)
        except OSError:
            return False
        finally:
            os.close(top)
        return True

    def _empty(self, folder: int, top: int) -> bool:
        """Remove a folder's entries once; return whether something was moved up or is still to be removed."""
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
        """Remove an entry that is not a folder; return False for a folder."""
        try:
            os.unlink(name, dir_fd=folder)
        except IsADirectoryError:
            return False
        except OSError:
            # The entry stays, and so does its folder.
            return True
        return True

    def _descend(self, folder: int, name: str, top: int) -> bool:
        """Empty and remove a folder of the top, or move up a deeper one; return whether more is left."""
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
            # It cannot be moved, so it stays.
            return False
        return True
