#!/usr/bin/env python3
"""Build the zipapp for login and compute nodes: one file that needs only a Python 3.9 or newer.

It carries the cluster's parts of the package and no library: they use the standard library alone. Its bytes
depend on content alone: sorted names, fixed times, fixed modes.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import re
import subprocess
import sys
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCE = HERE / "src" / "sluice"
PARTS = ("contracts", "bodies", "wire", "gate", "relay", "box", "front", "scheduler")
# Folders whose files are made from the others: no source, and not always there.
MADE = {"__pycache__", "static", "node_modules"}
EPOCH = (1980, 1, 1, 0, 0, 0)
_COMMIT = re.compile(r'^COMMIT = "([^"]+)"$', re.MULTILINE)
MAIN = b"import sys\n\nfrom sluice.cli import main\n\nsys.exit(main())\n"


def commit(*more: Path) -> str:
    """Return the last commit that changed the distribution, or the folders `more` (12 hex digits).

    Where their files differ from that commit a digest of them follows, and without git it stands alone: code
    that differs never has the same name.
    """
    folders = [str(folder) for folder in (HERE, *more)]
    try:
        head = _git("log", "-1", "--format=%h", "--abbrev=12", "--", *folders)
        changed = _git("status", "--porcelain", "--", *folders)
    except (OSError, subprocess.CalledProcessError):
        return f"d{_digest(more)}"
    return f"{head}.d{_digest(more)}" if changed or not head else head


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(HERE), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _digest(more: tuple[Path, ...]) -> str:
    digest = hashlib.sha256()
    for folder in (HERE, *more):
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            name = path.relative_to(folder)
            if not MADE & set(name.parts):
                digest.update(str(name).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:8]


def own_files() -> dict[str, bytes]:
    """Return the package's files for the cluster, by name in the archive."""
    found = [path for path in SOURCE.glob("*.py") if path.name != "_build.py"]
    for part in PARTS:
        found += (SOURCE / part).rglob("*.py")
    return {str(path.relative_to(SOURCE.parent)): path.read_bytes() for path in found}


def archive(files: dict[str, bytes]) -> bytes:
    """Return the zipapp's bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            bundle.writestr(entry, files[name])
    return b"#!/usr/bin/env python3\n" + buffer.getvalue()


def made_from(path: Path) -> str:
    """Return the commit that a zipapp carries; "" when it is missing, or no zipapp of Sluice."""
    try:
        with zipfile.ZipFile(path) as bundle:
            found = _COMMIT.search(bundle.read("sluice/_build.py").decode())
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):
        return ""
    return found[1] if found else ""


def say_whether_current(path: Path, found: str, expected: str) -> int:
    """Return 0 if a build carries the expected name; else say that it must not go out, and return 1."""
    if found == expected:
        return 0
    was = f"is {found}" if found else "is missing, or none of Sluice's"
    print(
        f"{path} {was}, and this checkout makes {expected}: it would put other code on the hosts than is "
        "here; run playbooks/build.yml first, as site.yml does (not with --skip-tags build)",
        file=sys.stderr,
    )
    return 1


def main() -> int:
    """Build, or refuse a zipapp that this checkout has not made."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    task = parser.add_mutually_exclusive_group(required=True)
    task.add_argument("--out", type=Path, help="the file to write")
    task.add_argument("--verify", type=Path, metavar="ZIPAPP", help="only check that this checkout made it")
    arguments = parser.parse_args()
    if arguments.verify is not None:
        return say_whether_current(arguments.verify, made_from(arguments.verify), commit())
    print(refresh(arguments.out))
    return 0


def refresh(out: Path) -> str:
    """Write the zipapp only when its bytes differ, and say which it was."""
    files = own_files()
    files["sluice/_build.py"] = f'"""Made by the build."""\n\nCOMMIT = "{commit()}"\n'.encode()
    files["__main__.py"] = MAIN
    built = archive(files)
    if out.exists() and out.read_bytes() == built:
        return f"{out}: unchanged"
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_suffix(".new")
    temporary.write_bytes(built)
    temporary.replace(out)
    return f"{out}: built, {len(built)} bytes"


if __name__ == "__main__":
    sys.exit(main())
