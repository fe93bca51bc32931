"""The job script as a process: a small engine and front stand in, the shell around them is the real one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.unit.engine.rendering import ROOT, render, vllm_entry

Start = Callable[[str, str], "Job"]
SECRET = "the-prompt-of-somebody"

ENGINE = """\
{% extends 'engines/base.sbatch.j2' %}
{% block engine %}
ready_line='now I am ready'
serve() { in_box PROGRAM; }
{% endblock %}
"""


def until(true: Callable[[], bool]) -> None:
    """Wait until `true()` holds, 20 seconds at most."""
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline, "waited 20 seconds in vain"
        time.sleep(0.05)


class Job:
    """One run of the job script with the given engine (shell) and front (Python)."""

    def __init__(self, folder: Path, engine: str, front: str) -> None:
        templates = folder / "templates" / "engines"
        templates.mkdir(parents=True)
        program = folder / "engine.sh"
        program.write_text(f"#!/bin/bash\n{engine}\n", encoding="utf-8")
        program.chmod(0o755)
        (templates / "tiny.sbatch.j2").write_text(ENGINE.replace("PROGRAM", str(program)), encoding="ascii")
        script = folder / "job.sbatch"
        entry = {**vllm_entry(), "box": "none", "environment": {"TEST_FOLDER": str(folder)}}
        text = render("tiny", entry, "/engines/tiny", folder / "templates")
        script.write_text(text, encoding="utf-8")
        self.front = folder / "front.py"
        self.front.write_text(front, encoding="utf-8")
        self.output = folder / "output"
        self.told = folder / "told"
        surroundings = {"SLUICE_PYTHON": sys.executable, "SLUICE_ZIPAPP": str(self.front)}
        surroundings |= {"PATH": os.environ["PATH"], "SLUICE_TOLD": str(self.told)}
        # What a login profile may hold, and an administrator's shell.
        surroundings |= {"http_proxy": "http://evil", "PYTHONPATH": "/evil", "VLLM_USE_V1": "evil"}
        with self.output.open("wb") as stream:
            self.process = subprocess.Popen(
                ["bash", str(script)], stdout=stream, stderr=subprocess.STDOUT, env=surroundings
            )

    def ended(self) -> int:
        """Wait for the script's end; returns its exit status."""
        return self.process.wait(timeout=60)

    def said(self) -> str:
        """Return the job's output so far."""
        return self.output.read_text(encoding="utf-8")

    def private(self) -> Path:
        """Return the private directory, as the front was told it."""
        until(self.told.exists)
        return Path(self.told.read_text(encoding="utf-8"))


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Return a function that starts a job; a job that the test leaves running is ended after it."""
    jobs: list[Job] = []

    def started(engine: str, front: str) -> Job:
        jobs.append(Job(tmp_path, engine, front))
        return jobs[-1]

    yield started
    for job in jobs:
        job.process.terminate()
        job.ended()


FRONT_TELLS = f"""\
import os, sys
given = sys.argv[1:]
if given[0] == "weights":
    sys.exit(0)
if given[0] == "box":
    sys.path.insert(0, {str(ROOT / "files" / "sluice" / "src")!r})
    from sluice.cli import main
    sys.exit(main(given))
assert given[0] == "front" and given[1] == "--engine-socket" and given[3] == "--private-dir", given
assert given[2] == given[4] + "/box/s/engine.sock", given
assert os.stat(given[4]).st_mode & 0o777 == 0o700
told = os.environ["SLUICE_TOLD"]
with open(told + ".new", "w") as stream:
    stream.write(given[4])
os.rename(told + ".new", told)
"""
FRONT_STAYS = FRONT_TELLS + "import time\ntime.sleep(60)\n"


def test_output_is_kept_until_the_engine_is_ready_and_then_no_more(start: Start) -> None:
    job = start(f"echo loading; echo now I am ready; echo {SECRET}; echo {SECRET} >&2; exit 3", FRONT_STAYS)
    assert job.ended() == 3
    assert "loading\nnow I am ready\n" in job.said()
    assert SECRET not in job.said()
    assert "the engine ended with status 3" in job.said()


def test_the_reason_of_a_failed_start_is_kept(start: Start) -> None:
    job = start("echo out of memory >&2; exit 1", FRONT_STAYS)
    assert job.ended() == 1
    assert "out of memory\n" in job.said()


def test_long_lines_and_endless_output_of_a_start_are_cut(start: Start) -> None:
    job = start("printf 'a%.0s' {1..9000}; echo; yes b | head -n 5000; exit 1", FRONT_STAYS)
    assert job.ended() == 1
    assert max(len(line) for line in job.said().splitlines()) == 2000
    assert job.said().count("b\n") < 2000


def test_the_end_of_the_front_ends_the_job(start: Start) -> None:
    job = start("sleep 60", FRONT_TELLS + "sys.exit(7)\n")
    assert job.ended() == 7
    assert "the front ended with status 7" in job.said()


def test_term_ends_both_and_removes_the_private_directory(start: Start) -> None:
    job = start("echo $$ >$TMPDIR/pid; exec sleep 60", FRONT_STAYS)
    private = job.private()
    pid_file = private / "box" / "pid"
    until(lambda: pid_file.exists() and pid_file.read_text(encoding="ascii").endswith("\n"))
    engine = int(pid_file.read_text(encoding="ascii"))
    job.process.send_signal(signal.SIGTERM)
    assert job.ended() == 143
    assert not private.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(engine, 0)


def test_an_engine_that_ignores_term_is_killed(start: Start) -> None:
    job = start("trap '' TERM; while :; do sleep 0.2; done", FRONT_STAYS)
    private = job.private()
    job.process.send_signal(signal.SIGTERM)
    assert job.ended() == 143
    assert not private.exists()


FRONT_IS_WARNED = (
    FRONT_TELLS
    + """\
import signal
signal.signal(signal.SIGUSR1, lambda *_: print("front: warned", flush=True))
print("front: listening", flush=True)
while True:
    signal.pause()
"""
)


def test_slurms_warning_goes_to_the_front_and_ends_nothing(start: Start) -> None:
    job = start("exec sleep 60", FRONT_IS_WARNED)
    until(lambda: "front: listening" in job.said())
    for times in (1, 2):
        job.process.send_signal(signal.SIGUSR1)
        until(lambda times=times: job.said().count("front: warned") == times)  # type: ignore[misc]
    assert job.process.poll() is None
    job.process.send_signal(signal.SIGTERM)
    assert job.ended() == 143


def test_a_front_that_still_answers_is_waited_for_before_the_engine_ends(start: Start) -> None:
    lingers = (
        FRONT_TELLS
        + """\
import signal, time
def end(*_):
    time.sleep(1.5)
    print("front: done", flush=True)
    os._exit(0)
signal.signal(signal.SIGTERM, end)
print("front: listening", flush=True)
time.sleep(60)
"""
    )
    job = start("trap 'echo engine: ends; exit 0' TERM; while :; do sleep 0.1; done", lingers)
    until(lambda: "front: listening" in job.said())
    job.process.send_signal(signal.SIGTERM)
    assert job.ended() == 143
    assert job.said().index("front: done") < job.said().index("engine: ends")


def test_weights_that_are_refused_start_nothing(start: Start) -> None:
    refuses = "import sys\nsys.exit('sluice: weights refused')\n"
    job = start("echo the engine runs; exec sleep 60", refuses)
    assert job.ended() == 1
    assert job.said() == "sluice: weights refused\n"


def test_what_an_engine_leaves_behind_ends_with_the_job(start: Start) -> None:
    stubborn = "(trap '' TERM; exec sleep 60) &"
    job = start(f"{stubborn} echo $! >$TEST_FOLDER/child; exec sleep 60", FRONT_STAYS)
    noted = job.told.with_name("child")
    until(lambda: noted.exists() and noted.read_text(encoding="ascii").endswith("\n"))
    child = int(noted.read_text(encoding="ascii"))
    noted.unlink()
    job.process.send_signal(signal.SIGTERM)
    assert job.ended() == 143
    until(lambda: not Path(f"/proc/{child}").exists())


def test_what_a_killed_job_left_goes_with_the_next_one_and_a_living_ones_stays(tmp_path: Path) -> None:
    killed = Job(tmp_path / "killed", "exec sleep 60", FRONT_STAYS)
    left = killed.private()
    for pid in (killed.process.pid, *descendants(killed.process.pid)):
        os.kill(pid, signal.SIGKILL)
    killed.ended()
    assert left.is_dir()
    living = Job(tmp_path / "living", "exec sleep 60", FRONT_STAYS)
    try:
        own = living.private()
        assert not left.exists()
        another = Job(tmp_path / "another", "exit 1", FRONT_STAYS)
        assert another.ended() == 1
        assert own.is_dir()
    finally:
        living.process.terminate()
        living.ended()
    assert not own.exists()


def descendants(pid: int) -> list[int]:
    """Return a process's children and theirs."""
    found = [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return found + [one for child in found for one in descendants(child)]


def test_the_engine_lives_in_the_private_directory_without_core_dumps(start: Start) -> None:
    job = start('echo "$HOME $TMPDIR $(ulimit -c) $(umask)"; exec sleep 60', FRONT_STAYS)
    private = job.private()
    until(lambda: f"{private}/box {private}/box 0 0077\n" in job.said())


def test_engine_and_front_get_an_environment_of_their_own(start: Start) -> None:
    prints = FRONT_TELLS + "print('front:', *sorted(os.environ), flush=True)\nimport time\ntime.sleep(60)\n"
    names = 'env | cut -d= -f1 | sort | grep -vE "^(_|PWD|SHLVL)$"'
    job = start(f"echo engine: $({names}); exec sleep 60", prints)
    own = "HOME LC_ALL LOGNAME PATH TEST_FOLDER TMPDIR USER XDG_CACHE_HOME"
    until(lambda: f"engine: {own}\n" in job.said())
    until(lambda: "front: " in job.said())
    told = next(line for line in job.said().splitlines() if line.startswith("front: ")).split()[1:]
    kept = {name for name in told if not name.startswith("SLUICE_")}
    assert kept <= {"HOME", "LC_ALL", "PATH", "TMPDIR", "XDG_CACHE_HOME", "PWD", "OLDPWD", "SHLVL", "_"}


def test_a_script_without_its_surroundings_says_what_is_missing(tmp_path: Path) -> None:
    script = tmp_path / "job.sbatch"
    script.write_text(render("vllm", vllm_entry(), "/engines/vllm"), encoding="utf-8")
    path = {"PATH": os.environ["PATH"]}
    ran = subprocess.run(["bash", str(script)], capture_output=True, text=True, env=path)
    assert ran.returncode != 0
    assert "SLUICE_PYTHON: is set by the scheduler" in ran.stderr
