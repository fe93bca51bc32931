"""How many instances the requests of a model call for. Pure.

`observe` folds in how many requests run or wait at one moment, `level` says what they call for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

# Peaks kept; older ones beyond them are merged into the next.
KEPT = 64


@dataclass(frozen=True)
class Trend:
    """What is remembered of a model's requests: falling peaks, as (time, requests), the last the newest.

    `now` is how many there were when it was last looked at.
    """

    peaks: tuple[tuple[float, ...], ...] = ()
    now: int = 0


def observe(trend: Trend, asked: int, now: float) -> Trend:
    """Return the trend with `asked` requests, running or waiting, at the time `now`."""
    higher = tuple(peak for peak in trend.peaks if peak[1] > asked and peak[0] <= now)
    return Trend((*higher[-KEPT + 1 :], (now, float(asked))), asked)


def level(trend: Trend, *, concurrency: int, load_time: float, idle_stop: float, now: float) -> int:
    """Return how many instances of `concurrency` requests each the trend calls for.

    It rises at once, and falls `idle_stop` seconds after the last peak that called for more. `load_time` is
    how long an instance takes from its submission to ready, in seconds.
    """
    recent = [peak[1] for peak in trend.peaks if now - peak[0] < idle_stop]
    return math.ceil(max([float(trend.now), *recent]) / concurrency)
