"""What runs beside each other in a run of the tests: order, failures, interruptions, and what is printed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from demo.deployment import Deployment
from tests import lanes, run
from tests.lanes import ROOT, Groups, Lane, Result, Step, Timing

# Waits for a file; a test whose steps do not run beside each other fails by the runner's own bound.
WAIT = 'while [ ! -e "$0" ]; do sleep 0.02; done'


def step(name: str, script: str, *arguments: str | Path, after: str = "") -> Step:
    """Return a step that runs a shell script; $0 and so on are the arguments."""
    return Step(name, ("sh", "-c", script, *map(str, arguments)), after=after)


def groups(*given: Sequence[Step]) -> Groups:
    """Yield these groups."""
    yield from given


def results(timings: list[Timing]) -> dict[str, str]:
    """Return how each step went."""
    return {one.name: one.result.value for one in timings}


def never() -> bool:
    return False


@pytest.fixture(autouse=True)
def bounded(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have a step that hangs end as one that takes too long, and steps take a SIGINT, as the runner's do.

    What a shell starts behind its back ignores it, and so do the processes that it starts.
    """
    monkeypatch.setattr(lanes, "STEP_SECONDS", 60.0)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_group_begins_when_the_one_before_has_passed(tmp_path: Path) -> None:
    note = tmp_path / "note"
    late = [step("b", 'sleep 0.2; echo b >>"$0"', note), step("a", 'echo a >>"$0"', note)]
    lane = Lane(groups(late, [step("c", 'echo c >>"$0"', note)]), at_once=2)
    timings = lanes.run([lane], never)
    assert note.read_text() == "a\nb\nc\n"
    assert [(one.name, one.result) for one in timings] == [(name, Result.PASSED) for name in "abc"]


def test_no_more_steps_run_at_a_time_than_may(tmp_path: Path) -> None:
    script = 'mkdir "$0" && sleep 0.1 && rmdir "$0"'
    lane = Lane(groups([step(name, script, tmp_path / "only-one") for name in "abc"]), at_once=1)
    assert set(results(lanes.run([lane], never)).values()) == {"passed"}


def test_lanes_run_beside_each_other(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    script = f'touch "$1"; {WAIT}'
    one, other = step("one", script, here, there), step("other", script, there, here)
    timings = lanes.run([Lane(groups([one])), Lane(groups([other]))], never)
    assert results(timings) == {"one": "passed", "other": "passed"}


def test_a_step_begins_behind_that_of_another_lane_and_those_beside_it_do_not_wait(tmp_path: Path) -> None:
    early, hosts = tmp_path / "early", tmp_path / "hosts"
    first = [step("pages", 'test -e "$0"', hosts, after="install"), step("early", 'touch "$0"', early)]
    other = [step("install", f'{WAIT}; sleep 0.1; touch "$1"', early, hosts)]
    timings = lanes.run([Lane(groups(first), at_once=2), Lane(groups(other))], never)
    assert results(timings) == {"early": "passed", "install": "passed", "pages": "passed"}


def test_all_steps_of_a_group_say_what_they_find_and_no_group_follows_a_failure(tmp_path: Path) -> None:
    note = tmp_path / "note"
    group = [step("fails", "exit 3"), step("finds", 'sleep 0.1; echo found >"$0"', note)]
    timings = lanes.run([Lane(groups(group, [step("next", "true")]))], never)
    assert results(timings) == {"fails": "FAILED", "finds": "passed"}
    assert note.read_text() == "found\n"


# Says that it runs, and when it is asked to end says that, with what it had begun still there.
ENDS = 'trap \'echo ended >"$1"; exit 0\' INT; sleep 600 & echo $! >"$0"; while :; do sleep 0.02; done'


def test_a_failure_in_one_lane_ends_the_other_with_all_that_it_has_begun(tmp_path: Path) -> None:
    begun, note = tmp_path / "begun", tmp_path / "note"
    given_back: list[str] = []

    def bed() -> Groups:
        try:
            yield [step("bed", ENDS, begun, note)]
            yield [step("never", "true")]
        finally:
            given_back.append(note.read_text())

    other = Lane(groups([step("fails", 'while [ ! -s "$0" ]; do sleep 0.02; done; exit 1', begun)]))
    timings = lanes.run([other, Lane(bed())], never)
    assert results(timings) == {"fails": "FAILED", "bed": "ended early"}
    assert given_back == ["ended\n"]
    wait_for(lambda: gone(int(begun.read_text())))


def test_a_step_that_does_not_end_when_it_is_asked_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(lanes, "PATIENCE", 0.2)
    monkeypatch.setattr(lanes, "STEP_SECONDS", 0.5)
    pid = tmp_path / "pid"
    deaf = step("deaf", 'trap "" INT; echo $$ >"$0"; echo it said so; while :; do sleep 0.02; done', pid)
    assert results(lanes.run([Lane(groups([deaf]))], never)) == {"deaf": "FAILED"}
    told = capfd.readouterr()
    assert "it said so" in told.out
    assert "deaf had not ended by itself" in told.err
    wait_for(lambda: gone(int(pid.read_text())))


def test_who_asks_for_the_end_gets_it_and_what_was_said_until_then(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    begun, note = tmp_path / "begun", tmp_path / "note"
    steps = [step("long", f"echo so far; {ENDS}", begun, note), step("next", "true")]
    timings = lanes.run([Lane(groups(steps))], begun.exists)
    assert results(timings) == {"long": "ended early", "interrupted": "FAILED"}
    assert "=== long: ended early" in (told := capfd.readouterr().out)
    assert "so far" in told


RUNNER = """
import sys
from tests import run
from tests.lanes import Lane, Step

def made(stages):
    def groups():
        yield [Step("long", ("sh", "-c", *sys.argv[1:]))]
    return [Lane(groups())]

run.lanes = made
sys.exit(run.main(["check"]))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_run_and_its_steps(tmp_path: Path, number: int) -> None:
    begun, note = tmp_path / "begun", tmp_path / "note"
    argv = [sys.executable, "-c", RUNNER, ENDS, str(begun), str(note)]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, cwd=ROOT, stdout=pipe, stderr=pipe, text=True) as process:
        wait_for(lambda: begun.exists() and begun.read_text())
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 1, err
    assert note.read_text() == "ended\n"
    assert "stages: 0 passed, 1 failed, 1 ended early" in out
    assert "tests: interrupted" in err


def test_what_a_step_says_is_printed_whole_when_it_ends(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    mark = tmp_path / "mark"
    slow = step("slow one", f"echo one; {WAIT}; echo two >&2", mark)
    quick, behind = step("quick one", "echo three"), step("z", 'touch "$0"', mark, after="quick one")
    lanes.run([Lane(groups([slow])), Lane(groups([quick])), Lane(groups([behind]))], never)
    lines = [line for line in capfd.readouterr().out.splitlines() if line]
    assert lines[:2] == ["--- slow one begins", "--- quick one begins"]
    ends = [number for number, line in enumerate(lines) if line.startswith("=== ")]
    assert [lines[ends[0]].split(":")[0], lines[ends[0] + 1]] == ["=== quick one", "three"]
    (end,) = [number for number in ends if lines[number].startswith("=== slow one:")]
    assert lines[end + 1 : end + 3] == ["one", "two"]


def test_until_then_it_stands_in_a_file(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    one = step(f"said so far {os.getpid()}", f"echo so far; {WAIT}", mark)

    def read_it() -> bool:
        if one.said.exists() and one.said.read_text() == "so far\n":
            mark.touch()
        return False

    assert set(results(lanes.run([Lane(groups([one]))], read_it)).values()) == {"passed"}
    assert not one.said.exists()


def test_of_a_live_lane_only_what_runs_side_by_side_is_printed_at_its_end(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pair = [step("a", "echo of a"), step("b", "echo of b")]
    lanes.run([Lane(groups([step("alone", "echo of it")], pair), at_once=2, live=True)], never)
    told = capfd.readouterr().out
    assert told.index("of it") < told.index("=== alone")
    assert told.index("=== a") < told.index("of a")


def test_a_step_that_gives_way_is_nicer_than_its_runner(capfd: pytest.CaptureFixture[str]) -> None:
    lanes.run([Lane(groups([step("nice", "sleep 0.1; sh -c nice")]), niceness=3)], never)
    assert os.nice(0) + 3 == int(capfd.readouterr().out.split()[-1])


def test_what_has_passed_on_these_files_is_not_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "ROOT", tmp_path)
    monkeypatch.setattr(lanes, "tracked", lambda *names: list(names))
    (tmp_path / "input").write_text("1")
    one = Step("cached", ("sh", "-c", "true"), inputs=("input",))
    assert results(lanes.run([Lane(groups([one]))], never)) == {"cached": "passed"}
    assert lanes.run([Lane(groups([one]))], never) == []
    (tmp_path / "input").write_text("2")
    assert results(lanes.run([Lane(groups([one]))], never)) == {"cached": "passed"}


@pytest.mark.parametrize(
    ("stages", "made"),
    [
        (["check"], [(0, False)]),
        (["system"], [(0, True)]),
        (["check", "integration", "system"], [(run.NICENESS, False), (0, False)]),
        (["attacks"], [(0, True)]),
    ],
)
def test_a_bed_has_a_lane_of_its_own_and_the_processor_first(
    stages: list[str], made: list[tuple[int, bool]]
) -> None:
    assert [(lane.niceness, lane.live) for lane in run.lanes(stages)] == made


def test_pages_wait_for_the_bed_only_where_one_comes_up() -> None:
    assert [one.after for one in next(run.integration("system"))] == ["", run.INSTALL]
    assert [one.after for one in next(run.integration("check"))] == ["", ""]


@pytest.mark.parametrize("fails", ["", "integration", run.INSTALL])
def test_a_whole_run_has_the_bed_beside_the_others_and_takes_it_down_last(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], fails: str
) -> None:
    def tiny(name: str, *_paths: str, env: object = None, after: str = "") -> Step:
        return step(name, "exit 1" if name == fails else "true", after=after)

    monkeypatch.setattr(run, "check_steps", lambda _folder: [tiny("ruff"), tiny("mypy")])
    monkeypatch.setattr(run, "_pytest", tiny)
    monkeypatch.setattr(run, "_can_carry_a_bed", lambda: True)
    monkeypatch.setattr(run, "_bed_down", lambda: print("the bed goes down", flush=True))
    monkeypatch.setattr(Deployment, "read_env", lambda _self: {})
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        assert run.main(["check", "integration", "system"]) == bool(fails)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    said = capfd.readouterr().out
    begun = re.findall("^--- (.+) begins$", said, re.MULTILINE)
    assert begun[:3] == ["ruff", "mypy", run.INSTALL]
    assert said.count("the bed goes down") == 2
    assert said.index("the bed goes down") < said.index("---") < said.rindex("the bed goes down")
    if fails:
        assert f"=== {fails}: FAILED" in said and "1 failed" in said
    else:
        assert "stages: 7 passed, 0 failed\n" in said
        assert said.index(f"=== {run.INSTALL}") < said.index("--- pages")


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def gone(pid: int) -> bool:
    """Whether a process is over; one that nobody has waited for is."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
