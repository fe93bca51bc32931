"""What to do next, as a pure function: models, instances and demand in, actions out.

It knows no sockets, clocks or processes. In short, for each model:

- *Wanted* is the demand over what one instance takes at once, between `min` and `max`; at least one while
  somebody asked within `idle_stop`. It rises at once and falls only after `idle_stop` seconds.
- An instance that ended is replaced; one that failed to start is replaced after a back-off that doubles.
  After `max_failures` in a row the model counts as failed and is tried at the longest back-off; a new digest
  starts afresh.
- A new digest, or a wall time about to end, brings a successor first; the old instance is drained when the
  new one is ready. While something is being replaced, drained or ended, one instance beyond `max` may exist.
  If the cluster has no room for it, it waits in Slurm's queue and the old instance goes on.
- A new definition, and a restart, replace serving instances one at a time. Until its successors have proven
  good the old ones stay, and one that already drains is taken back: a rollout that fails backs out.
- A model that an administrator drained has no instances: what serves is drained, the rest cancelled, and
  nothing is started until it is resumed.
- A draining instance is cancelled when its model has no running requests, or after `drain_timeout`.
- While the queue is unknown nothing is submitted, drained, cancelled or forgotten.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Optional, Union

from sluice.scheduler.instance import BASE, Instance, Phase, gone, phase

MAX_BACKOFF = 600.0
# A start that stays up this long counts as good, and one that ends sooner as failed.
STEADY = 60.0
# Relays look at the routing table for each request and report each second: after this long, no running
# requests means none on the draining instance.
DRAIN_GRACE = 5.0
SICK_PATIENCE = 120.0
CANCEL_AGAIN = 30.0
# Until a load time is known, a successor is submitted this long before the wall time ends.
DEFAULT_LEAD = 300.0
MOST_AT_ONCE = 8

IDLE = "idle"
REMOVED = "removed"
REPLACED = "replaced"
ORDERED = "by admin"


@dataclass(frozen=True)
class Model:
    """What the policy needs of a model entry; `idle_stop`, `start_timeout` and `warn` in seconds.

    `max` bounds base instances, `burst` those beyond them that Slurm may take back. `gpus` and `nodes` are
    what one instance takes.
    """

    name: str
    digest: str
    min: int
    max: int
    concurrency: int
    idle_stop: float
    start_timeout: float
    priority: int = 0
    burst: int = 0
    gpus: int = 0
    nodes: int = 1
    warn: float = 0.0


@dataclass(frozen=True)
class Demand:
    """Requests of one model over all relays; `last` is the time of the last one (0: none known).

    `instances`: how many of those running each instance has.
    """

    running: int = 0
    waiting: int = 0
    last: float = 0.0
    instances: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Orders:
    """What an administrator ordered of one model.

    `drained`: it is to have no instances. Instances that began to run and were submitted before the time
    `restart` are to be replaced, and those that `replace` names. `given` is the time of the last order after
    which a failed model is to be tried again.
    """

    drained: bool = False
    restart: float = 0.0
    replace: frozenset[str] = frozenset()
    given: float = 0.0


@dataclass(frozen=True)
class Memory:
    """What is remembered of a model between ticks.

    `level` is the number of instances that demand last called for, at the time `level_at`; `last` the time
    of the last request; `failures` failed starts in a row, the last at `failed_at`; no submission before
    `retry_at`; `load_time` seconds from the job's start to ready (None until measured);
    `ordered` the time of the last order that was followed.
    """

    digest: str = ""
    level: int = 0
    level_at: float = 0.0
    last: float = 0.0
    failures: int = 0
    failed_at: float = 0.0
    retry_at: float = 0.0
    message: str = ""
    load_time: Optional[float] = None
    ordered: float = 0.0


@dataclass(frozen=True)
class Settings:
    """The site's limits, 0 for none but in `max_instances`; times in seconds."""

    max_instances: int
    max_gpus: int = 0
    max_nodes: int = 0
    gpu_hours_per_day: float = 0.0
    cold_starts_per_hour: int = 0
    retry_backoff: float = 10.0
    max_failures: int = 5
    drain_timeout: float = 600.0


@dataclass(frozen=True)
class Submit:
    """Start one more instance of `model`, of this kind."""

    model: str
    kind: str = BASE


@dataclass(frozen=True)
class Drain:
    """Send no new requests to `instance`."""

    instance: str
    reason: str


@dataclass(frozen=True)
class Resume:
    """Send requests to a draining instance again."""

    instance: str


@dataclass(frozen=True)
class Cancel:
    """End the job of `instance`."""

    instance: str
    reason: str


@dataclass(frozen=True)
class Forget:
    """The job of `instance` is gone."""

    instance: str


Action = Union[Submit, Drain, Resume, Cancel, Forget]


@dataclass(frozen=True)
class Spent:
    """What was taken: GPU-hours since the day began (UTC), cold starts within the last hour."""

    gpu_hours: float = 0.0
    cold_starts: int = 0


@dataclass(frozen=True)
class Situation:
    """All that a decision rests on.

    `held` names models whose entry exists but cannot be used now: they keep what they have. `orders` are the
    administrators'. `known` says whether squeue answered in this tick. `spent`: what the service has taken so
    far of what is bounded over time.
    """

    models: Mapping[str, Model]
    instances: Sequence[Instance]
    demand: Mapping[str, Demand] = field(default_factory=dict)
    memory: Mapping[str, Memory] = field(default_factory=dict)
    held: frozenset[str] = frozenset()
    known: bool = True
    orders: Mapping[str, Orders] = field(default_factory=dict)
    spent: Spent = field(default_factory=Spent)


@dataclass(frozen=True)
class Decision:
    """Actions in the order in which they are to be carried out, and what to remember.

    `wanted` is the number of instances each model should have.
    """

    actions: tuple[Action, ...]
    memory: dict[str, Memory]
    wanted: dict[str, int]


def decide(situation: Situation, settings: Settings, now: float) -> Decision:
    """Return what to do at the time `now`."""
    by_model: dict[str, list[Instance]] = {name: [] for name in situation.models}
    for instance in situation.instances:
        by_model.setdefault(instance.model, []).append(instance)
    room = settings.max_instances - sum(not gone(instance) for instance in situation.instances)
    actions: list[Action] = []
    memory = dict(situation.memory)
    wanted = {}
    # Models with the fewest instances first: a crowd of one model must not keep another from waking.
    for name in sorted(by_model, key=lambda name: (len(by_model[name]), name)):
        plan = _Plan(name, by_model[name], situation, settings, now, room)
        if situation.known:
            plan.follow_up()
        plan.want()
        if situation.known:
            plan.act()
        memory[name], wanted[name] = plan.memory, plan.wanted
        actions += plan.actions
        room -= sum(isinstance(action, Submit) for action in plan.actions)
    return Decision(tuple(actions), memory, wanted)


def measured_load(memory: Memory, seconds: float) -> Memory:
    """Return the memory with one more measured load time: half the old, half the new."""
    old = memory.load_time
    return replace(memory, load_time=seconds if old is None else (old + seconds) / 2)


def failed(memory: Memory, settings: Settings) -> bool:
    """Whether the model counts as failed."""
    return memory.failures >= settings.max_failures


def count_failure(memory: Memory, settings: Settings, now: float, message: str) -> Memory:
    """Return the memory with one more failed start: each waits twice as long for the next, up to 600 s."""
    failures = memory.failures + 1
    wait = min(MAX_BACKOFF, settings.retry_backoff * 2.0 ** min(failures - 1, 30))
    if failures >= settings.max_failures:
        wait = MAX_BACKOFF
    return replace(memory, failures=failures, failed_at=now, retry_at=now + wait, message=message)


class _Plan:
    """One model's part of a decision, built up step by step; lives for one call of `decide`."""

    def __init__(
        self,
        name: str,
        instances: Sequence[Instance],
        situation: Situation,
        settings: Settings,
        now: float,
        room: int,
    ) -> None:
        self.model = situation.models.get(name)
        self.held = name in situation.held
        self.demand = situation.demand.get(name, Demand())
        self.orders = situation.orders.get(name, Orders())
        self.memory = situation.memory.get(name, Memory())
        self.settings = settings
        self.now = now
        self.room = room
        self.actions: list[Action] = []
        self.wanted = 0
        self.lost = [instance for instance in instances if gone(instance)]
        self.present = [instance for instance in instances if not gone(instance)]
        self.cancelled: set[str] = set()

    # --- memory --------------------------------------------------------------------------------------

    def follow_up(self) -> None:
        """Forget what is gone, and count failures and successes."""
        if self.model is not None and self.model.digest != self.memory.digest:
            self.start_afresh()
        if self.orders.given > self.memory.ordered:
            self.start_afresh()
            self.memory = replace(self.memory, ordered=self.orders.given)
        problems = []
        for instance in self.lost:
            self.actions.append(Forget(instance.id))
            problem = failure(instance, self.now)
            if problem:
                problems.append(problem)
        if problems:
            self.fail(problems[0])
        elif any(self.steady(instance) for instance in self.present):
            self.memory = replace(self.memory, failures=0, retry_at=0.0, message="")

    def start_afresh(self) -> None:
        """Forget earlier failures: the definition changed, or an administrator says so."""
        digest = self.memory.digest if self.model is None else self.model.digest
        self.memory = replace(self.memory, digest=digest, failures=0, retry_at=0.0, message="", failed_at=0.0)

    def steady(self, instance: Instance) -> bool:
        """Whether the instance has been ready for long enough to prove the model good again."""
        if phase(instance) is not Phase.READY or instance.ready_at is None:
            return False
        return instance.ready_at > self.memory.failed_at and self.now - instance.ready_at >= STEADY

    def fail(self, message: str) -> None:
        """Count one failed start, however many instances failed in this tick."""
        self.memory = count_failure(self.memory, self.settings, self.now, message)

    def want(self) -> None:
        """Work out how many instances demand calls for."""
        demand, memory = self.demand, self.memory
        asked = demand.running + demand.waiting
        last = max(memory.last, min(demand.last, self.now), self.now if asked else 0.0)
        if self.model is None:
            self.memory = replace(memory, last=last)
            return
        level = math.ceil(asked / self.model.concurrency)
        held = memory.level
        if level >= held or self.now - memory.level_at >= self.model.idle_stop:
            memory = replace(memory, level=level, level_at=self.now)
        floor = 1 if last > 0 and self.now - last < self.model.idle_stop else 0
        # Level 1 is kept by `last` alone; otherwise a single request would hold an instance twice as long.
        keep = memory.level if memory.level > 1 else level
        if not self.orders.drained:
            self.wanted = min(self.model.max, max(self.model.min, floor, keep))
        self.memory = replace(memory, last=last)

    # --- actions -------------------------------------------------------------------------------------

    def act(self) -> None:
        """Add the actions for what is present and what is missing."""
        self.end_again()
        if self.orders.drained and (self.held or self.model is not None):
            self.clear(ORDERED)
        elif self.held:
            return
        elif self.model is None:
            self.clear(REMOVED)
        else:
            self.give_up(self.model)
            self.scale(self.model)
        self.end_drained()

    def phases(self, *wanted: Phase) -> list[Instance]:
        """Return the instances that serve or will serve, in the given phases, oldest first."""
        found = [
            instance
            for instance in self.present
            if instance.draining_since is None
            and instance.id not in self.cancelled
            and phase(instance) in wanted
        ]
        return sorted(found, key=lambda instance: (instance.created, instance.id))

    def cancel(self, instance: Instance, reason: str) -> None:
        """Cancel the job, or leave it until its id is known."""
        if instance.job_id:
            self.actions.append(Cancel(instance.id, reason))
            self.cancelled.add(instance.id)

    def end_again(self) -> None:
        """Repeat a cancellation that Slurm has not carried out."""
        for instance in self.present:
            since = instance.cancelled_at
            if since is not None and self.now - since >= CANCEL_AGAIN:
                self.cancel(instance, instance.cancel_reason)

    def clear(self, reason: str) -> None:
        """The model is to have no instances: end what serves nobody, drain the rest."""
        for instance in self.phases(Phase.SUBMITTING, Phase.PENDING, Phase.STARTING, Phase.SICK):
            self.cancel(instance, reason)
        for instance in self.phases(Phase.READY):
            self.actions.append(Drain(instance.id, reason))

    def give_up(self, model: Model) -> None:
        """End instances that do not come up, or that stopped answering."""
        for instance in self.phases(Phase.STARTING):
            if instance.started is not None and self.now - instance.started > model.start_timeout:
                self.cancel_failed(
                    instance, f"not ready {model.start_timeout:g} s after its job began to run"
                )
        for instance in self.phases(Phase.SICK):
            since = instance.failing_since
            if since is not None and self.now - since > SICK_PATIENCE:
                self.cancel_failed(instance, f"did not answer its health check for {SICK_PATIENCE:g} s")

    def cancel_failed(self, instance: Instance, problem: str) -> None:
        """Cancel an instance and count it as a failed start."""
        if instance.job_id:
            self.cancel(instance, problem)
            self.fail(f"job {instance.job_id}: {problem}")

    def scale(self, model: Model) -> None:
        """Bring the number of instances to what is wanted, newest digest first."""
        usable = self.phases(Phase.SUBMITTING, Phase.PENDING, Phase.STARTING, Phase.READY)
        old = [instance for instance in usable if self.outdated(instance, model)]
        fresh = [instance for instance in usable if instance not in old]
        missing = self.wanted - len(fresh)
        missing -= self.resume(model, missing)
        for _ in range(self.allowed(model, old, fresh, missing)):
            self.actions.append(Submit(model.name))
        self.back_out(model, old, fresh)
        self.retire(old, fresh)
        if missing < 0:
            self.shrink(fresh, -missing)

    def outdated(self, instance: Instance, model: Model) -> bool:
        """Whether the instance is to be replaced: by another definition, an order, or the end of its time."""
        return self.superseded(instance, model) or self.expiring(instance)

    def superseded(self, instance: Instance, model: Model) -> bool:
        """Whether the instance has another digest than the model, or an order replaces it."""
        if instance.digest not in ("", model.digest) or instance.id in self.orders.replace:
            return True
        # One that waits in the queue will start afresh anyway.
        return instance.started is not None and instance.created < self.orders.restart

    def expiring(self, instance: Instance) -> bool:
        """Whether the instance's wall time is about to end."""
        if instance.ends is None or instance.started is None or instance.ready_at is None:
            return False
        load = self.memory.load_time
        lead = DEFAULT_LEAD if load is None else load * 1.5 + 60.0
        # A lead longer than half the job would replace it for ever.
        return self.now >= instance.ends - min(lead, (instance.ends - instance.started) / 2)

    def resume(self, model: Model, missing: int) -> int:
        """Take back instances that drain because they were idle or ordered to; return how many."""
        taken = 0
        for instance in self.present:
            usable = (
                instance.draining_since is not None
                and instance.drain_reason in (IDLE, ORDERED)
                and phase(instance) is Phase.READY
                and not self.outdated(instance, model)
            )
            if usable and taken < missing:
                self.actions.append(Resume(instance.id))
                self.cancelled.add(instance.id)
                taken += 1
        return taken

    def back_out(self, model: Model, old: Sequence[Instance], fresh: Sequence[Instance]) -> None:
        """Take back instances that drain for successors which failed, as many as are lacking."""
        if not self.memory.failures:
            return
        serving = sum(phase(instance) is Phase.READY for instance in (*old, *fresh))
        for instance in self.present:
            returns = (
                instance.draining_since is not None
                and instance.drain_reason == REPLACED
                and phase(instance) is Phase.READY
                and not self.expiring(instance)
            )
            if returns and serving < self.wanted:
                self.actions.append(Resume(instance.id))
                self.cancelled.add(instance.id)
                serving += 1

    def allowed(self, model: Model, old: Sequence[Instance], fresh: Sequence[Instance], missing: int) -> int:
        """Return how many of the missing instances may be submitted now."""
        if missing <= 0 or self.now < self.memory.retry_at:
            return 0
        leaving = bool(old) or any(self.leaving(instance) for instance in self.present)
        most = min(model.max + leaving - len(self.present), self.room, missing, MOST_AT_ONCE)
        rolling = sum(phase(one) is Phase.READY and not self.expiring(one) for one in old)
        if rolling:
            coming = any(phase(one) is not Phase.READY for one in fresh)
            most = min(most, max(0, missing - rolling) + (not coming))
        if self.memory.failures:
            unproven = self.phases(Phase.SUBMITTING, Phase.PENDING, Phase.STARTING)
            most = min(most, 1 - len([one for one in unproven if one not in old]))
        return max(0, most)

    def leaving(self, instance: Instance) -> bool:
        """Whether an instance that is still present no longer counts as capacity."""
        return (
            instance.draining_since is not None
            or instance.id in self.cancelled
            or phase(instance) in (Phase.ENDING, Phase.SICK)
        )

    def retire(self, old: Sequence[Instance], fresh: Sequence[Instance]) -> None:
        """Drain as many outdated instances as newer ones can stand in for."""
        serving = [instance for instance in old if phase(instance) is Phase.READY]
        for instance in old:
            if instance not in serving:
                self.cancel(instance, REPLACED)
        ready = sum(phase(instance) is Phase.READY for instance in fresh)
        left = len(serving)
        for instance in sorted(serving, key=lambda instance: not self.expiring(instance)):
            # After a failure a successor must first stay up: it may be as bad as the one before.
            proven = ready if self.expiring(instance) or not self.memory.failures else 0
            if proven + left > self.wanted:
                self.actions.append(Drain(instance.id, REPLACED))
                left -= 1

    def shrink(self, fresh: Sequence[Instance], surplus: int) -> None:
        """End instances beyond what is wanted: first those not yet ready, then the newest."""
        order = sorted(fresh, key=lambda instance: (phase(instance) is Phase.READY, -instance.created))
        for instance in order[:surplus]:
            if phase(instance) is Phase.READY:
                self.actions.append(Drain(instance.id, IDLE))
            else:
                self.cancel(instance, IDLE)

    def end_drained(self) -> None:
        """Cancel draining instances that have nothing left to answer."""
        for instance in self.present:
            since = instance.draining_since
            if since is None or instance.id in self.cancelled or instance.cancelled_at is not None:
                continue
            waited = self.now - since
            quiet = self.demand.running == 0 and waited >= DRAIN_GRACE
            serves = phase(instance) in (Phase.READY, Phase.SICK)
            if not serves or quiet or waited >= self.settings.drain_timeout:
                self.cancel(instance, instance.drain_reason)


def failure(instance: Instance, now: float) -> str:
    """Return why a gone instance counts as a failed start, or "" if it does not.

    An instance that we cancelled was counted when it was cancelled, if at all. A submission whose sbatch was
    never seen to fail (the scheduler was killed) is nobody's fault.
    """
    if instance.cancelled_at is not None or instance.draining_since is not None:
        return ""
    if not instance.job_id:
        return f"sbatch: {instance.submit_error}" if instance.submit_error else ""
    state = instance.job_state or "lost"
    if instance.ready_at is None:
        return f"job {instance.job_id} ended ({state}) before it was ready"
    if now - instance.ready_at < STEADY:
        return f"job {instance.job_id} ended ({state}) soon after it was ready"
    return ""
