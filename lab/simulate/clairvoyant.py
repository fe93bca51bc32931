"""(c) A plan that knows every request, every load time and every queue time in advance.

For each model it has exactly the instances that the requests need. It starts them early enough to be ready in
time. Between two uses it keeps an instance if that takes fewer GPU-seconds than a new start. A request that
finds no place may wait up to a bound, so that others gather meanwhile. One request in a hundred need not be
served in time: the uses that cost most GPU-seconds per request are left out.

It has advantages: it never waits for Slurm, the cluster is never full, no start fails, no node fails, no wall
time ends. It puts requests in their order onto the first instance with a place. Its GPU-hours are near the
optimum for the given 99th percentile; that they are the optimum is not proven.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from dataclasses import dataclass

from lab.simulate.load import Model, World
from lab.simulate.serving import AT_ONCE, Waits
from lab.simulate.simulation import Result

# This share of all requests may wait for ever without any effect on the 99th percentile.
LEFT_OUT = 0.0099


@dataclass
class Use:
    """One stretch of time in which an instance has requests, and how many it served."""

    begin: float
    end: float
    requests: int


def plan(world: World, bound: float, left_out: float = LEFT_OUT) -> Result:
    """Return the cost of serving all requests except a share of them with no wait above `bound` seconds."""
    waits, starts, seconds = Waits(), 0, 0.0
    savings: list[tuple[float, int]] = []
    for model in world.models:
        for uses in _Packing(model, bound, waits).levels():
            cost, count = _cost(uses, model.load_median)
            seconds += cost * model.gpus
            starts += count
            savings += _savings(uses, model)
    total = waits.at_once + len(waits.waited)
    allowance = int(left_out * total)
    for saved, requests in sorted(savings, key=lambda saving: -saving[0] / saving[1]):
        if requests <= allowance:
            allowance -= requests
            seconds -= saved
            waits.waited.extend([math.inf] * requests)
            waits.at_once -= requests
    return Result(
        contestant="clairvoyant",
        setting=f"{1 - left_out:.0%} within {bound:g} s",
        gpu_hours=seconds / 3600,
        p99=waits.quantile(0.99),
        p999=waits.quantile(0.999),
        mean=math.nan if left_out else waits.mean(),
        delayed=len(waits.waited) / max(1, total),
        cut=0,
        submissions=starts,
        preempted=0,
    )


def _cost(uses: list[Use], load: float) -> tuple[float, int]:
    """Return an instance's seconds and starts: it is kept during pauses if that is cheaper."""
    cost, starts = load, 1
    for before, use in zip([None, *uses], uses):
        if before is not None:
            pause = use.begin - before.end
            starts += pause > load
            cost += min(pause, load)
        cost += use.end - use.begin
    return cost, starts


def _savings(uses: list[Use], model: Model) -> list[tuple[float, int]]:
    """Return, for every other use, the GPU-seconds saved without it, and how many requests it has.

    Two neighbours' savings would count the pause between them twice.
    """
    load, found = model.load_median, []
    for place in range(0, len(uses), 2):
        use = uses[place]
        before = use.begin - uses[place - 1].end if place else math.inf
        after = uses[place + 1].begin - use.end if place + 1 < len(uses) else math.inf
        length = use.end - use.begin
        saved = min(before, load) + length
        if after < math.inf:
            saved += min(after, load) - min(before + length + after, load)
        found.append((saved * model.gpus, use.requests))
    return found


class _Packing:
    """Puts one model's requests onto as few instances as possible."""

    def __init__(self, model: Model, bound: float, waits: Waits) -> None:
        self.model = model
        self.bound = bound
        self.waits = waits
        self.uses: list[list[Use]] = []
        self.running: list[int] = []
        self.ends: list[tuple[float, int]] = []
        self.waiting: deque[int] = deque()

    def levels(self) -> list[list[Use]]:
        """Return the uses of each instance."""
        for index, arrival in enumerate(self.model.arrivals):
            self._pass(arrival)
            level = -1 if self.waiting else self._place(arrival)
            if level >= 0:
                self._start(index, level, arrival)
            else:
                self.waiting.append(index)
                if not self.bound:
                    self._open(arrival)
        self._pass(math.inf)
        return self.uses

    def _pass(self, until: float) -> None:
        """Up to the time `until`, end requests, and begin those that have waited long enough."""
        while True:
            deadline = self.model.arrivals[self.waiting[0]] + self.bound if self.waiting else math.inf
            end = self.ends[0][0] if self.ends else math.inf
            now = min(deadline, end)
            if now >= until:
                return
            if end <= deadline:
                level = heapq.heappop(self.ends)[1]
                self.running[level] -= 1
                self.uses[level][-1].end = end
                if self.waiting:
                    self._start(self.waiting.popleft(), level, end)
            else:
                self._open(deadline)

    def _open(self, now: float) -> None:
        """Add an instance, and begin the waiting requests on it."""
        level = next((place for place, count in enumerate(self.running) if not count), len(self.running))
        for _ in range(min(len(self.waiting), self.model.concurrency)):
            self._start(self.waiting.popleft(), level, now)

    def _place(self, now: float) -> int:
        """Return the first instance in use with a free place, otherwise a kept one, otherwise -1."""
        for level, count in enumerate(self.running):
            kept = count or now - self.uses[level][-1].end <= self.model.load_median
            if kept and count < self.model.concurrency:
                return level
        return -1

    def _start(self, request: int, level: int, now: float) -> None:
        if level == len(self.running):
            self.running.append(0)
            self.uses.append([])
        uses = self.uses[level]
        if not self.running[level]:
            if uses and now <= uses[-1].end:
                uses[-1].end = now
            else:
                uses.append(Use(now, now, 0))
        self.running[level] += 1
        uses[-1].requests += 1
        heapq.heappush(self.ends, (now + self.model.durations[request], level))
        wait = now - self.model.arrivals[request]
        if wait < AT_ONCE:
            self.waits.at_once += 1
        else:
            self.waits.waited.append(wait)
