"""Which instance takes a request, and what the relay knows of the table."""

from __future__ import annotations

import collections
import itertools
import time
from pathlib import Path
from typing import Optional

import pytest

from sluice.contracts.files import write_json
from sluice.contracts.routing import Instance, RoutingTable
from sluice.front.identity import Identity
from sluice.gate.choice import RoutingFile, choose, rank, ready, retry_after, room
from tests.unit.relay.bed import MODEL, instance, routed


def instances(identity: Identity, count: int) -> list[Instance]:
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


def test_without_affinity_the_order_is_random(identity: Identity) -> None:
    pool = instances(identity, 4)
    assert len({rank("", pool)[0].id for _ in range(100)}) == 4


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


clock = itertools.count()


def current(routing: RoutingFile) -> Optional[RoutingTable]:
    """Return the table a second after the last look."""
    return routing.current(float(next(clock)))


def table(path: Path, generation: int) -> None:
    write_json(path, RoutingTable("test", generation, time.time(), {MODEL: routed([])}).dump())


def test_a_table_is_read_again_when_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "routing.json"
    routing = RoutingFile(str(path))
    assert current(routing) is None
    for generation in (1, 2):
        table(path, generation)
        newest = current(routing)
        assert newest is not None
        assert newest.generation == generation
        assert current(routing) is newest


def test_a_bad_table_keeps_the_last_good_one(tmp_path: Path) -> None:
    path = tmp_path / "routing.json"
    routing = RoutingFile(str(path))
    table(path, 1)
    good = current(routing)
    for bad in ("", "{", '{"version": 2}', '{"version": 1, "cluster": "x"}', "[]", "\x00" * 100):
        path.write_text(bad)
        assert current(routing) is good
    path.unlink()
    assert current(routing) is good
    table(path, 3)
    newest = current(routing)
    assert newest is not None
    assert newest.generation == 3


def test_a_table_that_cannot_be_read_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "routing.json"
    path.mkdir()
    routing = RoutingFile(str(path))
    for _ in range(3):
        assert current(routing) is None
    assert len(caplog.records) == 1
    path.rmdir()
    table(path, 1)
    assert current(routing) is not None
