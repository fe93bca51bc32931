"""Burst instances, the service's account, refusals and notices, from decisions to sbatch's command line."""

from __future__ import annotations

from dataclasses import replace
from typing import Union

import pytest

from sluice.scheduler.instances.instance import BASE, BURST
from sluice.scheduler.loop.observe import MOST_PROBES
from sluice.scheduler.slurm.programs import Known, Unknown
from sluice.scheduler.slurm.submission import Submission
from sluice.scheduler.state import Overwritten, StateFile
from tests.unit.scheduler.site import Site

SLURM = {"partition": "normal", "time": 60, "cpus": 1, "memory_mb": 100, "gpus": 2, "nodes": 2}
BURSTING = {"max": 2, "partition": "scavenge", "time": 30, "nice": 100, "requeue": True}


def burst(site: Site) -> None:
    """Bring up one base instance, then ask for more than it can bear."""
    site.apply(min=1, max=1, concurrency=1, slurm=SLURM, burst=BURSTING)
    site.up()
    for _ in range(4):
        site.demand(running=1, waiting=4)
        site.tick()


def test_a_burst_instance_is_asked_for_where_slurm_may_take_it_back(site: Site) -> None:
    burst(site)
    kinds = {one.job_id: one.kind for one in site.scheduler.state.instances.values()}
    assert kinds == {"1": BASE, "2": BURST, "3": BURST}
    assert site.slurm.options["1"] == ("--no-requeue",)
    assert site.slurm.options["2"] == ("--partition=scavenge", "--time=30", "--nice=100", "--requeue")
    assert {(one.gpus, one.asked_nodes) for one in site.scheduler.state.instances.values()} == {(4, 2)}


def test_a_lost_state_is_rebuilt_with_kinds_gpus_and_nodes(site: Site) -> None:
    burst(site)
    before = site.scheduler.state.instances
    (site.root / "state.json").write_text('{"version": 1, "inst')
    site.start()
    site.tick()
    after = site.scheduler.state.instances
    facts = {
        name: (one.kind, one.digest, one.gpus, one.asked_nodes, one.job_id) for name, one in before.items()
    }
    assert facts == {
        name: (one.kind, one.digest, one.gpus, one.asked_nodes, one.job_id) for name, one in after.items()
    }
    assert site.slurm.submissions == 3


def test_gpu_hours_and_cold_starts_are_accounted(site: Site) -> None:
    site.apply(min=1, max=1, slurm=SLURM)
    site.up()
    assert len(site.scheduler.state.ledger.starts) == 1
    before = site.scheduler.state.ledger.gpu_seconds
    site.tick(600)
    assert site.scheduler.state.ledger.gpu_seconds == pytest.approx(before + 600 * 4)
    site.start()
    assert site.scheduler.state.ledger.gpu_seconds == pytest.approx(before + 600 * 4)


def test_a_front_that_leaves_is_remembered_drained_and_replaced(site: Site) -> None:
    instance = site.up()
    site.leaving = "warned"
    site.tick()
    assert site.scheduler.state.instances[instance].leaving == "warned"
    assert site.routed() == {instance: "draining"}
    assert site.slurm.submissions == 2


def test_after_a_limit_nothing_more_of_its_account_is_submitted_in_the_tick(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def refuse(submission: Submission) -> Union[Known[str], Unknown]:
        asked.append(submission.name)
        return Unknown("exit status 1: sbatch: error: QOSMaxSubmitJobPerUserLimit")

    monkeypatch.setattr(site.slurm, "submit", refuse)
    site.apply(min=3, max=3)
    site.tick()
    assert len(asked) == 1
    site.tick()
    assert site.scheduler.state.instances == {} and site.scheduler.state.memory["m"].failures == 0
    (held_up,) = site.scheduler.state.scope_backoffs.values()
    assert "QOSMaxSubmitJobPerUserLimit" in held_up.reason


def test_a_scheduler_whose_state_another_one_wrote_does_nothing_more(site: Site) -> None:
    site.up()
    other = StateFile(site.config.state_file)
    other.save(replace(other.load(site.now), generation=99))
    site.slurm.end("1", "CANCELLED")
    with pytest.raises(Overwritten):
        site.tick(600)
    assert site.slurm.submissions == 1


def test_of_many_instances_some_are_probed_in_each_tick_and_all_in_turn(site: Site) -> None:
    count = 3 * MOST_PROBES
    first = site.up()
    one = site.scheduler.state.instances[first]
    many = {
        f"m-{number:08x}": replace(one, id=f"m-{number:08x}", nonce=f"{number:08x}")
        for number in range(count)
    }
    turns = [site.scheduler._observer._due(many.values()) for _ in range(3)]
    assert [len(turn) for turn in turns] == [MOST_PROBES] * 3
    assert {instance.id for turn in turns for instance in turn} == set(many)
