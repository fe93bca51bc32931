"""When a model's next instance should be ready, from Slurm's own estimate and from measured times. Pure.

Users are told these times: rather too late than too early, and nothing where nothing was measured. For the
time in the queue the median counts, because it varies by more than anybody would wait for; for the load,
which is much the same each time, what three quarters of them do not exceed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Optional

from sluice.scheduler.instances.instance import Instance
from sluice.scheduler.policy.memory import Memory, percentile

QUEUE_FRACTION = 0.5
LOAD_FRACTION = 0.75
# Of what has passed already: how much longer something takes that took longer than ever before.
OVERDUE = 0.25
SOON = 1.0


def coming(instances: Iterable[Instance], memory: Memory, now: float) -> Optional[float]:
    """Return when the first of these instances, none of them ready yet, should be ready.

    None where there is none, or no load time was measured.
    """
    times = [_ready(instance, memory, now) for instance in instances]
    return min((time for time in times if time is not None), default=None)


def asleep(memory: Memory, now: float) -> Optional[float]:
    """Return when an instance should be ready if somebody asked for one now; None until one was measured."""
    load = percentile(memory.load_times, LOAD_FRACTION)
    if load is None:
        return None
    return now + (percentile(memory.queue_times, QUEUE_FRACTION) or 0.0) + load


def _ready(instance: Instance, memory: Memory, now: float) -> Optional[float]:
    load = percentile(memory.load_times, LOAD_FRACTION)
    if load is None:
        return None
    if instance.running and instance.started is not None:
        left = remaining(memory.load_times, now - instance.started, LOAD_FRACTION)
        return now + max(SOON, left)
    return max(now + SOON, _start(instance, memory, now) + load)


def _start(instance: Instance, memory: Memory, now: float) -> float:
    """Return when a job that waits should start: as Slurm says, else as long as others waited."""
    if instance.expected_start is not None:
        return max(now, instance.expected_start)
    return now + remaining(memory.queue_times, now - instance.created, QUEUE_FRACTION)


def remaining(times: Sequence[float], passed: float, fraction: float) -> float:
    """Return how many seconds are left of something that has taken `passed` and took `times` before.

    Only those that took longer than it has by now still tell anything; beyond all of them, a part of what has
    passed. 0 where nothing was measured.
    """
    if not times:
        return 0.0
    passed = max(0.0, passed)
    # What is usual stands until it is over; then the longer ones count.
    usual = percentile(times, fraction) or 0.0
    if passed < usual:
        return usual - passed
    longer = percentile([time for time in times if time > passed], fraction)
    return passed * OVERDUE if longer is None else longer - passed
