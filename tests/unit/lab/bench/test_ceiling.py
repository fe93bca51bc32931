"""The bare ceiling of the benchmark: its stand-ins fit the parts of proxy and relay that they replace."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import aiohttp
import pytest

from lab.bench.ceiling import proxy
from lab.bench.ceiling.relay import CONNECTIONS, BareSession
from sluice.contracts.files import write_json
from sluice.contracts.paths import CAPABILITIES
from sluice.contracts.routing import RoutedInstance, RoutingTable
from sluice.front.config import EngineAddress
from sluice.front.engine import Engine
from sluice.front.identity import Identity
from tests.fakes.engine import Behaviour, StubEngine
from tests.fakes.routed import routed
from tests.unit.way.bed import CHAT, MODEL, Pipe, chat, proxy_config, relay_config, until

STAND_INS = (
    proxy.OneUser,
    proxy.NoStops,
    proxy.NoLimits,
    proxy.NoUsage,
    proxy.AlwaysAdmitted,
    proxy.NoQueues,
    proxy.AnySize,
    proxy.BareHandler,
    BareSession,
)
# Methods that a stand-in adds.
ADDED = {"_resume"}


@pytest.mark.parametrize("stand_in", STAND_INS)
def test_a_stand_in_overrides_only_methods_that_exist(stand_in: type) -> None:
    """If a method of the original gets another name, the stand-in's would never be called."""
    own = {name for name, value in vars(stand_in).items() if callable(value)} - ADDED
    assert [name for name in sorted(own) if not hasattr(stand_in.__base__, name)] == []


def publish(directory: Path, own: Identity) -> None:
    """Write a routing table with one ready instance; bare requests go to the engine, whatever it says."""
    instance = RoutedInstance(
        f"{MODEL}-00000000", "1", "127.0.0.1", 65_535, own.certificate, own.key, "ready"
    )
    model = routed([instance], capabilities=CAPABILITIES, groups=("users",), concurrency=64)
    table = RoutingTable("demo", 1, time.time(), {MODEL: model})
    write_json(directory / "routing.json", table.dump())


@pytest.mark.parametrize("stream", [False, True])
async def test_the_ceiling_answers_requests(tmp_path: Path, identity: Identity, stream: bool) -> None:
    """The stand-ins have none of their originals' attributes, so a method that runs by mistake fails."""
    (tmp_path / "demand").mkdir()
    publish(tmp_path, identity)
    address = EngineAddress(str(tmp_path / "engine.sock"))
    relay = relay_config(tmp_path)
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(StubEngine(Behaviour(), Path(address.path)))
        service = proxy.BareService(
            proxy_config(tmp_path), lambda _: Pipe(BareSession(relay, Engine(address, CONNECTIONS)))
        )
        await service.start()
        stack.push_async_callback(service.stop, drain=0.1)
        port = await service.listen_bare()
        await until(lambda: service.fleet.clusters[0].models_known)
        client = await stack.enter_async_context(aiohttp.ClientSession())
        body = {"model": MODEL, **chat(stream=stream)}
        async with client.post(f"http://127.0.0.1:{port}{CHAT}", json=body) as response:
            answer = await response.text()
    assert response.status == 200, answer
    assert ("[DONE]" in answer) == stream
    assert "content" in answer
