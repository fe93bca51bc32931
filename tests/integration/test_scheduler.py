"""The scheduler as a process, as cron starts it, over a fake Slurm whose jobs run real fronts."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable

import pytest

from sluice.contracts.files import read_json, write_json
from sluice.contracts.routing import RoutedInstance, RoutingTable
from sluice.scheduler.outside.front_client import Unanswered, ask
from tests.fakes.slurm.slurm import Cluster
from tests.integration.jobs import ENTRY, MODEL, scheduler_files
from tests.integration.login import PYTHON, ROOT

pytestmark = pytest.mark.integration

# However the tests end, a job ends by itself.
SCRIPT = """\
#!/bin/bash
set -eu
private=$(mktemp -d {root}/nodes/XXXXXX)
cd {tree}
timeout --foreground -k 1 200 {python} -m tests.fakes.engine --socket "$private/e.sock" --tokens 4 {engine} &
timeout --foreground -k 1 200 "$SLUICE_PYTHON" -I -S "$SLUICE_ZIPAPP" front \\
  --engine-socket "$private/e.sock" --private-dir "$private" --trial-after 1 &
wait -n
"""


@dataclass
class Site:
    """A login node's files below `root`, a fake Slurm, and the scheduler's processes."""

    root: Path
    zipapp: Path
    slurm: Cluster
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def sluice(self, *words: str) -> list[str]:
        """Return the argv of a command, in a process that ends with this one."""
        argv = ["setpriv", "--pdeathsig", "KILL", PYTHON, "-I", "-S", str(self.zipapp), words[0]]
        return [*argv, "--config", str(self.root / "scheduler.json"), *words[1:]]

    def say(self, *words: str, timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, with Slurm's settings set to mislead it."""
        evil = {
            "SQUEUE_FORMAT": "%i",
            "SLURM_CONF": "/nowhere",
            "SBATCH_EXPORT": "ALL",
            "LC_ALL": "ja_JP.UTF-8",
        }
        return subprocess.run(
            self.sluice(*words), capture_output=True, text=True, timeout=timeout, env={**os.environ, **evil}
        )

    def start(self) -> subprocess.Popen[bytes]:
        """Start a scheduler as cron does."""
        process = subprocess.Popen(
            self.sluice("scheduler"), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        self.processes.append(process)
        return process

    def apply(self, engine: str = "", **changes: Any) -> None:
        """Register the model by the command line; `engine`: further arguments of its engine."""
        write_json(self.root / "entry.json", {**ENTRY, **changes})
        script = SCRIPT.format(root=self.root, tree=ROOT, python=sys.executable, engine=engine)
        (self.root / "script").write_text(script)
        files = ["--entry", str(self.root / "entry.json"), "--script", str(self.root / "script")]
        applied = self.say("models", "apply", *files, "--json")
        assert json.loads(applied.stdout)["changed"], applied.stderr

    def wait(self, seconds: float = 60.0) -> None:
        """Wait by the command line until the model's present entry is served."""
        waited = self.say("models", "wait", MODEL, "--timeout", str(seconds), timeout=seconds + 30)
        assert waited.returncode == 0, waited.stderr

    def demand(self, waiting: int) -> None:
        """Report demand as a relay does, as of now."""
        model = {"running": 0, "waiting": waiting, "last": time.time()}
        document = {"version": 1, "relay": "0" * 16, "written": time.time(), "models": {MODEL: model}}
        write_json(self.root / "demand" / "a.json", document, mode=0o640)

    def routed(self) -> dict[str, str]:
        """Return the routed instances with their states."""
        try:
            table = RoutingTable.parse(read_json(self.root / "routing.json"))
        except FileNotFoundError:
            return {}
        model = table.models.get(MODEL)
        return {} if model is None else {one.id: one.state for one in model.instances}

    def ask(self, word: str) -> bool:
        """Ask each routed instance, for a second; return whether all answered."""
        table = RoutingTable.parse(read_json(self.root / "routing.json"))
        found = [_answers(one, word) for one in table.models[MODEL].instances]
        return bool(found) and all(found)

    def shown(self) -> dict[str, Any]:
        """Return what an administrator is shown of the model."""
        found: dict[str, Any] = json.loads(self.say("status", "--json").stdout)["models"][MODEL]
        return found

    def ready(self) -> list[str]:
        """Return the instances that take requests."""
        return [name for name, state in self.routed().items() if state == "ready"]

    def figure(self, name: str) -> float:
        """Return one of the scheduler's figures."""
        samples = json.loads((self.root / "figures.json").read_text())["samples"]
        return float(next(one["value"] for one in samples if one["name"] == name))


def _answers(instance: RoutedInstance, word: str) -> bool:
    body = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": word}]}).encode()
    try:
        return ask(instance, "POST", "/v1/chat/completions", body, 1.0).status == 200
    except Unanswered:
        return False


def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait until the condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(0.05)


@contextlib.contextmanager
def running_site(zipapp: Path) -> Iterator[Site]:
    """Lay out a site; end all its processes afterwards."""
    # Short: a unix socket's path has at most 107 bytes.
    root = Path(tempfile.mkdtemp(prefix="sluice-sched-"))
    for name in ("models.d", "jobs", "demand", "nodes"):
        (root / name).mkdir(mode=0o700)
    slurm = Cluster(root / "slurm").install(run=True)
    settings = {
        **scheduler_files(root),
        "zipapp": str(zipapp),
        "ports": "22000-22999",
        "slurm_bin": str(slurm.bin),
        "command_timeout": 4.0,
        "tick_interval": 1.0,
        "busy_interval": 0.2,
        "run_for": 100.0,
        "retry_backoff": 0.5,
        "drain_timeout": 5.0,
    }
    write_json(root / "scheduler.json", settings)
    made = Site(root, zipapp, slurm)
    try:
        yield made
    finally:
        for process in made.processes:
            process.kill()
            process.wait()
        slurm.stop()
        shutil.rmtree(root, ignore_errors=True)


@pytest.fixture
def site(zipapp: Path) -> Iterator[Site]:
    """Give a site with one model registered; no scheduler runs yet."""
    with running_site(zipapp) as made:
        made.apply()
        yield made


def test_a_model_comes_up_is_replaced_and_removed(site: Site) -> None:
    site.start()
    site.wait()
    (first,) = site.ready()
    site.slurm.end(site.slurm.alive()[0]["id"], "CANCELLED")
    until(lambda: site.ready() not in ([], [first]))
    assert len(site.slurm.alive()) == 1
    assert site.say("models", "remove", MODEL).returncode == 0
    until(lambda: set(site.routed().values()) == {"draining"})
    until(lambda: not site.slurm.alive() and not site.routed())


def test_a_sleeping_model_wakes_on_demand_and_sleeps_again(site: Site) -> None:
    site.apply(min=0)
    site.start()
    site.wait()
    assert site.slurm.jobs() == []
    site.demand(waiting=1)
    until(site.ready)
    site.demand(waiting=0)
    until(lambda: not site.slurm.alive())
    assert len(site.slurm.jobs()) == 1


def test_kill_9_at_random_moments_leaves_no_duplicate_and_no_orphan(site: Site) -> None:
    chance = random.Random(20)
    for number in range(14):
        process = site.start()
        time.sleep(chance.uniform(0.15, 0.9))
        process.kill()
        process.wait()
        assert len(site.slurm.alive()) <= 2
        if number in (4, 9):
            for job in site.slurm.alive():
                site.slurm.end(job["id"], "CANCELLED")
    site.start()
    site.wait()
    until(lambda: len(site.slurm.alive()) == 1)
    (instance,) = site.ready()
    assert site.slurm.alive()[0]["name"] == f"sluice:{instance}"


def test_sbatch_that_never_answers_does_not_bring_a_second_job(site: Site) -> None:
    site.slurm.fault("sbatch", "accept-hang", 1)
    site.start()
    site.wait()
    assert len(site.slurm.jobs()) == 1
    assert site.slurm.calls("sbatch") == 1


def test_sbatch_that_fails_is_tried_again_after_a_doubt(site: Site) -> None:
    site.slurm.fault("sbatch", "fail", 1)
    site.start()
    site.wait()
    assert len(site.slurm.jobs()) == 1
    assert site.slurm.calls("sbatch") == 2


@pytest.mark.parametrize("kind", ["hang", "fail", "garbage", "empty"])
def test_a_queue_that_cannot_be_told_changes_nothing(site: Site, kind: str) -> None:
    site.start()
    site.wait()
    before = site.ready()
    site.slurm.fault("squeue", kind)
    calls = site.slurm.calls("squeue")
    until(lambda: site.slurm.calls("squeue") >= calls + 3)
    assert site.ready() == before
    site.slurm.heal()
    until(lambda: json.loads((site.root / "state.json").read_text())["queue_failing"] == 0)
    site.demand(waiting=0)
    assert site.ready() == before
    assert len(site.slurm.jobs()) == 1
    assert (site.figure("sluice_scheduler_squeue_failures_total") > 0) == (kind != "empty")


def test_a_job_slurm_forgot_is_kept_while_its_front_answers(site: Site) -> None:
    site.start()
    site.wait()
    (first,) = site.ready()
    (job,) = site.slurm.alive()
    group = int((site.slurm.state / f"group.{job['id']}").read_text())
    site.slurm.lose(job["id"])
    try:
        calls = site.slurm.calls("scontrol")
        until(lambda: site.slurm.calls("scontrol") >= calls + 3)
        assert site.ready() == [first]
        assert site.slurm.jobs() == []
    finally:
        os.killpg(group, signal.SIGKILL)
    until(lambda: site.ready() not in ([], [first]))
    assert len(site.slurm.alive()) == 1


def test_two_schedulers_share_one_lock_and_the_second_takes_over(site: Site) -> None:
    first = site.start()
    site.wait()
    second = site.start()
    once = site.say("scheduler", "--once")
    assert once.returncode == 1
    assert "lock" in once.stderr
    (instance,) = site.ready()
    first.kill()
    first.wait()
    written = read_written(site)
    until(lambda: read_written(site) > written + 0.5)
    assert second.poll() is None
    assert site.ready() == [instance]
    assert len(site.slurm.jobs()) == 1


def read_written(site: Site) -> float:
    """Return when the routing table was last written."""
    return RoutingTable.parse(read_json(site.root / "routing.json")).written


def test_a_scheduler_told_to_stop_ends_in_order(site: Site) -> None:
    process = site.start()
    site.wait()
    process.terminate()
    assert process.wait(10) == 0
    assert len(site.slurm.alive()) == 1


def test_a_lost_state_is_rebuilt_by_adopting_the_running_job(site: Site) -> None:
    process = site.start()
    site.wait()
    (instance,) = site.ready()
    process.kill()
    process.wait()
    (site.root / "state.json").write_text("{")
    site.start()
    until(lambda: list(site.root.glob("state.json.damaged-*")))
    site.wait()
    assert site.ready() == [instance]
    assert len(site.slurm.jobs()) == 1


def test_a_new_entry_is_served_without_a_gap(site: Site) -> None:
    site.start()
    site.wait()
    (old,) = site.ready()
    site.apply(context_length=77)
    gaps = []
    deadline = time.monotonic() + 30
    while site.ready() in ([old], []) and time.monotonic() < deadline:
        gaps.append(not site.ready())
        time.sleep(0.02)
    assert not any(gaps)
    site.wait()
    until(lambda: len(site.slurm.alive()) == 1)
    assert old not in site.routed()


def test_misleading_settings_of_the_caller_reach_neither_slurm_nor_the_job(site: Site) -> None:
    # An entry counts once its files are a second old.
    time.sleep(1.1)
    assert site.say("scheduler", "--once").returncode == 0
    (job,) = site.slurm.jobs()
    # sbatch's own small environment, what the fake's shell adds to it, and what the job is told.
    slurms = {"HOME", "LC_ALL", "PATH", "PWD", "SHLVL", "TZ", "_"}
    assert set(job["environment"]) - slurms == {
        "SLUICE_INSTANCE",
        "SLUICE_MODEL",
        "SLUICE_NONCE",
        "SLUICE_JOB_DIR",
        "SLUICE_ZIPAPP",
        "SLUICE_PYTHON",
        "SLUICE_PORTS",
        "SLUICE_CONCURRENCY",
        "SLUICE_MAX_BODY",
    }
    assert site.figure("sluice_scheduler_squeue_failures_total") == 0


def test_an_engine_that_answers_health_alone_is_ended_and_replaced(site: Site) -> None:
    site.apply("--fault hang", stall_timeout=2)
    site.start()
    site.wait()
    (first,) = site.ready()
    assert not site.ask("hello")
    until(lambda: site.ready() not in ([], [first]))
    until(lambda: len(site.slurm.alive()) == 1)
    shown = site.shown()
    assert (shown["stalls"], shown["failures"]) == (1, 1)
    assert "no output of its engine for" in shown["problem"]
    assert site.figure("sluice_scheduler_model_stalls") == 1


def test_one_users_request_that_never_ends_gets_no_instance_ended(site: Site) -> None:
    site.apply("--fault hang --only poison", stall_timeout=2)
    site.start()
    site.wait()
    before = site.ready()
    deadline = time.monotonic() + 6
    while time.monotonic() < deadline:
        assert not site.ask("poison")
    assert site.ask("hello")
    assert site.ready() == before
    assert (site.shown()["stalls"], len(site.slurm.jobs())) == (0, 1)
