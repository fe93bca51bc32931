#!/usr/bin/env python3
"""Build what browsers load of the pages: `python -m page.build`, or `… --out FOLDER` for another place.

It lies in the checkout, where the web program looks for it, and git ignores it. The wheel's build makes its
own.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from page.node import HERE, ROOT, NoNode, alone, install, node

STATIC = ROOT / "files" / "sluice" / "src" / "sluice" / "web" / "static"
_WORDS = STATIC.parent / "words" / "texts"
_SOURCES = ("package.json", "package-lock.json", "build.mjs")
_STAMP = ROOT / "build" / "page.digest"


def ensure() -> Path:
    """Build into the checkout unless what is there was built from these sources; return the folder."""
    digest = _digest()
    with alone():
        if not (_STAMP.exists() and _STAMP.read_text() == digest and (STATIC / "manifest.json").exists()):
            build(STATIC)
            _STAMP.write_text(digest)
    return STATIC


def build(out: Path) -> None:
    """Build into the folder `out`, of which nothing stays that was there before."""
    install()
    node("build.mjs", out.resolve())


def _digest() -> str:
    digest = hashlib.sha256()
    sources = (path for folder in (HERE / "src", _WORDS) for path in folder.rglob("*") if path.is_file())
    for path in sorted([*sources, *(HERE / name for name in _SOURCES)]):
        digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def main() -> int:
    """Build; return 0, or 1 where it failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, help="the folder to write into")
    arguments = parser.parse_args()
    try:
        if arguments.out is None:
            ensure()
        else:
            with alone():
                build(arguments.out)
    except (NoNode, subprocess.SubprocessError) as error:
        print(f"the pages were not built: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
