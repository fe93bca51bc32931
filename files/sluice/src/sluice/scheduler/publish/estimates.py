"""When a model's next instance should be ready, from Slurm's own estimate and from measured times. Pure.

Users see these times, so they are rather too late than too early, and absent if nothing was measured. The
time in the queue varies very much, so its median is used. The load time varies little, so the time is used
that three quarters of the starts do not exceed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Optional

from sluice.scheduler.instances.instance import Instance
from sluice.scheduler.policy.memory import Memory, percentile

QUEUE_FRACTION = 0.5
LOAD_FRACTION = 0.75
# A start that takes longer than any before is expected to take this share of its time so far longer.
OVERDUE = 0.25
SOON = 1.0


def coming(instances: Iterable[Instance], memory: Memory, now: float) -> Optional[float]:
    """Return when the first of these instances, none of them ready yet, should be ready.

    None if there is no instance, or no load time was measured. Times in seconds since the epoch.
    """
    times = [_ready(instance, memory, now) for instance in instances]
    return min((time for time in times if time is not None), default=None)


def asleep(memory: Memory, now: float) -> Optional[float]:
    """Return when an instance would be ready if it were submitted now; None if no load time was measured."""
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
    """Return when a pending job should start: by Slurm's estimate, or else by earlier jobs' waits."""
    if instance.expected_start is not None:
        return max(now, instance.expected_start)
    return now + remaining(memory.queue_times, now - instance.created, QUEUE_FRACTION)


def remaining(times: Sequence[float], passed: float, fraction: float) -> float:
    """Return how many seconds more something takes that has taken `passed` seconds and took `times` before.

    Only earlier times above `passed` count. If there is none, the answer is a share of `passed`. 0 if nothing
    was measured.
    """
    if not times:
        return 0.0
    passed = max(0.0, passed)
    # The usual time counts until it has passed, then only the longer ones.
    usual = percentile(times, fraction) or 0.0
    if passed < usual:
        return usual - passed
    longer = percentile([time for time in times if time > passed], fraction)
    return passed * OVERDUE if longer is None else longer - passed
