"""Who gets the service's room, and what makes room for a starved model."""

from __future__ import annotations

import math
from typing import Any

import pytest

from sluice.scheduler.instances.instance import BASE, BURST
from sluice.scheduler.policy.bounds import (
    MOST_AT_ONCE,
    STARVED,
    Ask,
    Capacity,
    Idle,
    SiteSettings,
    Spent,
    reclaim,
    remaining,
    share,
)
from sluice.scheduler.policy.policy import (
    Cancel,
    Drain,
    Memory,
    ModelSettings,
    Situation,
    Submit,
    TotalDemand,
    decide,
)
from tests.unit.scheduler.policy_cases import MODEL, NOW, instance, ready

WIDE = Capacity(100, math.inf, math.inf)
SITE = SiteSettings(max_instances=100)
NOTHING = Spent()


def shared(*asks: Ask, left: Capacity = WIDE) -> list[str]:
    """Return whose instances are submitted, in order."""
    return [model for model, _ in share(asks, left, SITE, NOTHING, NOW).granted]


def test_pending_and_ending_jobs_take_room_as_running_ones_do() -> None:
    site = SiteSettings(max_instances=4, max_gpus=8, max_nodes=6)
    present = [instance(1, gpus=2), ready(2, gpus=4, asked_nodes=2), ready(3, cancelled_at=NOW)]
    assert remaining(site, present) == Capacity(1, 2, 2)


def test_the_higher_priority_comes_first() -> None:
    assert shared(Ask("a", 2), Ask("b", 2, priority=5), left=Capacity(3, math.inf, math.inf)) == [
        "b",
        "b",
        "a",
    ]


def test_within_a_priority_a_waking_model_comes_before_anothers_second() -> None:
    second = Ask("a", 1, have=1, wanted=9, waiting=True)
    waking = Ask("b", 1, have=0, wanted=1, waiting=True)
    asleep = Ask("c", 1, have=0, wanted=1)
    assert shared(second, asleep, waking) == ["b", "c", "a"]


def test_within_a_priority_who_has_least_of_what_it_wants_comes_first() -> None:
    assert shared(
        Ask("a", 2, have=2, wanted=4), Ask("b", 3, have=1, wanted=4), left=Capacity(3, math.inf, math.inf)
    ) == ["b", "a", "b"]


def test_base_instances_come_before_burst_ones() -> None:
    granted = share([Ask("a", 0, 1), Ask("b", 1, have=9, wanted=10)], WIDE, SITE, Spent(), NOW).granted
    assert granted == [("b", BASE), ("a", BURST)]


def test_gpus_and_nodes_bound_as_instances_do() -> None:
    two = Ask("a", 3, gpus=4, nodes=2)
    assert shared(two, left=Capacity(9, 8, math.inf)) == ["a", "a"]
    assert shared(two, left=Capacity(9, math.inf, 3)) == ["a"]
    assert shared(two, left=Capacity(0, math.inf, math.inf)) == []


def test_a_smaller_one_takes_the_room_that_a_larger_cannot_use() -> None:
    shares = share(
        [Ask("a", 1, gpus=8, priority=1), Ask("b", 1, gpus=2)], Capacity(9, 4, 9), SITE, Spent(), NOW
    )
    assert shares.granted == [("b", BASE)]
    assert "max_gpus" in shares.obstacles["a"]
    assert shares.no_room == {"a"}


def test_one_that_can_never_fit_is_told_so_and_keeps_nobody_out() -> None:
    site = SiteSettings(max_instances=9, max_gpus=4)
    big = Ask("a", 1, gpus=8, waiting=True, short_since=NOW - 9000)
    shares = share([big, Ask("b", 1, gpus=4)], Capacity(9, 4, 9), site, Spent(), NOW)
    assert shares.granted == [("b", BASE)]
    assert "more than the service may use (max_gpus)" in shares.obstacles["a"]
    assert shares.starved is None


def test_a_starved_model_is_next_whatever_the_priorities() -> None:
    poor = Ask("a", 2, wanted=2, priority=-5, waiting=True, short_since=NOW - STARVED)
    rich = Ask("b", 2, wanted=2, priority=5, waiting=True)
    assert shared(poor, rich, left=Capacity(2, math.inf, math.inf)) == ["a", "b"]
    patient = Ask("a", 2, wanted=2, priority=-5, waiting=True, short_since=NOW - STARVED + 1)
    assert shared(patient, rich, left=Capacity(2, math.inf, math.inf)) == ["b", "b"]


def test_room_is_kept_for_a_starved_model_but_not_what_it_does_not_need() -> None:
    poor = Ask("a", 1, gpus=8, waiting=True, short_since=NOW - STARVED)
    small = Ask("b", 1, gpus=2, priority=5)
    without = Ask("c", 1, gpus=0)
    shares = share([poor, small, without], Capacity(9, 4, 9), SITE, Spent(), NOW)
    assert shares.granted == [("c", BASE)]
    assert shares.starved == poor


def test_cold_starts_are_bounded_and_others_are_not() -> None:
    site = SiteSettings(max_instances=9, cold_starts_per_hour=5)
    asks = [Ask("a", 2, cold=True), Ask("b", 1, cold=True), Ask("c", 1)]
    shares = share(asks, WIDE, site, Spent(cold_starts=4), NOW)
    assert shares.granted == [("a", BASE), ("c", BASE), ("a", BASE)]
    assert "cold_starts_per_hour" in shares.obstacles["b"]


def test_no_decision_submits_a_flood() -> None:
    assert len(shared(*(Ask(f"m{n}", 8) for n in range(50)), left=Capacity(999, 9e9, 9e9))) == MOST_AT_ONCE


def test_idle_instances_end_for_a_starved_model_burst_and_low_priorities_first() -> None:
    poor = Ask("z", 1, gpus=4)
    idle = [
        Idle(ready(1, gpus=4), priority=0, last=NOW - 10),
        Idle(ready(2, gpus=4), priority=-1, last=NOW),
        Idle(ready(3, gpus=4, kind=BURST), priority=9, last=NOW),
    ]
    full = Capacity(0, 0, math.inf)
    assert [one.id for one in reclaim(poor, full, [], idle)] == ["m-00000003"]
    assert [one.id for one in reclaim(poor, full, [], idle[:2])] == ["m-00000002"]
    assert [one.id for one in reclaim(poor, Capacity(0, -4, math.inf), [], idle)] == [
        "m-00000003",
        "m-00000002",
    ]


def test_nothing_ends_where_it_would_not_help_or_enough_ends_anyway() -> None:
    poor = Ask("z", 1, gpus=4)
    idle = [Idle(ready(1, gpus=2))]
    assert reclaim(poor, Capacity(5, 0, math.inf), [], idle) == []
    assert reclaim(poor, Capacity(5, 0, math.inf), [ready(2, gpus=4)], idle) == []
    assert reclaim(poor, Capacity(5, 0, math.inf), [], [Idle(ready(1, gpus=0))]) == []


# --- the same through the policy ---------------------------------------------------------------------------


def model(name: str, **changes: Any) -> ModelSettings:
    """Return a model of another name."""
    return ModelSettings(name, "d1", 0, 2, 4, 900.0, 300.0, **changes)


def two(site: SiteSettings, short_since: float = 0.0, **demand: TotalDemand) -> Any:
    """Decide for model m, which has one ready instance, and model n, which has none."""
    memory = {"m": Memory(digest="d1", last=NOW), "n": Memory(digest="d1", short_since=short_since)}
    both = {"m": MODEL, "n": model("n", priority=-1)}
    return decide(Situation(both, [ready(1)], demand, memory), site, NOW)


def test_a_model_without_room_remembers_since_when_and_people_are_told() -> None:
    decision = two(SiteSettings(max_instances=1), n=TotalDemand(0, 1, NOW))
    assert decision.actions == ()
    assert decision.memory["n"].short_since == NOW
    assert "no other instance" in decision.memory["n"].obstacle
    roomy = two(SiteSettings(max_instances=2), short_since=NOW - 50, n=TotalDemand(0, 1, NOW))
    assert roomy.actions == (Submit("n"),)
    assert roomy.memory["n"].short_since == 0.0
    assert roomy.memory["n"].obstacle == ""


def test_an_idle_instance_of_another_model_is_drained_for_a_starved_one() -> None:
    site = SiteSettings(max_instances=1)
    assert two(site, NOW - STARVED + 1, n=TotalDemand(0, 1, NOW)).actions == ()
    starved = two(site, NOW - STARVED, n=TotalDemand(0, 1, NOW))
    assert starved.actions == (Drain("m-00000001", "room for another model"),)


@pytest.mark.parametrize(
    "asked", [TotalDemand(1, 0, NOW), TotalDemand(1, 0, NOW, {"m-00000001": 1}), TotalDemand(0, 1, NOW)]
)
def test_one_with_requests_is_never_drained_for_another(asked: TotalDemand) -> None:
    site = SiteSettings(max_instances=1)
    assert two(site, NOW - 9 * STARVED, n=TotalDemand(0, 1, NOW), m=asked).actions == ()


def test_min_is_never_drained_for_another() -> None:
    both = {"m": ModelSettings("m", "d1", 1, 2, 4, 900.0, 300.0), "n": model("n")}
    memory = {"m": Memory(digest="d1"), "n": Memory(digest="d1", short_since=NOW - 9 * STARVED)}
    situation = Situation(both, [ready(1)], {"n": TotalDemand(0, 1, NOW)}, memory)
    assert decide(situation, SiteSettings(max_instances=1), NOW).actions == ()


def test_when_the_days_gpu_hours_are_spent_only_min_stays() -> None:
    both = {"m": ModelSettings("m", "d1", 1, 3, 4, 900.0, 300.0, gpus=1), "n": model("n", gpus=1)}
    memory = {"m": Memory(digest="d1"), "n": Memory(digest="d1")}
    some = [ready(1, gpus=1), ready(2, gpus=1), instance(3, gpus=1)]
    demand = {"m": TotalDemand(12, 0, NOW, {"m-00000001": 1, "m-00000002": 4}), "n": TotalDemand(0, 1, NOW)}
    site = SiteSettings(max_instances=9, gpu_hours_per_day=24.0)
    situation = Situation(both, some, demand, memory, spent=Spent(gpu_hours=24.0))
    decision = decide(situation, site, NOW)
    assert decision.wanted == {"m": 1, "n": 0}
    assert decision.actions == (
        Cancel("m-00000003", "the day's GPU-hours are spent"),
        Drain("m-00000001", "the day's GPU-hours are spent"),
    )
    assert "gpu_hours_per_day" in decision.memory["n"].obstacle


def test_cold_starts_for_min_are_the_inventorys_own() -> None:
    both = {"m": ModelSettings("m", "d1", 1, 2, 4, 900.0, 300.0), "n": model("n")}
    site = SiteSettings(max_instances=9, cold_starts_per_hour=1)
    situation = Situation(both, [], {"n": TotalDemand(0, 1, NOW)}, {}, spent=Spent(cold_starts=1))
    decision = decide(situation, site, NOW)
    assert decision.actions == (Submit("m"),)
    assert "cold_starts_per_hour" in decision.memory["n"].obstacle
