"""A relay's session in this event loop: fronts and stub engines behind it, a wire client before it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

from sluice.front.config import EngineAddress, FrontConfig
from sluice.front.identity import Identity
from sluice.front.listener import Listener
from sluice.records import Instance, RoutedModel, RoutingTable, write_json
from sluice.relay.config import RelayConfig
from sluice.relay.session import Session
from sluice.wire.hello import Limits
from tests.fakes.engine import Behaviour, StubEngine
from tests.fakes.proxy import WireClient

MODEL = "tiny"


def chat(stream: bool = False, model: str = MODEL, **extra: Any) -> bytes:
    """Return a small chat request's body."""
    content = [{"role": "user", "content": "hello"}]
    return json.dumps({"model": model, "messages": content, "stream": stream, **extra}).encode()


def relay_config(directory: Path, **changes: Any) -> RelayConfig:
    """Return a relay's configuration with all its files in `directory`."""
    (directory / "demand").mkdir(exist_ok=True)
    base = RelayConfig(
        cluster="test",
        routing_table=str(directory / "routing.json"),
        demand_dir=str(directory / "demand"),
        figures=str(directory / "figures.json"),
        closed_file=str(directory / "closed"),
    )
    return replace(base, **changes)


def routed(instances: list[Instance], **changes: Any) -> RoutedModel:
    """Return a model of the routing table."""
    fields: dict[str, Any] = {
        "status": "ready" if instances else "sleeping",
        "expected_ready": None,
        "context_length": 2048,
        "capabilities": ("chat", "completions"),
        "groups": ("all",),
        "description": "",
        "concurrency": 8,
        "starting": 0,
        "instances": tuple(instances),
    }
    return RoutedModel(**{**fields, **changes})


def instance(number: int, identity: Identity, port: int, **changes: Any) -> Instance:
    """Return an instance on this machine."""
    fields: dict[str, Any] = {
        "id": f"{MODEL}-{number:08x}",
        "job_id": str(number + 1),
        "host": "127.0.0.1",
        "port": port,
        "certificate": identity.certificate,
        "key": identity.key,
        "state": "ready",
    }
    return Instance(**{**fields, **changes})


class Bed:
    """A session under test. `client` speaks to it; `engines` are behind `instances`, in the same order."""

    def __init__(self, directory: Path, identity: Identity) -> None:
        self.directory = directory
        self.identity = identity
        self.engines: list[StubEngine] = []
        self.listeners: list[Listener] = []
        self.instances: list[Instance] = []
        self.generation = 0
        self.client: WireClient
        self.session: Session
        self.ran: asyncio.Task[str]

    async def add(self, stack: contextlib.AsyncExitStack, behaviour: Behaviour) -> None:
        """Start an engine and its front."""
        number = len(self.engines)
        path = self.directory / f"engine-{number}.sock"
        self.engines.append(await stack.enter_async_context(StubEngine(behaviour, path)))
        config = FrontConfig(
            engine=EngineAddress(str(path)),
            health_path="/health",
            private_dir=self.directory,
            job_dir=self.directory,
            instance=f"{MODEL}-{number:08x}",
            nonce=f"{number:08x}",
            job_id="1",
            host="127.0.0.1",
            ports=range(30000, 40000),
            concurrency=8,
            max_body=1 << 24,
        )
        listener = Listener(config, self.identity)
        port = await listener.start()
        stack.callback(listener.stop)
        self.listeners.append(listener)
        self.instances.append(instance(number, self.identity, port))

    def publish(self, models: Optional[dict[str, RoutedModel]] = None, **changes: Any) -> None:
        """Write the routing table; without `models`, one model with all instances."""
        self.generation += 1
        if models is None:
            models = {MODEL: routed(changes.pop("instances", self.instances), **changes)}
        table = RoutingTable("test", self.generation, time.time(), models)
        write_json(self.directory / "routing.json", table.dump())

    def demand(self) -> Any:
        """Return the session's demand file as JSON; without models before it was first written."""
        for path in (self.directory / "demand").glob("[0-9a-f]*.json"):
            return json.loads(path.read_text())
        return {"models": {}}


async def until(condition: Callable[[], Any], seconds: float = 5.0) -> float:
    """Wait until the condition holds; return how long it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, "did not come true in time"
        await asyncio.sleep(0.01)
    return time.monotonic() - began


@contextlib.asynccontextmanager
async def bed(
    directory: Path,
    identity: Identity,
    *behaviours: Behaviour,
    limits: Optional[Limits] = None,
    hello: bool = True,
    **changes: Any,
) -> AsyncIterator[Bed]:
    """Run engines with these behaviours, their fronts, and a session with these settings.

    Without `hello` the test itself says the first words.
    """
    async with contextlib.AsyncExitStack() as stack:
        running = Bed(directory, identity)
        for behaviour in behaviours:
            await running.add(stack, behaviour)
        running.publish()
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=ours)
        running.session = Session(relay_config(directory, **changes), reader, writer)
        running.ran = asyncio.ensure_future(running.session.run())
        running.client = WireClient(*await asyncio.open_connection(sock=theirs), limits)
        if hello:
            await running.client.open()
        try:
            yield running
        finally:
            await running.client.close()
            await asyncio.wait_for(running.ran, 5)
            await asyncio.sleep(0)
    assert not any((directory / "demand").iterdir()), "the demand file must be gone with its relay"
