"""The policy, case by case; properties over whole histories are in test_policy_properties.py."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sluice.scheduler.policy.policy import (
    CANCEL_AGAIN,
    DRAIN_GRACE,
    MAX_BACKOFF,
    SICK_PATIENCE,
    Cancel,
    Drain,
    Forget,
    Memory,
    Orders,
    Resume,
    SiteSettings,
    Situation,
    Submit,
    TotalDemand,
    decide,
    failed,
)
from sluice.scheduler.policy.target import Trend, observe
from tests.unit.scheduler.policy_cases import MODEL, NOW, SETTINGS, decided, instance, ready, starting


def test_a_model_nobody_asks_for_sleeps() -> None:
    assert decided().actions == ()


def test_min_is_kept_without_demand() -> None:
    assert decided(model=replace(MODEL, min=2)).actions == (Submit("m"), Submit("m"))


@pytest.mark.parametrize(
    ("running", "waiting", "wanted"), [(0, 1, 1), (4, 0, 1), (4, 1, 2), (3, 1, 1), (40, 40, 2)]
)
def test_demand_over_concurrency_is_the_target_up_to_max(running: int, waiting: int, wanted: int) -> None:
    assert decided(demand=TotalDemand(running, waiting, NOW)).wanted == {"m": wanted}


def test_a_request_that_was_sent_away_wakes_a_sleeping_model() -> None:
    assert decided(demand=TotalDemand(0, 0, NOW - 3)).actions == (Submit("m"),)


def test_a_request_of_long_ago_wakes_nothing() -> None:
    assert decided(demand=TotalDemand(0, 0, NOW - 901)).actions == ()


def test_an_instance_on_its_way_is_not_submitted_twice() -> None:
    for one in (instance(), instance(job_id=""), starting()):
        assert decided([one], demand=TotalDemand(0, 1, NOW)).actions == ()


def test_the_target_falls_only_after_idle_stop() -> None:
    memory = Memory(digest="d1", trend=observe(Trend(), 8, NOW - 899, concurrency=4), last=NOW)
    assert decided([ready(1), ready(2)], memory=memory, demand=TotalDemand(1, 0, NOW)).actions == ()
    late = replace(memory, trend=observe(Trend(), 8, NOW - 900, concurrency=4))
    assert decided([ready(1), ready(2)], memory=late, demand=TotalDemand(1, 0, NOW)).actions == (
        Drain("m-00000002", "idle"),
    )


def test_an_idle_model_goes_to_sleep_after_idle_stop() -> None:
    memory = Memory(digest="d1", last=NOW - 900)
    assert decided([ready()], memory=memory).actions == (Drain("m-00000001", "idle"),)
    assert decided([ready()], memory=replace(memory, last=NOW - 899)).actions == ()


def test_a_pending_job_nobody_wants_any_more_is_cancelled_at_once() -> None:
    assert decided([instance()], memory=Memory(digest="d1")).actions == (Cancel("m-00000001", "idle"),)


def test_an_intent_without_job_id_cannot_be_cancelled_yet() -> None:
    assert decided([instance(job_id="")]).actions == ()


def test_a_draining_instance_is_cancelled_when_nothing_runs() -> None:
    draining = ready(draining_since=NOW - DRAIN_GRACE, drain_reason="idle")
    assert decided([draining]).actions == (Cancel("m-00000001", "idle"),)


def test_a_draining_instance_is_not_cancelled_before_relays_know() -> None:
    assert decided([ready(draining_since=NOW - DRAIN_GRACE + 1, drain_reason="idle")]).actions == ()


def test_a_draining_instance_may_answer_until_the_drain_timeout() -> None:
    running = TotalDemand(1, 0, NOW)
    both = [ready(1, draining_since=NOW - 599, drain_reason="replaced"), ready(2)]
    assert decided(both, demand=running).actions == ()
    both[0] = replace(both[0], draining_since=NOW - 600)
    assert decided(both, demand=running).actions == (Cancel("m-00000001", "replaced"),)


def test_an_idle_draining_instance_is_taken_back_when_demand_returns() -> None:
    draining = ready(draining_since=NOW - 60, drain_reason="idle")
    assert decided([draining], demand=TotalDemand(0, 1, NOW)).actions == (Resume("m-00000001"),)


def test_an_instance_that_was_ready_and_ended_is_replaced_at_once() -> None:
    lost = ready(job_state="CANCELLED")
    assert decided([lost], model=replace(MODEL, min=1)).actions == (Forget(lost.id), Submit("m"))


def test_a_failed_start_is_retried_after_a_back_off_that_doubles() -> None:
    model, memory, now, waits = replace(MODEL, min=1), Memory(digest="d1"), NOW, []
    for _ in range(4):
        decision = decided([starting(job_state="FAILED")], model=model, memory=memory, now=now)
        assert decision.actions == (Forget("m-00000001"),)
        memory = decision.memory["m"]
        waits.append(memory.retry_at - now)
        assert decided([], model=model, memory=memory, now=memory.retry_at - 1).actions == ()
        now = memory.retry_at
        assert decided([], model=model, memory=memory, now=now).actions == (Submit("m"),)
    assert waits == [10, 20, 40, 80]
    assert not failed(memory, SETTINGS)


def test_after_max_failures_the_model_is_failed_and_tried_seldom() -> None:
    memory = Memory(digest="d1", failures=4)
    decision = decided([starting(job_state="FAILED")], model=replace(MODEL, min=1), memory=memory)
    assert failed(decision.memory["m"], SETTINGS)
    assert decision.memory["m"].retry_at == NOW + MAX_BACKOFF
    assert "job 1 ended (FAILED)" in decision.memory["m"].message


def test_when_a_model_was_first_seen_stays_whatever_its_entry_says_later() -> None:
    first = decided(model=replace(MODEL, min=1), memory=Memory()).memory["m"]
    assert first.since == NOW
    later = decided(model=replace(MODEL, min=1, digest="d2"), memory=replace(first, since=5.0)).memory["m"]
    assert (later.digest, later.since) == ("d2", 5.0)


def test_a_new_digest_makes_a_failed_model_start_afresh() -> None:
    memory = Memory(digest="d0", failures=9, retry_at=NOW + 500, message="broken")
    decision = decided(model=replace(MODEL, min=1), memory=memory)
    assert decision.actions == (Submit("m"),)
    assert decision.memory["m"] == Memory(digest="d1", trend=observe(Trend(), 0, NOW), since=NOW)


def test_while_starts_fail_only_one_is_tried_at_a_time() -> None:
    memory = Memory(digest="d1", failures=1, retry_at=NOW - 1)
    assert decided(model=replace(MODEL, min=2), memory=memory).actions == (Submit("m"),)
    assert decided([instance()], model=replace(MODEL, min=2), memory=memory).actions == ()


def test_a_steady_instance_clears_the_failures() -> None:
    memory = Memory(digest="d1", failures=3, failed_at=NOW - 550, last=NOW)
    assert decided([ready()], memory=memory).memory["m"].failures == 0
    later = replace(memory, failed_at=NOW - 400)
    assert decided([ready()], memory=later).memory["m"].failures == 3


def test_an_instance_that_does_not_come_up_in_time_is_cancelled_and_counted() -> None:
    slow = starting(started=NOW - 301)
    decision = decided([slow], model=replace(MODEL, min=1))
    assert [type(action) for action in decision.actions] == [Cancel]
    assert decision.memory["m"].failures == 1
    gone = replace(slow, cancelled_at=NOW, job_state="CANCELLED")
    after = decided([gone], model=replace(MODEL, min=1), memory=decision.memory["m"], now=NOW + 1)
    assert after.actions == (Forget(slow.id),)
    assert after.memory["m"].failures == 1


def test_time_in_the_queue_does_not_count_as_a_slow_start() -> None:
    assert (
        decided([instance(started=None, created=NOW - 90_000)], demand=TotalDemand(0, 1, NOW)).actions == ()
    )


def test_a_sick_instance_is_replaced_within_max_plus_one_and_given_up_late() -> None:
    sick = ready(failures=3, failing_since=NOW - 20, sick=True)
    model = replace(MODEL, min=1, max=1)
    assert decided([sick], model=model).actions == (Submit("m"),)
    worn = replace(sick, failing_since=NOW - SICK_PATIENCE - 1)
    assert [type(one) for one in decided([worn, ready(2)], model=model).actions] == [Cancel]


def test_a_cancellation_is_repeated_while_the_job_is_still_there() -> None:
    waiting = instance(cancelled_at=NOW - CANCEL_AGAIN + 1, cancel_reason="idle")
    assert decided([waiting]).actions == ()
    assert decided([replace(waiting, cancelled_at=NOW - CANCEL_AGAIN)]).actions == (
        Cancel("m-00000001", "idle"),
    )


def test_a_new_digest_starts_the_new_before_it_drains_the_old() -> None:
    model = replace(MODEL, min=1, max=1, digest="d2")
    old, new = ready(1), starting(2, digest="d2")
    assert decided([old], model=model).actions == (Submit("m"),)
    assert decided([old, new], model=model).actions == ()
    new = ready(2, digest="d2")
    assert decided([old, new], model=model).actions == (Drain(old.id, "replaced"),)


def test_rolling_never_goes_below_what_is_wanted() -> None:
    model = replace(MODEL, min=2, max=2, digest="d2")
    olds = [ready(1), ready(2)]
    assert decided(olds, model=model).actions == (Submit("m"),)
    assert decided([*olds, ready(3, "d2")], model=model).actions == (Drain("m-00000001", "replaced"),)


def test_a_pending_job_of_the_old_digest_is_cancelled_for_the_new() -> None:
    model = replace(MODEL, min=1, digest="d2")
    decision = decided([instance()], model=model)
    assert decision.actions == (Submit("m"), Cancel("m-00000001", "replaced"))


def test_a_successor_is_started_before_the_wall_time_ends() -> None:
    memory = Memory(digest="d1", load_times=(100.0,), last=NOW)
    old = ready(started=NOW - 5000, ends=NOW + 161)
    assert decided([old], memory=memory).actions == ()
    old = replace(old, ends=NOW + 160)
    assert decided([old], memory=memory).actions == (Submit("m"),)
    both = [old, ready(2, ends=NOW + 9000)]
    assert decided(both, memory=memory).actions == (Drain(old.id, "replaced"),)


def test_a_job_shorter_than_its_successors_lead_is_not_replaced_for_ever() -> None:
    memory = Memory(digest="d1", load_times=(1000.0,), last=NOW)
    short = ready(started=NOW - 100, ready_at=NOW - 10, ends=NOW + 200)
    assert decided([short], memory=memory).actions == ()


def test_a_removed_entry_drains_what_serves_and_cancels_the_rest() -> None:
    decision = decided([ready(1), instance(2), starting(3)], model=None)
    assert set(decision.actions) == {
        Drain("m-00000001", "removed"),
        Cancel("m-00000002", "removed"),
        Cancel("m-00000003", "removed"),
    }


def test_an_entry_that_cannot_be_read_changes_nothing() -> None:
    assert decided([ready(1), instance(2)], unusable=True).actions == ()
    assert decided([ready(job_state="FAILED")], unusable=True).actions == (Forget("m-00000001"),)


def test_an_unknown_queue_stops_every_action() -> None:
    everything = [
        ready(1, draining_since=NOW - 9999),
        starting(2, started=NOW - 9999),
        instance(3),
        ready(4, job_state="FAILED"),
        instance(5, cancelled_at=NOW - 999),
    ]
    decision = decided(everything, known=False, demand=TotalDemand(90, 90, NOW))
    assert decision.actions == ()
    assert decision.memory["m"].last == NOW
    assert decided(everything, known=False, model=None).actions == ()


def test_absence_alone_is_not_the_end() -> None:
    model = replace(MODEL, min=1, max=1)
    for doubtful in (
        ready(absent=1, invalid=True, failures=1),
        ready(absent=9, invalid=False, failures=9, failing_since=NOW - 30),
        ready(absent=9, invalid=True, failures=0),
        instance(absent=9),
    ):
        actions = decided([doubtful], model=model).actions
        assert Forget(doubtful.id) not in actions
        assert not any(isinstance(action, Cancel) for action in actions)


def test_a_job_that_nobody_knows_and_whose_front_is_silent_is_gone() -> None:
    lost = ready(absent=2, invalid=True, failures=1)
    assert decided([lost], model=replace(MODEL, min=1)).actions == (Forget(lost.id), Submit("m"))


def test_a_submission_that_slurm_never_took_is_forgotten_and_counts_if_sbatch_failed() -> None:
    never = instance(job_id="", job_state="", absent=2, submit_error="exit status 1: Invalid partition")
    decision = decided([never], model=replace(MODEL, min=1))
    assert decision.actions == (Forget(never.id),)
    assert "Invalid partition" in decision.memory["m"].message
    crashed = replace(never, submit_error="")
    assert decided([crashed], model=replace(MODEL, min=1)).actions == (Forget(never.id), Submit("m"))


def test_the_site_limit_bounds_all_models_together() -> None:
    other = replace(MODEL, name="n", min=2)
    situation = Situation({"m": replace(MODEL, min=2), "n": other}, [ready(1)], memory={})
    decision = decide(situation, SiteSettings(max_instances=2), NOW)
    assert decision.actions == (Submit("n"),)


def test_a_clock_that_jumped_back_does_not_wake_or_end_anything() -> None:
    assert decided([ready()], demand=TotalDemand(0, 0, NOW + 10_000)).memory["m"].last == NOW


# --- orders, and rolling replacement -----------------------------------------------------------------------

DRAINED = Orders(drained=True)


def test_a_drained_model_is_emptied_and_nothing_is_started() -> None:
    model = replace(MODEL, min=2)
    everything = [ready(1), instance(2), starting(3), ready(4, sick=True)]
    decision = decided(everything, model=model, orders=DRAINED, demand=TotalDemand(9, 9, NOW))
    assert set(decision.actions) == {
        Drain("m-00000001", "by admin"),
        Cancel("m-00000002", "by admin"),
        Cancel("m-00000003", "by admin"),
        Cancel("m-00000004", "by admin"),
    }
    assert decision.wanted == {"m": 0}
    assert decided([], model=model, orders=DRAINED, demand=TotalDemand(0, 9, NOW)).actions == ()


def test_a_drained_model_answers_what_runs_before_it_is_cancelled() -> None:
    leaving = ready(draining_since=NOW - 100, drain_reason="by admin")
    assert decided([leaving], orders=DRAINED, demand=TotalDemand(1, 0, NOW)).actions == ()
    assert decided([leaving], orders=DRAINED).actions == (Cancel("m-00000001", "by admin"),)


def test_draining_again_changes_nothing() -> None:
    leaving = ready(draining_since=NOW - 1, drain_reason="by admin")
    assert decided([leaving], orders=DRAINED, demand=TotalDemand(1, 0, NOW)).actions == ()


def test_a_drained_model_whose_entry_cannot_be_read_is_drained_all_the_same() -> None:
    assert decided([ready(1)], unusable=True, orders=DRAINED).actions == (Drain("m-00000001", "by admin"),)


def test_while_the_queue_is_unknown_an_order_waits() -> None:
    assert decided([ready(1)], known=False, orders=DRAINED).actions == ()


def test_a_resumed_model_takes_back_what_still_drains() -> None:
    leaving = ready(draining_since=NOW - 1, drain_reason="by admin")
    resumed = Orders(given=NOW - 1)
    assert decided([leaving], model=replace(MODEL, min=1), orders=resumed).actions == (Resume("m-00000001"),)


def test_an_order_after_a_failure_lets_the_model_start_afresh_once() -> None:
    memory = Memory(digest="d1", failures=9, retry_at=NOW + 500, message="broken")
    model, orders = replace(MODEL, min=1), Orders(given=NOW - 1)
    decision = decided(model=model, memory=memory, orders=orders)
    assert decision.actions == (Submit("m"),)
    broken = replace(memory, ordered=NOW - 1)
    assert decided(model=model, memory=broken, orders=orders).actions == ()


def test_a_restart_replaces_one_instance_at_a_time() -> None:
    model, orders = replace(MODEL, min=3, max=5), Orders(restart=NOW)
    olds = [ready(1), ready(2), ready(3)]
    assert decided(olds, model=model, orders=orders).actions == (Submit("m"),)
    coming = starting(4, created=NOW + 1)
    assert decided([*olds, coming], model=model, orders=orders).actions == ()
    new = ready(4, created=NOW + 1)
    decision = decided([*olds, new], model=model, orders=orders)
    assert decision.actions == (Submit("m"), Drain("m-00000001", "replaced"))


def test_a_restart_of_one_instance_leaves_the_others() -> None:
    model, orders = replace(MODEL, min=2), Orders(replace=frozenset({"m-00000002"}))
    both = [ready(1), ready(2)]
    assert decided(both, model=model, orders=orders).actions == (Submit("m"),)
    assert decided([*both, ready(3)], model=model, orders=orders).actions == (
        Drain("m-00000002", "replaced"),
    )
    assert decided([ready(1), ready(3)], model=model, orders=orders).actions == ()


@pytest.mark.parametrize("reason", ["Priority", "JobHeldAdmin", "AssocGrpGRES", "Dependency"])
def test_a_restart_replaces_a_job_that_waits_or_is_held_too(reason: str) -> None:
    waits = instance(reason=reason)
    decision = decided([waits], model=replace(MODEL, min=1), orders=Orders(restart=NOW))
    assert decision.actions == (Submit("m"), Cancel(waits.id, "replaced"))
    later = decided([instance(created=NOW + 1)], model=replace(MODEL, min=1), orders=Orders(restart=NOW))
    assert later.actions == ()


def test_instances_whose_time_ends_together_are_replaced_together() -> None:
    model, memory = replace(MODEL, min=2, max=4), Memory(digest="d1", load_times=(100.0,))
    ending: dict[str, Any] = {"started": NOW - 5000, "ends": NOW + 150}
    both = [ready(1, **ending), ready(2, **ending)]
    assert decided(both, model=model, memory=memory).actions == (Submit("m"), Submit("m"))


def test_demand_that_grows_during_a_rollout_is_met_besides() -> None:
    model = replace(MODEL, min=2, max=6, digest="d2")
    grown = decided([ready(1), ready(2)], model=model, demand=TotalDemand(16, 0, NOW))
    assert grown.actions == (Submit("m"),) * 3


def test_a_rollout_that_fails_leaves_the_old_instances() -> None:
    model = replace(MODEL, min=1, max=1, digest="d2")
    memory, now = Memory(digest="d2"), NOW
    for _ in range(8):
        died = starting(2, "d2", job_state="FAILED")
        decision = decided([ready(1), died], model=model, memory=memory, now=now)
        assert decision.actions == (Forget("m-00000002"),)
        memory = decision.memory["m"]
        now = memory.retry_at - 1
        assert decided([ready(1)], model=model, memory=memory, now=now).actions == ()
        now += 1
    assert failed(memory, SETTINGS)
    assert decided([ready(1)], model=replace(MODEL, min=1), memory=memory, now=now).actions == ()


def test_a_successor_that_dies_gives_the_draining_one_back() -> None:
    model = replace(MODEL, min=1, max=1, digest="d2")
    old = ready(1, draining_since=NOW - 3, drain_reason="replaced")
    died = ready(2, "d2", ready_at=NOW - 5, job_state="FAILED")
    decision = decided([old, died], model=model, memory=Memory(digest="d2"))
    assert decision.actions == (Forget("m-00000002"), Resume("m-00000001"))


def test_after_a_failure_a_successor_must_stay_up_before_the_old_one_goes() -> None:
    model = replace(MODEL, min=1, max=1, digest="d2")
    memory = Memory(digest="d2", failures=1, failed_at=NOW - 100)
    young = ready(2, "d2", ready_at=NOW - 59)
    assert decided([ready(1), young], model=model, memory=memory).actions == ()
    proven = ready(2, "d2", ready_at=NOW - 60)
    assert decided([ready(1), proven], model=model, memory=memory).actions == (
        Drain("m-00000001", "replaced"),
    )
