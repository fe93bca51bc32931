"""Usage records on disk until the authority has them. The next process settles what a killed one left.

A segment is a file of lines. `+` and a record: how the request is settled should nothing more be heard of it,
written when it is sent. `-` and a record: how it was settled. A record is JSON in ASCII that begins with its
id; never content. One process at a time has the folder.

Lines of one turn of the event loop are written together at its end, before anything can come back for what
was sent in it. From there they outlive the process; they outlive the machine from the next sync on. A segment
of which everything was taken goes once the one that stands in its place has outlived that too.
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
# Of what a day without an authority leaves, this much is kept; beyond it the oldest goes, and is counted.
MOST_BYTES = 2 * 1024 * 1024 * 1024
READ_BYTES = 512 * 1024
# Records that could not be written, held in memory until the disk takes them again.
MOST_UNWRITTEN = 50_000
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
_LINE = re.compile(rb'[+-]\{"id":"(req-[0-9a-f]{32})",.*\}')


@dataclass(frozen=True)
class Batch:
    """Settled records, and where in which segment they end."""

    records: list[bytes]
    segment: Path
    end: int


class Unsynced:
    """What a loss of power would still take: handed from the event loop to a thread that waits for the disk.

    It has descriptors of its own, for segments come and go meanwhile.
    """

    def __init__(self, files: list[int], folder: int | None, done: list[Path]) -> None:
        self._files = files
        self._folder = folder
        self._done = done

    def sync(self) -> None:
        """Make it last, then remove the segments that are done with. Raises OSError."""
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
    """The folder `directory`, made if it is missing. Raises ConfigError where it cannot be had.

    `dropped` counts the records that were lost to its bounds.
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
        # Whether the newest segment has what was not synced, and the folder a segment; the descriptors of
        # older segments that have it too; the segments that are done with.
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
        """Return how many settled records the authority has not got."""
        return self._waiting

    # --- a request's way ------------------------------------------------------------------------------------

    def begin(self, request_id: str, record: bytes) -> None:
        """Take a request that is sent now; `record` is what it counts for if nobody settles it."""
        self._open[request_id] = record
        self._add(b"+" + record + b"\n")

    def settle(self, request_id: str, record: bytes) -> None:
        """Take a settled record."""
        self._open.pop(request_id, None)
        self._waiting += 1
        self._add(b"-" + record + b"\n")

    def _add(self, line: bytes) -> None:
        self._lines.append(line)
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_soon(self.flush)

    def flush(self) -> None:
        """Write what has come in."""
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
            log.warning("usage records are written again")

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
                "usage records cannot be written: they are held in memory, and lost with this process",
                extra={"folder": str(self._directory), "problem": error.strerror or str(error)},
            )
        beyond = len(lines) - MOST_UNWRITTEN
        if beyond > 0:
            self.dropped += sum(line.startswith(b"-") for line in lines[:beyond])
            self._waiting -= sum(line.startswith(b"-") for line in lines[:beyond])
        self._unwritten.extend(lines)

    # --- to the authority -----------------------------------------------------------------------------------

    def batch(self, most: int) -> Batch:
        """Return the next settled records, `most` at most; hand it to `taken` when they may go."""
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
        """Forget these records: the authority has them, or will never take them."""
        if self._segments[0] == batch.segment:
            self._waiting -= len(batch.records)
            self._offset = batch.end

    def unsynced(self) -> Unsynced | None:
        """Return what a loss of power would take, None if nothing would; it is the caller's to sync.

        Raises OSError.
        """
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
        """Write what is there, and let go of the folder."""
        self.flush()
        with contextlib.suppress(OSError):
            left = self.unsynced()
            if left is not None:
                left.sync()
        os.close(self._active)
        os.close(self._lock)

    # --- segments -------------------------------------------------------------------------------------------

    def _recover(self) -> list[bytes]:
        """Return a settlement for each request that was sent and never settled, by an earlier process."""
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
        """Go on in a new segment; requests that are open stand at its head, so that the old one can go."""
        before, dirty = self._active, self._dirty
        try:
            self._active = self._begin_segment([b"+" + record + b"\n" for record in self._open.values()])
        except ConfigError:
            # The old one goes on; the next write tries again.
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
        # What is open in it stands in the next one, which may not have reached the disk.
        self._done.append(self._segments.popleft())
        self._offset = 0


def _write_whole(descriptor: int, data: bytes, end: int) -> None:
    """Append all of `data` to a file of `end` bytes, or nothing: half a line would hide what comes behind it.

    Raises OSError.
    """
    if os.write(descriptor, data) < len(data):
        os.ftruncate(descriptor, end)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _settled(raw: bytes, most: int) -> tuple[list[bytes], int]:
    """Return the settled records of whole lines, `most` at most, and the bytes up to where they end."""
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
    """Take the folder for this process; the kernel gives it back however the process ends."""
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
