"""Control groups of a bed, on the unified hierarchy and, where v1 hierarchies exist beside it, on systemd's.

Every host has its own group, entered before systemd-nspawn starts, and one for its supervising process.
The groups' names are how a later run finds and ends what an interrupted one left.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from demo.bed.errors import BedError
from demo.bed.topology import Plan

_ROOT = Path("/sys/fs/cgroup")
_SUPERVISOR = ".supervisor"


@dataclass(frozen=True)
class Groups:
    """The control groups of one bed."""

    plan: Plan

    def enter_paths(self, host: str) -> list[Path]:
        """Make a host's groups and return the files that a process writes its number to."""
        return [_made(root / f"{self.plan.cgroup_prefix}{host}") / "cgroup.procs" for root in roots()]

    def supervisor_paths(self, host: str) -> list[Path]:
        """The same for the process that supervises a host."""
        return self.enter_paths(f"{host}{_SUPERVISOR}")

    def supervised(self, host: str) -> bool:
        """Whether a host's supervising process lives; it holds the mount of the host's root."""
        return bool(self.processes(f"{host}{_SUPERVISOR}"))

    def processes(self, host: str) -> list[int]:
        """All processes of a host, as the machine numbers them."""
        return _processes(_unified() / f"{self.plan.cgroup_prefix}{host}")

    def alive(self) -> bool:
        """Whether any process runs in any group of this bed's name: a host's or a supervisor's."""
        return any(_processes(root / name) for name in self.names() for root in roots())

    def init(self, host: str) -> int | None:
        """The guest's PID 1 as the machine numbers it, or None if the host is off."""
        return next((pid for pid in self.processes(host) if _is_init(pid)), None)

    def memory(self, host: str) -> int:
        """A host's memory in bytes; pages shared with other processes count by their share."""
        return sum(_proportional_memory(pid) for pid in self.processes(host))

    def kill_all(self) -> None:
        """Kill whatever runs in any group of this bed and remove the groups."""
        # A supervisor that sees its host die reaps it and ends. One whose host was just rebooting starts it
        # again; that is why the hosts are ended once more after the supervisors.
        names = self.names()
        for name in sorted(names, key=lambda name: name.endswith(_SUPERVISOR)) + names:
            _empty_everywhere(name)
        for name in names:
            for root in roots():
                _remove(root / name)

    def names(self) -> list[str]:
        """Names of this bed's groups that exist."""
        found = {path.name for root in roots() for path in root.glob(f"{self.plan.cgroup_prefix}*")}
        return sorted(found)


def roots() -> list[Path]:
    """The top of each hierarchy that a host's group must exist in."""
    if (_ROOT / "cgroup.controllers").exists():
        return [_ROOT]
    found = [_ROOT / name for name in ("unified", "systemd") if (_ROOT / name / "cgroup.procs").exists()]
    if not found or found[0].name != "unified":
        raise BedError(f"no unified control group hierarchy under {_ROOT}", "mount cgroup2 there")
    return found


def _unified() -> Path:
    return roots()[0]


def _made(group: Path) -> Path:
    group.mkdir(exist_ok=True)
    return group


def _processes(group: Path) -> list[int]:
    return [pid for folder in _tree(group) for pid in _listed(folder)]


def _tree(group: Path) -> Iterator[Path]:
    """A group and the groups below it, parents first; empty if there is none."""
    if not group.is_dir():
        return
    yield group
    try:
        children = sorted(child for child in group.iterdir() if child.is_dir())
    except FileNotFoundError:
        return
    for child in children:
        yield from _tree(child)


def _listed(group: Path) -> list[int]:
    try:
        return [int(pid) for pid in (group / "cgroup.procs").read_text().split()]
    except OSError:  # the group vanished, or it is a threaded one
        return []


def _empty_everywhere(name: str) -> None:
    for root in roots():
        _empty(root / name)


def _empty(group: Path, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while pids := _processes(group):
        if time.monotonic() > deadline:
            raise BedError(f"processes {pids} in {group} do not end after SIGKILL", "see what they wait for")
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.02)


def _remove(group: Path, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while group.is_dir():
        for folder in reversed(list(_tree(group))):
            try:
                folder.rmdir()
            except OSError:  # a dying process is still counted for a moment
                break
        if group.is_dir() and time.monotonic() > deadline:
            raise BedError(f"the control group {group} cannot be removed", "see cgroup.procs below it")
        time.sleep(0.02)


def _is_init(pid: int) -> bool:
    match = re.search(r"^NSpid:\s+(.+)$", _read_proc(pid, "status"), re.MULTILINE)
    numbers = match.group(1).split() if match is not None else []
    return len(numbers) == 2 and numbers[-1] == "1"


def _proportional_memory(pid: int) -> int:
    match = re.search(r"^Pss:\s+(\d+) kB$", _read_proc(pid, "smaps_rollup"), re.MULTILINE)
    return int(match.group(1)) * 1024 if match is not None else 0


def _read_proc(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text()
    except OSError:  # the process has ended
        return ""
