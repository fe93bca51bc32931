"""Lanes of steps: what tests/run.py runs beside each other.

A lane is a sequence of groups. The steps of a group run side by side, all of them whatever fails: a person
wants to see all faults of a stage. The next group begins when all have passed. Where a group has failed, its
lane is over, and what runs in the other lanes is ended. What a step says is printed whole when it ends; until
then it is in a file of build/said/.
"""

from __future__ import annotations

import contextlib
import enum
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
STEP_SECONDS = 3000.0
# A step that is asked to end has so long for it: pytest ends what its fixtures have started.
PATIENCE = 60.0
TURN = 0.05
# Programs start in half the time where they find their modules compiled, whatever this run's caller says.
COMPILED = ROOT / "build" / "pycache"

Groups = Generator[Sequence["Step"], None, None]


class Result(enum.Enum):
    """How a step ended: by itself, or since another one had failed or a person asked for it."""

    PASSED = "passed"
    FAILED = "FAILED"
    ENDED = "ended early"


@dataclass(frozen=True)
class Step:
    """One command of a lane, and what it gets beside this process's environment."""

    name: str
    argv: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)
    # What its result depends on: it is not run again on what it has passed on. None: it is always run.
    inputs: tuple[str, ...] | None = None
    # The step of another lane behind which it begins.
    after: str = ""

    def digest(self) -> str:
        """Return what the tracked and the new files of `inputs` come to."""
        found = hashlib.sha256(repr(self.argv).encode())
        for path in (ROOT / name for name in sorted(tracked(*(self.inputs or ())))):
            found.update(repr((str(path), path.is_file() and path.read_bytes())).encode())
        return found.hexdigest()

    @property
    def passed(self) -> Path:
        """The file that says on what it has last passed."""
        return ROOT / "build" / "passed" / self.name

    @property
    def said(self) -> Path:
        """The file that has what it says while it runs."""
        return ROOT / "build" / "said" / "".join(c if c.isalnum() else "-" for c in self.name)

    @property
    def due(self) -> bool:
        """Whether it is to be run on the files as they are."""
        return self.inputs is None or not self.passed.exists() or self.passed.read_text() != self.digest()


@dataclass(frozen=True)
class Timing:
    """How one step went."""

    name: str
    seconds: float
    result: Result


class Running:
    """A step that runs. Where it is `live`, what it says is printed as it comes."""

    def __init__(self, step: Step, live: bool, niceness: int) -> None:
        self._step = step
        self._digest = "" if step.inputs is None else step.digest()
        self._said = None if live else _file(step.said)
        self._started = time.monotonic()
        # In a session of its own: a Ctrl-C at the terminal reaches the runner alone, which asks it once.
        self._process = subprocess.Popen(
            step.argv, cwd=ROOT, env=_environment(step.environment), stdin=subprocess.DEVNULL,
            stdout=self._said, stderr=None if live else subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        _be_nice(self._process.pid, niceness)

    @property
    def over(self) -> bool:
        """Whether it has ended, or has taken too long."""
        return self._process.poll() is not None or time.monotonic() - self._started > STEP_SECONDS

    def ask(self) -> None:
        """Ask it to end."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)

    def end(self, early: bool = False) -> Timing:
        """Print what it said and return how it went; end it first if it still runs."""
        late = self._process.poll() is None
        if late:
            self._finish()
        result = Result.PASSED if not late and self._process.returncode == 0 else Result.FAILED
        if early:
            result = Result.ENDED
        timing = Timing(self._step.name, time.monotonic() - self._started, result)
        _tell(f"=== {timing.name}: {result.value} after {timing.seconds:.0f} s")
        if self._said is not None:
            self._print(self._said)
        if late and not early:
            print(f"tests: {timing.name} had not ended by itself", file=sys.stderr)
        if result is Result.PASSED and self._step.inputs is not None:
            self._step.passed.parent.mkdir(parents=True, exist_ok=True)
            self._step.passed.write_text(self._digest)
        return timing

    def _finish(self) -> None:
        self.ask()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(PATIENCE)
        # It, if it still is there, and what it had no time to end.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _print(self, said: IO[bytes]) -> None:
        with said:
            said.seek(0)
            shutil.copyfileobj(said, sys.stdout.buffer)
        sys.stdout.flush()
        self._step.said.unlink(missing_ok=True)


class Lane:
    """Groups of steps, `at_once` of them at a time; with a `niceness` they leave others the processor.

    Where it is `live`, what the steps say is printed as it comes, except where several run side by side.
    """

    def __init__(self, groups: Groups, at_once: int = 1, niceness: int = 0, live: bool = False) -> None:
        self._groups = groups
        self._at_once = at_once
        self.niceness = niceness
        self.live = live
        self._alone = True
        self._waiting: list[Step] = []
        self._running: list[Running] = []
        self.failed = False
        self.over = False

    def turn(self, ended: set[str]) -> list[Timing]:
        """Take what has ended, and begin what may begin; `ended` names the steps of all lanes that have."""
        timings = []
        for one in [one for one in self._running if one.over]:
            self._running.remove(one)
            timings.append(one.end())
            self.failed |= timings[-1].result is not Result.PASSED
        if not self._waiting and not self._running:
            self._next_group()
        for step in [one for one in self._waiting if not one.after or one.after in ended]:
            if len(self._running) < self._at_once:
                self._waiting.remove(step)
                _tell(f"--- {step.name} begins")
                self._running.append(Running(step, self.live and self._alone, self.niceness))
        return timings

    def ask(self) -> None:
        """Ask what runs to end; `end` waits for it."""
        for one in self._running:
            one.ask()

    def end(self) -> list[Timing]:
        """End what runs, and begin nothing more."""
        timings = [one.end(early=True) for one in self._running]
        self._running, self._waiting, self.over = [], [], True
        self._groups.close()
        return timings

    def _next_group(self) -> None:
        group = None if self.failed else next(self._groups, None)
        self.over = group is None
        self._alone = len(group or ()) == 1
        for step in group or ():
            if step.due:
                self._waiting.append(step)
            else:
                _tell(f"--- {step.name} has passed on these files before")


def run(lanes: Sequence[Lane], asked: Callable[[], object]) -> list[Timing]:
    """Run the lanes beside each other until all are over, one has failed, or `asked` says to end."""
    timings: list[Timing] = []
    try:
        while not all(lane.over for lane in lanes) and not asked():
            for lane in lanes:
                timings += lane.turn({one.name for one in timings})
            if any(lane.failed for lane in lanes):
                # The steps beside the one that failed say what they find; the other lanes' need not.
                timings += _end([lane for lane in lanes if not lane.failed])
            time.sleep(TURN)
    finally:
        timings += _end(lanes)
    if asked():
        print("tests: interrupted", file=sys.stderr)
        timings.append(Timing("interrupted", 0.0, Result.FAILED))
    return timings


def _end(lanes: Sequence[Lane]) -> list[Timing]:
    for lane in lanes:
        lane.ask()
    return [timing for lane in lanes for timing in lane.end()]


def tracked(*paths: str) -> list[str]:
    """Return the tracked and the new files, of all or of some paths."""
    argv = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *paths]
    listed = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in listed.stdout.split("\0") if name]


def _file(path: Path) -> IO[bytes]:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Another run in this checkout may still write into the one that is there.
    path.unlink(missing_ok=True)
    return path.open("w+b")


def _be_nice(pid: int, niceness: int) -> None:
    with contextlib.suppress(OSError):
        niceness += os.getpriority(os.PRIO_PROCESS, 0)
        os.setpriority(os.PRIO_PROCESS, pid, niceness)
        # Where the kernel shares processors out by session, this is what counts towards other sessions.
        Path(f"/proc/{pid}/autogroup").write_text(str(niceness))


def _environment(further: dict[str, str]) -> dict[str, str]:
    paths = f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}"
    own = {"PATH": paths, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "NO_COLOR": "1"}
    own |= {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(COMPILED)}
    return {**os.environ, **own, **further}


def _tell(line: str) -> None:
    print(f"\n{line}" if line.startswith("=") else line, flush=True)
