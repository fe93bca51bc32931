"""What the service has used of its bounds over time: GPU-hours per day, cold starts per hour. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Optional

from sluice.scheduler.instances.instance import Instance
from sluice.scheduler.policy.bounds import Spent

DAY = 86_400.0
HOUR = 3_600.0
# Only so many cold starts of an hour are remembered.
MOST_STARTS = 10_000


@dataclass(frozen=True)
class Ledger:
    """What was used on one day (days since the epoch, UTC): `gpu_seconds` until the time `at`.

    `starts` are the times of the last hour's cold starts, oldest first. Times in seconds since the epoch.
    """

    day: int = 0
    gpu_seconds: float = 0.0
    at: float = 0.0
    starts: tuple[float, ...] = ()


def advance(ledger: Ledger, instances: Iterable[Instance], now: float) -> Ledger:
    """Return the ledger with the GPU time of the instances' jobs since it was last advanced.

    Time without a look at the queue counts in full, up to a job's known end: what is not known is not free.
    A new day begins at 0. If the clock is set back, nothing is subtracted.
    """
    day = int(now // DAY)
    before = ledger.gpu_seconds if day == ledger.day else 0.0
    since = max(ledger.at, day * DAY)
    taken = sum(one.gpus * _held(one, since, now) for one in instances if one.gpus)
    return replace(ledger, day=day, gpu_seconds=before + taken, at=now, starts=_recent(ledger.starts, now))


def runs(before: Mapping[str, Instance], after: Mapping[str, Instance]) -> list[Instance]:
    """Return every run of a job between two looks at the queue; `before` and `after` are instances by id.

    A run that `after` no longer shows, because its job was requeued, is included as it was before: it may
    have held its nodes until now.
    """
    gone = (one for key, one in before.items() if not _goes_on(one, after.get(key)))
    return [*after.values(), *gone]


def started(ledger: Ledger, now: float) -> Ledger:
    """Return the ledger with one more cold start."""
    return replace(ledger, starts=(*_recent(ledger.starts, now), now)[-MOST_STARTS:])


def spent(ledger: Ledger, now: float) -> Spent:
    """Return how many GPU-hours were used today, and how many cold starts within the last hour."""
    seconds = ledger.gpu_seconds if int(now // DAY) == ledger.day else 0.0
    return Spent(gpu_hours=seconds / HOUR, cold_starts=len(_recent(ledger.starts, now)))


def _goes_on(run: Instance, later: Optional[Instance]) -> bool:
    """Whether the later look still shows this run, even if it has ended."""
    return later is not None and later.started == run.started


def _held(instance: Instance, since: float, now: float) -> float:
    """Return for how many seconds after `since` the job held its nodes."""
    if instance.started is None:
        return 0.0
    end = now if instance.ends is None else min(now, instance.ends)
    return max(0.0, end - max(since, instance.started))


def _recent(starts: Iterable[float], now: float) -> tuple[float, ...]:
    # After the clock was set back a time can lie in the future: it would count for ever, so it is dropped.
    return tuple(start for start in starts if now - HOUR < start <= now)
