"""Debian packages of this machine itself: one program installs at a time, and no service of theirs starts."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from demo.bed import command

POLICY = Path("/usr/sbin/policy-rc.d")
# Of apt and dpkg that others than the project run.
WAITING = ("-o", "DPkg::Lock::Timeout=120")
SECONDS = 600.0


def ensure(programs: Mapping[str, str]) -> None:
    """Install the packages of programs that are missing; `programs` names each one's package.

    Whoever looks waits for others: a program is there before its package can be used. Raises BedError.
    """
    with alone():
        missing = sorted({package for program, package in programs.items() if shutil.which(program) is None})
    if missing:
        print(f"[prepare] installing {' '.join(missing)}", flush=True)
        install(missing)


def install(packages: Sequence[str]) -> None:
    """Install Debian packages. Raises BedError with apt's own words."""
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    tasks = (("update",), ("install", "--yes", "--no-install-recommends", *packages))
    with alone(), no_services():
        for task in tasks:
            command.run(["apt-get", "-qq", *WAITING, *task], timeout=SECONDS, env=quiet)


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Wait for whatever else of the project installs or looks for packages.

    apt waits for dpkg's lock but not for that of its lists, and two would see each other's policy.
    """
    with (Path(tempfile.gettempdir()) / "sluice-packages.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def no_services() -> Iterator[None]:
    """Have packages start nothing while they are installed, as Debian's policy says it is asked for."""
    if POLICY.exists():
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink()
