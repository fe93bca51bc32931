"""The scheduler's long trials on a real Slurm: no controller for minutes, vLLM's wall time, no grace."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from tests.system.load import Load, beside_a_burst_instance, stream
from tests.system.models import registered
from tests.system.service import LIGHT, MODEL, Service

Wait = Callable[[Callable[[], object], float, str], None]

CONTROLLER_AWAY = 300.0
# Minutes: twice what vLLM takes to load on two busy cores, and some to serve.
WALL_TIME = 10


@pytest.fixture(scope="module")
def renewed(service: Service, eventually: Wait) -> Iterator[str]:
    """A model on vLLM whose jobs last WALL_TIME minutes; the first has begun."""
    slurm = {"partition": "normal", "time": WALL_TIME, "warn": 30}
    with registered(service, "renewed", MODEL, min=1, slurm=slurm) as name:
        eventually(
            lambda: any(one["started"] for one in service.status(name)["instances"]), 60, "its job runs"
        )
        yield name


def test_five_minutes_without_a_controller_cost_no_request(service: Service, renewed: str) -> None:
    with registered(service, "steady", LIGHT, min=1, slurm={"partition": "normal", "time": 60}) as name:
        assert not stream(service, name, 8).problem
        before = {job for job, _, _ in service.jobs()}
        load = Load(service, name, streams=2)
        load.start()
        service.shell("login", "systemctl stop slurmctld")
        try:
            time.sleep(CONTROLLER_AWAY)
        finally:
            service.shell("login", "systemctl start slurmctld")
            load.stop()
        print(f"slurmctld away for {CONTROLLER_AWAY:.0f} s; {load.figures()}")
        assert not load.problems(), load.problems()
        assert len(load.outcomes) > 20
        assert {job for job, _, _ in service.jobs()} == before


def test_preemption_without_any_grace_costs_no_new_request(
    service: Service, renewed: str, eventually: Wait
) -> None:
    with beside_a_burst_instance(service, "burst", eventually) as (load, victim):
        blocker = service.claim(service.node_of_job(victim), victim)
        try:
            eventually(lambda: service.job(victim)["JobState"] != "RUNNING", 60, "it is preempted")
            gone = time.monotonic()
            eventually(lambda: service.job(blocker)["JobState"] == "RUNNING", 60, "the node is given up")
            time.sleep(20)
        finally:
            service.shell("login", f"scancel {blocker}")
    cut = load.problems()
    print(f"no grace: {load.figures(gone)}; cut: {sum(cut.values())}")
    assert not load.problems(gone), load.problems(gone)
    assert sum(one.began >= gone for one in load.outcomes) >= 5
    # What ran on it in that moment ends with an error of its own, and never in silence.
    assert sum(cut.values()) <= 2, cut
    assert all("instance_failed" in problem for problem in cut), cut


def test_vllm_hands_over_at_its_wall_time(service: Service, renewed: str, eventually: Wait) -> None:
    assert not stream(service, renewed, 8).problem
    load = Load(service, renewed, streams=2)
    load.start()
    try:
        eventually(lambda: service.ended_jobs(renewed), 60 * WALL_TIME + 60, "a handover")
        time.sleep(20)
    finally:
        load.stop()
    ended = service.ended_jobs(renewed)
    print(f"vLLM: {len(ended)} handover ({sorted(ended.values())}); {load.figures()}")
    assert not load.problems(), load.problems()
    assert set(ended.values()) == {"CANCELLED"}
