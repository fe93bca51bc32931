"""The tick as a whole, over a Slurm in memory: what is followed, submitted and published."""

from __future__ import annotations

import json
import logging
import threading
from dataclasses import replace
from typing import Any

import pytest

from sluice.contracts.jobs import JobRecord
from sluice.scheduler.instances.instance import QueueJob
from sluice.scheduler.loop import observe
from sluice.scheduler.outside.probe import Health
from sluice.scheduler.slurm.programs import Unknown
from sluice.scheduler.state import State, StateFile
from tests.unit.scheduler.site import KEY, Site


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


def test_a_probe_that_does_not_come_back_holds_up_neither_the_tick_nor_other_instances(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look-up of a host's name has no time of its own."""
    first = site.up()
    site.apply(min=2, max=2)
    site.tick()
    second = next(job for job in site.slurm.alive() if first not in job.name)
    site.run(second.job_id, port=20002)
    back = threading.Event()
    monkeypatch.setattr("sluice.scheduler.loop.observe.PROBE_SLACK", 0.2)
    observer = site.scheduler._observer
    observer._config = replace(observer._config, probe_timeout=0.1)

    def probe(record: JobRecord, timeout: float) -> Health:
        if record.instance == first:
            back.wait(60)
        return site.probe(record, timeout)

    observer._probe = probe
    try:
        site.tick()
        assert not back.is_set()
        state = site.scheduler.state.instances
        assert "name service" in observe.NO_PROBE and state[first].failures == 1
        assert site.routed()[second.name.partition(":")[2]] == "ready"
    finally:
        back.set()


def test_an_instance_that_answers_relays_is_healthy_though_no_probe_gets_through(site: Site) -> None:
    """Whoever floods a front keeps out the probe at most; the relays' standing connections go on."""
    instance = site.up()
    site.healthy.clear()
    for _ in range(20):
        site.demand(running=1, answered={instance: int(site.now)})
        site.tick(5)
        assert site.routed() == {instance: "ready"}
    assert site.slurm.submissions == 1
    site.demand(running=1, answered={instance: int(site.now)})
    for _ in range(11):
        site.tick(5)
    assert site.routed() == {}, "an old answer says nothing"


def test_answers_make_no_instance_ready_that_never_was(site: Site) -> None:
    site.tick()
    (job,) = site.slurm.alive()
    site.run(job.job_id)
    site.healthy.clear()
    site.demand(running=1, answered={job.name.split(":", 1)[1]: int(site.now)})
    site.tick()
    assert site.routed() == {}


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
    unknown = Unknown("exit status 1: Invalid partition")
    site.slurm.submit = lambda submission: unknown  # type: ignore[method-assign]  # for a while
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
    monkeypatch.setattr("sluice.scheduler.models.catalogue.STILL_CHANGING", 1.0)
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


def test_state_survives_a_round_trip(site: Site) -> None:
    site.up()
    assert StateFile(site.config.state_file).load(site.now) == site.scheduler.state
    assert StateFile(f"{site.root}/none.json").load(site.now) == State(adopting=True)
