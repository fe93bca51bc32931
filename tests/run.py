"""Runs the tests by stage and prints the time of each step: `python3 -m tests.run check integration system`.

The stages that need no bed are one lane, in their order; those on a bed are another, beside it
(tests/lanes.py). A bed mostly waits, for sshd, for Slurm, for an engine, and when it does not it has the
processor first. The test bed goes down at the end, also after an interruption; what a killed run left is
cleared by the next.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from demo.bed import preflight
from demo.bed.bed import Bed
from demo.bed.errors import BedError
from demo.bed.progress import silent
from demo.deployment import Deployment
from tests.attacks import MODULES
from tests.lanes import BIN, ROOT, Groups, Lane, Result, Step, Timing, run, tracked

# The stages, by what they need.
WITHOUT_A_BED = ("check", "integration")
ON_A_BED = ("system", "attacks", "soak")
BED_NAME = "test"
BED_SUBNET = "10.78.0"
BED_STATE = ROOT / "build" / "test-bed"
# So many steps of a lane run at a time where they may run side by side.
AT_ONCE = 2
# Of the lane beside a bed, whose steps take longest: of a processor that both want it gets a tenth.
NICENESS = 10
# The unit tests write many small files and wait for each to be on the disk; in memory they do not wait.
MEMORY = Path("/dev/shm")
MEMORY_BYTES = 2 << 30
# What ansible-lint reads, and the versions of it and of Ansible.
PLAYS = (
    *("action_plugins", "ansible.cfg", "inventories", "library", "module_utils", "playbooks", "roles"),
    *("requirements-dev.txt", "requirements.yml", ".ansible-lint", ".yamllint"),
)
# Collected once for all processes: without tests/processes.py each would import everything again.
FORKED = ("-p", "tests.processes")
INSTALL = "system: install, API"


def main(stages: list[str]) -> int:
    """Run the stages; return 0 when all passed."""
    known = WITHOUT_A_BED + ON_A_BED
    for unknown in set(stages) - set(known):
        print(f"tests: there is no stage {unknown}; choose from {', '.join(known)}", file=sys.stderr)
        return 2
    asked: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _frame: asked.append(number))
    began = time.monotonic()
    with contextlib.ExitStack() as ending:
        if set(stages) & set(ON_A_BED):
            if not _can_carry_a_bed():
                return 1
            _bed_down()
            ending.callback(_bed_down)
        timings = run(lanes(stages), lambda: asked)
    return _summary(timings, time.monotonic() - began)


def lanes(stages: Sequence[str]) -> list[Lane]:
    """Return the lanes of a run of these stages."""
    without = [stage for stage in stages if stage in WITHOUT_A_BED]
    on_a_bed = [stage for stage in stages if stage in ON_A_BED]
    made = []
    if without:
        made.append(Lane(_groups(without, stages), AT_ONCE, niceness=NICENESS if on_a_bed else 0))
    if on_a_bed:
        # What a bed alone does is told as it comes: it takes long.
        made.append(Lane(_groups(on_a_bed, stages), AT_ONCE, live=not without))
    return made


def _groups(chosen: Sequence[str], stages: Sequence[str]) -> Groups:
    """Yield the groups of a lane's own stages; `stages` are those of the whole run."""
    for stage in chosen:
        if stage == "check":
            yield from _check()
        elif stage == "integration":
            yield from integration(*stages)
        elif stage == "system":
            yield from _one_by_one(_system_steps())
        elif stage == "attacks":
            yield from _attacks()
        else:
            yield from _one_by_one(_soak_steps())


def _check() -> Groups:
    with _in_memory() as folder:
        yield check_steps(folder)


def check_steps(folder: Path | None = None) -> list[Step]:
    """The steps of `make check`, the longest first; `folder` is where the unit tests may write."""
    python = sys.executable
    shell = _with_shebang("sh") + _with_shebang("bash")
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


def integration(*stages: str) -> Groups:
    """Yield the steps of `make integration`, in a run of these stages."""
    # A file stays in one process; tests/integration/conftest.py has the longest begin first.
    beside = ("-n", "3", "--dist", "loadfile", "--no-loadscope-reorder")
    # Chromium drops what is under way when an interface of the machine comes or goes: the bed comes first.
    yield [
        _pytest("integration", *beside, "tests/integration"),
        _pytest("pages", "tests/browser", after=INSTALL if "system" in stages else ""),
    ]


def _attacks() -> Groups:
    """Run what tests/attacks.py names; what brings the bed up is a step of its own."""
    beside = ("-n", "2", "--dist", "loadfile")
    yield [_pytest(f"attacks: {tier}", *beside, *_modules(tier)) for tier in ("unit", "integration")]
    yield [_pytest("(the bed)", "tests/system/test_1_install.py", "-k", "second_run")]
    yield [_pytest("attacks: system", *_modules("system"))]


def _modules(tier: str) -> list[str]:
    return [f"tests/{name}.py" for name in sorted(MODULES) if name.startswith(f"{tier}/")]


def _one_by_one(steps: Iterator[Step]) -> Groups:
    for step in steps:
        yield [step]


@contextlib.contextmanager
def _in_memory() -> Iterator[Path | None]:
    """Give a folder in memory for as long as the block lasts, or None where there is none with room."""
    can = MEMORY.is_mount() and not os.statvfs(MEMORY).f_flag & os.ST_NOEXEC
    if not can or shutil.disk_usage(MEMORY).free < MEMORY_BYTES:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="sluice-", dir=MEMORY, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _pytest(name: str, *paths: str, env: Mapping[str, str] | None = None, after: str = "") -> Step:
    return Step(name, (sys.executable, "-m", "pytest", "-q", *paths), dict(env or {}), after=after)


def _system_steps() -> Iterator[Step]:
    """Yield the tier's steps; the browser's environment is there once the first has installed the bed."""
    tests = sorted(path.name for path in (ROOT / "tests/system").glob("test_*.py"))
    early = [f"tests/system/{name}" for name in tests if name < "test_3"]
    late = [f"tests/system/{name}" for name in tests if name >= "test_3"]
    yield _pytest(INSTALL, *early)
    values = Deployment(Bed(BED_NAME, BED_SUBNET, BED_STATE), silent).read_env()
    yield _pytest("system: browser", "tests/browser/test_site.py", env=values)
    yield _pytest("system: breaking it", *late)


def _soak_steps() -> Iterator[Step]:
    yield _pytest("system: long trials", "tests/system/soak_scheduler.py")
    longer = ("test_4_rotation.py", "test_7_scheduler.py", "test_8_all_at_once.py")
    chosen = ("-k", "interrupted or wall_times or neighbour or sleeping_model or goes_dark")
    yield _pytest(
        "system: for longer",
        *(f"tests/system/{name}" for name in longer),
        *chosen,
        env={"SLUICE_TRIALS": "soak"},
    )
    yield _pytest("system: Slurm 24.11", "tests/system/soak_slurm_24_11.py")


def _can_carry_a_bed() -> bool:
    needs = preflight.Needs()
    found = preflight.failures(BED_NAME, BED_STATE, Bed(BED_NAME, BED_SUBNET, BED_STATE).cache, needs)
    for failure in found:
        print(f"tests: {failure}", file=sys.stderr)
    return not found


def _bed_down() -> None:
    try:
        Bed(BED_NAME, BED_SUBNET, BED_STATE).down()
    except BedError as error:
        print(f"tests: {error}", file=sys.stderr)


def _with_shebang(shell: str) -> list[str]:
    found = []
    for name in tracked():
        path = ROOT / name
        if path.is_file() and path.suffix != ".j2":
            with path.open("rb") as stream:
                first = stream.readline(80)
            if first.startswith(b"#!") and first.rstrip().endswith(
                (f"/{shell}".encode(), f" {shell}".encode())
            ):
                found.append(name)
    return found


def _summary(timings: list[Timing], seconds: float) -> int:
    print("\nSTAGE               SECONDS  RESULT")
    for timing in timings:
        print(f"{timing.name:<20}{timing.seconds:7.0f}  {timing.result.value}")
    print(f"{'all':<20}{seconds:7.0f}")
    passed, failed, ended = (sum(one.result is result for one in timings) for result in Result)
    print(f"stages: {passed} passed, {failed} failed" + (f", {ended} ended early" if ended else ""))
    return 1 if failed or ended or not timings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
