"""The tests' own processes: what they report is what one process would, and none is missed when it dies."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.lanes import ROOT

SOME = """
import os, pathlib, pytest

@pytest.fixture(scope="session")
def own(tmp_path_factory):
    yield tmp_path_factory.mktemp("own")
    print("given back", file=open(pathlib.Path(__file__).parent / f"over-{os.getpid()}", "w"))

def test_first(own):
    (pathlib.Path(__file__).parent / f"{pathlib.Path(__file__).stem}-{os.getpid()}").touch()

def test_second(own):
    assert (pathlib.Path(__file__).parent / f"{pathlib.Path(__file__).stem}-{os.getpid()}").exists()
"""
FAILS = "def test_that_fails():\n    print('it said so')\n    assert 1 == 2\n"
DIES = "import os, signal\n\ndef test_that_dies():\n    os.kill(os.getpid(), signal.SIGKILL)\n"


def run(folder: Path, files: dict[str, str], *options: str) -> tuple[int, str]:
    """Run such test files in two processes; return the exit status and what was printed."""
    for name, text in files.items():
        (folder / name).write_text(text)
    further = ("-p", "tests.processes", "--processes", "2", "-p", "no:cacheprovider", "-c", "/dev/null")
    argv = [sys.executable, "-m", "pytest", "-q", *further, "--rootdir", str(folder), *options, str(folder)]
    # Plugins that are installed would take longer to load than the tests take.
    bare = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(argv, cwd=ROOT, env=bare, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def test_each_file_runs_in_one_process_and_all_is_reported(tmp_path: Path) -> None:
    files = {f"test_{name}.py": SOME for name in "abc"}
    status, said = run(tmp_path, {**files, "test_d.py": FAILS})
    assert (status, "1 failed, 6 passed" in said, "it said so" in said) == (1, True, True), said
    processes = {path.stem.partition("-")[2] for path in tmp_path.glob("test_?-*")}
    assert len(list(tmp_path.glob("test_?-*"))) == 3
    assert {path.stem.partition("-")[2] for path in tmp_path.glob("over-*")} == processes


def test_a_process_that_dies_fails_the_run_and_names_its_test(tmp_path: Path) -> None:
    status, said = run(tmp_path, {"test_a.py": DIES, "test_b.py": SOME})
    assert status == 1, said
    assert "ended within test_a.py::test_that_dies" in said


def test_nothing_new_begins_behind_a_failure_that_ends_the_run(tmp_path: Path) -> None:
    files = {f"test_{number:02}.py": FAILS for number in range(20)}
    status, said = run(tmp_path, files, "-x")
    assert status == 1, said
    assert said.count("Error") < 10 and "20 failed" not in said, said
