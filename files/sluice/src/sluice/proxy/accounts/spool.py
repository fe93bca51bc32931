"""Keeps usage records on disk until the authority has them. The next process settles what a killed one left.

A segment is a file of lines. `+` and a record: written when a request is sent; it counts if the request is
never settled. `-` and a record: the request's settled record. A record is ASCII JSON that begins with its id;
it has no content. Only one process at a time uses the folder.

The lines of one turn of the event loop are written together at its end, before an answer to any request sent
in it can arrive. From then on they survive the end of the process, and from the next sync on a power cut. A
segment whose records were all delivered is removed after its successor has been synced.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import errno
import fcntl
import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path

from sluice.errors import ConfigError

log = logging.getLogger("sluice.proxy.accounts.spool")

SEGMENT = re.compile(r"[0-9]{16}\.usage")
SEGMENT_BYTES = 4 * 1024 * 1024
# The most bytes on disk, for long times without the authority; beyond it the oldest records are dropped and
# counted.
MOST_BYTES = 2 * 1024 * 1024 * 1024
READ_BYTES = 512 * 1024
# How many lines that could not be written are held in memory until the disk works again.
MOST_UNWRITTEN = 50_000
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
_LINE = re.compile(rb'[+-]\{"id":"(req-[0-9a-f]{32})",.*\}')


@dataclass(frozen=True)
class Batch:
    """Settled records, and the offset in `segment` at which they end."""

    records: list[bytes]
    segment: Path
    end: int


class Unsynced:
    """What is not yet safe from a power cut: passed from the event loop to a thread that waits for the disk.

    It has its own descriptors, because segments are opened and closed meanwhile.
    """

    def __init__(self, files: list[int], folder: int | None, done: list[Path]) -> None:
        self._files = files
        self._folder = folder
        self._done = done

    def sync(self) -> None:
        """Sync the files and the folder, then remove finished segments. Raises OSError."""
        with contextlib.ExitStack() as closing:
            for descriptor in self._files:
                closing.callback(os.close, descriptor)
            if self._folder is not None:
                closing.callback(os.close, self._folder)
            for descriptor in self._files:
                os.fdatasync(descriptor)
            if self._folder is not None:
                os.fsync(self._folder)
        for path in self._done:
            path.unlink(missing_ok=True)


class Spool:
    """Usage records in the folder `directory`, created if it is missing. Raises ConfigError.

    `dropped` counts the records that were lost because of the bounds.
    """

    def __init__(self, directory: str) -> None:
        self._directory = Path(directory)
        self._lock = _locked(self._directory)
        self._segments: collections.deque[Path] = collections.deque(_segments(self._directory))
        self._open: dict[str, bytes] = {}
        self._lines: list[bytes] = []
        self._unwritten: collections.deque[bytes] = collections.deque(maxlen=MOST_UNWRITTEN)
        self._due = False
        self._failing = False
        # Whether the newest segment has unsynced lines (`_dirty`) and the folder an unsynced segment
        # (`_grown`); descriptors of older segments with unsynced lines (`_left`); finished segments
        # (`_done`).
        self._dirty = False
        self._grown = False
        self._left: list[int] = []
        self._done: list[Path] = []
        self._offset = 0
        self._size = 0
        self._waiting = 0
        self.dropped = 0
        recovered = self._recover()
        self._active = self._begin_segment(recovered)

    def __len__(self) -> int:
        """Return how many settled records are not delivered yet."""
        return self._waiting

    # --- records of a request -------------------------------------------------------------------------------

    def begin(self, request_id: str, record: bytes) -> None:
        """Note a request that is sent now; `record` counts if the request is never settled."""
        self._open[request_id] = record
        self._add(b"+" + record + b"\n")

    def settle(self, request_id: str, record: bytes) -> None:
        """Add a settled record."""
        self._open.pop(request_id, None)
        self._waiting += 1
        self._add(b"-" + record + b"\n")

    def _add(self, line: bytes) -> None:
        self._lines.append(line)
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_soon(self.flush)

    def flush(self) -> None:
        """Write the lines that are waiting."""
        self._due = False
        lines, self._lines = self._lines, []
        if self._unwritten:
            lines = [*self._unwritten, *lines]
            self._unwritten.clear()
        if not lines:
            return
        try:
            self._write(b"".join(lines))
        except OSError as error:
            self._keep(lines, error)
            return
        if self._failing:
            self._failing = False
            log.warning("usage records can be written again")

    def _write(self, data: bytes) -> None:
        _write_whole(self._active, data, self._size)
        self._size += len(data)
        self._dirty = True
        if self._size >= SEGMENT_BYTES:
            self._rotate()

    def _keep(self, lines: list[bytes], error: OSError) -> None:
        if not self._failing:
            self._failing = True
            log.critical(
                "usage records cannot be written: they are held in memory, and lost if this process ends",
                extra={"folder": str(self._directory), "problem": error.strerror or str(error)},
            )
        beyond = len(lines) - MOST_UNWRITTEN
        if beyond > 0:
            self.dropped += sum(line.startswith(b"-") for line in lines[:beyond])
            self._waiting -= sum(line.startswith(b"-") for line in lines[:beyond])
        self._unwritten.extend(lines)

    # --- to the authority -----------------------------------------------------------------------------------

    def batch(self, most: int) -> Batch:
        """Return the next settled records, `most` at most; pass the batch to `taken` after delivery."""
        while True:
            first = self._segments[0]
            with first.open("rb") as stream:
                stream.seek(self._offset)
                raw = stream.read(READ_BYTES)
            records, end = _settled(raw, most)
            if records or (end == 0 and len(self._segments) == 1):
                return Batch(records, first, self._offset + end)
            if end:
                self._offset += end
            else:
                self._drop_first()

    def taken(self, batch: Batch) -> None:
        """Forget these records: the authority has stored them or refuses them for good."""
        if self._segments[0] == batch.segment:
            self._waiting -= len(batch.records)
            self._offset = batch.end

    def unsynced(self) -> Unsynced | None:
        """Return what a power cut would lose, None if nothing; the caller must sync it. Raises OSError."""
        if not (self._dirty or self._grown or self._left or self._done):
            return None
        folder = (
            os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC) if self._grown else None
        )
        files = [os.dup(self._active)] if self._dirty else []
        files += self._left
        unsynced = Unsynced(files, folder, self._done)
        self._dirty = self._grown = False
        self._left, self._done = [], []
        return unsynced

    def close(self) -> None:
        """Write and sync everything, and unlock the folder."""
        self.flush()
        with contextlib.suppress(OSError):
            left = self.unsynced()
            if left is not None:
                left.sync()
        os.close(self._active)
        os.close(self._lock)

    # --- segments -------------------------------------------------------------------------------------------

    def _recover(self) -> list[bytes]:
        """Return a settled line for each request that an earlier process sent and did not settle."""
        begun: dict[bytes, bytes] = {}
        for segment in self._segments:
            for line in segment.read_bytes().split(b"\n"):
                found = _LINE.fullmatch(line)
                if found is None:
                    continue
                if line.startswith(b"+"):
                    begun[found[1]] = line
                else:
                    begun.pop(found[1], None)
                    self._waiting += 1
        self._waiting += len(begun)
        return [b"-" + line[1:] + b"\n" for line in begun.values()]

    def _begin_segment(self, lines: list[bytes]) -> int:
        """Open a new segment that begins with `lines`, and return its descriptor. Raises ConfigError."""
        number = int(self._segments[-1].stem) + 1 if self._segments else 1
        path = self._directory / f"{number:016d}.usage"
        data = b"".join(lines)
        try:
            descriptor = os.open(path, _NEW, 0o600)
            _write_whole(descriptor, data, 0)
        except OSError as error:
            raise ConfigError(f"spool: {path} cannot be written: {error.strerror or error}") from None
        self._segments.append(path)
        self._size = len(data)
        self._dirty = self._grown = True
        return descriptor

    def _rotate(self) -> None:
        """Continue in a new segment. It begins with the open requests, so that the old one can be removed."""
        before, dirty = self._active, self._dirty
        try:
            self._active = self._begin_segment([b"+" + record + b"\n" for record in self._open.values()])
        except ConfigError:
            # Continue with the old one; the next write tries again.
            return
        if dirty:
            self._left.append(before)
        else:
            os.close(before)
        while len(self._segments) > max(2, MOST_BYTES // SEGMENT_BYTES):
            self._lose_first()

    def _lose_first(self) -> None:
        with self._segments[0].open("rb") as stream:
            stream.seek(self._offset)
            lost = sum(line.startswith(b"-") for line in stream)
        self.dropped += lost
        self._waiting -= lost
        self._drop_first()

    def _drop_first(self) -> None:
        # Its open requests are in the next segment, which may not be synced yet: remove it only after a sync.
        self._done.append(self._segments.popleft())
        self._offset = 0


def _write_whole(descriptor: int, data: bytes, end: int) -> None:
    """Append all of `data` to a file of `end` bytes, or nothing: half a line would spoil the next line.

    Raises OSError.
    """
    if os.write(descriptor, data) < len(data):
        os.ftruncate(descriptor, end)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _settled(raw: bytes, most: int) -> tuple[list[bytes], int]:
    """Return the settled records in complete lines, `most` at most, and the offset at which they end."""
    records: list[bytes] = []
    end = 0
    while len(records) < most:
        after = raw.find(b"\n", end) + 1
        if not after:
            break
        if raw.startswith(b"-", end) and _LINE.fullmatch(raw, end, after - 1):
            records.append(raw[end + 1 : after - 1])
        end = after
    return records, end


def _segments(directory: Path) -> list[Path]:
    return sorted(path for path in directory.iterdir() if SEGMENT.fullmatch(path.name))


def _locked(directory: Path) -> int:
    """Lock the folder for this process; the kernel unlocks it when the process ends. Raises ConfigError."""
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(f"spool: {directory} cannot be used: {error.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise ConfigError(f"spool: {directory} is in use by another process") from None
    return descriptor
