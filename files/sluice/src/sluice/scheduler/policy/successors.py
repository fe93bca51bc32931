"""When an instance whose wall time is about to end gets a successor. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Optional

from sluice.scheduler.instances.instance import BASE, Instance
from sluice.scheduler.policy.decision import ModelSettings
from sluice.scheduler.policy.memory import CAUTIOUS, Memory, percentile

# The assumed time of a start, queue and load together, until one was measured.
DEFAULT_START = 300.0
# A successor should be ready so many seconds before Slurm warns the old instance.
MARGIN = 60.0


def start_time(memory: Memory) -> float:
    """Return the seconds from an instance's submission to ready that few starts exceed."""
    load = percentile(memory.load_times, CAUTIOUS)
    if load is None:
        return DEFAULT_START
    return load + (percentile(memory.queue_times, CAUTIOUS) or 0.0)


def lead(memory: Memory, model: ModelSettings) -> float:
    """Return how many seconds before the end of an instance its successor is submitted."""
    return start_time(memory) + MARGIN + model.warn


def expiring(
    instances: Iterable[Instance], model: ModelSettings, memory: Memory, now: float
) -> frozenset[str]:
    """Return the ids of the instances, all of one kind, that were ready and need a successor now.

    If more of them end together than there may be successors at a time, the first ones are replaced earlier.
    None is replaced in the first half of its wall time: replacing would never stop.
    """
    mine = [one for one in instances if _ends(one) is not None]
    early = lead(memory, model)
    if not mine or now < min(one.ends or 0.0 for one in mine) - early * len(mine):
        return frozenset()
    mine.sort(key=lambda one: -(one.ends or 0.0))
    begins: list[float] = []
    width = max(1, _most(mine, model) + 1 - len(mine))
    for index, instance in enumerate(mine):
        ends, started = instance.ends or 0.0, instance.started or 0.0
        begin = ends - early
        if index >= width:
            begin = min(begin, begins[index - width] - early)
        begins.append(max(begin, ends - (ends - started) / 2))
    return frozenset(one.id for one, begin in zip(mine, begins) if now >= begin)


def _most(instances: Sequence[Instance], model: ModelSettings) -> int:
    return model.max if all(one.kind == BASE for one in instances) else model.burst


def _ends(instance: Instance) -> Optional[float]:
    if instance.started is None or instance.ready_at is None:
        return None
    return instance.ends
