"""A request takes one place for each answer that it asks for: at the relay, at instances, in the demand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sluice.bodies.costs import Bounds
from sluice.front.identity import Identity
from sluice.gate import choice as routing
from sluice.wire.hello import Hello
from tests.unit.relay.bed import MODEL, Behaviour, bed, chat, until


async def test_a_requests_places_are_its_instances_load_and_its_models_demand(
    tmp_path: Path, identity: Identity
) -> None:
    async with bed(tmp_path, identity, Behaviour(delay=0.2)) as running:
        answer = await running.client.begin(MODEL, chat(n=6), places=6)
        await until(lambda: running.fronts[0].received)
        (connection,) = running.session._services.connections._connections.values()
        assert connection.load == 6
        assert running.session._services.demand.running == {MODEL: 6}
        assert running.fronts[0].received[0].head.places == 6
        await running.client.wait(answer)
        await until(lambda: connection.load == 0)
        assert running.session._services.demand.running == {}


async def test_a_body_that_takes_more_places_than_its_head_says_is_refused(
    tmp_path: Path, identity: Identity
) -> None:
    async with bed(tmp_path, identity, Behaviour()) as running:
        for size in (0, 300_000):
            answer = await running.client.request(MODEL, chat(pad="x" * size, n=6), places=5)
            assert answer.code == "invalid_request"
        assert not any(one.complete for one in running.fronts[0].received)
        assert (await running.client.request(MODEL, chat(n=5), places=6)).code == ""


async def test_more_places_than_an_instance_has_are_refused(tmp_path: Path, identity: Identity) -> None:
    async with bed(tmp_path, identity, Behaviour()) as running:
        answer = await running.client.request(MODEL, chat(n=9), places=9)
        assert answer.code == "invalid_request"
        assert not running.fronts[0].received


async def test_what_an_older_proxy_sends_is_counted_before_it_goes_on(
    tmp_path: Path, identity: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bed(tmp_path, identity, Behaviour()) as running:
        peer = running.session._services.endpoint.connection.peer
        assert peer is not None
        monkeypatch.setattr(
            running.session._services.endpoint.connection,
            "peer",
            Hello(peer.software, peer.limits, peer.major, 1),
        )
        assert (await running.client.request(MODEL, chat(n=6))).code == ""
        assert running.fronts[0].received[0].head.places == 6
        assert (await running.client.request(MODEL, chat(n=9))).code == "invalid_request"


@pytest.mark.parametrize(
    ("loads", "places", "chosen"),
    [
        ({"a": 0, "b": 0}, 8, "a"),
        ({"a": 3, "b": 2}, 8, "b"),
        ({"a": 9, "b": 8}, 8, "b"),
        ({"a": 10, "b": 10}, 8, None),
        ({"a": 9, "b": 9}, 8, None),
        ({"a": 9, "b": 10}, 1, "a"),
    ],
)
def test_who_needs_places_that_no_instance_has_whole_goes_to_the_least_loaded(
    loads: dict[str, int], places: int, chosen: Any
) -> None:
    found = routing.choose(loads, loads.__getitem__, routing.room(8), places=places, most=16)
    assert found == chosen


async def test_a_clusters_bounds_are_told_and_kept(tmp_path: Path, identity: Identity) -> None:
    tools = [{"type": "function", "function": {"name": f"f{n}", "parameters": {}}} for n in range(3)]
    async with bed(tmp_path, identity, Behaviour(), schemas=Bounds(tools=2)) as running:
        peer = running.client.connection.peer
        assert peer is not None
        assert peer.schemas == Bounds(tools=2)
        answer = await running.client.request(MODEL, chat(tools=tools))
        assert answer.code == "invalid_request"
        assert answer.error is not None
        assert "at most 2 tools" in answer.error.message
        assert (await running.client.request(MODEL, chat(tools=tools[:2]))).code == ""
