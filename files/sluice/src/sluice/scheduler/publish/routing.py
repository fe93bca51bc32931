"""Builds the routing table from the known instances. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Optional

from sluice.contracts import routing
from sluice.contracts.models import ModelEntry
from sluice.contracts.routing import RoutedModel
from sluice.scheduler.instances.instance import Instance, Phase, hung, phase, routable
from sluice.scheduler.policy.memory import Memory
from sluice.scheduler.publish import estimates

COMING = (Phase.SUBMITTING, Phase.PENDING, Phase.STARTING)


@dataclass(frozen=True)
class ModelOutcome:
    """What the policy says of a model: how many instances it wants, whether it counts as failed, its memory.

    `drained`: whether an administrator took it out of service.
    """

    wanted: int
    failed: bool
    memory: Memory
    drained: bool = False


def routed_models(
    entries: Mapping[str, ModelEntry],
    instances: Iterable[Instance],
    outcomes: Mapping[str, ModelOutcome],
    known: bool,
    now: float,
) -> dict[str, RoutedModel]:
    """Return the table's models by name: exactly those in `entries`. `known`: whether the queue is known."""
    by_model: dict[str, list[Instance]] = {name: [] for name in entries}
    for instance in sorted(instances, key=lambda instance: (instance.created, instance.id)):
        if instance.model in by_model:
            by_model[instance.model].append(instance)
    return {
        name: _routed(entries[name], mine, outcomes.get(name, ModelOutcome(0, False, Memory())), known, now)
        for name, mine in by_model.items()
    }


def _routed(
    entry: ModelEntry, instances: Sequence[Instance], outcome: ModelOutcome, known: bool, now: float
) -> RoutedModel:
    routed = tuple(_instance(one, entry.stall_timeout) for one in instances if routable(one))
    due = coming(instances)
    status = _status(any(one.state == "ready" for one in routed), bool(due), outcome, known)
    return RoutedModel(
        status=status,
        expected_ready=expected_ready(instances, status, outcome, now, entry.stall_timeout),
        context_length=entry.context_length,
        capabilities=entry.capabilities,
        groups=entry.groups,
        description=entry.description,
        concurrency=_concurrency(entry, instances),
        starting=len(due),
        instances=routed,
        usage=entry.usage,
        cache_isolation=entry.cache_isolation,
        created=int(outcome.memory.since),
    )


def _concurrency(entry: ModelEntry, instances: Iterable[Instance]) -> int:
    """Return how many requests relays may send to each instance at once.

    A front refuses requests beyond twice the concurrency that its job was started with. So a raised
    concurrency does not count in full until the instances with the old one are gone.
    """
    borne = [one.concurrency * 3 // 2 for one in instances if routable(one) and one.concurrency]
    return min([entry.concurrency, *(max(1, most) for most in borne)])


def _status(ready: bool, coming: bool, outcome: ModelOutcome, known: bool) -> str:
    if ready:
        return "ready"
    if outcome.drained:
        return "drained"
    if not known:
        return "unknown"
    if outcome.failed:
        return "failed"
    return "starting" if coming or outcome.wanted else "sleeping"


def expected_ready(
    instances: Sequence[Instance], status: str, outcome: ModelOutcome, now: float, stall_timeout: float = 0.0
) -> Optional[float]:
    """Return when the model's next instance should be ready; None if none is due or that is not known.

    For a ready model: the next additional instance, not a successor. For a sleeping model: the time if
    somebody asked for it now. For a failed or drained model: None.
    """
    if status in ("failed", "drained"):
        return None
    due = coming(instances)
    if status == "ready":
        ready = sum(serving(one) and not hung(one, stall_timeout) for one in instances)
        return estimates.coming(due, outcome.memory, now) if outcome.wanted > ready else None
    if status == "sleeping":
        return estimates.asleep(outcome.memory, now)
    return estimates.coming(due, outcome.memory, now)


def coming(instances: Iterable[Instance]) -> list[Instance]:
    """Return the instances that are not ready yet and are expected to be."""
    return [one for one in instances if phase(one) in COMING and one.draining_since is None]


def serving(instance: Instance) -> bool:
    """Whether relays may send new requests to the instance."""
    return routable(instance) and instance.draining_since is None and not instance.leaving


def _instance(instance: Instance, stall_timeout: float) -> routing.RoutedInstance:
    record = instance.record
    if record is None:
        raise ValueError(f"{instance.id} has no record")
    return routing.RoutedInstance(
        id=instance.id,
        job_id=instance.job_id,
        host=record.host,
        port=record.port,
        certificate=record.certificate,
        key=record.key,
        state="ready" if serving(instance) and not hung(instance, stall_timeout) else "draining",
        stalled=bool(instance.stalled),
    )
