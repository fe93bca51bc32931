"""The programs that the integration tests need from the machine, installed where they are missing."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

PACKAGES = {
    "/usr/sbin/sshd": "openssh-server",
    "ssh": "openssh-client",
    "unshare": "util-linux",
    "setpriv": "util-linux",
    "openssl": "openssl",
    "bwrap": "bubblewrap",
    "/usr/bin/python3": "python3",
}
POLICY = Path("/usr/sbin/policy-rc.d")
SECONDS = 600


def ensure() -> None:
    """Install what is missing; Debian's own sshd is not started by that."""
    missing = sorted({package for program, package in PACKAGES.items() if shutil.which(program) is None})
    if missing:
        install(missing)


def install(packages: list[str]) -> None:
    """Install Debian packages without starting a service of theirs."""
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    options = ["-qq", "-o", "DPkg::Lock::Timeout=120"]
    argv = ["apt-get", "install", *options, "--yes", "--no-install-recommends", *packages]
    with _alone(), no_services():
        for command in (["apt-get", "update", *options], argv):
            done = subprocess.run(command, env=quiet, capture_output=True, text=True, timeout=SECONDS)
            assert done.returncode == 0, f"{' '.join(command)}: {done.stderr[-500:]}"


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Wait for other processes of the tests that install something: they would see each other's policy."""
    with (Path(tempfile.gettempdir()) / "sluice-tools.lock").open("w") as lock:
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
