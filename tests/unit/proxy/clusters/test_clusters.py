"""Several sessions, login nodes and clusters: where a request goes, and what happens after a loss."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import aiohttp

from sluice.proxy.clusters.transport import TransportError
from sluice.proxy.config import ClusterConfig, ProxyConfig
from tests.fakes.wire_relay import EVENTS, Answer, Call, FakeRelay, FakeTransport, model
from tests.unit.proxy.conftest import CHAT, Bed, answer_well, chat, config, event, eventually, open_bed


class LoginNodes(FakeRelay):
    """Several relays behind one transport factory, by host name."""

    def __init__(self, *hosts: str, answer: Answer = answer_well) -> None:
        super().__init__(answer)
        self.by_host = {host: FakeRelay(answer) for host in hosts}

    def transport(self, config: ClusterConfig) -> FakeTransport:
        """Make the connection that a proxy asks for."""
        return self.by_host[config.host].transport(config)

    def served(self) -> str:
        """Return the host that got the newest request."""
        newest = {host: relay.calls[-1].began for host, relay in self.by_host.items() if relay.calls}
        return max(newest, key=lambda host: newest[host])


def settings(
    tmp_path: Path, *entries: tuple[str, str], sessions: int = 1, models_interval: float = 0.05
) -> ProxyConfig:
    """Return a configuration with these (cluster, host) entries."""
    plain = config(tmp_path)
    cluster = replace(plain.clusters[0], sessions=sessions, models_interval=models_interval)
    return replace(plain, clusters=tuple(replace(cluster, name=name, host=host) for name, host in entries))


# A poll of the models is a stream of its session: where streams are counted, none may come between.
NO_FURTHER_POLL = 3600.0


@asynccontextmanager
async def all_up(config: ProxyConfig, relays: FakeRelay) -> AsyncIterator[Bed]:
    """Yield a proxy whose sessions are up and whose clusters have reported their models."""
    async with open_bed(config, relays, wait=False) as bed:
        fleet = bed.service.fleet
        await eventually(
            lambda: (
                all(keeper.live for keeper in fleet.keepers)
                and all(cluster.models_known for cluster in fleet.clusters)
                and not any(keeper.open_streams for keeper in fleet.keepers)
            )
        )
        yield bed


def die(relay: FakeRelay) -> None:
    """End all of a relay's connections and let it refuse new ones."""
    relay.refuse = TransportError("login:22 cannot be reached")
    for link in relay.links:
        link.die()


class Endless:
    """Answers with one event, and with nothing more until `go_on` is set."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()

    async def __call__(self, call: Call) -> None:
        """Answer one request."""
        if b'"stream":true' not in call.body.replace(b" ", b""):
            await answer_well(call)
            return
        call.start(content_type=EVENTS)
        await call.send(event("first"))
        await self.go_on.wait()
        call.end()


async def open_stream(bed: Bed) -> aiohttp.ClientResponse:
    """Open a stream and read its first event."""
    response = await bed.http.post(f"http://proxy{CHAT}", json=chat(stream=True), headers=bed.headers())
    assert await response.content.readany() == event("first")
    return response


# --- sessions with one login node -----------------------------------------------------------------------


async def test_requests_go_to_the_session_with_the_fewest_streams(tmp_path: Path) -> None:
    endless = Endless()
    relay = FakeRelay(endless)
    counted = settings(tmp_path, ("demo", "login0"), sessions=3, models_interval=NO_FURTHER_POLL)
    async with all_up(counted, relay) as bed:
        streams = [await open_stream(bed) for _ in range(9)]
        assert sorted(Counter(id(call.link) for call in relay.calls).values()) == [3, 3, 3]
        assert [keeper.open_streams for keeper in bed.service.fleet.keepers] == [3, 3, 3]
        endless.go_on.set()
        for response in streams:
            await response.read()


async def test_one_of_two_sessions_killed_costs_its_own_streams_alone(tmp_path: Path) -> None:
    endless = Endless()
    relay = FakeRelay(endless)
    counted = settings(tmp_path, ("demo", "login0"), sessions=2, models_interval=NO_FURTHER_POLL)
    async with all_up(counted, relay) as bed:
        streams = [await open_stream(bed) for _ in range(40)]
        lost = relay.links[0]
        relay.refuse = TransportError("login:22 cannot be reached")
        on_it = sum(call.link is lost for call in relay.calls)
        assert on_it == 20
        asking = [asyncio.create_task(bed.post(chat())) for _ in range(20)]
        lost.die()
        asking += [asyncio.create_task(bed.post(chat())) for _ in range(20)]
        assert [status for status, _, _ in await asyncio.gather(*asking)] == [200] * 40
        endless.go_on.set()
        ends = [await response.read() for response in streams]
        assert sum(b'"code":"cluster_unreachable"' in end for end in ends) == on_it
        assert sum(end == b"" for end in ends) == 40 - on_it


# --- several login nodes --------------------------------------------------------------------------------


async def test_login_nodes_are_used_in_order_of_preference(tmp_path: Path) -> None:
    nodes = LoginNodes("login0", "login1")
    entries = ("demo", "login0"), ("demo", "login1")
    async with all_up(settings(tmp_path, *entries, sessions=2), nodes) as bed:
        assert (await bed.post(chat()))[0] == 200
        assert nodes.served() == "login0"
        die(nodes.by_host["login0"])
        for _ in range(5):
            assert (await bed.post(chat()))[0] == 200
        assert nodes.served() == "login1"
        nodes.by_host["login0"].refuse = None
        await eventually(lambda: all(keeper.live for keeper in bed.service.fleet.keepers))
        assert (await bed.post(chat()))[0] == 200
        assert nodes.served() == "login0"


async def test_a_login_node_whose_streams_are_all_in_use_is_helped_by_the_next(tmp_path: Path) -> None:
    endless = Endless()
    nodes = LoginNodes("login0", "login1", answer=endless)
    nodes.by_host["login0"].limits = replace(nodes.by_host["login0"].limits, max_streams=6)
    async with all_up(settings(tmp_path, ("demo", "login0"), ("demo", "login1")), nodes) as bed:
        streams = [await open_stream(bed) for _ in range(4)]
        assert nodes.served() == "login1"
        endless.go_on.set()
        for response in streams:
            await response.read()


# --- several clusters -----------------------------------------------------------------------------------


async def test_a_cluster_that_dies_is_replaced_by_the_next_and_preferred_again_when_back(
    tmp_path: Path,
) -> None:
    nodes = LoginNodes("a", "b")
    for host, relay in nodes.by_host.items():
        relay.cluster = host
    async with all_up(settings(tmp_path, ("a", "a"), ("b", "b"), sessions=2), nodes) as bed:
        assert (await bed.post(chat()))[0] == 200
        assert nodes.served() == "a"
        die(nodes.by_host["a"])
        for _ in range(5):
            assert (await bed.post(chat()))[0] == 200
        assert nodes.served() == "b"
        assert [record.cluster for record in await bed.settled()].count("b") == 5
        nodes.by_host["a"].refuse = None
        await eventually(lambda: bed.service.fleet.clusters[0].up)
        assert (await bed.post(chat()))[0] == 200
        assert nodes.served() == "a"


async def test_requests_that_wait_for_an_answer_of_a_cluster_that_dies_go_to_the_next(tmp_path: Path) -> None:
    nodes = LoginNodes("a", "b")

    async def never(call: Call) -> None:
        await asyncio.sleep(60)

    nodes.by_host["a"].answer = never
    async with all_up(settings(tmp_path, ("a", "a"), ("b", "b")), nodes) as bed:
        asking = [asyncio.create_task(bed.post(chat())) for _ in range(10)]
        await eventually(lambda: len(nodes.by_host["a"].calls) == 10)
        die(nodes.by_host["a"])
        assert [status for status, _, _ in await asyncio.gather(*asking)] == [200] * 10
        assert nodes.served() == "b"


async def test_a_model_is_asked_of_the_cluster_that_has_it_ready(tmp_path: Path) -> None:
    nodes = LoginNodes("a", "b")
    nodes.by_host["a"].models = [model("smol", status="sleeping", ready=0), model("only-a")]
    nodes.by_host["b"].models = [model("smol"), model("only-b")]
    async with all_up(settings(tmp_path, ("a", "a"), ("b", "b")), nodes) as bed:
        for name, host in (("smol", "b"), ("only-a", "a"), ("only-b", "b")):
            assert (await bed.post(chat(model=name)))[0] == 200
            assert nodes.served() == host
