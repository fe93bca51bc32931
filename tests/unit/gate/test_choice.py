"""Which instance gets a request, and what a client is told if none can take it."""

from __future__ import annotations

import collections

from sluice.contracts.routing import RoutedInstance
from sluice.front.identity import Identity
from sluice.gate.choice import choose, rank, ready, retry_after, room
from tests.fakes.routed import routed
from tests.unit.relay.bed import instance


def instances(identity: Identity, count: int) -> list[RoutedInstance]:
    return [instance(number, identity, 20000 + number) for number in range(count)]


def affinity(number: int) -> str:
    return f"{number:064x}"


def test_an_affinity_has_one_order(identity: Identity) -> None:
    pool = instances(identity, 5)
    assert rank(affinity(1), pool) == rank(affinity(1), list(reversed(pool)))
    assert len({tuple(one.id for one in rank(affinity(n), pool)) for n in range(50)}) > 10


def test_conversations_spread_evenly(identity: Identity) -> None:
    pool = instances(identity, 4)
    counts = collections.Counter(rank(affinity(n), pool)[0].id for n in range(2000))
    assert min(counts.values()) > 400


def test_one_instance_less_moves_its_own_conversations_alone(identity: Identity) -> None:
    pool = instances(identity, 4)
    gone = pool[2]
    for number in range(200):
        before = rank(affinity(number), pool)[0]
        after = rank(affinity(number), [one for one in pool if one is not gone])[0]
        assert before in (gone, after)


def test_a_full_instance_is_passed_over() -> None:
    order = ["a", "b", "c"]
    assert room(4) == 5
    assert choose(order, {"a": 0, "b": 0, "c": 0}.__getitem__, 5) == "a"
    assert choose(order, {"a": 4, "b": 0, "c": 0}.__getitem__, 5) == "a"
    assert choose(order, {"a": 5, "b": 2, "c": 0}.__getitem__, 5) == "b"
    assert choose(order, {"a": 5, "b": 6, "c": 9}.__getitem__, 5) is None


def test_without_affinity_the_least_loaded_is_asked() -> None:
    load = {"a": 3, "b": 1, "c": 5}
    assert choose(load, load.__getitem__, 5, least=True) == "b"
    assert choose([], load.__getitem__, 5, least=True) is None


def test_a_draining_instance_takes_nothing_new(identity: Identity) -> None:
    leaving = instance(9, identity, 20009, state="draining")
    assert ready(routed([*instances(identity, 1), leaving])) == instances(identity, 1)


def test_a_full_model_is_worth_asking_again_long_before_its_next_instance() -> None:
    assert retry_after(routed([], expected_ready=1600.0, status="ready"), 1000.0) == 5


def test_retry_after_is_what_the_scheduler_expects() -> None:
    assert retry_after(routed([], expected_ready=1042.5), 1000.0) == 43
    assert retry_after(routed([], expected_ready=9000.0), 1000.0) == 600
    assert retry_after(routed([], expected_ready=900.0, status="starting"), 1000.0) == 15
