"""Which instance gets a request, and what a client is told if none can take it. Pure."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from typing import Callable, Optional, TypeVar

from sluice.contracts.routing import RoutedInstance, RoutedModel
from sluice.errors import SluiceError

# An instance may have this many times its concurrency before requests go to the next one. The engine queues
# the surplus, and a conversation stays where its prefix is cached.
LOAD_FACTOR = 1.25
RETRY_AFTER = {
    "ready": 5.0,
    "starting": 15.0,
    "sleeping": 30.0,
    "failed": 60.0,
    "drained": 300.0,
    "unknown": 15.0,
}
LONGEST_RETRY_AFTER = 600.0

T = TypeVar("T")


def rank(affinity: str, instances: Sequence[RoutedInstance]) -> list[RoutedInstance]:
    """Return the instances in the order in which `affinity` prefers them (rendezvous hashing)."""
    if len(instances) < 2:
        return list(instances)
    salt = affinity.encode()[:64]
    return sorted(instances, key=lambda one: hashlib.blake2b(one.id.encode(), key=salt).digest())


def room(concurrency: int) -> int:
    """Return how many places of an instance may be taken before requests go to the next one."""
    return math.ceil(concurrency * LOAD_FACTOR)


def choose(
    ranked: Iterable[T],
    load: Callable[[T], int],
    room: int,
    *,
    least: bool = False,
    places: int = 1,
    most: int = 0,
) -> Optional[T]:
    """Return the first one that has room, None if none has; with `least` the one with the lowest load.

    `places`: how many the request needs. If it needs several and no instance has so many free, the least
    loaded one with room gets it, as long as its load stays within `most`. The engine queues the surplus, and
    meanwhile other requests go elsewhere.
    """
    if places == 1:
        free = (one for one in ranked if load(one) < room)
        return min(free, key=load, default=None) if least else next(free, None)
    candidates = list(ranked)
    enough = [one for one in candidates if load(one) + places <= room]
    if enough:
        return min(enough, key=load) if least else enough[0]
    some = (one for one in candidates if load(one) < room and load(one) + places <= most)
    return min(some, key=load, default=None)


def ready(model: RoutedModel) -> list[RoutedInstance]:
    """Return the instances that take new requests; those with a stalled engine only if all have one."""
    serving = [instance for instance in model.instances if instance.state == "ready"]
    return [instance for instance in serving if not instance.stalled] or serving


def retry_after(model: RoutedModel, now: float) -> float:
    """Return after how many seconds another try may succeed.

    A ready model has free places as soon as requests end, long before its next instance is ready.
    """
    if model.status != "ready" and model.expected_ready is not None and model.expected_ready > now:
        return min(LONGEST_RETRY_AFTER, math.ceil(model.expected_ready - now))
    return RETRY_AFTER[model.status]


def without_instance(model: RoutedModel, now: float) -> SluiceError:
    """Return the error for a model none of whose instances takes requests; `now` is Unix time."""
    after = retry_after(model, now)
    if model.status != "ready":
        reason = f"the model has no ready instance now, it is {model.status}"
    elif model.starting:
        reason = "the model's instances have ended, others are starting"
    else:
        reason = "the model's instances have ended, and no other one is ready yet"
    return SluiceError("no_instance", reason, retry_after=after)
