"""Base and burst instances, scaling down, and instances that must leave."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sluice.scheduler.instances.instance import BASE, BURST, Instance
from sluice.scheduler.policy.plan import HELP_AFTER, SUSPENDED_PATIENCE
from sluice.scheduler.policy.policy import Cancel, Drain, Forget, Memory, Orders, Resume, Submit, TotalDemand
from sluice.scheduler.policy.target import Trend, observe
from tests.unit.scheduler.policy_cases import MODEL, NOW, decided, instance, ready, starting

BURSTING = replace(MODEL, max=2, burst=2)
FULL = TotalDemand(16, 0, NOW, {"m-00000001": 4, "m-00000002": 4, "m-00000003": 4, "m-00000004": 4})


def four() -> list[Instance]:
    """Return two base and two burst instances."""
    return [ready(1), ready(2), ready(3, kind=BURST), ready(4, kind=BURST)]


def test_beyond_max_burst_instances_are_asked_for() -> None:
    decision = decided(model=BURSTING, demand=TotalDemand(0, 99, NOW))
    assert decision.wanted == {"m": 4}
    assert decision.actions == (Submit("m"), Submit("m"), Submit("m", BURST), Submit("m", BURST))


def test_a_model_without_burst_stops_at_max() -> None:
    assert decided(demand=TotalDemand(0, 99, NOW)).actions == (Submit("m", BASE), Submit("m", BASE))


def test_a_lost_base_instance_is_replaced_by_a_base_one() -> None:
    lost = [ready(1, job_state="FAILED"), *four()[1:]]
    assert decided(lost, model=BURSTING, demand=FULL).actions == (Forget("m-00000001"), Submit("m"))


def test_a_preempted_burst_instance_is_no_failure_and_is_asked_for_again() -> None:
    lost = [*four()[:3], ready(4, kind=BURST, job_state="PREEMPTED", ready_at=NOW - 5)]
    decision = decided(lost, model=BURSTING, demand=FULL)
    assert decision.actions == (Forget("m-00000004"), Submit("m", BURST))
    assert decision.memory["m"].failures == 0


def test_one_preempted_before_it_was_ready_is_asked_for_again_a_little_later() -> None:
    lost = [*four()[:3], starting(4, kind=BURST, job_state="PREEMPTED")]
    decision = decided(lost, model=BURSTING, demand=FULL)
    assert decision.actions == (Forget("m-00000004"),)
    memory = decision.memory["m"]
    assert memory.failures == 0
    assert decided(lost[:3], model=BURSTING, demand=FULL, memory=memory, now=NOW + 9).actions == ()
    later = decided(lost[:3], model=BURSTING, demand=FULL, memory=memory, now=NOW + 10)
    assert later.actions == (Submit("m", BURST),)


def test_when_fewer_are_wanted_burst_instances_drain_first_then_the_least_loaded() -> None:
    demand = TotalDemand(4, 0, NOW, {"m-00000001": 1, "m-00000002": 0, "m-00000003": 1, "m-00000004": 2})
    decision = decided(four(), model=BURSTING, demand=demand)
    assert decision.actions == (
        Drain("m-00000003", "idle"),
        Drain("m-00000004", "idle"),
        Drain("m-00000002", "idle"),
    )


def test_what_is_not_ready_goes_before_what_serves() -> None:
    some = [ready(1), instance(2, created=NOW), ready(3, kind=BURST), starting(4, kind=BURST)]
    demand = TotalDemand(8, 0, NOW, {"m-00000001": 4, "m-00000003": 4})
    assert decided(some, model=BURSTING, demand=demand).actions == (
        Cancel("m-00000004", "idle"),
        Cancel("m-00000002", "idle"),
    )


def test_of_two_that_are_not_ready_the_one_that_slurm_put_back_goes() -> None:
    put_back = instance(1, created=NOW - 9000, reason="BeginTime")
    model = replace(MODEL, max=1)
    demand = TotalDemand(0, 1, NOW)
    for other in (starting(2), instance(2, created=NOW)):
        decision = decided([put_back, other], model=model, demand=demand)
        assert decision.actions == (Cancel("m-00000001", "idle"),)


def test_a_base_instance_that_served_and_was_put_back_is_replaced_at_once() -> None:
    served = instance(1, created=NOW - 9000, reason="BeginTime", stale_record="f" * 64)
    model = replace(MODEL, min=1, max=1)
    (cancel, submit) = decided([served], model=model).actions
    assert isinstance(cancel, Cancel) and cancel.instance == "m-00000001"
    assert submit == Submit("m")
    cancelled = replace(served, cancelled_at=NOW, cancel_reason=cancel.reason)
    assert decided([cancelled, instance(2, created=NOW)], model=model).actions == ()
    for waits in (replace(served, stale_record=""), replace(served, kind=BURST), replace(served, reason="")):
        assert decided([waits], model=model).actions == ()


def test_a_base_instance_that_waits_long_is_helped_by_a_burst_one() -> None:
    waits = instance(1, created=NOW - HELP_AFTER)
    asked = TotalDemand(0, 1, NOW)
    assert decided([replace(waits, created=NOW - HELP_AFTER + 1)], model=BURSTING, demand=asked).actions == ()
    assert decided([waits], model=BURSTING, demand=asked).actions == (Submit("m", BURST),)
    helped = [waits, starting(2, kind=BURST)]
    assert decided(helped, model=BURSTING, demand=asked).actions == ()
    assert decided([waits], model=MODEL, demand=asked).actions == ()


def test_the_helper_stays_until_the_base_instance_is_ready() -> None:
    waits, helper = instance(1, created=NOW - HELP_AFTER), ready(2, kind=BURST)
    served = TotalDemand(1, 0, NOW, {helper.id: 1})
    assert decided([waits, helper], model=BURSTING, demand=served).actions == ()
    assert decided([ready(1), helper], model=BURSTING, demand=served).actions == (Drain(helper.id, "idle"),)


def test_nobody_waiting_brings_no_helper() -> None:
    waits = instance(1, created=NOW - HELP_AFTER)
    assert decided([waits], model=replace(BURSTING, min=1)).actions == ()


def test_a_drained_instance_ends_by_its_own_requests() -> None:
    drained = ready(1, draining_since=NOW - 60, drain_reason="idle")
    own = TotalDemand(3, 0, NOW, {"m-00000001": 1, "m-00000002": 2})
    others = TotalDemand(3, 0, NOW, {"m-00000002": 3})
    assert decided([drained, ready(2)], demand=own).actions == ()
    assert decided([drained, ready(2)], demand=others).actions == (Cancel("m-00000001", "idle"),)


def test_a_request_that_no_relay_placed_may_be_anywhere() -> None:
    drained = ready(1, draining_since=NOW - 60, drain_reason="idle")
    unplaced = TotalDemand(3, 0, NOW, {"m-00000002": 2})
    assert decided([drained, ready(2)], demand=unplaced).actions == ()


def test_an_instance_that_must_leave_is_drained_and_replaced_at_once() -> None:
    leaving = ready(1, leaving="warned")
    decision = decided([leaving], demand=TotalDemand(1, 0, NOW, {leaving.id: 1}))
    assert decision.actions == (Drain(leaving.id, "leaving"), Submit("m"))


def test_a_leaving_instance_is_not_taken_back() -> None:
    for reason in ("leaving", "idle", "replaced"):
        leaving = ready(1, leaving="terminated", draining_since=NOW - 1, drain_reason=reason)
        memory = Memory(digest="d1", failures=1, failed_at=NOW - 100)
        decision = decided([leaving], demand=TotalDemand(1, 1, NOW, {leaving.id: 1}), memory=memory)
        assert not any(isinstance(action, Resume) for action in decision.actions)


def test_at_max_one_successor_of_a_leaving_instance_may_exist() -> None:
    model = replace(MODEL, min=1, max=1)
    leaving = ready(1, leaving="warned")
    assert decided([leaving], model=model).actions == (Drain(leaving.id, "leaving"), Submit("m"))
    drained = replace(leaving, draining_since=NOW, drain_reason="leaving")
    assert decided([drained, instance(2)], model=model).actions == ()


def test_a_warned_instance_that_never_became_ready_is_a_failed_start() -> None:
    decision = decided([starting(1, leaving="warned")], demand=TotalDemand(0, 1, NOW))
    assert [type(action) for action in decision.actions] == [Cancel]
    assert "before it was ready" in decision.memory["m"].message


def test_a_preempted_instance_that_says_so_is_no_failed_start() -> None:
    ended = starting(1, leaving="terminated", job_state="CANCELLED")
    decision = decided([ended], demand=TotalDemand(0, 1, NOW))
    assert decision.actions == (Forget(ended.id),)
    assert decision.memory["m"].failures == 0
    assert decision.memory["m"].retry_at > NOW


def test_a_leaving_instance_of_a_drained_model_drains_once() -> None:
    leaving = ready(1, leaving="warned")
    assert decided([leaving], orders=Orders(drained=True)).actions == (Drain(leaving.id, "leaving"),)


# --- the end of the wall time ------------------------------------------------------------------------------


def test_the_lead_holds_load_queue_margin_and_warning() -> None:
    times: dict[str, Any] = {"load_times": (80.0, 100.0), "queue_times": (10.0, 40.0)}
    memory, model = Memory(digest="d1", last=NOW, **times), replace(MODEL, warn=120.0)
    old = ready(started=NOW - 5000, ends=NOW + 321)
    assert decided([old], model=model, memory=memory).actions == ()
    assert decided([replace(old, ends=NOW + 320)], model=model, memory=memory).actions == (Submit("m"),)


def test_instances_that_end_together_at_max_get_their_successors_one_after_the_other() -> None:
    model = replace(MODEL, min=2, max=2)
    memory = Memory(digest="d1", load_times=(100.0,))
    both = [ready(1, started=NOW - 9000, ends=NOW + 310), ready(2, started=NOW - 9000, ends=NOW + 315)]
    assert decided(both, model=model, memory=memory).actions == (Submit("m"),)
    later = [replace(one, ends=(one.ends or 0) + 10) for one in both]
    assert decided(later, model=model, memory=memory).actions == ()
    third = [*both, ready(3, started=NOW - 100, ends=NOW + 90_000)]
    assert decided(third, model=model, memory=memory).actions == (Drain("m-00000001", "replaced"),)


def test_a_day_long_job_is_not_replaced_in_its_first_half() -> None:
    memory = Memory(digest="d1", load_times=(90_000.0,), last=NOW)
    young = ready(started=NOW - 43_000, ends=NOW + 43_400)
    assert decided([young], memory=memory).actions == ()
    assert decided([replace(young, ends=NOW + 43_000)], memory=memory).actions == (Submit("m"),)


def test_an_unlimited_job_has_no_successor() -> None:
    assert decided([ready(ends=None)], memory=Memory(digest="d1", last=NOW)).actions == ()


# --- as Slurm has it ---------------------------------------------------------------------------------------


def test_a_held_job_is_left_alone_and_nothing_takes_its_place() -> None:
    job = instance(1, reason="JobHeldAdmin", created=NOW - 9000)
    waiting = decided([job], model=BURSTING, demand=TotalDemand(0, 1, NOW))
    assert waiting.actions == ()
    assert "scontrol release 1" in waiting.memory["m"].obstacle
    assert decided([job], memory=Memory(digest="d1")).actions == ()


def test_a_held_job_does_not_end_what_serves() -> None:
    both = [instance(1, reason="JobHeldUser"), ready(2)]
    assert decided(both, demand=TotalDemand(1, 0, NOW, {"m-00000002": 1})).actions == ()


def test_a_job_that_slurm_holds_after_its_own_failure_counts_as_a_failed_start() -> None:
    stuck = instance(1, reason="launch failed requeued held")
    decision = decided([stuck], demand=TotalDemand(0, 1, NOW))
    words = "held by Slurm permanently: launch failed requeued held"
    assert decision.actions == (Cancel("m-00000001", words),)
    assert decision.memory["m"].failures == 1


def test_a_suspended_instance_is_replaced_and_no_failure() -> None:
    still = ready(1, job_state="SUSPENDED", failures=9, failing_since=NOW - 900, sick=True)
    asked = TotalDemand(1, 0, NOW, {still.id: 1})
    turn = replace(still, failing_since=NOW - SUSPENDED_PATIENCE + 1)
    assert decided([turn], model=replace(MODEL, max=1), demand=asked).actions == ()
    decision = decided([still], model=replace(MODEL, max=1), demand=asked)
    assert decision.actions == (Submit("m"),)
    assert decision.memory["m"].failures == 0
    replaced = decided([still, ready(2)], model=replace(MODEL, max=1), demand=asked)
    assert replaced.actions == (Cancel(still.id, "suspended, and not needed"),)
    assert replaced.memory["m"].failures == 0


def test_a_suspended_instance_that_nobody_wants_any_more_ends() -> None:
    still = ready(1, job_state="SUSPENDED")
    assert decided([still]).actions == (Cancel(still.id, "suspended, and not needed"),)


def test_a_suspended_instance_that_goes_on_is_used_again() -> None:
    model = replace(MODEL, max=1)
    both = [ready(1), instance(2)]
    assert decided(both, model=model, demand=TotalDemand(1, 0, NOW, {"m-00000001": 1})).actions == (
        Cancel("m-00000002", "idle"),
    )


def test_while_a_job_waits_for_a_maintenance_no_other_is_submitted() -> None:
    waits = instance(1, reason="ReqNodeNotAvail, Reserved for maintenance")
    decision = decided([waits], demand=TotalDemand(0, 8, NOW))
    assert decision.actions == ()
    assert "maintenance" in decision.memory["m"].obstacle
    assert decision.memory["m"].failures == 0
    assert decided([instance(1)], demand=TotalDemand(0, 8, NOW)).actions == (Submit("m"),)


def test_a_requeued_instance_waits_again_and_is_neither_failed_nor_doubled() -> None:
    requeued = instance(1, job_state="REQUEUED", created=NOW - 9000)
    decision = decided([requeued], demand=TotalDemand(0, 1, NOW))
    assert decision.actions == ()
    assert decision.memory["m"].failures == 0


def test_an_idle_instance_is_taken_back_only_within_its_kind() -> None:
    drained = [ready(1), ready(2, draining_since=NOW - 1, drain_reason="idle")]
    model = replace(MODEL, max=1, burst=1)
    decision = decided(drained, model=model, demand=TotalDemand(4, 4, NOW, {"m-00000001": 4}))
    assert decision.actions == (Submit("m", BURST),)


def test_hostile_demand_wants_no_more_than_the_model_may_have() -> None:
    decision = decided(model=BURSTING, demand=TotalDemand(0, 10**9, NOW))
    assert decision.wanted == {"m": 4}
    calm = decided(
        four(), model=BURSTING, demand=TotalDemand(0, 0, NOW), memory=decision.memory["m"], now=NOW + 900
    )
    assert calm.wanted == {"m": 0}
    assert decision.memory["m"].trend == observe(Trend(), 16, NOW, concurrency=BURSTING.concurrency)
