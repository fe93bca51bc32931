"""Builds the routing table from what is known. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Optional

from sluice import records
from sluice.records import ModelEntry, RoutedModel
from sluice.scheduler.instance import Instance, Phase, phase, routable
from sluice.scheduler.policy import Memory

COMING = (Phase.SUBMITTING, Phase.PENDING, Phase.STARTING)


@dataclass(frozen=True)
class Outlook:
    """What else the table says of a model: `wanted` instances, whether it `failed`, its `memory`.

    `drained` says that an administrator took it out of service.
    """

    wanted: int
    failed: bool
    memory: Memory
    drained: bool = False


def routed_models(
    entries: Mapping[str, ModelEntry],
    instances: Iterable[Instance],
    outlooks: Mapping[str, Outlook],
    known: bool,
    now: float,
) -> dict[str, RoutedModel]:
    """Return the table's models: those with an entry, as `entries` names them, and no others."""
    by_model: dict[str, list[Instance]] = {name: [] for name in entries}
    for instance in sorted(instances, key=lambda instance: (instance.created, instance.id)):
        if instance.model in by_model:
            by_model[instance.model].append(instance)
    return {
        name: _routed(entries[name], mine, outlooks.get(name, Outlook(0, False, Memory())), known, now)
        for name, mine in by_model.items()
    }


def _routed(
    entry: ModelEntry, instances: list[Instance], outlook: Outlook, known: bool, now: float
) -> RoutedModel:
    routed = tuple(_instance(instance) for instance in instances if routable(instance))
    coming = [one for one in instances if phase(one) in COMING and one.draining_since is None]
    ready = any(one.state == "ready" for one in routed)
    return RoutedModel(
        status=_status(ready, bool(coming), outlook, known),
        expected_ready=None if ready else expected_ready(coming, outlook.memory, now),
        context_length=entry.context_length,
        capabilities=entry.capabilities,
        groups=entry.groups,
        description=entry.description,
        concurrency=_concurrency(entry, instances),
        starting=len(coming),
        instances=routed,
    )


def _concurrency(entry: ModelEntry, instances: Iterable[Instance]) -> int:
    """Return how much relays may send to each instance.

    A front refuses what goes beyond twice the figure that its job was started with, so a raised one must not
    count in full until the instances of the old one are gone.
    """
    borne = [one.concurrency * 3 // 2 for one in instances if routable(one) and one.concurrency]
    return min([entry.concurrency, *(max(1, most) for most in borne)])


def _status(ready: bool, coming: bool, outlook: Outlook, known: bool) -> str:
    if ready:
        return "ready"
    if outlook.drained:
        return "drained"
    if not known:
        return "unknown"
    if outlook.failed:
        return "failed"
    return "starting" if coming or outlook.wanted else "sleeping"


def expected_ready(coming: Iterable[Instance], memory: Memory, now: float) -> Optional[float]:
    """Return when the first of the coming instances should be ready: its start plus the measured load time.

    None until a load time was measured. A pending job starts when Slurm estimates, or now.
    """
    load = memory.load_time
    starts = [_start(instance, now) for instance in coming]
    if load is None or not starts:
        return None
    return max(now + 1.0, min(starts) + load)


def _start(instance: Instance, now: float) -> float:
    if instance.running and instance.started is not None:
        return instance.started
    return max(now, instance.expected_start or now)


def _instance(instance: Instance) -> records.Instance:
    record = instance.record
    if record is None:
        raise ValueError(f"{instance.id} has no record")
    return records.Instance(
        id=instance.id,
        job_id=instance.job_id,
        host=record.host,
        port=record.port,
        certificate=record.certificate,
        key=record.key,
        state="ready" if instance.draining_since is None else "draining",
    )
