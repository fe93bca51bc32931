"""kill -9 before and after the effects of a scheduler's life, one after the other.

The process is the real program, started by a few lines that install an audit hook: Python tells it of each
rename, folder, removal and started command *before* it happens, and at the n-th it kills its own process.
sbatch and scancel are also killed *after* they acted, before their answer is read. Nothing of this is in the
program itself. After the kill an ordinary process goes on, as cron would start it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Optional

import pytest

from sluice.contracts.files import read_json, write_json
from sluice.contracts.routing import RoutingTable
from tests.fakes.front import KEY, Listening, healthy_front
from tests.fakes.slurm.slurm import Cluster
from tests.integration.jobs import ENTRY, MODEL, scheduler_files
from tests.integration.login import PYTHON
from tests.trials import SOAK

pytestmark = pytest.mark.integration

PORTS = range(23000, 23999)
# More ticks than any kill needs until everything is as it should be. A cancellation that was written down and
# not carried out is repeated after 30 s: beyond the first few, ticks keep a second's distance.
MOST_TICKS = 60
QUICK_TICKS = 12
AT_ONCE = 3
# Every third effect; `make soak` has all of them.
STEP = 1 if SOAK else 3

# argv: number of the effect to die at, file that counts them, program, config. Opening files for reading is
# no effect; the temporary files that are renamed into place are none either.
LAUNCHER = """
import os, runpy, signal, sys
last, count, program, config = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]

def effect(event, details):
    if event == "subprocess.Popen":
        if os.path.basename(str(details[0])) not in ("sbatch", "scancel"):
            return
    elif event not in ("os.rename", "os.mkdir", "os.remove"):
        return
    descriptor = os.open(count, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, event[:1].encode())
    os.close(descriptor)
    if os.stat(count).st_size == last:
        os.kill(os.getpid(), signal.SIGKILL)

sys.argv = [program, "scheduler", "--config", config, "--once"]
sys.addaudithook(effect)
runpy.run_path(program, run_name="__main__")
"""
# Runs the fake command to its end, then kills the scheduler, which has not read the answer yet.
AFTERWARDS = """\
#!/bin/sh
"{real}" "$@"
status=$?
echo x >>"{count}"
if [ "$(wc -l <"{count}")" = "{last}" ]; then kill -9 "$PPID"; fi
exit "$status"
"""


@dataclass
class Login:
    """A login node's files below `root`; every tick is a process of its own."""

    root: Path
    program: Path
    front: Listening
    slurm: Cluster

    def tick(self, die_at: int = 0) -> int:
        """Make one tick and return the exit status: -9 where it was killed (at its n-th effect, 0: none)."""
        arguments = [str(die_at), str(self.root / "effects"), str(self.program)]
        argv = ["setpriv", "--pdeathsig", "KILL", PYTHON, "-I", "-S", "-c", LAUNCHER, *arguments]
        ended = subprocess.run(
            [*argv, str(self.root / "scheduler.json")], capture_output=True, text=True, timeout=60
        )
        assert ended.returncode in (0, -9), ended.stderr[-2000:]
        self.publish()
        return ended.returncode

    def publish(self) -> None:
        """Let every running job's front publish its record, as far as it has not."""
        for job in self.slurm.alive():
            instance = str(job["name"]).partition(":")[2]
            path = self.root / "jobs" / instance / "record.json"
            if job["state"] != "RUNNING" or path.exists():
                continue
            record = {
                "version": 1,
                "instance": instance,
                "nonce": instance.rpartition("-")[2],
                "job_id": job["id"],
                "host": "localhost",
                "port": self.front.port,
                "certificate": self.front.certificate,
                "key": KEY,
                "started": job["started"],
            }
            write_json(path, record)

    def apply(self, **changes: Any) -> None:
        """Put the model's files in place, old enough to count."""
        folder = self.root / "models.d"
        (folder / f"{MODEL}.sbatch").write_text("#!/bin/bash\nsleep 1\n")
        write_json(folder / f"{MODEL}.json", {**ENTRY, **changes})
        for path in folder.iterdir():
            os.utime(path, (path.stat().st_atime - 60, path.stat().st_mtime - 60))

    def remove(self) -> None:
        """Take the model away."""
        for path in (self.root / "models.d").iterdir():
            path.unlink()

    def routed(self) -> dict[str, str]:
        """Return the routed instances with their states."""
        try:
            table = RoutingTable.parse(read_json(self.root / "routing.json"))
        except FileNotFoundError:
            return {}
        return {one.id: one.state for model in table.models.values() for one in model.instances}

    def instances(self) -> list[str]:
        """Return the instances in the state."""
        path = self.root / "state.json"
        return sorted(json.loads(path.read_text())["instances"]) if path.exists() else []

    def names(self) -> list[str]:
        """Return the instances whose jobs are alive."""
        return sorted(str(job["name"]).partition(":")[2] for job in self.slurm.alive())

    def serves(self, jobs: int) -> bool:
        """Whether the last of so many jobs is the only one, known and routed."""
        (last,) = self.slurm.jobs()[-1:] or ({"name": ":"},)
        name = str(last["name"]).partition(":")[2]
        alone = self.names() == [name] == self.instances() and self.routed() == {name: "ready"}
        return alone and len(self.slurm.jobs()) == jobs

    def is_clear(self) -> bool:
        """Whether nothing is left."""
        return not self.names() and not self.instances() and not self.routed()


def configure(root: Path) -> None:
    """Write the scheduler's configuration of a login node below `root`."""
    settings = {
        **scheduler_files(root),
        "zipapp": "/shared/sluice.pyz",
        "ports": f"{PORTS.start}-{PORTS.stop}",
        "slurm_bin": str(root / "slurm" / "bin"),
        "command_timeout": 4.0,
        "retry_backoff": 0.1,
        "drain_timeout": 0.1,
    }
    write_json(root / "scheduler.json", settings)


@contextmanager
def login_node(program: Path, front: Listening, origin: Optional[Path] = None) -> Iterator[Login]:
    """Lay out a login node, as a copy of the one below `origin` where that is given."""
    root = Path(tempfile.mkdtemp(prefix="sluice-kill-"))
    try:
        if origin is None:
            for name in ("models.d", "jobs", "demand"):
                (root / name).mkdir(mode=0o700)
            Cluster(root / "slurm").install()
        else:
            shutil.copytree(origin, root, dirs_exist_ok=True)
            (root / "effects").unlink(missing_ok=True)
        configure(root)
        yield Login(root, program, front, Cluster(root / "slurm"))
    finally:
        shutil.rmtree(root, ignore_errors=True)


def kill_afterwards(login: Login, command: str, call: int) -> None:
    """Have the scheduler killed once the n-th call of a command has acted."""
    place, real = login.slurm.bin / command, login.slurm.bin / f"{command}.real"
    place.rename(real)
    # The fake tells by its name what it is.
    real.write_text(real.read_text().replace('"$0"', f'"{place}"'))
    place.write_text(AFTERWARDS.format(real=real, count=login.root / "acted", last=call))
    place.chmod(0o755)


@dataclass(frozen=True)
class Chapter:
    """One part of a life: how it begins, and when it is over."""

    begin: Callable[[Login], None]
    done: Callable[[Login], bool]
    jobs: int


# Submit and serve; replace (submit, drain, cancel, forget); remove (drain, cancel, forget).
CHAPTERS = (
    Chapter(lambda login: login.apply(), lambda login: login.serves(1), 1),
    Chapter(lambda login: login.apply(context_length=77), lambda login: login.serves(2), 2),
    Chapter(lambda login: login.remove(), lambda login: login.is_clear(), 2),
)


def finish(login: Login, chapter: Chapter) -> bool:
    """Tick until the chapter is over; return whether a process was killed."""
    killed = False
    for number in range(MOST_TICKS):
        if chapter.done(login):
            break
        if number >= QUICK_TICKS:
            time.sleep(1.0)
        killed = login.tick() == -9 or killed
        assert_sound(login)
    assert chapter.done(login), (login.names(), login.instances(), login.routed())
    assert len(login.slurm.jobs()) == chapter.jobs
    return killed


def assert_sound(login: Login) -> None:
    """Look that no more jobs are alive than may be, and that each is known or intended."""
    assert len(login.names()) <= 2
    assert set(login.names()) <= {path.name for path in (login.root / "jobs").iterdir()}


@pytest.fixture(scope="module")
def program(zipapp: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the zipapp unpacked and compiled: some hundred processes shall not each compile it anew."""
    place = tmp_path_factory.mktemp("program")
    with zipfile.ZipFile(zipapp) as packed:
        packed.extractall(place)
    # -I: beside the sources, wherever this process may keep its own; else the first tick has their writing
    # among its effects.
    subprocess.run([PYTHON, "-I", "-m", "compileall", "-q", str(place)], check=True)
    return place


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Listening]:
    """Serve as the front of every job."""
    with healthy_front(tmp_path_factory.mktemp("front"), PORTS) as listening:
        yield listening


@dataclass(frozen=True)
class Moment:
    """A tick of an undisturbed life: the login node before it, and the effects that it had."""

    chapter: Chapter
    before: Path
    effects: str


def undisturbed(login: Login, copies: Path) -> list[Moment]:
    """Live through all chapters, and keep a copy of the login node before each tick."""
    moments: list[Moment] = []
    for chapter in CHAPTERS:
        chapter.begin(login)
        while not chapter.done(login):
            before = copies / str(len(moments))
            shutil.copytree(login.root, before)
            (login.root / "effects").unlink(missing_ok=True)
            assert login.tick() == 0
            moments.append(Moment(chapter, before, (login.root / "effects").read_text()))
            assert len(moments) <= MOST_TICKS
    return moments


@pytest.mark.timeout(1200)
def test_a_kill_before_any_effect_leaves_no_duplicate_and_no_orphan(
    program: Path, front: Listening, tmp_path: Path
) -> None:
    with login_node(program, front) as login:
        moments = undisturbed(login, tmp_path)
    effects = "".join(moment.effects for moment in moments)
    # Two of sbatch and two of scancel; the others are renames (state, table, figures) and folders.
    assert effects.count("s") == 4 and len(effects) >= 40

    def die(moment: Moment, number: int) -> None:
        with login_node(program, front, moment.before) as login:
            assert login.tick(die_at=number) == -9
            assert_sound(login)
            finish(login, moment.chapter)

    deaths = [(one, number + 1) for one in moments for number in range(len(one.effects))][::STEP]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(die, *zip(*deaths)))


@pytest.mark.parametrize("command", ["sbatch", "scancel"])
@pytest.mark.parametrize("call", [1, 2])
def test_a_kill_after_slurm_acted_and_before_its_answer_is_read(
    program: Path, front: Listening, command: str, call: int
) -> None:
    with login_node(program, front) as login:
        kill_afterwards(login, command, call)
        killed = []
        for chapter in CHAPTERS:
            chapter.begin(login)
            killed.append(finish(login, chapter))
    assert killed.count(True) == 1
