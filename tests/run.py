"""Runs the tests by stage and prints the time of each: `python3 -m tests.run check integration system`.

The steps of `check` and of `integration` run side by side, all of them whatever fails; each says what it has
to say when it ends. A stage that fails ends the run. The test bed goes down at the end, also after an
interruption; what a killed run left is cleared by the next.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import IO

from demo.bed import preflight
from demo.bed.bed import Bed
from demo.bed.errors import BedError
from demo.bed.progress import silent
from demo.deployment import Deployment
from tests.attacks import MODULES

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
BED_NAME = "test"
BED_SUBNET = "10.78.0"
BED_STATE = ROOT / "build" / "test-bed"
STEP_SECONDS = 3000.0
# So many steps run at a time where steps may run side by side.
AT_ONCE = 2
# Programs start in half the time where they find their modules compiled, whatever this run's caller says.
COMPILED = ROOT / "build" / "pycache"
# The unit tests write many small files and wait for each to be on the disk; in memory they do not wait.
MEMORY = Path("/dev/shm")
# What ansible-lint reads, and the versions of it and of Ansible.
PLAYS = (
    *("action_plugins", "ansible.cfg", "inventories", "library", "module_utils", "playbooks", "roles"),
    *("requirements-dev.txt", "requirements.yml", ".ansible-lint", ".yamllint"),
)
MEMORY_BYTES = 2 << 30
# Collected once for all processes: without tests/processes.py each would import everything again.
FORKED = ("-p", "tests.processes")


@dataclass(frozen=True)
class Step:
    """One command of a stage, and what it gets beside this process's environment."""

    name: str
    argv: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)
    # What its result depends on: it is not run again on what it has passed on. None: it is always run.
    inputs: tuple[str, ...] | None = None

    def digest(self) -> str:
        """Return what the tracked and the new files of `inputs` come to."""
        found = hashlib.sha256(repr(self.argv).encode())
        for path in (ROOT / name for name in sorted(_tracked(*(self.inputs or ())))):
            found.update(repr((str(path), path.is_file() and path.read_bytes())).encode())
        return found.hexdigest()

    @property
    def passed(self) -> Path:
        """The file that says on what it has last passed."""
        return ROOT / "build" / "passed" / self.name


@dataclass(frozen=True)
class Timing:
    """How one step went."""

    name: str
    seconds: float
    passed: bool


@dataclass
class Running:
    """A step that runs, and the file that keeps what it says; None where that is printed as it comes."""

    step: Step
    process: subprocess.Popen[bytes]
    started: float
    said: IO[bytes] | None
    digest: str = ""

    @property
    def over(self) -> bool:
        """Whether it has ended, or has taken too long."""
        return self.process.poll() is not None or time.monotonic() - self.started > STEP_SECONDS

    def end(self) -> Timing:
        """End it if it still runs, print what it said, and return how it went."""
        late = self.process.poll() is None
        _end(self.process)
        if self.said is not None:
            self.said.seek(0)
            print(f"\n=== {self.step.name}", flush=True)
            shutil.copyfileobj(self.said, sys.stdout.buffer)
            sys.stdout.flush()
            self.said.close()
        if late:
            print(f"tests: {self.step.name} had not ended by itself", file=sys.stderr)
        passed = not late and self.process.returncode == 0
        if passed and self.step.inputs is not None:
            self.step.passed.parent.mkdir(parents=True, exist_ok=True)
            self.step.passed.write_text(self.digest)
        return Timing(self.step.name, time.monotonic() - self.started, passed)


class Interrupted(BaseException):
    """The run was asked to end."""


def main(stages: list[str]) -> int:
    """Run the stages in order; return 0 when all passed."""
    known: dict[str, Callable[[], list[Timing]]] = {
        "check": _check,
        "integration": _integration,
        "system": lambda: _on_a_bed(_system_steps),
        "attacks": _attacks,
        "soak": lambda: _on_a_bed(_soak_steps),
    }
    for unknown in set(stages) - set(known):
        print(f"tests: there is no stage {unknown}; choose from {', '.join(known)}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGHUP, _interrupt)
    timings: list[Timing] = []
    began = time.monotonic()
    try:
        for stage in stages:
            timings += known[stage]()
            if not all(timing.passed for timing in timings):
                break
    except (Interrupted, KeyboardInterrupt):
        print("tests: interrupted", file=sys.stderr)
        timings.append(Timing("interrupted", 0.0, False))
    return _summary(timings, time.monotonic() - began)


def _check() -> list[Timing]:
    with _in_memory() as folder:
        return _side_by_side(check_steps(folder))


def check_steps(folder: Path | None = None) -> list[Step]:
    """The steps of `make check`, the longest first; `folder` is where the unit tests may write."""
    python = sys.executable
    shell = _tracked_with_shebang("sh") + _tracked_with_shebang("bash")
    place = (f"--basetemp={folder / 'tests'}",) if folder else ()
    return [
        # They wait more than they work.
        Step("unit tests", (python, "-m", "pytest", "-q", *FORKED, "--processes", "6", *place)),
        Step("mypy", (str(BIN / "mypy"),)),
        Step("page", (python, "-m", "page.check")),
        Step(
            "ansible-lint",
            (str(BIN / "ansible-lint"), "--offline", "--profile", "production", "-q"),
            inputs=PLAYS,
        ),
        Step("ruff", (str(BIN / "ruff"), "check", ".")),
        Step("ruff format", (str(BIN / "ruff"), "format", "--check", "--quiet", ".")),
        Step("shellcheck", (str(BIN / "shellcheck"), *shell)),
        Step("yamllint", (str(BIN / "yamllint"), "--strict", ".")),
    ]


def _integration() -> list[Timing]:
    # A file stays in one process; tests/integration/conftest.py has the longest begin first.
    beside = ("-n", "3", "--dist", "loadfile", "--no-loadscope-reorder")
    return _side_by_side(
        [_pytest("integration", *beside, "tests/integration"), _pytest("pages", "tests/browser")]
    )


def _attacks() -> list[Timing]:
    """Run what tests/attacks.py names; what brings the bed up is a step of its own."""
    beside = ("-n", "2", "--dist", "loadfile")
    tiers = ("unit", "integration")
    timings = _side_by_side([_pytest(f"attacks: {tier}", *beside, *_modules(tier)) for tier in tiers])
    return timings + _on_a_bed(_attacks_on_a_bed)


def _attacks_on_a_bed() -> Iterator[Step]:
    yield _pytest("(the bed)", "tests/system/test_1_install.py", "-k", "second_run")
    yield _pytest("attacks: system", *_modules("system"))


def _modules(tier: str) -> list[str]:
    return [f"tests/{name}.py" for name in sorted(MODULES) if name.startswith(f"{tier}/")]


def _side_by_side(steps: Sequence[Step]) -> list[Timing]:
    """Run all steps, AT_ONCE at a time; return how they went, in the order of their ends."""
    waiting, running, timings = [one for one in steps if _is_due(one)], list[Running](), list[Timing]()
    try:
        while waiting or running:
            while waiting and len(running) < AT_ONCE:
                said = tempfile.TemporaryFile()  # noqa: SIM115 - its step's end closes it
                running.append(_start(waiting.pop(0), said))
            time.sleep(0.05)
            for one in [one for one in running if one.over]:
                running.remove(one)
                timings.append(one.end())
    finally:
        for one in running:
            one.end()
    return timings


def _is_due(step: Step) -> bool:
    if step.inputs is None or not step.passed.exists() or step.passed.read_text() != step.digest():
        return True
    print(f"--- {step.name} has passed on these files before", flush=True)
    return False


@contextlib.contextmanager
def _in_memory() -> Iterator[Path | None]:
    """Give a folder in memory for as long as the block lasts, or None where there is none with room."""
    can = MEMORY.is_mount() and not os.statvfs(MEMORY).f_flag & os.ST_NOEXEC
    if not can or shutil.disk_usage(MEMORY).free < MEMORY_BYTES:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="sluice-", dir=MEMORY, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _pytest(name: str, *paths: str, env: Mapping[str, str] | None = None) -> Step:
    return Step(name, (sys.executable, "-m", "pytest", "-q", *paths), dict(env or {}))


def _on_a_bed(steps: Callable[[], Iterator[Step]]) -> list[Timing]:
    needs = preflight.Needs()
    found = preflight.failures(BED_NAME, BED_STATE, Bed(BED_NAME, BED_SUBNET, BED_STATE).cache, needs)
    for failure in found:
        print(f"tests: {failure}", file=sys.stderr)
    if found:
        return [Timing("bed", 0.0, False)]
    _bed_down()
    timings = []
    try:
        for step in steps():
            timings.append(_run(step))
            if not timings[-1].passed:
                break
    finally:
        _bed_down()
    return timings


def _system_steps() -> Iterator[Step]:
    """Yield the tier's steps; the browser's environment is there once the first has installed the bed."""
    tests = sorted(path.name for path in (ROOT / "tests/system").glob("test_*.py"))
    early = [f"tests/system/{name}" for name in tests if name < "test_3"]
    late = [f"tests/system/{name}" for name in tests if name >= "test_3"]
    yield _pytest("system: install, API", *early)
    values = Deployment(Bed(BED_NAME, BED_SUBNET, BED_STATE), silent).read_env()
    yield _pytest("system: browser", "tests/browser/test_site.py", env=values)
    yield _pytest("system: breaking it", *late)


def _soak_steps() -> Iterator[Step]:
    yield _pytest("system: long trials", "tests/system/soak_scheduler.py")
    longer = ("tests/system/test_7_scheduler.py", "tests/system/test_8_all_at_once.py")
    chosen = ("-k", "wall_times or neighbour or sleeping_model or goes_dark")
    yield _pytest("system: for longer", *longer, *chosen, env={"SLUICE_TRIALS": "soak"})
    yield _pytest("system: Slurm 24.11", "tests/system/soak_slurm_24_11.py")


def _bed_down() -> None:
    try:
        Bed(BED_NAME, BED_SUBNET, BED_STATE).down()
    except BedError as error:
        print(f"tests: {error}", file=sys.stderr)


def _run(step: Step) -> Timing:
    print(f"\n=== {step.name}", flush=True)
    running = _start(step, None)
    try:
        with contextlib.suppress(subprocess.TimeoutExpired):
            running.process.wait(STEP_SECONDS)
    finally:
        timing = running.end()
    return timing


def _start(step: Step, said: IO[bytes] | None) -> Running:
    if said is not None:
        print(f"--- {step.name} begins", flush=True)
    digest = "" if step.inputs is None else step.digest()
    process = subprocess.Popen(
        step.argv, cwd=ROOT, env=_environment(step.environment), stdin=subprocess.DEVNULL,
        stdout=said, stderr=None if said is None else subprocess.STDOUT,
    )  # fmt: skip
    return Running(step, process, time.monotonic(), said, digest)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _environment(further: dict[str, str]) -> dict[str, str]:
    paths = f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}"
    own = {"PATH": paths, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "NO_COLOR": "1"}
    own |= {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(COMPILED)}
    return {**os.environ, **own, **further}


def _tracked(*paths: str) -> list[str]:
    """Return the tracked and the new files, of all or of some paths."""
    argv = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *paths]
    listed = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in listed.stdout.split("\0") if name]


def _tracked_with_shebang(shell: str) -> list[str]:
    found = []
    for name in _tracked():
        path = ROOT / name
        if path.is_file() and path.suffix != ".j2":
            with path.open("rb") as stream:
                first = stream.readline(80)
            if first.startswith(b"#!") and first.rstrip().endswith(
                (f"/{shell}".encode(), f" {shell}".encode())
            ):
                found.append(name)
    return found


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise Interrupted


def _summary(timings: list[Timing], seconds: float) -> int:
    print("\nSTAGE               SECONDS  RESULT")
    for timing in timings:
        print(f"{timing.name:<20}{timing.seconds:7.0f}  {'passed' if timing.passed else 'FAILED'}")
    print(f"{'all':<20}{seconds:7.0f}")
    failed = sum(not timing.passed for timing in timings)
    print(f"stages: {len(timings) - failed} passed, {failed} failed")
    return 1 if failed or not timings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
