"""A decision about 200 models and 2,000 instances: what it costs, and that rest is rest."""

from __future__ import annotations

import time

from sluice.scheduler.instances.instance import Instance
from sluice.scheduler.policy.policy import Memory, ModelSettings, SiteSettings, Situation, TotalDemand, decide
from tests.unit.scheduler.policy_cases import NOW

BUDGET = 0.05


def large(waiting: int) -> Situation:
    """Return 200 models with ten busy instances each, and so many waiting requests."""
    models, instances, demand, memory = {}, [], {}, {}
    for number in range(200):
        name = f"m{number}"
        models[name] = ModelSettings(
            name, "d1", 10, 12, 16, 900.0, 300.0, priority=number % 3, burst=4, gpus=2
        )
        mine = [
            Instance(
                f"{name}-{place:08x}",
                name,
                f"{place:08x}",
                "d1",
                NOW - 5000 + place,
                job_id=str(10 * number + place),
                job_state="RUNNING",
                nodes=("c1",),
                started=NOW - 4000,
                ends=NOW + 80_000,
                ready_at=NOW - 3900,
                gpus=2,
            )
            for place in range(10)
        ]
        instances += mine
        demand[name] = TotalDemand(100, waiting, NOW, {one.id: 10 for one in mine})
        memory[name] = Memory(digest="d1", load_times=(90.0,) * 16, queue_times=(5.0,) * 16, last=NOW)
    return Situation(models, instances, demand, memory)


def cost(situation: Situation) -> float:
    """Return the least CPU seconds that a decision took."""
    times = []
    for _ in range(7):
        began = time.process_time()
        decide(situation, SiteSettings(max_instances=3000, max_gpus=4100), NOW)
        times.append(time.process_time() - began)
    return min(times)


def test_a_decision_about_two_thousand_instances_is_cheap() -> None:
    assert cost(large(0)) < BUDGET
    assert cost(large(100)) < BUDGET


def test_when_nothing_is_to_be_done_nothing_is() -> None:
    situation, now = large(0), NOW
    for _ in range(5):
        decision = decide(situation, SiteSettings(max_instances=3000), now)
        assert decision.actions == ()
        now += 30.0
        situation = Situation(situation.models, situation.instances, situation.demand, decision.memory)
