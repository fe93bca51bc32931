"""How many instances a model's requests require. Pure.

`observe` folds in how many requests run or wait at one moment; `level` returns how many instances they need.

The number rises at once. An instance that is not needed is kept as long as keeping it costs less than
starting it again, judged by the model's pauses so far: a start takes its load time, and people wait for it.
For the first instance the pauses without any request count, for the others the pauses in which fewer
instances sufficed. Until enough pauses are known, an instance is kept for `idle_stop`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

# Pauses are counted by length, in classes of which each is twice as long as the one before.
SHORTEST = 15.0
CLASSES = 13
# Pauses shorter than BRIEF do not count (a tick without requests), nor do those longer than FORGOTTEN.
BRIEF = 45.0
FORGOTTEN = SHORTEST * 2 ** (CLASSES - 1)
# With so many pauses counted, all counts are halved, so that old habits fade.
REMEMBERED = 64.0
# With fewer pauses, nothing is known yet.
ENOUGH = 6.0
# An instance is never kept longer than so many times `idle_stop`.
LONGEST = 4.0
# `idle_stop` is how many seconds of an instance it is worth that nobody waits for a start of USUAL_START
# seconds; a longer start is worth more. For further instances this counts only by the share FURTHER: without
# them people wait for a place, not for a start.
USUAL_START = 120.0
FURTHER = 0.3
# If `idle_stop` is above USUAL_WORTH, places are kept for more requests than there are: up to one square root
# of their number more, which is reached at HIGH_WORTH.
USUAL_WORTH = 900.0
HIGH_WORTH = 3600.0
# The highest number of a model's instances that a trend can call for.
MOST_LEVELS = 256

NO_PAUSES = (0.0,) * CLASSES


@dataclass(frozen=True)
class Trend:
    """What is remembered of a model's requests.

    `needed` has for each number of instances (1, 2, …) the time at which the requests last needed so many;
    the times never rise along the tuple. `pauses` counts the pauses without any request, by class of length;
    `further` counts those in which fewer instances sufficed than before and after.
    """

    needed: tuple[float, ...] = ()
    pauses: tuple[float, ...] = NO_PAUSES
    further: tuple[float, ...] = NO_PAUSES


def observe(
    trend: Trend, asked: int, now: float, *, concurrency: int = 1, last: float = 0.0, idle_stop: float = 0.0
) -> Trend:
    """Return the trend with `asked` requests, running or waiting, at the time `now`.

    `concurrency` is how many one instance answers at once. `last` is the time of the last request, which may
    have come and gone between two calls (0: none known). If `idle_stop` is high, somewhat more requests are
    assumed, so that the next ones find a place.
    """
    spare = _room(idle_stop) * math.sqrt(asked) if asked > concurrency / 2 else 0.0
    levels = min(MOST_LEVELS, math.ceil((asked + spare) / concurrency))
    at = now
    if not levels:
        known = trend.needed[0] if trend.needed else 0.0
        if not known < last <= now:
            return trend
        levels, at = 1, last
    pauses, further = trend.pauses, trend.further
    for index, since in enumerate(trend.needed[:levels]):
        if at - since > BRIEF and index:
            further = _counted(further, at - since)
        elif at - since > BRIEF:
            pauses = _counted(pauses, at - since)
    rest = [since for since in trend.needed[levels:] if now - since <= FORGOTTEN]
    return Trend((at,) * levels + tuple(rest), pauses, further)


def level(trend: Trend, *, concurrency: int, load_time: float, idle_stop: float, now: float) -> int:
    """Return how many instances the trend calls for.

    `load_time` is how many seconds an instance takes from its submission to ready.
    """
    worth = idle_stop * load_time / USUAL_START
    first = _keep(trend.pauses, load_time + worth, idle_stop)
    rest = _keep(trend.further, load_time + FURTHER * worth, idle_stop)
    kept = 0
    for number, since in enumerate(trend.needed, 1):
        # An instance that is needed now counts even if it would be kept for 0 seconds.
        if since >= now or now - since < (rest if number > 1 else first):
            kept = number
    return kept


def _room(idle_stop: float) -> float:
    """Return the spare places to keep, in standard deviations (square roots) of the number of requests."""
    return min(1.0, max(0.0, (idle_stop - USUAL_WORTH) / (HIGH_WORTH - USUAL_WORTH)))


def _counted(counts: tuple[float, ...], pause: float) -> tuple[float, ...]:
    """Return the counts with one more pause of so many seconds."""
    found = 0 if pause < SHORTEST else min(CLASSES - 1, 1 + int(math.log2(pause / SHORTEST)))
    share = 0.5 if sum(counts) >= REMEMBERED else 1.0
    return tuple(count * share + (index == found) for index, count in enumerate(counts))


@lru_cache(maxsize=4096)
def _keep(pauses: tuple[float, ...], start: float, idle_stop: float) -> float:
    """Return for how many seconds to keep an instance that is not needed.

    It is the time that would have cost least over the known pauses: an instance costs its seconds while it is
    kept, and `start` seconds more for each pause that lasts longer.
    """
    if sum(pauses) < ENOUGH:
        return idle_stop
    best, least = 0.0, start * sum(pauses)
    paid, longer, begin = 0.0, sum(pauses), 0.0
    for index in range(CLASSES - 1):
        end = SHORTEST * 2.0**index
        paid += pauses[index] * (begin + end) / 2
        longer -= pauses[index]
        cost = paid + longer * (end + start)
        if cost < least:
            best, least = end, cost
        begin = end
    return min(best, LONGEST * idle_stop)
