"""What is remembered of a model between ticks: demand, failures, how long its starts took. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Optional

from sluice.scheduler.policy.bounds import SiteSettings
from sluice.scheduler.policy.target import Trend

MAX_BACKOFF = 600.0
# How many measured times of each kind are kept: enough for a 90th percentile, few enough to follow a change.
KEPT = 16
# Plans use this percentile of the measured times, which few starts exceed, not the median.
CAUTIOUS = 0.9
# Stalls that are further apart than this do not count as in a row.
STALL_MEMORY = 21_600.0


@dataclass(frozen=True)
class Backoff:
    """How often in a row Slurm refused a submission (`count`), and until when the next one waits (`until`).

    `at` is the time of the last refused submission's intent; `reason` is Slurm's, "" while nothing is
    refused. Times in seconds since the epoch.
    """

    count: int = 0
    at: float = 0.0
    until: float = 0.0
    reason: str = ""


@dataclass(frozen=True)
class Memory:
    """What is remembered of a model between ticks.

    Times are in seconds since the epoch. `trend`: that of its demand; `last`: the last request. `failures`:
    failed starts in a row, the last at `failed_at` for the reason `message`; nothing is submitted before
    `retry_at`. `ordered`: the last order that was followed. `load_times` (from the job's start to ready) and
    `queue_times` (from submission to start): the last measured ones in seconds, oldest first. `refused` and
    `burst_refused`: how long Slurm accepts no base or burst instance of this model. `short_since`: since when
    it has no instance because the bounds leave no room (0: it has one, or there is room). `refused_at`: when
    the last submission was made that Slurm refused, for any reason. `since`: when the model was first seen.
    `stalls`: how often in a row an instance was ended because it was stalled, the last at `stalled_at`.
    `obstacle`: why it has fewer instances than it wants, for people; "" if there is no obstacle.
    """

    digest: str = ""
    trend: Trend = field(default_factory=Trend)
    last: float = 0.0
    failures: int = 0
    failed_at: float = 0.0
    retry_at: float = 0.0
    message: str = ""
    load_times: tuple[float, ...] = ()
    queue_times: tuple[float, ...] = ()
    ordered: float = 0.0
    refused: Backoff = field(default_factory=Backoff)
    burst_refused: Backoff = field(default_factory=Backoff)
    short_since: float = 0.0
    obstacle: str = ""
    refused_at: float = 0.0
    since: float = 0.0
    stalls: int = 0
    stalled_at: float = 0.0

    @property
    def load_time(self) -> Optional[float]:
        """The median of the measured load times, None until one was measured."""
        return percentile(self.load_times, 0.5)


def percentile(values: Sequence[float], fraction: float) -> Optional[float]:
    """Return the smallest value that a share of `fraction` (0 to 1) does not exceed; None for no values."""
    if not values:
        return None
    return sorted(values)[max(0, math.ceil(fraction * len(values)) - 1)]


def measured_load(memory: Memory, seconds: float) -> Memory:
    """Return the memory with one more measured load time."""
    return replace(memory, load_times=(*memory.load_times, seconds)[-KEPT:])


def measured_queue(memory: Memory, seconds: float) -> Memory:
    """Return the memory with one more measured time in the queue."""
    return replace(memory, queue_times=(*memory.queue_times, seconds)[-KEPT:])


def failed(memory: Memory, settings: SiteSettings) -> bool:
    """Whether the model counts as failed."""
    return memory.failures >= settings.max_failures


def count_failure(memory: Memory, settings: SiteSettings, now: float, message: str) -> Memory:
    """Return the memory with one more failed start: the wait for the next doubles, up to 600 s."""
    failures = memory.failures + 1
    wait = doubled(settings.retry_backoff, failures)
    if failures >= settings.max_failures:
        wait = MAX_BACKOFF
    return replace(memory, failures=failures, failed_at=now, retry_at=now + wait, message=message)


def stalls(memory: Memory, now: float) -> int:
    """Return how many stalls in a row still count at the time `now`."""
    return memory.stalls if now - memory.stalled_at < STALL_MEMORY else 0


def count_stall(memory: Memory, now: float) -> Memory:
    """Return the memory with one more stall; the caller also counts it as a failed start.

    Long before an instance can stall it is steady, which resets `failures`. So stalls have their own count,
    and `failures` is raised to it. Otherwise somebody who repeats a request that makes engines hang could
    have one instance after the other ended at the shortest back-off.
    """
    if memory.stalled_at == now and memory.stalls:
        return memory
    before = stalls(memory, now)
    failures = max(memory.failures, before)
    return replace(memory, stalls=before + 1, stalled_at=now, failures=failures)


def doubled(first: float, times: int, most: float = MAX_BACKOFF) -> float:
    """Return the seconds to wait after `times` failures: `first`, doubled for each more, up to `most`."""
    return min(most, first * 2.0 ** min(max(0, times - 1), 30))
