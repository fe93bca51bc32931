"""What the benchmark needs: Debian packages, and Python packages in a directory of its own."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from demo.bed import packages
from tests.integration import tools

HERE = Path(__file__).resolve().parent
PROGRAMS = {"/usr/sbin/nginx": "nginx", "wrk": "wrk", "curl": "curl"}
LOCK = HERE / "requirements.txt"


def paths(out: Path) -> None:
    """Let this process and its children find the packages of the benchmark and of the tree."""
    found = [str(out / "site"), str(HERE.parents[1] / "files/sluice/src")]
    sys.path[:0] = found
    os.environ["PYTHONPATH"] = os.pathsep.join(found)


def machine(out: Path) -> None:
    """Install what is missing; the benchmark's own Python packages go below `out`."""
    tools.ensure()
    packages.ensure(PROGRAMS)
    libraries(out / "site", LOCK)


def libraries(site: Path, lock: Path) -> None:
    """Install the packages of a lock into a separate directory, unless they are there."""
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()
    done = site / ".complete"
    if not done.exists() or done.read_text() != digest:
        print(f"[prepare] installing what {lock.relative_to(HERE.parents[1])} locks", flush=True)
        shutil.rmtree(site, ignore_errors=True)
        argv = [sys.executable, "-m", "pip", "install", "--quiet", "--require-hashes", "--no-deps"]
        argv += ["--disable-pip-version-check", "--target", str(site), "--requirement", str(lock)]
        subprocess.run(argv, check=True, stderr=subprocess.DEVNULL)
        done.write_text(digest)
