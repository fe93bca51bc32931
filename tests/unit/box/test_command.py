"""`sluice box` without a box, and the first process in one: how an engine starts and ends, on any machine."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sluice.box.environment import dump

RUN = "from sluice.cli import main; raise SystemExit(main())"
TRAP = "trap 'echo asked; exit 5' TERM; echo up; while :; do sleep 0.05; done"


def start(tmp_path: Path, *engine: str, kind: str = "none") -> subprocess.Popen[str]:
    """Start `sluice box` with an engine that has one variable."""
    told = tmp_path / "environment"
    told.write_bytes(dump({"PATH": "/usr/bin:/bin", "OWN": "1", "SLURM_JOB_ID": "3"}))
    argv = [sys.executable, "-c", RUN, "box", "--kind", kind, "--private", str(tmp_path)]
    argv += ["--shared", str(tmp_path), "--environment", str(told), "--", *engine]
    pipe = subprocess.PIPE
    source = str(Path(__file__).parents[3] / "files" / "sluice" / "src")
    return subprocess.Popen(
        argv, env={"PYTHONPATH": source, "SECRET": "x"}, stdout=pipe, stderr=pipe, text=True
    )


def test_the_engine_gets_its_own_environment_and_the_file_is_gone(tmp_path: Path) -> None:
    said, _ = start(tmp_path, "env").communicate(timeout=30)
    names = {line.partition("=")[0] for line in said.splitlines()}
    assert names == {"PATH", "OWN", "USER", "LOGNAME"}
    assert not (tmp_path / "environment").exists()


@pytest.mark.parametrize("kind", ["none", "apptainer"])
def test_usr2_asks_the_engine_to_end_and_slurms_signals_do_not(tmp_path: Path, kind: str) -> None:
    running = start(tmp_path, "bash", "-c", TRAP, kind=kind)
    assert running.stdout is not None
    assert running.stdout.readline() == "up\n"
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        running.send_signal(number)
    time.sleep(0.3)
    assert running.poll() is None
    running.send_signal(signal.SIGUSR2)
    said, _ = running.communicate(timeout=30)
    assert (said, running.returncode) == ("asked\n", 5)


def test_an_engine_that_a_signal_ended_is_told_as_shells_tell_it(tmp_path: Path) -> None:
    running = start(tmp_path, "bash", "-c", "kill -ABRT $$")
    running.communicate(timeout=30)
    assert running.returncode == 128 + signal.SIGABRT


def test_an_engine_that_is_not_there_is_named(tmp_path: Path) -> None:
    running = start(tmp_path, "/sw/absent/vllm")
    _, said = running.communicate(timeout=30)
    assert running.returncode == 127
    assert "/sw/absent/vllm" in said and "Traceback" not in said


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], "command is missing"),
        (["--", "true"], "--private"),
        (["--private", "/p", "--shared", "/p/s", "--environment", "/absent", "--", "true"], "/absent"),
    ],
)
def test_bad_arguments_are_refused_in_words(argv: list[str], words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", RUN, "box", *argv],
        env={"PYTHONPATH": str(Path(__file__).parents[3] / "files" / "sluice" / "src")},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode != 0
    assert words in done.stderr and "Traceback" not in done.stderr
