"""Look for faults in the pages' scripts: types, lint and format, unit tests. `python -m page.check`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from page.node import HERE, alone, install, node

TSC = Path("node_modules/typescript/bin/tsc")
BIOME = Path("node_modules/@biomejs/biome/bin/biome")


def main() -> int:
    """Check; return 0, or 1 when something was found. `--fix` formats and mends what can be mended."""
    fix = ("--write",) if "--fix" in sys.argv[1:] else ()
    tests = sorted(path.relative_to(HERE) for path in (HERE / "test").glob("*.test.ts"))
    with alone():
        install(checks=True)
    failed = False
    for arguments in (
        (TSC, "--project", "."),
        (BIOME, "check", "--error-on-warnings", *fix, "."),
        ("--test", "--test-reporter=dot", *tests),
    ):
        try:
            node(*arguments)
        except subprocess.CalledProcessError:
            failed = True
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
