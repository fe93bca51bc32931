"""How many instances a model's requests require. Pure.

`observe` folds in how many requests run or wait at one moment, `level` says what they call for.

It rises at once. An instance that is not needed is kept as long as keeping it is cheaper than to start it
again, judged by the model's own pauses so far: a start takes its load time, and makes people wait for it.
The first instance is judged by the pauses in which no request was there, the others by those in which fewer
instances sufficed. Where nothing is known yet, an instance is kept for `idle_stop`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

# Pauses are counted by length, in classes of which each is twice as long as the one before.
SHORTEST = 15.0
CLASSES = 13
# A tick without requests is no pause; nor is a pause known that is longer than the longest class.
BRIEF = 45.0
FORGOTTEN = SHORTEST * 2 ** (CLASSES - 1)
# So many pauses are remembered; then all counts are halved, so that old habits fade.
REMEMBERED = 64.0
# With fewer, nothing is known yet.
ENOUGH = 6.0
# What is learned keeps no instance longer than so many times `idle_stop`.
LONGEST = 4.0
# `idle_stop` is what it is worth, in seconds of an instance, that nobody waits for a start which takes so
# long; a longer one is worth more. A further instance is worth less: without it people wait for a place, not
# for a start.
USUAL_START = 120.0
FURTHER = 0.3
# Where waits are worth more than usual, places are kept for more requests than there are: so many times the
# square root of their number as `idle_stop` lies between these, at most once.
USUAL_WORTH = 900.0
HIGH_WORTH = 3600.0
# The most instances of a model that are told apart.
MOST_LEVELS = 256

NO_PAUSES = (0.0,) * CLASSES


@dataclass(frozen=True)
class Trend:
    """What is remembered of a model's requests.

    `needed` says for each number of instances (1, 2, …) when the requests last called for so many, the last
    first as the numbers fall. `pauses` counts, by length, the pauses without any request; `further` those in
    which fewer instances sufficed than before and after.
    """

    needed: tuple[float, ...] = ()
    pauses: tuple[float, ...] = NO_PAUSES
    further: tuple[float, ...] = NO_PAUSES


def observe(
    trend: Trend, asked: int, now: float, *, concurrency: int = 1, last: float = 0.0, idle_stop: float = 0.0
) -> Trend:
    """Return the trend with `asked` requests, running or waiting, at the time `now`.

    `concurrency` is what one instance takes at once; `last` the time of the last request, which may have come
    and gone since the trend was last looked at (0: none known). Where `idle_stop` is high, the trend is that
    of somewhat more requests, so that those who come next find a place.
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

    `load_time` is how long an instance takes from its submission to ready, in seconds.
    """
    worth = idle_stop * load_time / USUAL_START
    first = _keep(trend.pauses, load_time + worth, idle_stop)
    rest = _keep(trend.further, load_time + FURTHER * worth, idle_stop)
    kept = 0
    for number, since in enumerate(trend.needed, 1):
        # What is needed now counts however short an instance would be kept.
        if since >= now or now - since < (rest if number > 1 else first):
            kept = number
    return kept


def _room(idle_stop: float) -> float:
    """Return for how many standard deviations of a random number of requests there is to be room."""
    return min(1.0, max(0.0, (idle_stop - USUAL_WORTH) / (HIGH_WORTH - USUAL_WORTH)))


def _counted(counts: tuple[float, ...], pause: float) -> tuple[float, ...]:
    """Return the counts with one more pause of so many seconds."""
    found = 0 if pause < SHORTEST else min(CLASSES - 1, 1 + int(math.log2(pause / SHORTEST)))
    share = 0.5 if sum(counts) >= REMEMBERED else 1.0
    return tuple(count * share + (index == found) for index, count in enumerate(counts))


@lru_cache(maxsize=4096)
def _keep(pauses: tuple[float, ...], start: float, idle_stop: float) -> float:
    """Return for how many seconds to keep an instance that is not needed.

    It is the time for which the known pauses would have cost least: an instance is paid for while it is kept,
    and with `start` (seconds of an instance) for each pause that outlasts it.
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
