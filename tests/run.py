"""Runs the tests by stage and prints the time of each: `python3 -m tests.run check integration system`.

`check` runs all its steps whatever fails; a stage that fails ends the run. The test bed goes down at the
end, also after an interruption; what a killed run left is cleared by the next.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from demo.bed import preflight
from demo.bed.bed import Bed
from demo.bed.errors import BedError
from demo.bed.progress import silent
from demo.deployment import Deployment

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
BED_NAME = "test"
BED_SUBNET = "10.78.0"
BED_STATE = ROOT / "build" / "test-bed"
STEP_SECONDS = 3000.0


@dataclass(frozen=True)
class Step:
    """One command of a stage, and what it gets beside this process's environment."""

    name: str
    argv: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Timing:
    """How one step went."""

    name: str
    seconds: float
    passed: bool


class Interrupted(BaseException):
    """The run was asked to end."""


def main(stages: list[str]) -> int:
    """Run the stages in order; return 0 when all passed."""
    known: dict[str, Callable[[], list[Timing]]] = {
        "check": _check,
        "integration": _integration,
        "system": lambda: _on_a_bed(_system_steps),
        "soak": lambda: _on_a_bed(_soak_steps),
    }
    for unknown in set(stages) - set(known):
        print(f"tests: there is no stage {unknown}; choose from {', '.join(known)}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGHUP, _interrupt)
    timings: list[Timing] = []
    try:
        for stage in stages:
            timings += known[stage]()
            if not all(timing.passed for timing in timings):
                break
    except (Interrupted, KeyboardInterrupt):
        print("tests: interrupted", file=sys.stderr)
        timings.append(Timing("interrupted", 0.0, False))
    return _summary(timings)


def _check() -> list[Timing]:
    return [_run(step) for step in check_steps()]


def check_steps() -> list[Step]:
    """The steps of `make check`."""
    python = sys.executable
    shell = _tracked_with_shebang("sh") + _tracked_with_shebang("bash")
    return [
        Step("ruff", (str(BIN / "ruff"), "check", ".")),
        Step("ruff format", (str(BIN / "ruff"), "format", "--check", "--quiet", ".")),
        Step("mypy", (str(BIN / "mypy"),)),
        Step("shellcheck", (str(BIN / "shellcheck"), *shell)),
        Step("yamllint", (str(BIN / "yamllint"), "--strict", ".")),
        Step("ansible-lint", (str(BIN / "ansible-lint"), "--offline", "--profile", "production", "-q")),
        # They wait more than they work; a file stays in one process, so that its fixtures are made once.
        Step("unit tests", (python, "-m", "pytest", "-q", "-n", "3", "--dist", "loadfile")),
    ]


def _integration() -> list[Timing]:
    return [_run(_pytest("integration", "tests/integration")), _run(_pytest("pages", "tests/browser"))]


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
    yield _pytest("system: Slurm 24.11", "tests/system/soak_slurm_24_11.py")


def _bed_down() -> None:
    try:
        Bed(BED_NAME, BED_SUBNET, BED_STATE).down()
    except BedError as error:
        print(f"tests: {error}", file=sys.stderr)


def _run(step: Step) -> Timing:
    print(f"\n=== {step.name}", flush=True)
    started = time.monotonic()
    process = subprocess.Popen(
        step.argv, cwd=ROOT, env=_environment(step.environment), stdin=subprocess.DEVNULL
    )
    try:
        status = process.wait(STEP_SECONDS)
    except subprocess.TimeoutExpired:
        print(f"tests: {step.name} had not ended after {STEP_SECONDS:.0f} s", file=sys.stderr)
        status = 1
    finally:
        _end(process)
    return Timing(step.name, time.monotonic() - started, status == 0)


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
    return {**os.environ, **own, **further}


def _tracked_with_shebang(shell: str) -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = []
    for name in listed.stdout.splitlines():
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


def _summary(timings: list[Timing]) -> int:
    print("\nSTAGE               SECONDS  RESULT")
    for timing in timings:
        print(f"{timing.name:<20}{timing.seconds:7.0f}  {'passed' if timing.passed else 'FAILED'}")
    print(f"{'all':<20}{sum(timing.seconds for timing in timings):7.0f}")
    failed = sum(not timing.passed for timing in timings)
    print(f"stages: {len(timings) - failed} passed, {failed} failed")
    return 1 if failed or not timings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
