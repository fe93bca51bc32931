"""A hostile engine in its box, as the job's script starts it: real script, front and bubblewrap, no Slurm.

The same engine without a box shows that each attack is one. Its account is of these tests alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sluice.contracts.files import read_json
from sluice.contracts.jobs import JobRecord
from sluice.scheduler.outside.front_client import Unanswered, ask
from tests.integration.login import PYTHON
from tests.unit.engine.rendering import ROOT, render, vllm_entry

ACCOUNT = 64_987
SECONDS = 100.0
PROGRAM = ROOT / "tests" / "fakes" / "hostile_engine.py"
ENGINE = """\
{{% extends 'engines/base.sbatch.j2' %}}
{{% block engine %}}
ready_line='hostile engine: ready'
{door}
serve() {{
    in_box {python} {program} --socket "$socket" --jobs {jobs} --own {weights} --ports {ports} {more}
}}
{{% endblock %}}
"""
DOOR = """\
read -r _ _ port < <("$SLUICE_PYTHON" -I -S "$SLUICE_ZIPAPP" address 127.0.0.1)
door=$private/s/door.sock
engine_at=tcp:127.0.0.1:$port@$door"""
# What another job of the account has on the node, and the node's own services.
VICTIM = """\
import os, socket, sys, time
folder = sys.argv[1]
os.makedirs(folder, mode=0o700, exist_ok=True)
made = socket.socket(socket.AF_UNIX)
made.bind(folder + "/engine.sock")
made.listen()
open(sys.argv[2], "w").write("a prompt as token ids")
print("up", flush=True)
time.sleep(600)
"""


def until(true: Callable[[], object], what: str) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


@dataclass
class Node:
    """A compute node with one other job of the account on it: process `victim`, folder `neighbour`.

    `port` listens on its loopback.
    """

    root: Path
    zipapp: Path
    port: int
    victim: int
    neighbour: Path

    @property
    def jobs(self) -> Path:
        """Where jobs publish."""
        return self.root / "jobs"


@dataclass
class Job:
    """A job's script that runs; `folder` is that of its record."""

    script: subprocess.Popen[bytes]
    folder: Path

    def said(self) -> str:
        """Return the job's output."""
        return (self.folder / "output").read_text(errors="replace")

    def answer(self) -> dict[str, str]:
        """Ask the engine through its front; return what it says that it got."""
        record = self.folder / "record.json"
        until(lambda: record.exists() or self.script.poll() is not None, "no record")
        assert record.exists(), self.said()
        front = JobRecord.parse(read_json(record))
        body = json.dumps(
            {"model": "m", "messages": [{"role": "user", "content": "a secret prompt"}]}
        ).encode()

        def asked() -> Any:
            with contextlib.suppress(Unanswered):
                answer = ask(front, "POST", "/v1/chat/completions", body, 10)
                return answer if answer.status == 200 else None
            return None

        deadline = time.monotonic() + SECONDS
        while (answer := asked()) is None:
            assert time.monotonic() < deadline and self.script.poll() is None, self.said()
            time.sleep(0.2)
        found: dict[str, str] = json.loads(json.loads(answer.body)["choices"][0]["message"]["content"])
        return found

    def processes(self) -> list[int]:
        """Return the script and all its descendants."""
        return [self.script.pid, *descendants(self.script.pid)]


def descendants(pid: int) -> list[int]:
    """Return a process's children and theirs."""
    try:
        found = [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
    return found + [one for child in found for one in descendants(child)]


@pytest.fixture(scope="module")
def node(login_tools: None, zipapp: Path) -> Iterator[Node]:
    """Give a node, and take away all that the account has left on it."""
    root = Path(tempfile.mkdtemp(prefix="sluice-node-"))
    root.chmod(0o755)
    program = shutil.copy(zipapp, root / "sluice.pyz")
    Path(program).chmod(0o644)
    weights = root / "weights"
    weights.mkdir()
    shutil.copy(PROGRAM, weights / "engine.py")
    (weights / "model.safetensors").touch()
    (root / "jobs").mkdir(mode=0o700)
    os.chown(root / "jobs", ACCOUNT, ACCOUNT)
    marks = [Path(f"/tmp/sluice.{secrets.token_hex(4)}"), Path(f"/dev/shm/psm_{secrets.token_hex(4)}")]
    victim = subprocess.Popen(
        as_account(PYTHON, "-c", VICTIM, *map(str, marks)),
        stdout=subprocess.PIPE,
        env={"PATH": "/usr/bin:/bin", "SECRET": "of another job"},
    )
    assert victim.stdout is not None
    assert victim.stdout.readline() == b"up\n"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield Node(root, Path(program), listener.getsockname()[1], victim.pid, marks[0])
    victim.kill()
    victim.wait()
    victim.stdout.close()
    for path in (*marks, root):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.fixture(autouse=True)
def cleared(node: Node) -> Iterator[None]:
    """Take away what a test's job left on the node."""
    yield
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if process.stat().st_uid == ACCOUNT and int(process.name) != node.victim:
                os.kill(int(process.name), signal.SIGKILL)
    for path in (*Path("/tmp").glob("sluice*"), *Path("/dev/shm").glob("sluice*")):
        if path.stat().st_uid == ACCOUNT and path != node.neighbour:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def as_account(*argv: str) -> list[str]:
    """Return a command that the tests' account runs."""
    number = str(ACCOUNT)
    return ["setpriv", "--reuid", number, "--regid", number, "--clear-groups", *argv]


@contextlib.contextmanager
def job(node: Node, box: str, door: bool = False) -> Iterator[Job]:
    """Run a job's script as Slurm would, with a hostile engine; it is ended at the end."""
    nonce = secrets.token_hex(4)
    folder = node.jobs / f"m-{nonce}"
    folder.mkdir(mode=0o700)
    templates = node.root / f"templates-{nonce}" / "engines"
    templates.mkdir(parents=True)
    weights = node.root / "weights"
    places = {"jobs": node.jobs, "weights": weights, "program": weights / "engine.py", "python": PYTHON}
    text = ENGINE.format(
        **places,
        ports=f"127.0.0.1:{node.port}",
        door=DOOR if door else "",
        more='--port "$port"' if door else "",
    )
    (templates / "hostile.sbatch.j2").write_text(text)
    entry = {**vllm_entry(), "weights": str(weights), "box": box, "environment": {"OF_THE_ENTRY": "1"}}
    script = folder / "script"
    script.write_text(render("hostile", entry, "", templates.parent))
    for path in (folder, script):
        os.chown(path, ACCOUNT, ACCOUNT)
    environment = {
        "PATH": "/usr/bin:/bin",
        "SLUICE_PYTHON": PYTHON,
        "SLUICE_ZIPAPP": str(node.zipapp),
        "SLUICE_INSTANCE": f"m-{nonce}",
        "SLUICE_NONCE": nonce,
        "SLUICE_JOB_DIR": str(folder),
        "SLUICE_PORTS": "30000-39999",
        "SLUICE_CONCURRENCY": "4",
        "SLUICE_MAX_BODY": "1048576",
        "SLURM_JOB_ID": "17",
        "SLURMD_NODENAME": "localhost",
        # Of a login profile.
        "http_proxy": "http://evil.invalid",
        "PYTHONPATH": "/evil",
    }
    with (folder / "output").open("wb") as output:
        argv = as_account("bash", str(script))
        running = subprocess.Popen(
            argv, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    made = Job(running, folder)
    try:
        yield made
    finally:
        running.terminate()
        running.wait(60)


@pytest.mark.parametrize("door", [False, True], ids=["on a socket", "on loopback"])
def test_a_hostile_engine_in_its_box_gets_nothing_and_still_serves(node: Node, door: bool) -> None:
    with job(node, "bubblewrap", door) as running:
        assert running.answer() == {}
        mine = running.processes()
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in mine), "the job has left processes")


def test_the_same_attacks_without_a_box_get_what_they_are_after(node: Node) -> None:
    with job(node, "none") as running:
        got = running.answer()
    expected = {
        "swap_a_socket",
        "forge_a_record",
        "find_a_secret",
        "see_other_processes",
        "trace_or_end_other_processes",
        "read_shared_memory",
        "reach_ports",
        "keep_privileges",
    }
    assert expected <= set(got)
    assert "learn_from_the_environment" not in got


def test_a_killed_engine_leaves_no_process_and_no_prompt_on_the_node(node: Node) -> None:
    with job(node, "bubblewrap") as running:
        running.answer()
        before = running.processes()
        private = {path for path in Path("/tmp").glob("sluice.*") if path.stat().st_uid == ACCOUNT}
        for pid in before:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in before), "processes outlived the kill")
    kept = [path for folder in (*private, Path("/dev/shm")) for path in folder.rglob("*")]
    assert not [path for path in kept if holds(path, b"a secret prompt")]


def holds(path: Path, words: bytes) -> bool:
    """Whether a file of the account holds the words; other tests' files come and go beside it."""
    try:
        return path.is_file() and path.stat().st_uid == ACCOUNT and words in path.read_bytes()
    except FileNotFoundError:
        return False


def test_what_a_killed_job_left_goes_with_the_next_one_and_a_living_ones_stays(node: Node) -> None:
    with job(node, "bubblewrap") as killed:
        killed.answer()
        (left,) = directories()
        for pid in killed.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    assert left.is_dir()
    with job(node, "bubblewrap") as living:
        living.answer()
        assert not left.exists()
        (own,) = directories()
        with job(node, "bubblewrap") as another:
            another.answer()
            assert own in directories() and len(directories()) == 2
        assert living.answer() == {}
    assert node.neighbour.is_dir()
    assert directories() == set()


def directories() -> set[Path]:
    """Return the directories of jobs on this node that a script made."""
    return {path.parent for path in Path("/tmp").glob("sluice.*/alive") if path.stat().st_uid == ACCOUNT}


def test_slurms_term_to_every_process_of_the_job_lets_the_engine_end_by_itself(node: Node) -> None:
    with job(node, "bubblewrap") as running:
        running.answer()
        for pid in running.processes():
            os.kill(pid, signal.SIGTERM)
        assert running.script.wait(60) == 143
    assert not [path for path in Path("/tmp").glob("sluice.*/box") if path.stat().st_uid == ACCOUNT]
