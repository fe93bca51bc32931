"""What to do next, as a pure function: models, instances and demand in, actions out.

It uses no sockets, clocks or processes. In short, for each model:

- *Wanted* is the number of instances that demand calls for (`target`), between `min` and `max`, and above
  `max` up to as many burst instances as the model may have. When fewer are wanted, burst instances end first,
  then the least loaded.
- What the service may use is shared by priority and by need (`bounds`); no model is starved.
- An instance that ended is replaced; one that failed to start is replaced after a back-off that doubles.
  After `max_failures` in a row the model counts as failed and is tried at the longest back-off; a new digest
  clears the failures. Slurm's limits are not failures. A limit of the cluster makes all models wait, a limit
  of an account, partition or QOS those that use it, a limit of one model only that model (`refusal`).
  While Slurm refuses several models together, they try one after the other, whatever their priorities.
- For a new digest, or a wall time about to end, a successor is submitted first; the old instance is drained
  when the new one is ready. While something is replaced, drained or ended, one instance above `max` may
  exist. If the cluster has no room for it, it waits in Slurm's queue and the old instance keeps serving.
- An instance whose front says that it must end (`leaving`) is drained and replaced at once.
- A new digest and a restart replace serving instances one at a time. The old ones stay until their
  successors have proven good. If a rollout fails, an old instance that already drains is resumed.
- A model that an administrator drained has no instances: serving ones are drained, the others cancelled, and
  nothing is started until the model is resumed. A job that a person holds in Slurm's queue is left alone.
- A draining instance is cancelled when it has no running requests, or after `drain_timeout`.
- While the queue is unknown nothing is submitted, drained, cancelled or forgotten.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Optional

from sluice.scheduler.instances.instance import BURST, Instance
from sluice.scheduler.policy import bounds
from sluice.scheduler.policy.bounds import SiteSettings, Spent
from sluice.scheduler.policy.decision import (
    BUDGET,
    IDLE,
    LEAVING,
    MADE_ROOM,
    ORDERED,
    REMOVED,
    REPLACED,
    Action,
    Cancel,
    Decision,
    Drain,
    Forget,
    ModelSettings,
    Orders,
    Resume,
    Situation,
    Submit,
    TotalDemand,
)
from sluice.scheduler.policy.job_checks import STEADY
from sluice.scheduler.policy.memory import (
    MAX_BACKOFF,
    Backoff,
    Memory,
    count_failure,
    failed,
    measured_load,
    measured_queue,
    percentile,
)
from sluice.scheduler.policy.plan import CANCEL_AGAIN, DRAIN_GRACE, SICK_PATIENCE, Plan
from sluice.scheduler.policy.refusal import Cause, Refusal, backoff_after, parse_refusal

__all__ = [
    "BUDGET",
    "CANCEL_AGAIN",
    "DRAIN_GRACE",
    "IDLE",
    "LEAVING",
    "MADE_ROOM",
    "MAX_BACKOFF",
    "ORDERED",
    "REMOVED",
    "REPLACED",
    "SICK_PATIENCE",
    "STEADY",
    "Action",
    "Backoff",
    "Cancel",
    "Cause",
    "Decision",
    "Drain",
    "Forget",
    "Memory",
    "ModelSettings",
    "Orders",
    "Refusal",
    "Resume",
    "SiteSettings",
    "Situation",
    "Spent",
    "Submit",
    "TotalDemand",
    "count_failure",
    "decide",
    "failed",
    "measured_load",
    "measured_queue",
    "parse_refusal",
    "percentile",
]


NEVER_REFUSED = Backoff()


def decide(situation: Situation, settings: SiteSettings, now: float) -> Decision:
    """Return what to do at the time `now` (seconds since the epoch)."""
    plans = _plans(situation, settings, now)
    for plan in plans:
        if situation.queue_known:
            plan.follow_up()
        plan.want()
        if situation.queue_known:
            plan.act()
    backoff, scopes, submissions = situation.backoff, dict(situation.scope_backoffs), []
    if situation.queue_known:
        backoff = _backoff(situation, settings, now)
        scopes = _scope_backoffs(situation, settings, now)
        submissions = _share(plans, situation, settings, backoff, scopes, now)
    memory = dict(situation.memory)
    memory.update({plan.name: plan.memory for plan in plans})
    return Decision(
        actions=(
            *(action for plan in plans for action in plan.first),
            *submissions,
            *(action for plan in plans for action in plan.last),
        ),
        memory=memory,
        wanted={plan.name: plan.wanted for plan in plans},
        backoff=backoff,
        scope_backoffs=scopes,
    )


def _plans(situation: Situation, settings: SiteSettings, now: float) -> list[Plan]:
    by_model: dict[str, list[Instance]] = {name: [] for name in situation.models}
    for instance in situation.instances:
        by_model.setdefault(instance.model, []).append(instance)
    return [Plan(name, by_model[name], situation, settings, now) for name in sorted(by_model)]


def _backoff(situation: Situation, settings: SiteSettings, now: float) -> Backoff:
    """Return how long nothing may be submitted. Refused burst instances only make their own model wait."""
    causes = (Cause.SITE, Cause.TRANSIENT)
    base = (one for one in situation.instances if one.kind != BURST)
    return backoff_after(situation.backoff, base, causes, settings.retry_backoff, now)


def _scope(instance: Instance, situation: Situation) -> str:
    """Return the account, partition and QOS of a base instance; for an adopted job, those of its model."""
    model = situation.models.get(instance.model)
    return instance.slurm_scope or ("" if model is None else model.slurm_scope)


def _scope_backoffs(situation: Situation, settings: SiteSettings, now: float) -> dict[str, Backoff]:
    """Return, for each account, partition and QOS, how long Slurm accepts no submission."""
    by_scope: dict[str, list[Instance]] = {model.slurm_scope: [] for model in situation.models.values()}
    for one in situation.instances:
        if one.kind != BURST:
            by_scope.setdefault(_scope(one, situation), []).append(one)
    found = {}
    for scope, mine in by_scope.items():
        before = situation.scope_backoffs.get(scope, NEVER_REFUSED)
        after = backoff_after(before, mine, (Cause.LIMIT,), settings.retry_backoff, now)
        if after != NEVER_REFUSED:
            found[scope] = after
    return found


def _turns(scopes: Mapping[str, Backoff], situation: Situation, now: float) -> dict[str, bounds.Turn]:
    """Return, for each account, partition and QOS that Slurm refuses, how many submissions may be tried."""
    refusing = {scope: backoff for scope, backoff in scopes.items() if backoff.count}
    if not refusing:
        return {}
    unproven = {
        _scope(one, situation)
        for one in situation.instances
        if not one.job_id and not one.submit_error and one.kind != BURST
    }
    return {
        scope: bounds.Turn(0 if now < backoff.until or scope in unproven else 1, backoff.reason)
        for scope, backoff in refusing.items()
    }


def _share(
    plans: Sequence[Plan],
    situation: Situation,
    settings: SiteSettings,
    backoff: Backoff,
    scopes: Mapping[str, Backoff],
    now: float,
) -> list[Action]:
    """Return the submissions, and the drains that make room for them; note each plan's obstacle."""
    asks = [plan.ask for plan in plans if plan.ask is not None]
    left = bounds.remaining(settings, _present(plans))
    most = _at_once(backoff, situation.instances, now)
    turns = _turns(scopes, situation, now)
    shares = bounds.share(
        asks, left, settings, situation.spent, now, most, turns=turns, single=bool(backoff.count)
    )
    served = Counter(model for model, _ in shares.granted)
    for plan in plans:
        reason = shares.obstacles.get(plan.name, "")
        if plan.ask is not None and not reason:
            # Slurm's last refusal stays the obstacle until it accepts a job, also while one is tried.
            turn = turns.get(plan.ask.slurm_scope) if plan.ask.base else None
            reason = backoff.reason or ("" if turn is None else turn.reason)
        plan.conclude(served[plan.name], plan.name in shares.no_room, reason)
    room_made = _make_room(plans, shares.starved, left, now)
    return [*(Submit(model, kind) for model, kind in shares.granted), *room_made]


def _at_once(backoff: Backoff, instances: Iterable[Instance], now: float) -> int:
    """Return how many submissions may be made; while Slurm refuses them, none, or one to try again."""
    if not backoff.count:
        return bounds.MOST_AT_ONCE
    unproven = any(not one.job_id and not one.submit_error for one in instances)
    return 0 if now < backoff.until or unproven else 1


def _present(plans: Iterable[Plan]) -> list[Instance]:
    return [instance for plan in plans for instance in plan.present]


def _make_room(
    plans: Sequence[Plan], starved: Optional[bounds.Ask], left: bounds.Capacity, now: float
) -> list[Action]:
    """Return the drains of idle instances that a starved model needs, or nothing."""
    if starved is None:
        return []
    leaving = [one for plan in plans for one in plan.present if plan.goes(one)]
    idle = [one for plan in plans for one in plan.idle()]
    return [Drain(one.id, MADE_ROOM) for one in bounds.reclaim(starved, left, leaving, idle)]
