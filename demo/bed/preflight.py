"""Whether this machine can carry a bed, found out within seconds and without changing anything."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from demo.bed import command, registry
from demo.bed.cgroup import roots
from demo.bed.errors import BedError
from demo.bed.machine import discover
from demo.bed.topology import SUITES

_GIB = 1024**3
_NETWORK_SECONDS = 7
_CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_SYS_ADMIN": 21, "CAP_MKNOD": 27}
# A small pure-Python package that the project needs in any case.
_PROBE_PACKAGE = "idna"


@dataclass(frozen=True)
class Needs:
    """What a bed asks of the machine: free bytes on disk and of memory."""

    disk: int = 12 * _GIB
    memory: int = 7 * _GIB


def failures(bed: str, state: Path, cache: Path, needs: Needs) -> list[BedError]:
    """Return why the bed named ``bed`` cannot run here, each reason with its remedy; empty if it can."""
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
    """Refuse a folder on an overlay, or on a file system with less than ``needed`` free bytes."""
    for folder in folders:
        existing = next(path for path in (folder, *folder.parents) if path.exists())
        free = shutil.disk_usage(existing).free
        if free < needed:
            raise BedError(
                f"{existing} has {free / _GIB:.1f} GiB free, {needed / _GIB:.1f} GiB are needed",
                "free some, or set SLUICE_CACHE to a folder on a larger disk",
            )
        if command.run(["stat", "--file-system", "--format=%T", str(existing)]).stdout.strip() == "overlayfs":
            raise BedError(
                f"{existing} is on an overlay file system, where no other overlay can lie",
                "use a checkout and a SLUICE_CACHE on a disk's own file system",
            )


def check_memory(bed: str, needed: int) -> None:
    """Refuse if less than ``needed`` bytes of memory are available, unless ``bed`` is up already."""
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
        if os.geteuid() == 0 and not os.access(root, os.W_OK):
            raise BedError(f"{root} cannot be written", "run this outside a container")


def _module_exists(name: str) -> bool:
    modules = Path("/lib/modules", os.uname().release)
    return any(modules.rglob(f"{name}.ko*"))


def _check_apt() -> None:
    sources = discover(os.environ).apt_sources
    if not sources:
        raise BedError(
            f"apt's sources on this machine name no archive that could serve Debian {SUITES[0]}",
            "run this on Debian, with a 'main' archive in /etc/apt/sources.list or sources.list.d",
        )
    url = f"{sources[0].uri.rstrip('/')}/dists/{sources[0].suite}/InRelease"
    with tempfile.TemporaryDirectory(prefix="sluice-preflight-") as folder:
        argv = ["/usr/lib/apt/apt-helper", "-o", "Acquire::Retries=0", "-o", "APT::Sandbox::User=root"]
        for scheme in ("http", "https"):
            argv += ["-o", f"Acquire::{scheme}::Timeout={_NETWORK_SECONDS}"]
        argv += ["download-file", url, f"{folder}/InRelease"]
        _reach(argv, "apt's package archive", "apt-get update")


def _check_pip() -> None:
    pip = [sys.executable, "-m", "pip"]
    if command.run([*pip, "--version"], check=False).returncode != 0:
        return
    # Without pip's own configuration: a further, local index would hide that the main one is out of reach.
    bare = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    argv = [*pip, "--disable-pip-version-check", "--no-input", "--no-cache-dir", "--retries", "0"]
    argv += ["--timeout", str(_NETWORK_SECONDS), "index", "versions", _PROBE_PACKAGE]
    argv += index_options(discover(os.environ).pip)
    _reach(
        argv, "pip's package index", f"pip download {_PROBE_PACKAGE}", {**bare, "PIP_CONFIG_FILE": os.devnull}
    )


def index_options(settings: Mapping[str, str]) -> list[str]:
    """The command line options of pip that say which its main index is and how it is reached."""
    options = []
    for name in ("index-url", "cert", "client-cert", "proxy", "trusted-host"):
        for word in settings.get(name, "").split():
            options += [f"--{name}", word]
    return options


def _reach(argv: list[str], what: str, try_this: str, env: Mapping[str, str] | None = None) -> None:
    try:
        done = command.run(argv, timeout=_NETWORK_SECONDS + 1, env=env, check=False)
        failure = _complaint(done.stderr) if done.returncode != 0 else ""
    except BedError as error:
        timed_out = isinstance(error.__cause__, subprocess.TimeoutExpired)
        failure = f"no answer within {_NETWORK_SECONDS} s" if timed_out else error.cause
    if failure:
        raise BedError(
            f"{what} cannot be reached: {failure}",
            f"correct the network, proxy or configuration until '{try_this}' works",
        )


def _complaint(stderr: str) -> str:
    """The first line in which apt or pip names an error, or else the last line."""
    lines = stderr.strip().splitlines() or ["it failed and said nothing"]
    return next((line for line in lines if line.startswith(("E: ", "ERROR: "))), lines[-1])
