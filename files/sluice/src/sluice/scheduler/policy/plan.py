"""One model's part of a decision: what happens to its instances, and how many more it asks for. Pure.

`bounds` then decides, over all models, which of them it gets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Optional

from sluice.scheduler.instances.instance import (
    BASE,
    BURST,
    SUSPENDED,
    Instance,
    Phase,
    held_by_slurm,
    only_completing,
    phase,
)
from sluice.scheduler.policy import memory_updates, successors, target
from sluice.scheduler.policy.bounds import Ask, Idle
from sluice.scheduler.policy.decision import (
    BUDGET,
    IDLE,
    LEAVING,
    ORDERED,
    REMOVED,
    REPLACED,
    Drain,
    Forget,
    ModelSettings,
    Resume,
)
from sluice.scheduler.policy.job_checks import (
    REQUEUED,
    ended_by_others,
    failure,
    held_by_person,
    queue_obstacle,
    requeued,
    waiting_for,
)
from sluice.scheduler.policy.memory import count_stall
from sluice.scheduler.policy.plan_state import PlanState

# Relays read the routing table for each request and report demand each second. Only after this time does
# "no running requests" mean that the draining instance has none.
DRAIN_GRACE = 5.0
SICK_PATIENCE = 120.0
# A refused record may be an earlier run's that a network file system still shows.
REFUSED_PATIENCE = 60.0
CANCEL_AGAIN = 30.0
# With gang scheduling, jobs take turns on a node; each is suspended for a time slice, often half a minute.
SUSPENDED_PATIENCE = 60.0
# After a base instance has waited in the queue for so long while requests wait, a burst instance helps out.
HELP_AFTER = 120.0
MOST_AT_ONCE = 8
COMING = (Phase.SUBMITTING, Phase.PENDING, Phase.STARTING)
USABLE = (*COMING, Phase.READY)
RESUMABLE = frozenset((IDLE, ORDERED, BUDGET))


class Plan(PlanState):
    """One model's plan, built step by step in one call of `decide`: follow_up, want, act, conclude."""

    # --- memory --------------------------------------------------------------------------------------

    def follow_up(self) -> None:
        """Forget instances that are gone, and count failures, refusals and successes."""
        if self.model is not None and self.model.digest != self.memory.digest:
            self.start_afresh()
        if self.model is not None and not self.memory.since:
            self.memory = replace(self.memory, since=self.now)
        if self.orders.given > self.memory.ordered:
            self.start_afresh()
            self.memory = replace(self.memory, ordered=self.orders.given)
        self.memory = memory_updates.with_refusals(
            self.memory, [*self.lost, *self.present], self.settings.retry_backoff, self.now
        )
        problems = []
        for instance in self.lost:
            self.first.append(Forget(instance.id))
            problem = failure(instance, self.now)
            if problem:
                problems.append(problem)
            elif ended_by_others(instance):
                # Not a failure, but the next submission waits all the same.
                retry = max(self.memory.retry_at, self.now + self.settings.retry_backoff)
                self.memory = replace(self.memory, retry_at=retry)
        if problems:
            self.fail(problems[0])
        elif self.memory.failures and any(self.steady(instance) for instance in self.present):
            self.memory = replace(self.memory, failures=0, retry_at=0.0, message="")

    def want(self) -> None:
        """Work out how many instances demand calls for."""
        demand, memory, model = self.demand, self.memory, self.model
        last = max(memory.last, min(demand.last, self.now), self.now if demand.asked else 0.0)
        if model is None:
            self.memory = replace(memory, last=last)
            return
        # Bounded, because the gateway may report any number: no more than all instances could answer.
        asked = min(demand.asked, model.concurrency * model.most)
        trend = target.observe(
            memory.trend,
            asked,
            self.now,
            concurrency=model.concurrency,
            last=last,
            idle_stop=model.idle_stop,
        )
        self.memory = replace(memory, last=last, trend=trend)
        if not self.orders.drained:
            self.wanted = self._wanted(model, asked)

    def _wanted(self, model: ModelSettings, asked: int) -> int:
        if self.gpu_hours_spent:
            self.obstacle = f"{BUDGET} (gpu_hours_per_day): only the instances of `min` are kept"
            return model.min
        memory = self.memory
        level = target.level(
            memory.trend,
            concurrency=model.concurrency,
            load_time=successors.start_time(memory),
            idle_stop=model.idle_stop,
            now=self.now,
        )
        return min(model.most, max(model.min, level))

    # --- actions -------------------------------------------------------------------------------------

    def act(self) -> None:
        """Add the actions for the present instances, and ask for the missing ones."""
        self.repeat_cancellations()
        if self.orders.drained and (self.unusable or self.model is not None):
            self.clear(ORDERED)
        elif self.unusable:
            return
        elif self.model is None:
            self.clear(REMOVED)
        else:
            self.give_up(self.model)
            self.drain_leaving()
            self.scale(self.model)
        self.end_drained()

    def repeat_cancellations(self) -> None:
        """Repeat a cancellation that Slurm has not carried out."""
        for instance in self.present:
            since = instance.cancelled_at
            if since is not None and self.now - since >= CANCEL_AGAIN:
                self.cancel(instance, instance.cancel_reason, self.first)

    def clear(self, reason: str) -> None:
        """End all instances of a model that must have none: cancel those not ready, drain the others."""
        for instance in self.phases(*COMING, Phase.SICK):
            self.cancel(instance, reason)
        self.drain_leaving()
        for instance in self.phases(Phase.READY):
            self.last.append(Drain(instance.id, reason))

    def give_up(self, model: ModelSettings) -> None:
        """End instances that do not become ready, or that stopped answering."""
        for instance in self.phases(Phase.PENDING):
            problem = self.pending_problem(instance)
            if problem:
                self.cancel_failed(instance, problem)
            elif requeued(instance):
                self.cancel(instance, "Slurm requeued it; another one starts sooner", self.first)
        for instance in self.phases(Phase.STARTING):
            if instance.started is not None and self.now - instance.started > model.start_timeout:
                self.cancel_failed(
                    instance, f"not ready {model.start_timeout:g} s after its job began to run"
                )
            elif instance.refused_since is not None and self.now - instance.refused_since > REFUSED_PATIENCE:
                self.cancel_failed(instance, f"its record was refused: {instance.refused}")
        for instance in self.phases(Phase.SICK):
            self.give_up_sick(instance)

    def give_up_sick(self, instance: Instance) -> None:
        """End an instance that is suspended or stalled, or whose front stopped answering."""
        since = instance.failing_since
        if instance.job_state in SUSPENDED:
            self.replace_suspended(instance)
        elif phase(instance) is Phase.READY:
            self.end_stalled(instance)
        elif since is not None and self.now - since > SICK_PATIENCE:
            self.cancel_failed(instance, f"did not answer its health check for {SICK_PATIENCE:g} s")

    def pending_problem(self, instance: Instance) -> str:
        """Return why a pending job is given up, or ""."""
        reason, since = held_by_slurm(instance), instance.hindered_since
        if reason:
            return f"held by Slurm permanently: {reason}"
        patience = self.settings.pending_patience
        if not patience or since is None or self.now - since < patience:
            return ""
        return f"waited {patience:g} s in Slurm's queue: {waiting_for(instance)}"

    def replace_suspended(self, instance: Instance) -> None:
        """End a suspended instance once it is not needed; until then Slurm may resume it."""
        if len(self.phases(Phase.READY)) >= self.wanted:
            self.cancel(instance, f"{instance.job_state.lower()}, and not needed", self.first)

    def end_stalled(self, instance: Instance) -> None:
        """Cancel a stalled instance; its running requests get no answer anyway."""
        if instance.job_id:
            self.memory = count_stall(self.memory, self.now)
            silent = f"no output of its engine for {instance.stalled} s"
            self.cancel_failed(instance, f"{silent}, not even for the front's own question")

    def drain_leaving(self) -> None:
        """Drain instances whose front says that they must end soon."""
        for instance in self.present:
            if not instance.leaving or instance.draining_since is not None or instance.id in self.decided:
                continue
            found = self.phase[instance.id]
            if found in (Phase.READY, Phase.SICK):
                self.first.append(Drain(instance.id, LEAVING))
                self.decided.add(instance.id)
            elif found is Phase.STARTING and instance.leaving == "warned":
                self.cancel_failed(instance, "its wall time would have ended before it was ready")

    def scale(self, model: ModelSettings) -> None:
        """Bring the number of instances to the wanted one; instances of the current digest come first."""
        self.expiring = self.near_end(model)
        usable = self.phases(*USABLE)
        old = [instance for instance in usable if self.outdated(instance, model)]
        fresh = [instance for instance in usable if instance not in old]
        target_number = self.wanted + self.helpers(model, fresh)
        missing = target_number - len(fresh) - self.paused()
        missing -= self.resume(model, missing)
        self.ask = self.asks(model, old, fresh, missing)
        self.back_out(old, fresh)
        self.retire(old, fresh)
        for instance in self.present:
            if instance.submit_error and not instance.job_id:
                self.obstacle = self.obstacle or f"sbatch accepted no job: {instance.submit_error}"
        active = [instance for instance in fresh if not held_by_person(instance)]
        for instance in fresh:
            if self.phase[instance.id] is Phase.PENDING:
                self.obstacle = self.obstacle or queue_obstacle(instance)
        surplus = len(active) - target_number
        if surplus > 0:
            self.shrink(active, surplus)

    def paused(self) -> int:
        """Return how many instances were suspended so recently that Slurm may soon resume them."""
        still = (one for one in self.phases(Phase.SICK) if one.job_state in SUSPENDED)
        since = (self.now if one.failing_since is None else one.failing_since for one in still)
        return sum(self.now - began < SUSPENDED_PATIENCE for began in since)

    def near_end(self, model: ModelSettings) -> frozenset[str]:
        """Return the ids of the instances whose wall time is about to end."""
        found: frozenset[str] = frozenset()
        for kind in (BASE, BURST):
            mine = [one for one in self.present if one.kind == kind and one.draining_since is None]
            found |= successors.expiring(mine, model, self.memory, self.now)
        drained = (one for one in self.present if one.draining_since is not None)
        for one in drained:
            found |= successors.expiring([one], model, self.memory, self.now)
        return found

    def helpers(self, model: ModelSettings, fresh: Sequence[Instance]) -> int:
        """Return how many burst instances replace base instances that have waited long in the queue.

        They are submitted while requests wait, and stay until those base instances are ready.
        """
        if not model.burst:
            return 0
        long = sum(
            one.kind != BURST
            and self.phase[one.id] is Phase.PENDING
            and not held_by_person(one)
            and self.now - one.created >= HELP_AFTER
            for one in fresh
        )
        beyond = max(0, self.wanted - model.max)
        standing = sum(one.kind == BURST for one in fresh) - beyond
        may = model.burst - beyond if self.demand.waiting else standing
        return max(0, min(long, may))

    def resume(self, model: ModelSettings, missing: int) -> int:
        """Resume instances that drain for one of the reasons in RESUMABLE; return how many."""
        taken = 0
        most = {BASE: model.max, BURST: model.burst}
        for instance in self.phases(*USABLE):
            most[instance.kind] -= 1
        for instance in self.present:
            usable = (
                instance.draining_since is not None
                and not instance.leaving
                and instance.drain_reason in RESUMABLE
                and self.phase[instance.id] is Phase.READY
                and instance.id not in self.decided
                and not self.outdated(instance, model)
            )
            if usable and taken < missing and most[instance.kind] > 0:
                self.first.append(Resume(instance.id))
                self.decided.add(instance.id)
                most[instance.kind] -= 1
                taken += 1
        return taken

    def back_out(self, old: Sequence[Instance], fresh: Sequence[Instance]) -> None:
        """After a failed rollout, resume draining old instances until enough serve."""
        if not self.memory.failures:
            return
        serving = sum(self.phase[instance.id] is Phase.READY for instance in (*old, *fresh))
        for instance in self.present:
            returns = (
                instance.draining_since is not None
                and not instance.leaving
                and instance.drain_reason == REPLACED
                and self.phase[instance.id] is Phase.READY
                and instance.id not in self.expiring
            )
            if returns and serving < self.wanted:
                self.last.append(Resume(instance.id))
                self.decided.add(instance.id)
                serving += 1

    # --- what is asked for ---------------------------------------------------------------------------

    def asks(
        self, model: ModelSettings, old: Sequence[Instance], fresh: Sequence[Instance], missing: int
    ) -> Optional[Ask]:
        """Return which of the missing instances to ask for, within the model's own bounds; None for none."""
        if missing <= 0 or self.now < self.memory.retry_at:
            return None
        bursts = sum(one.kind == BURST for one in fresh)
        base_wanted = min(self.wanted, model.max)
        standing_in = max(0, bursts - max(0, self.wanted - model.max))
        base = max(0, base_wanted - (len(fresh) - bursts) - standing_in)
        base = min(base, missing)
        burst = missing - base
        most = self.at_once(old, fresh, missing)
        base = min(base, most, self.free(BASE, model.max, old) if base else 0)
        # One extra successor at most: for base and burst together, and for each of the two.
        beyond = model.most + 1 - sum(not only_completing(one) for one in self.present) - base
        burst = min(burst, most - base, beyond, self.free(BURST, model.burst, old) if burst else 0)
        if base + burst <= 0:
            return None
        serving = sum(self.phase[one.id] is Phase.READY for one in old) + len(fresh)
        unmet = serving < model.min
        return Ask(
            model=self.name,
            base=base,
            burst=burst,
            have=serving,
            wanted=self.wanted,
            priority=model.priority,
            gpus=model.gpus,
            nodes=model.nodes,
            waiting=unmet or self.demand.asked > 0,
            cold=not self.present and not unmet,
            short_since=self.memory.short_since,
            slurm_scope=model.slurm_scope,
            refused_at=self.memory.refused_at,
        )

    def free(self, kind: str, most: int, old: Sequence[Instance]) -> int:
        """Return how many more of this kind may be submitted: up to `most`, and one more as a successor."""
        backoff = self.memory.burst_refused if kind == BURST else self.memory.refused
        self.obstacle = self.obstacle or backoff.reason
        if not most or self.now < backoff.until:
            return 0
        mine = [one for one in self.present if one.kind == kind and not only_completing(one)]
        for one in mine:
            if self.phase[one.id] is Phase.PENDING and "maintenance" in one.reason.lower():
                self.obstacle = self.obstacle or f"job {one.job_id} waits for a maintenance: {one.reason}"
                return 0
        replacing = any(one.kind == kind for one in old) or any(self.goes(one) for one in mine)
        left = most + replacing - len(mine)
        if backoff.count:
            unproven = any(not one.job_id and not one.submit_error for one in mine)
            left = min(left, 0 if unproven else 1)
        return max(0, left)

    def at_once(self, old: Sequence[Instance], fresh: Sequence[Instance], missing: int) -> int:
        """Return how many may be submitted in this decision: few during a rollout or after failures."""
        most = min(missing, MOST_AT_ONCE)
        rolling = sum(self.phase[one.id] is Phase.READY and one.id not in self.expiring for one in old)
        if rolling:
            coming = any(self.phase[one.id] is not Phase.READY for one in fresh)
            most = min(most, max(0, missing - rolling) + (not coming))
        if self.memory.failures:
            unproven = [one for one in self.phases(*COMING) if one not in old]
            most = min(most, 1 - len(unproven))
        return max(0, most)

    # --- fewer ---------------------------------------------------------------------------------------

    def retire(self, old: Sequence[Instance], fresh: Sequence[Instance]) -> None:
        """Drain as many outdated instances as newer ones replace."""
        serving = [instance for instance in old if self.phase[instance.id] is Phase.READY]
        for instance in old:
            if instance not in serving:
                self.cancel(instance, REPLACED)
        ready = sum(self.phase[instance.id] is Phase.READY for instance in fresh)
        left = len(serving)
        for instance in sorted(serving, key=lambda one: one.id not in self.expiring):
            # After a failure, successors do not count until one is steady: they may fail like the last one.
            proven = ready if instance.id in self.expiring or not self.memory.failures else 0
            if proven + left > self.wanted:
                self.last.append(Drain(instance.id, REPLACED))
                self.decided.add(instance.id)
                left -= 1

    def shrink(self, fresh: Sequence[Instance], surplus: int) -> None:
        """End `surplus` instances: first those that are not ready, then burst ones, then the least loaded."""
        reason = BUDGET if self.gpu_hours_spent else IDLE
        for instance in sorted(fresh, key=self.removal_order)[:surplus]:
            if self.phase[instance.id] is Phase.READY:
                self.last.append(Drain(instance.id, reason))
                self.decided.add(instance.id)
            else:
                self.cancel(instance, reason)

    def removal_order(self, instance: Instance) -> tuple[bool, bool, bool, bool, int, float]:
        """Return an instance's rank when some must end: the smallest ends first, the newest among equals.

        Among those that are not ready, a requeued one ends first, because it may not start for two minutes;
        one that is starting already ends last.
        """
        found = self.phase[instance.id]
        ready = found is Phase.READY
        load = self.demand.load(instance.id) if ready else 0
        soon = ready or instance.reason != REQUEUED
        starts = ready or found is Phase.STARTING
        return ready, soon, instance.kind != BURST, starts, load, -instance.created

    def end_drained(self) -> None:
        """Cancel draining instances that have nothing left to answer."""
        for instance in self.present:
            since = instance.draining_since
            if since is None or instance.id in self.decided or instance.cancelled_at is not None:
                continue
            waited = self.now - since
            quiet = self.demand.load(instance.id) == 0 and waited >= DRAIN_GRACE
            serves = self.phase[instance.id] in (Phase.READY, Phase.SICK)
            if not serves or quiet or waited >= self.settings.drain_timeout:
                self.cancel(instance, instance.drain_reason)

    def conclude(self, granted: int, short: bool, reason: str) -> None:
        """Note how many instances were granted, whether room was missing (`short`), and the obstacle."""
        since = self.memory.short_since
        if self.ask is None or self.ask.have or granted:
            since = 0.0
        elif short:
            since = since or self.now
        reason = self.obstacle or reason
        if (since, reason) != (self.memory.short_since, self.memory.obstacle):
            self.memory = replace(self.memory, short_since=since, obstacle=reason)

    # --- for other models ----------------------------------------------------------------------------

    def idle(self) -> list[Idle]:
        """Return the instances that serve nobody and are not needed for `min` or for waiting requests."""
        model = self.model
        if model is None or self.unusable or self.orders.drained:
            return []
        usable = self.phases(*USABLE)
        kept = max(model.min, min(1, self.demand.asked))
        found = sorted((one for one in usable if self.serves_nobody(one)), key=self.removal_order)
        return [Idle(one, model.priority, self.memory.last) for one in found[: max(0, len(usable) - kept)]]

    def serves_nobody(self, instance: Instance) -> bool:
        """Whether the instance waits in the queue, or is ready while nobody asks for it."""
        found = self.phase[instance.id]
        if found is Phase.READY:
            return not self.demand.waiting and not self.demand.load(instance.id)
        return found is Phase.PENDING and not held_by_person(instance)
