"""Building an environment from a lock: wheel made here, real pip and venv, nothing is fetched."""

from __future__ import annotations

import hashlib
import json
import runpy
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.unit.engine.rendering import ROOT

PROGRAM = ROOT / "roles" / "engine" / "files" / "build_engine.py"
NAME = "tiny-1.0-py3-none-any.whl"


def make_wheel(folder: Path) -> str:
    """Write a wheel of the package `tiny` into `folder`; returns its SHA-256."""
    info = "tiny-1.0.dist-info"
    with zipfile.ZipFile(folder / NAME, "w") as wheel:
        wheel.writestr("tiny.py", "ANSWER = 42\n")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", f"tiny.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    return hashlib.sha256((folder / NAME).read_bytes()).hexdigest()


def recipe(wheels: Path, digest: str) -> dict[str, Any]:
    """Return a recipe that takes `tiny` from the folder `wheels`."""
    return {
        "lock": f"tiny==1.0 --hash=sha256:{digest}\n",
        "files": {"launcher.py": "print('launched')\n"},
        "metadata": {"other": "2.0+cpu"},
        "imports": ["tiny"],
        "pip_args": ["--no-index", "--find-links", str(wheels)],
    }


def build(destination: Path, given: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """Run the program as the role does: its text as an argument, the recipe on standard input."""
    argv = [sys.executable, "-c", PROGRAM.read_text(encoding="utf-8"), str(destination)]
    return subprocess.run(argv, input=json.dumps(given), capture_output=True, text=True, timeout=100)


def ask(destination: Path, program: str) -> str:
    """Return what the environment's Python prints when it runs `program`."""
    argv = [str(destination / "bin" / "python"), "-I", "-c", program]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()


def check_that_another_hash_is_refused(destination: Path, pip_args: list[str]) -> None:
    """Part of the test below, because making an environment takes seconds."""
    (destination / "engine.lock").write_text(f"tiny==1.0 --hash=sha256:{'0' * 64}\n", encoding="ascii")
    with pytest.raises(subprocess.CalledProcessError, match="pip"):
        runpy.run_path(str(PROGRAM))["install"](destination, [*pip_args, "--force-reinstall"])


def test_an_environment_is_built_whole_and_then_left_alone(tmp_path: Path) -> None:
    destination = tmp_path / "engines" / "tiny-0123456789ab"
    destination.mkdir(parents=True)
    (destination / "leftover").write_text("of an interrupted build", encoding="ascii")
    given = recipe(tmp_path, make_wheel(tmp_path))
    built = build(destination, given)
    assert built.returncode == 0, built.stderr
    assert ask(destination, "import tiny; print(tiny.ANSWER)") == "42"
    assert ask(destination, "import importlib.metadata as m; print(m.version('other'))") == "2.0+cpu"
    assert (destination / "launcher.py").read_text(encoding="ascii") == "print('launched')\n"
    assert not (destination / "leftover").exists()
    assert (destination / "bin" / "python").stat().st_mode & 0o055 == 0o055
    marker = (destination / ".complete").stat()
    again = build(destination, {**given, "lock": "a lock that pip would refuse"})
    assert again.returncode == 0, again.stderr
    assert (destination / ".complete").stat().st_mtime_ns == marker.st_mtime_ns
    check_that_another_hash_is_refused(destination, given["pip_args"])


def test_a_module_that_does_not_load_is_found_at_once(capfd: pytest.CaptureFixture[str]) -> None:
    program = runpy.run_path(str(PROGRAM))
    with pytest.raises(subprocess.CalledProcessError, match="import absent"):
        program["check_imports"](Path(sys.prefix), ["json", "absent"])
    assert "No module named 'absent'" in capfd.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["one", "two"]])
def test_usage(arguments: list[str]) -> None:
    ran = subprocess.run([sys.executable, str(PROGRAM), *arguments], capture_output=True, text=True)
    assert ran.returncode == 2
    assert ran.stderr.startswith("usage:")
