"""Which instance takes a request, and what a client is told when none does. Pure."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from typing import Callable, Optional, TypeVar

from sluice.contracts.routing import Instance, RoutedModel
from sluice.errors import SluiceError

# How far above its concurrency an instance may be filled before its requests go to the next one: the
# engine queues the surplus, and a conversation stays where its prefix is cached.
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


def rank(affinity: str, instances: Sequence[Instance]) -> list[Instance]:
    """Return the instances in the order that `affinity` prefers them (rendezvous hashing)."""
    if len(instances) < 2:
        return list(instances)
    salt = affinity.encode()[:64]
    return sorted(instances, key=lambda one: hashlib.blake2b(one.id.encode(), key=salt).digest())


def room(concurrency: int) -> int:
    """Return how many requests an instance may have until the next one of the order is asked."""
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
    """Return the first that has room, None if there is none; with `least` the one with the lowest load.

    `places`: how many are asked for. Where several are and no instance has them all, the least loaded that
    has some takes them, up to `most`: the engine queues the surplus, and nobody else is sent there meanwhile.
    """
    if places == 1:
        free = (one for one in ranked if load(one) < room)
        return min(free, key=load, default=None) if least else next(free, None)
    lines = list(ranked)
    whole = [one for one in lines if load(one) + places <= room]
    if whole:
        return min(whole, key=load) if least else whole[0]
    some = (one for one in lines if load(one) < room and load(one) + places <= most)
    return min(some, key=load, default=None)


def ready(model: RoutedModel) -> list[Instance]:
    """Return the instances that take new requests: those with stalled engines only where all are."""
    serving = [instance for instance in model.instances if instance.state == "ready"]
    return [instance for instance in serving if not instance.stalled] or serving


def retry_after(model: RoutedModel, now: float) -> float:
    """Return after how many seconds asking again may help.

    A model that is ready has places again as soon as requests end, long before its next instance.
    """
    if model.status != "ready" and model.expected_ready is not None and model.expected_ready > now:
        return min(LONGEST_RETRY_AFTER, math.ceil(model.expected_ready - now))
    return RETRY_AFTER[model.status]


def without_instance(model: RoutedModel, now: float) -> SluiceError:
    """Return the error for a model of which nothing takes requests, saying what there is instead.

    `now` is Unix time.
    """
    after = retry_after(model, now)
    if model.status != "ready":
        reason = f"the model has no ready instance now, it is {model.status}"
    elif model.starting:
        reason = "the model's instances have ended, others are starting"
    else:
        reason = "the model's instances have ended, and no other one is ready yet"
    return SluiceError("no_instance", reason, retry_after=after)
