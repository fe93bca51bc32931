"""What the service may use of the cluster, and which model gets it if it is not enough for all. Pure.

The remaining capacity is what the site's bounds leave besides all present instances, pending and ending ones
included. It is given out one instance at a time, to the model with the highest priority. Among equals, a
model without an instance for which somebody waits comes first, then the one with the smallest share of what
it wants. A model that has had no instance for `STARVED` seconds because of missing room comes before all
others: what it needs is kept free, and idle instances of other models end for it.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Optional

from sluice.scheduler.instances.instance import BASE, BURST, Instance

STARVED = 600.0
# Further submissions wait for the next decision, to spare the controller.
MOST_AT_ONCE = 32


@dataclass(frozen=True)
class SiteSettings:
    """The site's bounds, 0 for none (but `max_instances` is never 0); times in seconds."""

    max_instances: int
    max_gpus: int = 0
    max_nodes: int = 0
    gpu_hours_per_day: float = 0.0
    cold_starts_per_hour: int = 0
    retry_backoff: float = 10.0
    max_failures: int = 5
    drain_timeout: float = 600.0
    pending_patience: float = 3600.0


@dataclass(frozen=True)
class Spent:
    """What was used: GPU-hours since the day began (UTC), cold starts within the last hour."""

    gpu_hours: float = 0.0
    cold_starts: int = 0


@dataclass(frozen=True)
class Capacity:
    """What may still be used; negative if a bound was lowered, or room is kept for a starved model."""

    instances: float
    gpus: float
    nodes: float

    def lacks(self, gpus: int, nodes: int) -> str:
        """Return the bound that an instance of that size would exceed, "" if it fits."""
        if self.instances < 1:
            return "max_instances"
        if gpus and self.gpus < gpus:
            return "max_gpus"
        return "max_nodes" if self.nodes < nodes else ""

    def less(self, gpus: int, nodes: int) -> Capacity:
        """Return the capacity that is left after one more instance of that size."""
        return Capacity(self.instances - 1, self.gpus - gpus, self.nodes - nodes)

    def more(self, instances: Iterable[Instance]) -> Capacity:
        """Return the capacity that there would be without these instances."""
        left = self
        for one in instances:
            left = Capacity(left.instances + 1, left.gpus + one.gpus, left.nodes + one.asked_nodes)
        return left


def whole(settings: SiteSettings) -> Capacity:
    """Return the capacity of a service without any instance."""
    return Capacity(
        settings.max_instances,
        settings.max_gpus or math.inf,
        settings.max_nodes or math.inf,
    )


def remaining(settings: SiteSettings, present: Iterable[Instance]) -> Capacity:
    """Return the capacity that the instances leave; `present` has every one that may still hold resources."""
    left = whole(settings)
    for one in present:
        left = left.less(one.gpus, one.asked_nodes)
    return left


@dataclass(frozen=True)
class Ask:
    """What one model asks for: `base` and `burst` instances, each with `gpus` and `nodes`.

    `have` of the `wanted` instances exist. `waiting`: somebody waits for it now, or it has fewer than `min`.
    `cold`: it has no instance at all, and only demand starts it. `short_since`: since when it has none
    because of missing room (0: it has one, or there was room). `slurm_scope`: the account, partition and QOS
    of its base instances; `refused_at` is when Slurm last refused one of its submissions.
    """

    model: str
    base: int
    burst: int = 0
    have: int = 0
    wanted: int = 1
    priority: int = 0
    gpus: int = 0
    nodes: int = 1
    waiting: bool = False
    cold: bool = False
    short_since: float = 0.0
    slurm_scope: str = ""
    refused_at: float = 0.0

    def starved(self, now: float) -> bool:
        """Whether it comes before all others, whatever the priorities."""
        return bool(self.short_since and self.waiting and not self.have) and self.waited(now) >= STARVED

    def waited(self, now: float) -> float:
        """Return for how many seconds it has had no instance because of missing room."""
        return now - self.short_since

    def rank(self, now: float) -> tuple[object, ...]:
        """Return its rank among the models that ask: the smallest is served first."""
        if self.starved(now):
            return (0, self.short_since, 0, 0, 0.0, 0, self.model)
        waking = self.waiting and not self.have
        share = self.have / max(1, self.wanted)
        return (1, -self.priority, not waking, not self.base, share, self.have, self.model)


@dataclass(frozen=True)
class Turn:
    """How many submissions may be tried (`left`) while Slurm refuses a scope, and why it does."""

    left: int
    reason: str


@dataclass
class Shares:
    """Which models got what: `granted` (model, kind) in order; for the others their obstacles.

    `no_room`: models that did not fit into the bounds. `starved`: the first starved model among them.
    """

    granted: list[tuple[str, str]] = field(default_factory=list)
    obstacles: dict[str, str] = field(default_factory=dict)
    no_room: set[str] = field(default_factory=set)
    starved: Optional[Ask] = None


# An ask in the queue: its rank, its model, and the ask itself.
Queued = tuple[tuple[object, ...], str, Ask]
NO_TURNS: Mapping[str, Turn] = {}


def share(
    asks: Iterable[Ask],
    left: Capacity,
    settings: SiteSettings,
    spent: Spent,
    now: float,
    most: int = MOST_AT_ONCE,
    turns: Mapping[str, Turn] = NO_TURNS,
    single: bool = False,
) -> Shares:
    """Return which of the asked instances may be submitted now, at most `most` of them.

    `turns`: how many submissions may be tried for each scope that Slurm refuses. `single`: Slurm refuses
    everybody, so models try one after the other.
    """
    shares = Shares()
    queue = _queue(asks, turns, single, now)
    tries = {scope: turn.left for scope, turn in turns.items()}
    colds = settings.cold_starts_per_hour - spent.cold_starts if settings.cold_starts_per_hour else math.inf
    while queue and len(shares.granted) < most:
        _, _, ask = heapq.heappop(queue)
        if ask.base and tries.get(ask.slurm_scope, 1) < 1:
            shares.obstacles[ask.model] = turns[ask.slurm_scope].reason
            # Its burst instances may have another account, partition or QOS.
            ask = replace(ask, base=0)
            if not ask.burst:
                continue
        lacks = left.lacks(ask.gpus, ask.nodes)
        if ask.cold and colds < 1:
            shares.obstacles[ask.model] = "the cold starts of this hour are used up (cold_starts_per_hour)"
        elif lacks:
            left = _refuse(shares, ask, lacks, left, settings, now)
        else:
            shares.granted.append((ask.model, BASE if ask.base else BURST))
            left = left.less(ask.gpus, ask.nodes)
            colds -= ask.cold
            if ask.base and ask.slurm_scope in tries:
                tries[ask.slurm_scope] -= 1
            rest = _less(ask)
            if rest.base + rest.burst:
                heapq.heappush(queue, (rest.rank(now), rest.model, rest))
    return shares


def _queue(asks: Iterable[Ask], turns: Mapping[str, Turn], single: bool, now: float) -> list[Queued]:
    """Return the asks by rank, as a heap.

    Models that Slurm refuses together take turns: the best of their ranks goes to the model whose last
    refusal is oldest. Otherwise the first of them would be refused for ever, and no other one would be tried.
    """
    together: dict[str, list[Ask]] = {}
    queue: list[Queued] = []
    for ask in asks:
        if single or (ask.base and ask.slurm_scope in turns):
            together.setdefault("" if single else ask.slurm_scope, []).append(ask)
        else:
            queue.append((ask.rank(now), ask.model, ask))
    for group in together.values():
        ranks = sorted(ask.rank(now) for ask in group)
        ordered = sorted(group, key=lambda ask: (ask.refused_at, ask.rank(now)))
        queue += [(rank, ask.model, ask) for rank, ask in zip(ranks, ordered)]
    heapq.heapify(queue)
    return queue


def _less(ask: Ask) -> Ask:
    """Return what is still asked for after one instance was granted."""
    base, burst = (ask.base - 1, ask.burst) if ask.base else (0, ask.burst - 1)
    return replace(ask, base=base, burst=burst, have=ask.have + 1, cold=False)


def _refuse(
    shares: Shares, ask: Ask, lacks: str, left: Capacity, settings: SiteSettings, now: float
) -> Capacity:
    """Note that there is no room, and keep future room free for a starved model. Return the capacity left."""
    if whole(settings).lacks(ask.gpus, ask.nodes):
        takes = f"{ask.gpus} GPUs on {ask.nodes} nodes"
        shares.obstacles[ask.model] = f"one instance needs {takes}, more than the service may use ({lacks})"
        return left
    shares.obstacles[ask.model] = f"the service's bounds allow no other instance ({lacks})"
    shares.no_room.add(ask.model)
    if not ask.starved(now):
        return left
    shares.starved = shares.starved or ask
    return left.less(ask.gpus, ask.nodes)


@dataclass(frozen=True)
class Idle:
    """An instance that serves nobody and that its model does not need now."""

    instance: Instance
    priority: int = 0
    last: float = 0.0


def reclaim(
    starved: Ask, left: Capacity, leaving: Sequence[Instance], idle: Iterable[Idle]
) -> list[Instance]:
    """Return the idle instances to end for a starved model; none if the instances in `leaving` are enough.

    The least important first: burst instances, then low priorities, then those unused for the longest time.
    """
    left = left.more(leaving)
    ended: list[Instance] = []
    order = sorted(
        (one for one in idle if one.instance.model != starved.model),
        key=lambda one: (one.instance.kind != BURST, one.priority, one.last, one.instance.id),
    )
    for one in order:
        lacks = left.lacks(starved.gpus, starved.nodes)
        if not lacks:
            return ended
        if _helps(one.instance, lacks):
            ended.append(one.instance)
            left = left.more([one.instance])
    return [] if left.lacks(starved.gpus, starved.nodes) else ended


def _helps(instance: Instance, lacks: str) -> bool:
    return lacks != "max_gpus" or instance.gpus > 0
