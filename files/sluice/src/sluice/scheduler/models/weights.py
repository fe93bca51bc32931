"""Weights on the shared file system: which formats may be loaded, and whether they match a manifest.

A manifest is a file in the format of `sha256sum`, with each file's size in a comment before its line (which
`sha256sum --check` ignores). A folder's manifest is its SHA256SUMS; that of a single file is
`<file>.SHA256SUMS` beside it. Names that begin with a dot are not part of the weights: no engine loads them.

A quick check reads the manifest, the list of files, their sizes, and the content of all small files
(configuration, tokenizer, chat template, index). A full check reads everything.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from sluice.contracts.files import write_text
from sluice.errors import RecordError, SluiceError
from sluice.scheduler.outside import untrusted_files

NAME = "SHA256SUMS"
# Unpickling such a file runs whatever code its author put into it.
PICKLES = (".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth")
SAFETENSORS, GGUF = ".safetensors", ".gguf"
# A quick check reads files up to this size whole: they decide how a model behaves, and take little time.
SMALL = 64 << 20
PIECE = 4 << 20
MOST_FILES = 10_000
MOST_MANIFEST_BYTES = 8 << 20
MOST_PROBLEMS = 20

_SIZE = re.compile(r"# ([0-9]{1,18}) (.+)")
_SUM = re.compile(r"([0-9a-f]{64}) [ *](.+)")


@dataclass(frozen=True)
class ManifestLine:
    """A file as a manifest lists it: its SHA-256 (hex), and its size in bytes if that is given."""

    sha256: str
    size: Optional[int]


@dataclass(frozen=True)
class Weights:
    """Weights on disk: `files` has sizes in bytes by name, relative to `base`; `manifest` may not exist."""

    base: Path
    manifest: Path
    files: Mapping[str, int]

    @classmethod
    def at(cls, path: Path) -> Weights:
        """Return the weights in a folder, or a single file. Raises SluiceError."""
        try:
            if path.is_dir():
                return cls(path, path / NAME, dict(_files(path)))
            return cls(path.parent, path.with_name(f"{path.name}.{NAME}"), {path.name: path.stat().st_size})
        except OSError as error:
            raise _refusal(f"{error.filename}: {error.strerror}") from None

    @property
    def size(self) -> int:
        """The total size of all files in bytes."""
        return sum(self.files.values())


def formats(weights: Weights, loads: tuple[str, ...]) -> list[str]:
    """Return what is wrong with the files' formats; `loads`: the file name endings that an engine loads."""
    pickles = [name for name in weights.files if name.lower().endswith(PICKLES)]
    found = [
        f"{name}: pickled weights are refused, because loading them runs code in them; convert them "
        "to safetensors, or remove the file from the folder"
        for name in pickles
    ]
    if not pickles and not any(name.lower().endswith(loads) for name in weights.files):
        found.append(f"{' or '.join('*' + ending for ending in loads)} is missing")
    return found


def digest(manifest: Path) -> str:
    """Return the SHA-256 (hex) of the manifest itself, which a model entry has. Raises SluiceError."""
    return hashlib.sha256(_manifest_bytes(manifest)).hexdigest()


def quick(weights: Weights, expected: str) -> list[str]:
    """Return what is wrong with weights by a quick check. Raises SluiceError.

    `expected` is the SHA-256 (hex) that the manifest must have.
    """
    listed, found = _compare(weights, expected)
    if found:
        return found
    unsized = [name for name, one in listed.items() if one.size is None]
    if unsized:
        return [f"{weights.manifest} has no sizes: create it again with `sluice weights make`"]
    small = [name for name, size in weights.files.items() if size <= SMALL]
    return _wrong_sums(weights, listed, small, None)


def full(weights: Weights, expected: str, progress: Optional[Callable[[int], None]]) -> list[str]:
    """Return what is wrong with weights by a full check; `expected` "" accepts any manifest.

    `progress` is called with the number of bytes read since its last call. Raises SluiceError.
    """
    listed, found = _compare(weights, expected)
    return found or _wrong_sums(weights, listed, sorted(weights.files), progress)


def make(weights: Weights, progress: Optional[Callable[[int], None]]) -> dict[str, ManifestLine]:
    """Read all files and return the lines of their manifest, by file name. Raises SluiceError."""
    sums = _sums(weights, sorted(weights.files), progress)
    return {name: ManifestLine(sums[name], weights.files[name]) for name in sorted(sums)}


def write(weights: Weights, listed: Mapping[str, ManifestLine]) -> None:
    """Write the manifest. Raises SluiceError."""
    text = "".join(f"# {one.size} {name}\n{one.sha256}  {name}\n" for name, one in listed.items())
    try:
        write_text(weights.manifest, text, 0o644)
    except OSError as error:
        raise _refusal(f"{weights.manifest}: {error.strerror}") from None


def read(manifest: Path) -> dict[str, ManifestLine]:
    """Return the lines of a manifest, by file name. Raises SluiceError."""
    try:
        text = _manifest_bytes(manifest).decode("utf-8")
    except UnicodeDecodeError:
        raise _refusal(f"{manifest}: is not UTF-8 text") from None
    sizes: dict[str, int] = {}
    listed: dict[str, ManifestLine] = {}
    for number, line in enumerate(text.splitlines(), 1):
        size, sum_ = _SIZE.fullmatch(line), _SUM.fullmatch(line)
        if size:
            sizes[size[2]] = int(size[1])
        elif sum_:
            name = sum_[2][2:] if sum_[2].startswith("./") else sum_[2]
            listed[name] = ManifestLine(sum_[1], sizes.get(name))
        elif line.strip() and not line.startswith("#"):
            raise _refusal(f"{manifest}: line {number} does not have the format of sha256sum")
    return listed


def _files(folder: Path) -> Iterator[tuple[str, int]]:
    """Yield each file's name and size; links to files are followed, links to folders are not."""
    count = 0
    for directory, folders, names in os.walk(folder, onerror=_raise):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if name.startswith(".") or (name == NAME and Path(directory) == folder):
                continue
            count += 1
            if count > MOST_FILES:
                raise _refusal(f"{folder}: more than {MOST_FILES} files; name the weights' own folder")
            path = Path(directory, name)
            found = path.stat()
            if not stat.S_ISREG(found.st_mode):
                raise _refusal(f"{path}: is not a regular file; remove it from the folder")
            yield _plain(path.relative_to(folder).as_posix()), found.st_size


def _plain(name: str) -> str:
    if any(ord(character) < 32 for character in name) or "\\" in name:
        raise _refusal(f"{name!r}: a manifest cannot contain such a name")
    return name


def _raise(error: OSError) -> None:
    raise error


def _compare(weights: Weights, expected: str) -> tuple[dict[str, ManifestLine], list[str]]:
    """Return the lines of the manifest, and the problems that are visible without reading the weights."""
    if expected:
        found = digest(weights.manifest)
        if found != expected:
            problem = f"{weights.manifest} has SHA-256 {found}, but the model entry has {expected}"
            return {}, [f"{problem}: one of the two does not belong to these weights"]
    listed = read(weights.manifest)
    if weights.manifest.name != NAME:
        listed = {name: one for name, one in listed.items() if name in weights.files}
    found_there = set(weights.files)
    problems = [f"{name}: is missing" for name in sorted(set(listed) - found_there)]
    problems += [f"{name}: is not in the manifest" for name in sorted(found_there - set(listed))]
    for name in sorted(found_there & set(listed)):
        size = listed[name].size
        if size is not None and size != weights.files[name]:
            problems.append(f"{name}: has {weights.files[name]} bytes, not {size}")
    return listed, problems


def _wrong_sums(
    weights: Weights,
    listed: Mapping[str, ManifestLine],
    names: list[str],
    progress: Optional[Callable[[int], None]],
) -> list[str]:
    sums = _sums(weights, names, progress)
    return [
        (f"{name}: its content differs from the manifest")
        for name in names
        if sums[name] != listed[name].sha256
    ]


def _sums(weights: Weights, names: list[str], progress: Optional[Callable[[int], None]]) -> dict[str, str]:
    lock = threading.Lock()

    def told(size: int) -> None:
        with lock:
            if progress is not None:
                progress(size)

    # Hashing releases Python's lock: one thread for each processor, and at least two for slow storage.
    with ThreadPoolExecutor(max_workers=max(2, min(8, os.cpu_count() or 1))) as pool:
        return dict(zip(names, pool.map(lambda name: _sum(weights.base / name, told), names)))


def _sum(path: Path, told: Callable[[int], None]) -> str:
    found = hashlib.sha256()
    piece = memoryview(bytearray(PIECE))
    try:
        with os.fdopen(untrusted_files.opened(str(path)), "rb", buffering=0) as stream:
            while size := stream.readinto(piece):
                found.update(piece[:size])
                told(size)
    except OSError as error:
        raise _refusal(f"{path}: {error.strerror}") from None
    except RecordError as error:
        raise _refusal(str(error)) from None
    return found.hexdigest()


def _manifest_bytes(manifest: Path) -> bytes:
    try:
        return untrusted_files.at(str(manifest), MOST_MANIFEST_BYTES)
    except OSError as error:
        raise _refusal(f"{manifest}: {error.strerror}; create it with `sluice weights make`") from None
    except RecordError as error:
        raise _refusal(str(error)) from None


def _refusal(message: str) -> SluiceError:
    return SluiceError("invalid_request", message)
