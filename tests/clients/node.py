"""The public client for Node.js: installed from its lock, run on the Node.js among the tests' packages."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from page.node import LOCKED, fetch, folder, locked

HERE = Path(__file__).resolve().parent
PLACE = HERE.parents[1] / "build/clients"
SECONDS = 300.0


def install() -> Path:
    """Return the folder with the client in it, made where it is not there in the version that is locked."""
    place = PLACE / locked(HERE)[:16]
    PLACE.mkdir(parents=True, exist_ok=True)
    with (PLACE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / "complete").exists():
            _install(place)
    return place


def _install(place: Path) -> None:
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    for name in LOCKED:
        shutil.copy(HERE / name, place)
    fetch(place=place)
    (place / "complete").touch()


def run(program: str, environment: Mapping[str, str], *arguments: str) -> Any:
    """Run one of this folder's programs; return the JSON that it prints last."""
    place = install()
    # Node looks for packages beside the program. Others run it meanwhile: none may find half of it.
    fresh = place / f"{program}.{os.getpid()}"
    shutil.copy(HERE / program, fresh)
    fresh.replace(place / program)
    done = subprocess.run(
        [str(folder() / "bin" / "node"), program, *arguments],
        cwd=place,
        env={**os.environ, **environment, "NODE_EXTRA_CA_CERTS": environment["SLUICE_CA"]},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{program}: {done.stderr[-3000:]}"
    return json.loads(done.stdout.splitlines()[-1])
