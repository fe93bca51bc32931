"""One model's state during a decision, and the actions decided for it so far. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

from sluice.scheduler.instances.instance import Instance, Phase, hung, phase
from sluice.scheduler.policy import memory_updates
from sluice.scheduler.policy.bounds import Ask, SiteSettings
from sluice.scheduler.policy.decision import Action, Cancel, ModelSettings, Orders, Situation, TotalDemand
from sluice.scheduler.policy.job_checks import STEADY
from sluice.scheduler.policy.memory import Memory, count_failure


class PlanState:
    """The base of a model's plan; lives for one call of `decide`.

    `first`: actions before this decision's submissions; `last`: actions after them. `ask`: which instances
    it asks for. `wanted`: how many instances it should have. `lost`: instances that are gone; `present`: the
    others. `decided`: ids of instances about which this decision has decided already.
    """

    def __init__(
        self,
        name: str,
        instances: Sequence[Instance],
        situation: Situation,
        settings: SiteSettings,
        now: float,
    ) -> None:
        self.name = name
        self.model = situation.models.get(name)
        self.unusable = name in situation.unusable
        self.demand = situation.demand.get(name, TotalDemand())
        self.orders = situation.orders.get(name, Orders())
        self.memory = situation.memory.get(name, Memory())
        self.settings = settings
        self.now = now
        spent = situation.spent.gpu_hours
        self.gpu_hours_spent = 0.0 < settings.gpu_hours_per_day <= spent
        self.first: list[Action] = []
        self.last: list[Action] = []
        self.ask: Optional[Ask] = None
        self.wanted = 0
        self.obstacle = ""
        self.phase = {instance.id: self.phase_of(instance) for instance in instances}
        self.lost = [one for one in instances if self.phase[one.id] is Phase.GONE]
        self.present = [one for one in instances if self.phase[one.id] is not Phase.GONE]
        self.decided: set[str] = set()
        self.expiring: frozenset[str] = frozenset()

    def phase_of(self, instance: Instance) -> Phase:
        """Return the instance's phase; a stalled engine counts as SICK, like a front that does not answer."""
        hangs = self.model is not None and hung(instance, self.model.stall_timeout)
        return Phase.SICK if hangs else phase(instance)

    def start_afresh(self) -> None:
        """Forget earlier failures."""
        digest = self.memory.digest if self.model is None else self.model.digest
        self.memory = memory_updates.without_failures(self.memory, digest)

    def steady(self, instance: Instance) -> bool:
        """Whether the instance has been ready for long enough to prove the model good again."""
        if self.phase[instance.id] is not Phase.READY or instance.ready_at is None:
            return False
        return instance.ready_at > self.memory.failed_at and self.now - instance.ready_at >= STEADY

    def fail(self, message: str) -> None:
        """Count one failed start, even if several instances failed in this tick."""
        if self.memory.failed_at != self.now or not self.memory.failures:
            self.memory = count_failure(self.memory, self.settings, self.now, message)

    def phases(self, *wanted: Phase) -> list[Instance]:
        """Return the instances in these phases, oldest first, except draining, leaving and decided ones."""
        found = [
            instance
            for instance in self.present
            if instance.draining_since is None
            and not instance.leaving
            and instance.id not in self.decided
            and self.phase[instance.id] in wanted
        ]
        return sorted(found, key=lambda instance: (instance.created, instance.id))

    def cancel(self, instance: Instance, reason: str, actions: Optional[list[Action]] = None) -> None:
        """Cancel the job; does nothing while its id is not known."""
        if instance.job_id:
            (self.last if actions is None else actions).append(Cancel(instance.id, reason))
            self.decided.add(instance.id)

    def cancel_failed(self, instance: Instance, problem: str) -> None:
        """Cancel an instance and count it as a failed start."""
        if instance.job_id:
            self.cancel(instance, problem, self.first)
            self.fail(f"job {instance.job_id}: {problem}")

    def outdated(self, instance: Instance, model: ModelSettings) -> bool:
        """Whether the instance must be replaced: for a new digest, an order, or the end of its wall time."""
        return instance.id in self.expiring or self.superseded(instance, model)

    def superseded(self, instance: Instance, model: ModelSettings) -> bool:
        """Whether the instance must be replaced for a new digest or an order."""
        if instance.digest not in ("", model.digest) or instance.id in self.orders.replace:
            return True
        return instance.created < self.orders.restart

    def goes(self, instance: Instance) -> bool:
        """Whether an instance that is still present no longer counts as capacity."""
        return (
            instance.draining_since is not None
            or bool(instance.leaving)
            or instance.id in self.decided
            or self.phase[instance.id] in (Phase.ENDING, Phase.SICK)
        )
