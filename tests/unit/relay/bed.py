"""A relay's session in this event loop, with a client of the wire and fronts that speak the wire over TLS."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Optional

from sluice.contracts.files import write_json
from sluice.contracts.heads import ErrorHead, InstanceRequest, ResponseHead
from sluice.contracts.routing import RoutedInstance, RoutedModel, RoutingTable
from sluice.endpoint import Endpoint
from sluice.front.identity import Identity
from sluice.relay.closed_file import STALE_SECONDS
from sluice.relay.config import RelayConfig
from sluice.relay.session import Session
from sluice.wire import events
from sluice.wire.connection import Connection, Side
from sluice.wire.hello import Hello, Limits
from sluice.wire.links import RELAY_FRONT
from tests.fakes.proxy import WireClient
from tests.fakes.routed import routed

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


def instance(number: int, identity: Identity, port: int, **changes: Any) -> RoutedInstance:
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
    return RoutedInstance(**{**fields, **changes})


@dataclass(frozen=True)
class Behaviour:
    """What a front does with every request. `delay` (before each token) in seconds.

    `fault`: a code of FAULTS; "late": `instance_failed` after a moment. `reading` false: it reads no body.
    """

    tokens: int = 8
    delay: float = 0.0
    token: str = "ab "
    fault: str = "none"
    status: int = 200
    reading: bool = True


# More faults than those of `_Served._misbehave`: where an answer breaks.
BREAKS = ("break", "cut-within", "stall")


@dataclass
class Received:
    """One request as a front saw it; `left`: when it was cancelled or cut off before its answer's end."""

    head: InstanceRequest
    body: bytearray = field(default_factory=bytearray)
    complete: bool = False
    left: Optional[float] = None
    finished: bool = False


class FakeFront:
    """A front without an engine: serves the wire over TLS until it is stopped."""

    def __init__(self, identity: Identity, behaviour: Behaviour) -> None:
        self.identity = identity
        self.behaviour = behaviour
        self.received: list[Received] = []
        self.endpoints: list[Endpoint] = []
        self.accepted = 0
        self.port = 0
        self.limits = Limits(stream_credit=65_536, session_credit=1 << 26, max_streams=256, max_body=1 << 26)
        self.tasks: set[asyncio.Task[None]] = set()
        self._made: list[Endpoint] = []
        self._server: Optional[asyncio.AbstractServer] = None

    async def start(self, port: int = 0) -> None:
        """Listen on a port of loopback."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._serve, "127.0.0.1", port, ssl=self.identity.context)
        self.port = self._server.sockets[0].getsockname()[1]

    def _serve(self) -> Endpoint:
        served = _Served(self).endpoint
        self._made.append(served)
        return served

    def stop(self) -> None:
        """Stop listening, and cut every connection, including those that are opening."""
        if self._server is not None:
            self._server.close()
        for endpoint in self._made:
            endpoint.abort()
        for task in self.tasks:
            task.cancel()

    def cut(self) -> None:
        """Cut every connection."""
        for endpoint in tuple(self.endpoints):
            endpoint.abort()

    def report_load(self, running: int) -> None:
        """Report that this many requests run here."""
        for endpoint in self.endpoints:
            endpoint.connection.send_load(running)
            endpoint.wake()


class _Served:
    """One relay's connection."""

    def __init__(self, front: FakeFront) -> None:
        self._front = front
        self._requests: dict[int, Received] = {}
        self._connection = Connection(
            Side.SERVER, Hello("fake", front.limits), RELAY_FRONT, key=front.identity.key
        )
        self.endpoint = Endpoint(
            self._connection,
            {
                events.HelloReceived: self._on_hello,
                events.RequestOpened: self._on_request,
                events.DataReceived: self._on_data,
                events.StreamEnded: self._on_end,
                events.StreamCancelled: self._on_cancel,
            },
            on_lost=self._on_lost,
        )

    def _on_hello(self, _: events.HelloReceived) -> None:
        self._front.accepted += 1
        self._front.endpoints.append(self.endpoint)

    def _on_lost(self, _: str) -> None:
        if self.endpoint in self._front.endpoints:
            self._front.endpoints.remove(self.endpoint)
        for stream in tuple(self._requests):
            self._leave(stream)

    def _on_request(self, event: events.RequestOpened) -> None:
        assert isinstance(event.head, InstanceRequest)
        received = Received(event.head)
        self._requests[event.stream] = received
        self._front.received.append(received)

    def _on_data(self, event: events.DataReceived) -> None:
        if not self._front.behaviour.reading:
            return
        received = self._requests.get(event.stream)
        if received is not None:
            received.body += event.data
        self._connection.consume(event.stream, len(event.data))

    def _on_end(self, event: events.StreamEnded) -> None:
        received = self._requests.get(event.stream)
        if received is None:
            return
        received.complete = True
        task = asyncio.get_running_loop().create_task(self._answer(event.stream, received))
        self._front.tasks.add(task)
        task.add_done_callback(self._front.tasks.discard)

    def _on_cancel(self, event: events.StreamCancelled) -> None:
        self._leave(event.stream)

    def _leave(self, stream: int) -> None:
        received = self._requests.pop(stream, None)
        if received is not None and not received.finished:
            received.left = time.monotonic()

    async def _answer(self, stream: int, received: Received) -> None:
        fault = self._front.behaviour.fault
        if fault == "late":
            await asyncio.sleep(0.1)
            fault = "instance_failed"
        if fault not in ("none", *BREAKS):
            self._misbehave(stream, fault)
        elif json.loads(bytes(received.body)).get("stream"):
            await self._stream_tokens(stream)
        else:
            await self._whole(stream)
        if received.left is None and fault == "none":
            received.finished = True
        self.endpoint.wake()

    def _misbehave(self, stream: int, fault: str) -> None:
        connection = self._connection
        if fault == "cut":
            self.endpoint.abort()
        elif fault == "nonsense":
            assert self.endpoint.transport is not None
            self.endpoint.transport.write(b"HTTP/1.1 200 OK\r\n\r\n" * 4)
        elif fault == "head":
            connection.respond(stream, ResponseHead(200, "text/event-stream"))
            connection.send_error(stream, ErrorHead("instance_failed", "the engine broke off"))
        elif fault != "hang":
            connection.send_error(stream, ErrorHead(fault, "canary: never passed on"))

    async def _whole(self, stream: int) -> None:
        behaviour = self._front.behaviour
        await asyncio.sleep(behaviour.delay * behaviour.tokens)
        self._connection.respond(stream, ResponseHead(behaviour.status, "application/json"))
        text = behaviour.token * behaviour.tokens
        answer = {"choices": [{"message": {"role": "assistant", "content": text}}]}
        self._connection.send_data(stream, json.dumps(answer).encode())
        self._connection.send_end(stream)

    async def _stream_tokens(self, stream: int) -> None:
        behaviour, connection = self._front.behaviour, self._connection
        connection.respond(stream, ResponseHead(200, "text/event-stream"))
        for number in range(behaviour.tokens):
            await asyncio.sleep(behaviour.delay)
            await self._room(stream)
            connection.send_data(stream, f"data: {behaviour.token}\n\n".encode())
            self.endpoint.wake()
            if behaviour.fault == "stall":
                return
            if behaviour.fault in BREAKS and number >= behaviour.tokens // 2:
                await asyncio.sleep(0.05)
                if behaviour.fault == "break":
                    connection.send_error(stream, ErrorHead("instance_failed", "broke"))
                else:
                    self.endpoint.abort()
                return
        connection.send_data(stream, b"data: [DONE]\n\n")
        connection.send_end(stream)

    async def _room(self, stream: int) -> None:
        for _ in range(20_000):
            if self._connection.pending(stream) <= 65_536:
                return
            await asyncio.sleep(0.005)


class Bed:
    """A session under test. `client` speaks to it; `fronts` are behind `instances`, in the same order."""

    def __init__(self, directory: Path, identity: Identity) -> None:
        self.directory = directory
        self.identity = identity
        self.fronts: list[FakeFront] = []
        self.instances: list[RoutedInstance] = []
        self.generation = 0
        self.client: WireClient
        self.session: Session
        self.ran: asyncio.Task[str]

    async def add(self, stack: contextlib.AsyncExitStack, behaviour: Behaviour) -> None:
        """Start a front."""
        front = FakeFront(self.identity, behaviour)
        await front.start()
        stack.callback(front.stop)
        self.instances.append(instance(len(self.fronts), self.identity, front.port))
        self.fronts.append(front)

    def publish(self, models: Optional[dict[str, RoutedModel]] = None, **changes: Any) -> None:
        """Write the routing table; without `models`, one model with all instances."""
        self.generation += 1
        if models is None:
            models = {MODEL: routed(changes.pop("instances", self.instances), **changes)}
        table = RoutingTable("test", self.generation, time.time(), models)
        write_json(self.directory / "routing.json", table.dump())
        # The relay may have looked just before.
        time.sleep(2 * STALE_SECONDS)

    def received(self) -> list[Received]:
        """Return the requests of all fronts."""
        return [one for front in self.fronts for one in front.received]

    def demand(self) -> Any:
        """Return the session's demand file as JSON; without models if it was not written yet."""
        for path in (self.directory / "demand").glob("[0-9a-f]*.json"):
            return json.loads(path.read_text())
        return {"models": {}}

    async def sample(self, name: str, **labels: str) -> float:
        """Return the value of one of the session's metrics, 0 if it does not exist."""
        answer = await self.client.verb("metrics")
        for one in answer.document()["samples"]:
            if one["name"] == name and labels.items() <= one["labels"].items():
                return float(one["value"])
        return 0.0


async def until(condition: Callable[[], Any], seconds: float = 60.0) -> float:
    """Wait until the condition holds; return how long it took, in turns: a busy machine changes nothing."""
    took = 0.0
    while not condition():
        assert took < seconds, "did not come true in time"
        await asyncio.sleep(0.01)
        took += 0.01
    return took


@contextlib.asynccontextmanager
async def bed(
    directory: Path,
    identity: Identity,
    *behaviours: Behaviour,
    limits: Optional[Limits] = None,
    hello: bool = True,
    **changes: Any,
) -> AsyncIterator[Bed]:
    """Run fronts with these behaviours and a session with these settings.

    Without `hello` the test itself sends the hello.
    """
    async with contextlib.AsyncExitStack() as stack:
        running = Bed(directory, identity)
        for behaviour in behaviours:
            await running.add(stack, behaviour)
        running.publish()
        ours, theirs = socket.socketpair()
        running.session = Session(relay_config(directory, **changes))
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: running.session.endpoint, sock=ours)
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
    await _gone(directory / "demand")


async def _gone(demand: Path) -> None:
    """Wait until a relay's demand file is gone; on a slow disk, a write may end after the relay."""
    for _ in range(200):
        if not _inside(demand):
            return
        await asyncio.sleep(0.05)
    raise AssertionError("the demand file must be gone with its relay")


def _inside(folder: Path) -> list[Path]:
    return list(folder.iterdir())
