"""Reads the relays' reports: one file per relay process, ignored when it is old.

The relays' account can write this folder, and so can somebody who took that account over. So the number of
files, their size and their total size are bounded, and a broken file does not affect the others.
"""

from __future__ import annotations

import heapq
import logging
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Optional

from sluice.contracts.demand import DemandFile
from sluice.contracts.encoding import decode_json
from sluice.errors import RecordError
from sluice.scheduler.outside import untrusted_files
from sluice.scheduler.policy.policy import TotalDemand

log = logging.getLogger(__name__)

MAX_AGE = 15.0
# How many files are read, the bytes of one (200 models with 2,000 instances take 210 kB), the bytes of all
# files read at once, and how many names in the folder are looked at.
MAX_FILES = 1000
MAX_BYTES = 1 << 19
MAX_TOTAL = 1 << 22
MAX_NAMES = 4096
MAX_PROBLEM = 200
STILL_CHANGING = 1.0

# Differs between versions of a file.
Stamp = tuple[int, ...]


class DemandFolder:
    """The relays' files in `directory`, and what was read of them.

    A file that did not change is not read again. Files that were accepted before come first, small ones
    before large ones, then the newest new ones. So too many files leave out new ones, not the known relays.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._known: dict[str, tuple[Stamp, DemandFile]] = {}
        self._refused: dict[str, tuple[Stamp, str]] = {}
        self._told = False

    def read(self, now: float) -> dict[str, TotalDemand]:
        """Return the demand by model name, summed over all relays that reported within 15 seconds.

        Files that cannot be read are skipped: a relay that ends removes its own.
        """
        try:
            with untrusted_files.folder(self._directory) as inside:
                self._look(inside, now)
        except OSError as error:
            log.warning("demand cannot be read", extra={"path": self._directory, "problem": error.strerror})
            return {}
        total: dict[str, TotalDemand] = {}
        for _, reported in self._known.values():
            if abs(now - reported.written) <= MAX_AGE:
                _add(total, reported)
        return total

    def _look(self, inside: int, now: float) -> None:
        """Read new and changed files, within the bounds."""
        before, self._known = self._known, {}
        refused, self._refused = self._refused, {}
        left, over = MAX_TOTAL, False
        for name, found in self._files(inside, before, now):
            stamp = _stamp(found)
            old_stamp, told = refused.get(name, ((), ""))
            if stamp and old_stamp == stamp:
                self._refused[name] = stamp, told
                continue
            size = min(found.st_size, MAX_BYTES)
            if size > left or len(self._known) >= MAX_FILES:
                over = True
                continue
            left -= size
            old = before.get(name)
            if stamp and old is not None and old[0] == stamp:
                self._known[name] = old
            else:
                self._take(inside, name, stamp, now, told)
        if over and not self._told:
            fields = {"path": self._directory, "read": len(self._known)}
            log.warning("the demand files have more data than one tick reads: some wait", extra=fields)
        self._told = over

    def _files(
        self, inside: int, before: Mapping[str, tuple[Stamp, DemandFile]], now: float
    ) -> Iterator[tuple[str, os.stat_result]]:
        """Yield the names of the files with their stat results, in the order in which to read them."""
        known = []
        for name, (_, reported) in before.items():
            found = _status(inside, name)
            if found is not None:
                known.append((abs(now - reported.written) > MAX_AGE, found.st_size, name, found))
        yield from ((name, found) for _, _, name, found in sorted(known, key=lambda one: one[:3]))
        yield from heapq.nlargest(MAX_FILES, self._others(inside, before), key=lambda one: one[1].st_mtime_ns)

    def _others(
        self, inside: int, before: Mapping[str, tuple[Stamp, DemandFile]]
    ) -> Iterator[tuple[str, os.stat_result]]:
        with os.scandir(inside) as entries:
            for number, entry in enumerate(entries):
                if number == MAX_NAMES:
                    return
                name = entry.name
                # Files that are still being written begin with a dot.
                if name in before or name.startswith(".") or not name.endswith(".json"):
                    continue
                found = _status(inside, name)
                if found is not None:
                    yield name, found

    def _take(self, inside: int, name: str, stamp: Stamp, now: float, told: str) -> None:
        """Read one file; log a problem unless it is the one logged before (`told`)."""
        try:
            self._known[name] = stamp, _report(inside, name, now)
        except OSError:
            return
        except RecordError as error:
            problem = str(error)[:MAX_PROBLEM]
            self._refused[name] = stamp, problem
            if problem != told:
                fields = {"path": f"{self._directory}/{name}", "problem": problem}
                log.warning("demand file refused", extra=fields)


def read_demand(directory: str, now: float) -> dict[str, TotalDemand]:
    """Return the demand by model name, from a folder that is read only once."""
    return DemandFolder(directory).read(now)


def _report(inside: int, name: str, now: float) -> DemandFile:
    """Read one file. Raises OSError and RecordError."""
    reported = DemandFile.parse(decode_json(untrusted_files.read(inside, name, MAX_BYTES)))
    if reported.written - now > MAX_AGE:
        raise RecordError("written", f"is ahead of this host's clock by more than {MAX_AGE:g} s")
    return reported


def _stamp(found: os.stat_result) -> Stamp:
    """Return the stamp of this version of a file; () if so new that the next version may look the same."""
    if abs(time.time() - found.st_mtime) < STILL_CHANGING:
        return ()
    return found.st_ino, found.st_mtime_ns, found.st_size


def _status(inside: int, name: str) -> Optional[os.stat_result]:
    try:
        return os.stat(name, dir_fd=inside, follow_symlinks=False)
    except OSError:
        return None


def _add(total: dict[str, TotalDemand], reported: DemandFile) -> None:
    for name, model in reported.models.items():
        before = total.get(name, TotalDemand())
        total[name] = replace(
            before,
            running=before.running + model.running,
            waiting=before.waiting + model.waiting,
            last=max(before.last, model.last),
            instances=_summed(before.instances, model.instances),
            answered=_latest(before.answered, model.answered),
        )


def _summed(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return {name: one.get(name, 0) + other.get(name, 0) for name in {**one, **other}}


def _latest(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return {name: max(one.get(name, 0), other.get(name, 0)) for name in {**one, **other}}
