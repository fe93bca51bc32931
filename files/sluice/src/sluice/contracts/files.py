"""Reads documents from files within a bound, and writes files as a whole."""

from __future__ import annotations

import json
import os
import stat
import tempfile
from pathlib import Path
from typing import Optional, Union

from sluice.contracts.encoding import decode_json
from sluice.errors import RecordError

MAX_DOCUMENT_BYTES = 16 * 1024 * 1024


def read_json(path: Union[str, Path], limit: int = MAX_DOCUMENT_BYTES) -> object:
    """Read one JSON file of at most `limit` bytes. Raises OSError and RecordError."""
    # Another account may write in the folder and put a pipe in the file's place; opening that waits forever.
    with open(path, "rb", opener=_open_at_once) as stream:
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            raise RecordError("", "is not a regular file")
        raw = stream.read(limit + 1)
    if len(raw) > limit:
        raise RecordError("", f"is larger than {limit} bytes")
    return decode_json(raw)


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def write_json(
    path: Union[str, Path], document: object, mode: int = 0o600, group: Optional[int] = None
) -> None:
    """Write a JSON file as a whole: first a temporary file beside it, synced, which is then renamed."""
    write_text(path, json.dumps(document, separators=(",", ":"), sort_keys=True) + "\n", mode, group)


def write_text(path: Union[str, Path], text: str, mode: int = 0o600, group: Optional[int] = None) -> None:
    """Write a text file as a whole, by rename; mode (and group id) are set before the file appears."""
    target = Path(path)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            if group is not None:
                os.fchown(stream.fileno(), -1, group)
            os.fchmod(stream.fileno(), mode)
            os.fsync(stream.fileno())
        Path(temporary).replace(target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    _sync_directory(target.parent)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
