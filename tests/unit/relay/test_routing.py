"""How the relay reads the routing table."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import Optional

import pytest

from sluice.contracts.files import write_json
from sluice.contracts.routing import RoutingTable
from sluice.relay.routing import RoutingFile
from tests.fakes.routed import routed
from tests.unit.relay.bed import MODEL

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
