"""The tick as a whole, over a Slurm in memory: what is published, and what a kill at any effect leaves."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Callable, Optional, Union

import pytest

from sluice.records import JobRecord, RoutingTable, read_json
from sluice.scheduler import orders
from sluice.scheduler import tick as tick_module
from sluice.scheduler.config import SchedulerConfig
from sluice.scheduler.instance import TERMINAL, QueueJob
from sluice.scheduler.jobs import JobDirectories
from sluice.scheduler.probe import Health
from sluice.scheduler.publishing import RoutingFile
from sluice.scheduler.slurm import Known, Slurm, Unknown
from sluice.scheduler.state import State, StateFile
from sluice.scheduler.submission import Submission, read_comment
from sluice.scheduler.tick import Scheduler

GOLDEN = Path(__file__).parents[2] / "golden" / "contracts"
CERTIFICATE = json.loads((GOLDEN / "job-record.json").read_text())["certificate"]
KEY = "k" * 43
START = 1_795_000_000.0


class Killed(BaseException):
    """Stands for a kill -9: nothing of the process runs after it."""


class MemorySlurm(Slurm):
    """Slurm as a dictionary; `broken` makes every command Unknown."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__("/nowhere", "", 1.0)
        self.jobs: dict[str, QueueJob] = {}
        self.options: dict[str, tuple[str, ...]] = {}
        self.environments: dict[str, dict[str, str]] = {}
        self.broken = False
        self.hidden = False
        self.accepts = True
        self.submissions = 0
        self._clock = clock

    def queue(self) -> Union[Known[tuple[QueueJob, ...]], Unknown]:
        if self.broken:
            return Unknown("broken")
        return Known(() if self.hidden else tuple(self.jobs.values()))

    def show(self, job_id: str) -> Union[Known[Optional[QueueJob]], Unknown]:
        return Unknown("broken") if self.broken else Known(self.jobs.get(job_id))

    def submit(self, submission: Submission) -> Union[Known[str], Unknown]:
        if self.broken:
            return Unknown("broken")
        self.submissions += 1
        job_id = str(self.submissions)
        self.jobs[job_id] = QueueJob(
            job_id,
            submission.name,
            "PENDING",
            digest=read_comment(submission.comment)[0],
            kind=read_comment(submission.comment)[1],
            submitted=self._clock(),
        )
        self.options[job_id] = submission.options
        self.environments[job_id] = dict(submission.environment)
        return Known(job_id) if self.accepts else Unknown("timed out")

    def cancel(self, job_id: str, name: str) -> Union[Known[None], Unknown]:
        if self.broken:
            return Unknown("broken")
        self.end(job_id, "CANCELLED")
        return Known(None)

    def end(self, job_id: str, state: str) -> None:
        """Let a job end."""
        if self.jobs[job_id].state not in TERMINAL:
            self.jobs[job_id] = replace(self.jobs[job_id], state=state)

    def alive(self) -> list[QueueJob]:
        """Return the jobs that have not ended."""
        return [job for job in self.jobs.values() if job.state not in TERMINAL]


@dataclass
class Site:
    """A login node with its scheduler: files below `root`, time that only moves when told."""

    root: Path
    now: float = START
    healthy: set[str] = field(default_factory=set)
    slurm: MemorySlurm = field(init=False)
    scheduler: Scheduler = field(init=False)

    def __post_init__(self) -> None:
        for name in ("models.d", "jobs", "demand"):
            (self.root / name).mkdir()
        self.slurm = MemorySlurm(lambda: self.now)
        self.start()

    @property
    def config(self) -> SchedulerConfig:
        """The site's configuration."""
        return SchedulerConfig(
            cluster="demo",
            models_dir=f"{self.root}/models.d",
            jobs_dir=f"{self.root}/jobs",
            state_file=f"{self.root}/state.json",
            lock_file=f"{self.root}/lock",
            routing_table=f"{self.root}/routing.json",
            demand_dir=f"{self.root}/demand",
            figures=f"{self.root}/figures.json",
            zipapp="/shared/sluice.pyz",
            python="/usr/bin/python3",
            max_instances=8,
            command_timeout=4.0,
        )

    def start(self) -> None:
        """Start a new scheduler process: all that it knows is what lies on the disk."""
        self.scheduler = Scheduler(
            config=self.config,
            slurm=self.slurm,
            states=StateFile(self.config.state_file),
            directories=JobDirectories(self.config.jobs_dir, self.config.port_range()),
            probe=lambda record, _: Health("" if record.instance in self.healthy else "refused"),
            clock=lambda: self.now,
        )
        self.scheduler.load()

    def tick(self, seconds: float = 2.0) -> None:
        """Let time pass, then tick."""
        self.now += seconds
        self.scheduler.tick()

    def apply(self, **changes: Any) -> None:
        """Put the entry of model `m` in place, as the playbook does, long enough ago to be settled."""
        entry = {**json.loads((GOLDEN / "model-entry.json").read_text()), "name": "m", **changes}
        (self.root / "models.d/m.sbatch").write_text("#!/bin/bash\ntrue\n")
        (self.root / "models.d/m.json").write_text(json.dumps(entry))

    def demand(self, running: int = 0, waiting: int = 0) -> None:
        """Report demand for model `m` as a relay does."""
        model = {"running": running, "waiting": waiting, "last": self.now}
        document = {"version": 1, "relay": "0" * 16, "written": self.now, "models": {"m": model}}
        (self.root / "demand/a.json").write_text(json.dumps(document))

    def run(self, job_id: str, port: int = 20001) -> None:
        """Let a job start and publish its record, as a healthy front does."""
        job = self.slurm.jobs[job_id]
        self.slurm.jobs[job_id] = replace(
            job, state="RUNNING", started=self.now, ends=self.now + 86_400, nodes=("c1",)
        )
        instance = job.name.split(":", 1)[1]
        self.publish(instance, job_id=job_id, port=port)
        self.healthy.add(instance)

    def publish(self, instance: str, **changes: Any) -> None:
        """Publish a job record."""
        fields = {"job_id": "1", "host": "c1", "port": 20001, **changes}
        nonce = instance.rsplit("-", 1)[1]
        record = JobRecord(
            instance, nonce, certificate=CERTIFICATE, key=KEY, started=self.now, **fields
        ).dump()
        (self.root / "jobs" / instance / "record.json").write_text(json.dumps(record))

    def up(self) -> str:
        """Bring the first instance to ready and return its id."""
        self.tick()
        (job,) = self.slurm.alive()
        self.run(job.job_id)
        self.tick()
        return job.name.split(":", 1)[1]

    def table(self) -> RoutingTable:
        """Return the published routing table."""
        return RoutingTable.parse(read_json(self.config.routing_table))

    def routed(self) -> dict[str, str]:
        """Return the routed instances of model `m` with their states."""
        return {one.id: one.state for one in self.table().models["m"].instances}


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """Give a site with one model that is always up; entries count as settled at once."""
    monkeypatch.setattr("sluice.scheduler.catalogue.UNSETTLED", 0.0)
    made = Site(tmp_path)
    made.apply(min=1, max=1)
    yield made


def test_an_instance_is_submitted_followed_and_routed(site: Site) -> None:
    instance = site.up()
    assert site.routed() == {instance: "ready"}
    model = site.table().models["m"]
    assert (model.status, model.starting, model.instances[0].key) == ("ready", 0, KEY)
    assert site.slurm.environments["1"] == {
        "SLUICE_INSTANCE": instance,
        "SLUICE_MODEL": "m",
        "SLUICE_NONCE": instance[-8:],
        "SLUICE_JOB_DIR": f"{site.root}/jobs/{instance}",
        "SLUICE_ZIPAPP": "/shared/sluice.pyz",
        "SLUICE_PYTHON": "/usr/bin/python3",
        "SLUICE_PORTS": "20000-20999",
        "SLUICE_CONCURRENCY": "16",
        "SLUICE_MAX_BODY": "8388608",
    }
    assert (site.root / "jobs" / instance).stat().st_mode & 0o777 == 0o700


def test_files_that_relays_read_are_theirs_to_read_and_the_state_is_not(site: Site) -> None:
    site.up()
    modes = {name: (site.root / name).stat().st_mode & 0o777 for name in ("routing.json", "figures.json")}
    assert modes == {"routing.json": 0o640, "figures.json": 0o640}
    assert (site.root / "state.json").stat().st_mode & 0o777 == 0o600


def test_the_generation_rises_with_changes_alone(site: Site) -> None:
    site.up()
    site.tick()
    first = site.table()
    site.tick()
    second = site.table()
    assert second.generation == first.generation
    assert second.written > first.written
    site.slurm.end("1", "FAILED")
    site.tick()
    assert site.table().generation > first.generation


def test_an_instance_that_ends_is_replaced_in_the_same_tick(site: Site) -> None:
    first = site.up()
    site.tick(600)
    site.slurm.end("1", "CANCELLED")
    site.tick()
    assert site.routed() == {}
    (job,) = site.slurm.alive()
    assert job.name != f"sluice:{first}"
    assert site.table().models["m"].status == "starting"


def test_an_outage_of_squeue_changes_nothing_while_fronts_answer(site: Site) -> None:
    instance = site.up()
    site.slurm.broken = True
    for _ in range(20):
        site.tick(600)
        assert site.routed() == {instance: "ready"}
    site.slurm.broken = False
    site.tick()
    assert site.slurm.submissions == 1
    numbers = {
        one["name"]: one["value"] for one in json.loads((site.root / "figures.json").read_text())["samples"]
    }
    assert numbers["sluice_scheduler_squeue_failures_total"] == 20


def test_a_front_that_misses_probes_is_unrouted_only_after_a_while(site: Site) -> None:
    instance = site.up()
    site.healthy.clear()
    for _ in range(4):
        site.tick(5)
        assert site.routed() == {instance: "ready"}
    site.tick(5)
    assert site.routed() == {}
    assert site.slurm.submissions == 2
    site.healthy.add(instance)
    site.tick(5)
    assert site.routed() == {instance: "ready"}
    site.tick(5)
    assert [job.job_id for job in site.slurm.alive()] == ["1"]


def test_a_model_without_instance_is_unknown_only_after_several_failed_answers(site: Site) -> None:
    site.apply(min=0)
    site.tick()
    site.slurm.broken = True
    statuses = []
    for _ in range(4):
        site.tick()
        statuses.append(site.table().models["m"].status)
    assert statuses == ["sleeping", "sleeping", "unknown", "unknown"]


def test_empty_answers_alone_end_nothing(site: Site) -> None:
    instance = site.up()
    site.slurm.hidden = True
    for _ in range(5):
        site.tick()
        assert site.routed() == {instance: "ready"}
    assert site.slurm.submissions == 1


def test_a_job_that_slurm_lost_is_replaced_once_its_front_is_silent_too(site: Site) -> None:
    instance = site.up()
    site.tick(300)
    del site.slurm.jobs["1"]
    for _ in range(4):
        site.tick()
        assert site.routed() == {instance: "ready"}
    site.healthy.clear()
    site.tick()
    assert site.slurm.submissions == 2


def test_a_requeued_jobs_old_record_is_dropped_at_once(site: Site) -> None:
    instance = site.up()
    old = (site.root / "jobs" / instance / "record.json").read_text()
    site.slurm.jobs["1"] = replace(site.slurm.jobs["1"], state="PENDING", started=None, nodes=())
    site.tick()
    assert site.routed() == {}
    assert not (site.root / "jobs" / instance / "record.json").exists()
    site.run("1", port=20002)
    # A file system that still shows the old run's record.
    (site.root / "jobs" / instance / "record.json").write_text(old)
    site.tick()
    assert site.routed() == {}
    site.publish(instance, port=20002)
    site.tick()
    assert site.table().models["m"].instances[0].port == 20002


def test_a_requeue_between_two_ticks_is_noticed_by_the_start_time(site: Site) -> None:
    instance = site.up()
    site.now += 50
    site.slurm.jobs["1"] = replace(site.slurm.jobs["1"], started=site.now)
    site.tick()
    assert site.routed() == {}
    site.publish(instance, port=20003)
    site.tick()
    assert site.table().models["m"].instances[0].port == 20003


@pytest.mark.parametrize(
    "lie",
    [
        {"job_id": "2"},
        {"host": "c9"},
        {"host": "login"},
        {"port": 22},
        {"port": 21000},
    ],
)
def test_trying_to_cheat_with_a_record(site: Site, lie: dict[str, Any]) -> None:
    site.tick()
    site.run("1")
    instance = site.slurm.jobs["1"].name.split(":", 1)[1]
    site.publish(instance, **lie)
    site.tick()
    assert site.routed() == {}


def test_a_damaged_state_is_set_aside_and_rebuilt_from_the_queue(site: Site) -> None:
    instance = site.up()
    (site.root / "state.json").write_text('{"version": 1, "instances": ')
    site.start()
    assert len(list(site.root.glob("state.json.damaged-*"))) == 1
    site.tick()
    assert site.routed() == {instance: "ready"}
    assert site.slurm.submissions == 1


def test_a_stranger_that_bears_our_prefix_is_neither_adopted_nor_cancelled(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    site.up()
    stranger = QueueJob("77", "sluice:m-deadbeef", "RUNNING", nodes=("c1",), started=site.now)
    site.slurm.jobs["77"] = stranger
    (site.root / "jobs/m-deadbeef").mkdir()
    site.publish("m-deadbeef", job_id="77")
    site.healthy.add("m-deadbeef")
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            site.tick()
    assert "m-deadbeef" not in site.routed()
    assert site.slurm.jobs["77"] == stranger
    assert len([one for one in caplog.records if "prefix" in one.message]) == 1


def test_a_job_that_comes_back_after_its_end_is_taken_back(site: Site) -> None:
    instance = site.up()
    site.slurm.end("1", "FAILED")
    site.tick()
    site.slurm.jobs["1"] = replace(site.slurm.jobs["1"], state="PENDING", started=None)
    site.tick()
    assert instance in site.scheduler.state.instances


def test_a_lost_answer_of_sbatch_does_not_bring_a_second_job(site: Site) -> None:
    site.slurm.accepts = False
    for _ in range(5):
        site.tick(20)
    assert site.slurm.submissions == 1
    assert [one.job_id for one in site.scheduler.state.instances.values()] == ["1"]


def test_a_refused_sbatch_is_found_out_and_tried_again_later(site: Site) -> None:
    original = site.slurm.submit
    site.slurm.submit = lambda _: Unknown("exit status 1: Invalid partition")  # type: ignore[method-assign]  # for a while
    site.tick()
    for _ in range(3):
        site.tick(3)
    assert site.scheduler.state.memory["m"].failures == 1
    assert "Invalid partition" in site.scheduler.state.memory["m"].message
    site.slurm.submit = original  # type: ignore[method-assign]  # for a while
    site.tick(20)
    assert len(site.slurm.alive()) == 1


def test_a_sleeping_model_wakes_serves_and_sleeps_again(site: Site) -> None:
    site.apply(min=0, max=1, idle_stop=60)
    site.tick()
    assert site.table().models["m"].status == "sleeping"
    assert not site.scheduler.asked()
    site.demand(waiting=1)
    assert site.scheduler.asked()
    instance = site.up()
    assert site.routed() == {instance: "ready"}
    site.demand()
    site.tick(59)
    assert site.routed() == {instance: "ready"}
    site.tick(2)
    assert site.routed() == {instance: "draining"}
    site.tick(11)
    assert site.slurm.alive() == []
    site.tick()
    assert site.table().models["m"].status == "sleeping"


def test_expected_readiness_is_the_measured_load_time_after_the_start(site: Site) -> None:
    site.tick()
    assert site.table().models["m"].expected_ready is None
    site.run("1")
    site.healthy.clear()
    site.tick(40)
    site.healthy.add(next(iter(site.scheduler.state.instances)))
    site.tick(0)
    site.tick(100)
    site.slurm.end("1", "FAILED")
    site.tick()
    assert site.table().models["m"].expected_ready == site.now + 40


def test_a_removed_model_stays_in_the_table_until_its_instance_is_gone(site: Site) -> None:
    instance = site.up()
    (site.root / "models.d/m.json").unlink()
    (site.root / "models.d/m.sbatch").unlink()
    site.tick()
    assert site.routed() == {instance: "draining"}
    site.tick(11)
    assert site.slurm.alive() == []
    site.tick()
    assert site.table().models == {}
    assert site.scheduler.state.memory == {}


def test_an_entry_that_becomes_unreadable_keeps_what_runs(site: Site) -> None:
    instance = site.up()
    (site.root / "models.d/m.json").write_text("{")
    for _ in range(3):
        site.tick(100)
    assert site.routed() == {instance: "ready"}


def test_models_that_cannot_be_listed_are_not_removed_models(site: Site) -> None:
    instance = site.up()
    (site.root / "models.d").rename(site.root / "elsewhere")
    site.tick()
    assert site.routed() == {instance: "ready"}


def test_a_half_written_pair_is_left_for_the_next_tick(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.up()
    monkeypatch.setattr("sluice.scheduler.catalogue.UNSETTLED", 1.0)
    changed = (site.root / "models.d/m.sbatch").stat().st_mtime
    site.now = changed + 0.5
    site.apply(min=1, max=1, context_length=77)
    site.scheduler.tick()
    assert site.slurm.submissions == 1


def test_a_changed_entry_brings_the_new_before_the_old_goes(site: Site) -> None:
    old = site.up()
    site.apply(min=1, max=1, context_length=77)
    site.tick()
    assert site.routed() == {old: "ready"}
    site.run("2", port=20002)
    site.tick()
    new = site.slurm.jobs["2"].name.split(":", 1)[1]
    assert site.routed() == {old: "draining", new: "ready"}
    site.tick(11)
    assert [job.job_id for job in site.slurm.alive()] == ["2"]


def test_a_full_file_system_counts_as_a_failed_start(site: Site) -> None:
    (site.root / "jobs").rmdir()
    site.tick()
    assert site.slurm.submissions == 0
    assert site.scheduler.state.memory["m"].failures == 1
    assert site.scheduler.state.instances == {}


def test_old_job_directories_are_cleaned_and_live_ones_are_not(site: Site) -> None:
    for name in ("m-0000000a", "m-0000000b", "not-ours"):
        (site.root / "jobs" / name).mkdir()
    import os

    for name in ("m-0000000a", "not-ours"):
        os.utime(site.root / "jobs" / name, (site.now - 90_000, site.now - 90_000))
    instance = site.up()
    left = {path.name for path in (site.root / "jobs").iterdir()}
    assert left == {"m-0000000b", "not-ours", instance}


def test_it_rests_when_nothing_is_under_way_and_backs_off_when_squeue_fails(site: Site) -> None:
    site.tick()
    assert site.scheduler.interval() == 2.0
    site.run("1")
    site.tick()
    site.tick()
    assert site.scheduler.interval() == 30.0
    site.slurm.broken = True
    waits = []
    for _ in range(6):
        site.tick()
        waits.append(site.scheduler.interval())
    assert waits == [4.0, 8.0, 16.0, 30.0, 30.0, 30.0]


# --- orders, rollouts that fail, and what takes effect without replacement --------------------------------


def order(site: Site, **changes: Any) -> None:
    """Give an order, as `sluice models` does."""
    orders.change(site.config.models_dir, "m", lambda found: replace(found, **changes))


def test_a_drained_model_stays_drained_over_restarts_until_it_is_resumed(site: Site) -> None:
    instance = site.up()
    site.demand(running=1)
    order(site, drained=site.now)
    site.tick()
    assert (site.routed(), site.table().models["m"].status) == ({instance: "draining"}, "drained")
    site.start()
    site.demand(waiting=5)
    site.tick(11)
    for _ in range(3):
        site.start()
        site.demand(waiting=5)
        site.tick(60)
        assert (site.slurm.alive(), site.slurm.submissions) == ([], 1)
    assert site.table().models["m"].status == "drained"
    assert not site.scheduler.asked() and site.scheduler.interval() == 30.0
    order(site, drained=None, resumed=site.now)
    assert site.scheduler.asked()
    site.tick()
    assert len(site.slurm.alive()) == 1 and site.table().models["m"].status == "starting"


def test_a_resumed_model_takes_its_draining_instance_back(site: Site) -> None:
    instance = site.up()
    site.demand(running=1)
    order(site, drained=site.now)
    site.tick()
    order(site, drained=None, resumed=site.now)
    site.tick()
    assert (site.routed(), site.slurm.submissions) == ({instance: "ready"}, 1)


def test_orders_that_cannot_be_read_hold_the_model_as_it_is(site: Site) -> None:
    instance = site.up()
    path = site.root / "models.d/m.orders"
    path.write_text('{"version": 1, "model": "m", "drained": ')
    site.tick()
    assert site.routed() == {instance: "ready"}
    site.slurm.end("1", "FAILED")
    site.tick(600)
    assert site.slurm.submissions == 1
    path.unlink()
    site.tick()
    assert site.slurm.submissions == 2


def test_orders_damaged_while_drained_do_not_wake_the_model(site: Site) -> None:
    order(site, drained=site.now)
    site.tick()
    (site.root / "models.d/m.orders").write_text("")
    site.demand(waiting=1)
    site.tick()
    assert (site.table().models["m"].status, site.slurm.submissions) == ("drained", 0)


def test_a_restart_brings_the_new_before_the_old_goes(site: Site) -> None:
    old = site.up()
    order(site, restart=site.now + 1)
    site.tick()
    assert site.routed() == {old: "ready"}
    site.run("2", port=20002)
    site.tick()
    assert list(site.routed().values()) == ["draining", "ready"]
    site.tick(11)
    for _ in range(5):
        site.tick(60)
    assert [job.job_id for job in site.slurm.alive()] == ["2"]


def test_what_no_job_depends_on_takes_effect_without_replacing_instances(site: Site) -> None:
    instance = site.up()
    site.apply(min=1, max=3, description="new words", groups=["staff"], concurrency=17, idle_stop=5)
    for _ in range(3):
        site.tick(60)
    model = site.table().models["m"]
    assert (site.routed(), site.slurm.submissions) == ({instance: "ready"}, 1)
    assert (model.description, model.groups, model.concurrency) == ("new words", ("staff",), 17)


def test_relays_are_told_no_more_than_an_instance_was_started_to_bear(site: Site) -> None:
    site.up()
    site.apply(min=1, max=1, concurrency=500)
    site.tick()
    assert site.table().models["m"].concurrency == 24
    site.apply(min=1, max=1, concurrency=4)
    site.tick()
    assert site.table().models["m"].concurrency == 4


def write_output(site: Site, job_id: str, text: str) -> None:
    """Let a job say something."""
    instance = site.slurm.jobs[job_id].name.split(":", 1)[1]
    (site.root / "jobs" / instance / "output").write_text(text)


def test_a_rollout_that_fails_keeps_the_old_and_tells_the_jobs_lines(site: Site) -> None:
    old = site.up()
    site.apply(min=1, max=1, context_length=77)
    for number in range(2, 7):
        site.tick(700)
        write_output(site, str(number), f"loading\n\x1b[31mno such file: weights {number}\n")
        site.slurm.end(str(number), "FAILED")
        site.tick()
        assert site.routed() == {old: "ready"}
    found = site.scheduler.state.failed_starts["m"]
    assert (found.job_id, found.lines) == ("6", ("loading", "?[31mno such file: weights 6"))
    submissions = site.slurm.submissions
    for _ in range(5):
        site.tick(100)
    assert site.slurm.submissions == submissions
    # The old definition again: its instance is current, and nothing is failed.
    site.apply(min=1, max=1)
    site.tick()
    assert site.scheduler.state.failed_starts == {}
    for _ in range(3):
        site.tick(60)
    assert (site.routed(), site.slurm.submissions) == ({old: "ready"}, submissions)


def test_lines_of_a_job_that_once_served_are_never_kept(site: Site) -> None:
    site.up()
    write_output(site, "1", "a prompt\n")
    site.slurm.jobs["1"] = replace(site.slurm.jobs["1"], state="PENDING", started=None, nodes=())
    site.tick()
    site.slurm.end("1", "FAILED")
    site.tick()
    assert site.scheduler.state.failed_starts["m"].lines == ()


def test_lines_are_bounded_and_links_are_not_followed(site: Site) -> None:
    site.tick()
    (instance,) = site.scheduler.state.instances.values()
    write_output(site, "1", "x" * 100_000 + "\n" + "y\n" * 1000)
    lines = site.scheduler.directories.first_lines(instance)
    assert lines == ("y",) * 20
    write_output(site, "1", "z" * 100_000)
    assert [len(line) for line in site.scheduler.directories.first_lines(instance)] == [300]
    output = site.root / "jobs" / instance.id / "output"
    output.unlink()
    output.symlink_to("/etc/passwd")
    assert site.scheduler.directories.first_lines(instance) == ()


# --- killed at every effect ------------------------------------------------------------------------------


class Bomb:
    """Kills before the n-th effect: state and routing writes, directories, sbatch, scancel.

    "After effect n" is the same as "before effect n + 1": nothing between two effects reaches the disk.
    """

    def __init__(self, number: int) -> None:
        self.left, self.went_off = number, False

    def around(self, effect: Callable[..., Any]) -> Callable[..., Any]:
        """Return `effect`, counted."""

        def counted(*arguments: Any, **named: Any) -> Any:
            self.left -= 1
            if self.left == 0:
                self.went_off = True
                raise Killed
            return effect(*arguments, **named)

        return counted

    def plant(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        """Wrap the effects of the site's present process."""
        scheduler = site.scheduler
        monkeypatch.setattr(scheduler.states, "save", self.around(scheduler.states.save))
        monkeypatch.setattr(scheduler.directories, "create", self.around(scheduler.directories.create))
        monkeypatch.setattr(site.slurm, "submit", self.around(MemorySlurm.submit.__get__(site.slurm)))
        monkeypatch.setattr(site.slurm, "cancel", self.around(MemorySlurm.cancel.__get__(site.slurm)))
        monkeypatch.setattr(tick_module, "publish", self.around(PUBLISH))
        monkeypatch.setattr(RoutingFile, "write", self.around(WRITE))


PUBLISH, WRITE = tick_module.publish, RoutingFile.write


def live_through(site: Site, bomb: Bomb, monkeypatch: pytest.MonkeyPatch) -> None:
    """Start, serve, roll to a new digest; when killed, a new process goes on."""
    bomb.plant(site, monkeypatch)
    for step in range(17):
        if step == 6:
            site.apply(min=1, max=1, context_length=77)
        try:
            site.tick(6)
        except Killed:
            with monkeypatch.context():
                monkeypatch.setattr(tick_module, "publish", PUBLISH)
                monkeypatch.setattr(RoutingFile, "write", WRITE)
                monkeypatch.setattr(site.slurm, "submit", MemorySlurm.submit.__get__(site.slurm))
                monkeypatch.setattr(site.slurm, "cancel", MemorySlurm.cancel.__get__(site.slurm))
                site.start()
        for job in site.slurm.alive():
            if job.state == "PENDING":
                site.run(job.job_id, port=20000 + int(job.job_id))
        assert len(site.slurm.alive()) <= 2


def test_a_kill_at_any_effect_leaves_no_duplicate_and_no_orphan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sluice.scheduler.catalogue.UNSETTLED", 0.0)
    # A kill takes nothing from the disk that was written: syncing is not what is tried here, and slow.
    monkeypatch.setattr("sluice.records.os.fsync", lambda _: None)
    boundaries = 0
    for number in range(1, 200):
        root = tmp_path / str(number)
        root.mkdir()
        site = Site(root)
        site.apply(min=1, max=1)
        bomb = Bomb(number)
        live_through(site, bomb, monkeypatch)
        (job,) = site.slurm.alive()
        (instance,) = site.scheduler.state.instances.values()
        assert job.name == instance.name, f"effect {number}"
        assert site.routed() == {instance.id: "ready"}, f"effect {number}"
        assert site.slurm.submissions == 2, f"effect {number}"
        if not bomb.went_off:
            break
        boundaries = number
    assert boundaries >= 40


def test_state_survives_a_round_trip(site: Site) -> None:
    site.up()
    assert StateFile(site.config.state_file).load(site.now) == site.scheduler.state
    assert StateFile(f"{site.root}/none.json").load(site.now) == State(adopting=True)
