"""Whether this machine can carry a bed, found out within seconds and without changing anything."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from demo.bed import command, registry
from demo.bed.cgroup import roots
from demo.bed.errors import BedError
from demo.bed.machine import GUEST_SUITE, discover

_GIB = 1024**3
_NETWORK_SECONDS = 7
_CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_SYS_ADMIN": 21, "CAP_MKNOD": 27}
# A small pure-Python package that the project needs in any case.
_PROBE_PACKAGE = "h11"


@dataclass(frozen=True)
class Needs:
    """What a bed asks of the machine: free bytes on disk and of memory."""

    disk: int = 12 * _GIB
    memory: int = 7 * _GIB


def failures(bed: str, state: Path, cache: Path, needs: Needs) -> list[BedError]:
    """What stands against the bed named ``bed``, each with its remedy; empty if nothing does."""
    checks: list[Callable[[], None]] = [
        _check_root,
        lambda: check_disk([state, cache], needs.disk),
        lambda: check_memory(bed, needs.memory),
        _check_kernel,
        _check_apt,
        _check_pip,
    ]
    with ThreadPoolExecutor(len(checks)) as pool:
        found = list(pool.map(_failure, checks))
    return [failure for failure in found if failure is not None]


def available_memory(meminfo: str) -> int:
    """The kernel's estimate of available memory in bytes, from the text of /proc/meminfo."""
    match = re.search(r"^MemAvailable:\s+(\d+) kB$", meminfo, re.MULTILINE)
    if match is None:
        raise BedError("/proc/meminfo has no MemAvailable", "use a Linux kernel of this century")
    return int(match.group(1)) * 1024


def missing_capabilities(status: str) -> list[str]:
    """The capabilities a bed needs that are not in effect, from the text of /proc/self/status."""
    match = re.search(r"^CapEff:\s+([0-9a-f]+)$", status, re.MULTILINE)
    effective = int(match.group(1), 16) if match is not None else 0
    return [name for name, bit in _CAPABILITIES.items() if not effective >> bit & 1]


def _failure(check: Callable[[], None]) -> BedError | None:
    try:
        check()
    except BedError as error:
        return error
    return None


def _check_root() -> None:
    if os.geteuid() != 0:
        raise BedError("this needs root: it makes network namespaces and mounts", "run it again with sudo")
    missing = missing_capabilities(Path("/proc/self/status").read_text())
    if missing:
        raise BedError(f"root lacks {', '.join(missing)} here", "run this outside a container")


def check_disk(folders: list[Path], needed: int) -> None:
    """Refuse where a file system that one of the folders lies on has less than ``needed`` bytes free."""
    for folder in folders:
        existing = next(path for path in (folder, *folder.parents) if path.exists())
        free = shutil.disk_usage(existing).free
        if free < needed:
            raise BedError(
                f"{existing} has {free / _GIB:.1f} GiB free, {needed / _GIB:.1f} GiB are needed",
                "free some, or set SLUICE_CACHE to a folder on a larger disk",
            )


def check_memory(bed: str, needed: int) -> None:
    """Refuse where less than ``needed`` bytes of memory are available and ``bed`` is not up already."""
    if any(entry.name == bed and entry.complete for entry in registry.entries()):
        return
    available = available_memory(Path("/proc/meminfo").read_text())
    if available >= needed:
        return
    others = [entry.name for entry in registry.entries() if entry.name != bed]
    remedy = f"the bed {others[0]} is up: take it down first" if others else "end other programs first"
    raise BedError(
        f"{available / _GIB:.1f} GiB of memory are available, {needed / _GIB:.1f} GiB are needed", remedy
    )


def _check_kernel() -> None:
    known = Path("/proc/filesystems").read_text().split()
    if "overlay" not in known and not _module_exists("overlay"):
        raise BedError("the kernel has no overlay file system", "use a kernel with CONFIG_OVERLAY_FS")
    if not Path("/proc/self/ns/net").exists():
        raise BedError("the kernel has no network namespaces", "use a kernel with CONFIG_NET_NS")
    for root in roots():
        if not os.access(root, os.W_OK):
            raise BedError(f"{root} cannot be written", "run this outside a container")


def _module_exists(name: str) -> bool:
    modules = Path("/lib/modules", os.uname().release)
    return any(modules.rglob(f"{name}.ko*"))


def _check_apt() -> None:
    sources = discover(os.environ).apt_sources
    if not sources:
        raise BedError(
            f"apt's sources on this machine name no archive that could serve Debian {GUEST_SUITE}",
            "run this on Debian, with a 'main' archive in /etc/apt/sources.list or sources.list.d",
        )
    url = f"{sources[0].uri.rstrip('/')}/dists/{sources[0].suite}/InRelease"
    with tempfile.TemporaryDirectory(prefix="sluice-preflight-") as folder:
        argv = ["/usr/lib/apt/apt-helper", "-o", "Acquire::Retries=0"]
        for scheme in ("http", "https"):
            argv += ["-o", f"Acquire::{scheme}::Timeout={_NETWORK_SECONDS}"]
        argv += ["download-file", url, f"{folder}/InRelease"]
        _reach(argv, "apt's package archive", "apt-get update")


def _check_pip() -> None:
    argv = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "--no-cache-dir"]
    argv += ["--retries", "0", "--timeout", str(_NETWORK_SECONDS), "index", "versions", _PROBE_PACKAGE]
    if command.run([*argv[:3], "--version"], check=False).returncode == 0:
        _reach(argv, "pip's package index", f"pip download {_PROBE_PACKAGE}")


def _reach(argv: list[str], what: str, try_this: str) -> None:
    try:
        command.run(argv, timeout=_NETWORK_SECONDS + 1)
    except BedError as error:
        raise BedError(
            f"{what} cannot be reached: {error.cause[-300:]}",
            f"mend the network, proxy or configuration until '{try_this}' works",
        ) from error
