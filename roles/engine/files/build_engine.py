#!/usr/bin/env python3
"""Build an engine's Python environment at its final path, from a lock with hashes.

The role `engine` runs this on the login node, as `build_engine.py DESTINATION` with the recipe on standard
input, as JSON:

    lock      text of the lock: every package with version and hashes; nothing else is installed
    files     {name: text} written beside the environment's own folders
    metadata  {name: version} of distributions that consist only of metadata
    imports   modules that must load, so that a missing system library is found here and not in a job
    pip_args  further arguments for `pip install`, such as the folder of the wheels

DESTINATION/.complete is written last. If it exists, nothing is done; if not, the folder is removed and built
again. The environment uses the Python that runs this, and contains the absolute paths of that Python and of
DESTINATION: it works only where both paths are the same.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
import venv
from pathlib import Path
from typing import Any

MARKER = ".complete"
LOCK_NAME = "engine.lock"


def install(destination: Path, pip_args: list[str]) -> None:
    """Install the lock in `destination`; pip checks each hash and compiles each module."""
    pip = [str(destination / "bin" / "python"), "-m", "pip", "install", "--no-input", "--progress-bar", "off"]
    exact = ["--no-deps", "--require-hashes", "--no-cache-dir", "--disable-pip-version-check"]
    subprocess.run([*pip, *exact, *pip_args, "--requirement", str(destination / LOCK_NAME)], check=True)


def add_metadata(destination: Path, metadata: dict[str, str]) -> None:
    """Add distributions of metadata only, for programs that look up a version by another name."""
    packages = next((destination / "lib").glob("python3.*")) / "site-packages"
    for name, version in metadata.items():
        folder = packages / f"{name}-{version}.dist-info"
        folder.mkdir()
        text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        (folder / "METADATA").write_text(text, encoding="ascii")


def check_imports(destination: Path, modules: list[str]) -> None:
    """Load each module as the engine will. Raises CalledProcessError if one does not load."""
    for module in modules:
        subprocess.run([str(destination / "bin" / "python"), "-I", "-c", f"import {module}"], check=True)


def build(destination: Path, recipe: dict[str, Any]) -> None:
    """Build the environment at `destination`, the marker last. Raises CalledProcessError if a step fails."""
    shutil.rmtree(destination, ignore_errors=True)
    venv.create(destination, with_pip=True)
    (destination / LOCK_NAME).write_text(recipe["lock"], encoding="utf-8")
    install(destination, recipe["pip_args"])
    add_metadata(destination, recipe["metadata"])
    check_imports(destination, recipe["imports"])
    for name, text in recipe["files"].items():
        (destination / name).write_text(text, encoding="utf-8")
    (destination / MARKER).write_text(f"{time.time():.0f}\n", encoding="ascii")


def main(given: list[str]) -> int:
    """Build the environment unless it is complete; return the exit status."""
    if len(given) != 1:
        print("usage: build_engine.py DESTINATION < recipe.json", file=sys.stderr)
        return 2
    destination = Path(given[0])
    recipe = json.load(sys.stdin)
    os.umask(0o022)
    destination.parent.mkdir(parents=True, exist_ok=True)
    # If two playbooks run at once, the second waits here and then finds the marker.
    with (destination.parent / ".building").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if (destination / MARKER).exists():
            return 0
        try:
            build(destination, recipe)
        except subprocess.CalledProcessError as error:
            step = " ".join(error.cmd[1:4])
            reason = f"`{step}` failed with status {error.returncode}; its reason stands above"
            print(f"{destination}: {reason}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
