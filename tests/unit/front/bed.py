"""A front to test: the real listener, a stub engine behind it, a relay before it, all in one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from sluice.contracts.heads import ErrorHead, InstanceRequest, ResponseHead
from sluice.endpoint import Endpoint
from sluice.front.config import EngineAddress, FrontConfig
from sluice.front.identity import Identity
from sluice.front.listener import Listener
from sluice.wire import events
from sluice.wire.connection import Connection, Side
from sluice.wire.hello import Hello, Limits
from sluice.wire.links import RELAY_FRONT
from tests.fakes.engine import Behaviour, StubEngine

REQUEST_ID = "req-" + "0" * 31 + "1"
CHAT = "/v1/chat/completions"
SECONDS = 5.0


def config(tmp_path: Path, concurrency: int = 4, max_body: int = 1 << 20) -> FrontConfig:
    """Return the configuration of a front whose engine listens below `tmp_path`."""
    return FrontConfig(
        engine=EngineAddress(str(tmp_path / "engine.sock")),
        health_path="/health",
        private_dir=tmp_path,
        job_dir=tmp_path,
        instance="model-0123abcd",
        nonce="0123abcd",
        job_id="1",
        host="localhost",
        ports=range(30000, 40000),
        concurrency=concurrency,
        max_body=max_body,
    )


@dataclass
class Answer:
    """What came on one stream; `times`: when each piece of the body came."""

    stream: int
    head: Optional[ResponseHead] = None
    body: bytearray = field(default_factory=bytearray)
    times: list[float] = field(default_factory=list)
    error: Optional[ErrorHead] = None
    ended: bool = False

    @property
    def over(self) -> bool:
        """Whether the answer has ended."""
        return self.ended or self.error is not None

    @property
    def outcome(self) -> object:
        """The status of a complete answer, or the code of an error."""
        if self.error is not None:
            return self.error.code
        return self.head.status if self.head is not None and self.ended else None


class RelayClient:
    """A relay's side of one connection; with `reading` False it grants no credit, as if it had stalled."""

    def __init__(self, key: str, limits: Limits) -> None:
        self.answers: dict[int, Answer] = {}
        self.loads: list[int] = []
        self.why: Optional[str] = None
        self.reading = True
        self.greeted = asyncio.Event()
        self.connection = Connection(Side.CLIENT, Hello("test", limits), RELAY_FRONT, key=key)
        self.endpoint = Endpoint(
            self.connection,
            {
                events.HelloReceived: lambda _: self.greeted.set(),
                events.LoadReported: lambda event: self.loads.append(event.running),
                events.ResponseStarted: self._started,
                events.DataReceived: self._received,
                events.StreamEnded: self._ended,
                events.StreamFailed: self._failed,
            },
            on_lost=self._lost,
        )

    def open(self, method: str, path: str, length: int = 0, identifier: str = REQUEST_ID) -> Answer:
        """Open a request without its body."""
        stream = self.connection.open_request(InstanceRequest(identifier, method, path, length))
        self.answers[stream] = Answer(stream)
        self.endpoint.wake()
        return self.answers[stream]

    def send(self, answer: Answer, data: bytes, *, last: bool = False) -> None:
        """Send a part of a body."""
        self.connection.send_data(answer.stream, data)
        if last:
            self.connection.send_end(answer.stream)
        self.endpoint.wake()

    def start(self, method: str, path: str, body: bytes = b"", identifier: str = REQUEST_ID) -> Answer:
        """Send a whole request."""
        answer = self.open(method, path, len(body), identifier)
        self.send(answer, body, last=True)
        return answer

    async def ask(self, method: str, path: str, body: bytes = b"") -> Answer:
        """Send a whole request and wait for the end of its answer."""
        answer = self.start(method, path, body)
        await until(lambda: answer.over or self.why is not None, SECONDS)
        return answer

    def cancel(self, answer: Answer) -> None:
        """Cancel an answer."""
        self.connection.cancel(answer.stream)
        self.endpoint.wake()

    def _started(self, event: events.ResponseStarted) -> None:
        self.answers[event.stream].head = event.head

    def _received(self, event: events.DataReceived) -> None:
        answer = self.answers[event.stream]
        answer.body += event.data
        answer.times.append(time.monotonic())
        if self.reading:
            self.connection.consume(event.stream, len(event.data))

    def _ended(self, event: events.StreamEnded) -> None:
        self.answers[event.stream].ended = True

    def _failed(self, event: events.StreamFailed) -> None:
        self.answers[event.stream].error = event.error

    def _lost(self, why: str) -> None:
        self.why = why
        self.greeted.set()


class Bed:
    """A running front."""

    def __init__(self, listener: Listener, port: int) -> None:
        self.listener = listener
        self.port = port
        self.key = listener.key

    async def silent(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Return a TCP connection on which nothing is sent, not even TLS."""
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def raw(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Return a TLS connection on which nothing has been sent."""
        return await asyncio.open_connection("127.0.0.1", self.port, ssl=trusting())

    async def connect(self, key: Optional[str] = None, limits: Optional[Limits] = None) -> RelayClient:
        """Return a relay after the front has accepted or refused it."""
        relay = RelayClient(self.key if key is None else key, limits or Limits(session_credit=1 << 24))
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: relay.endpoint, "127.0.0.1", self.port, ssl=trusting())
        await asyncio.wait_for(relay.greeted.wait(), SECONDS)
        return relay


def trusting() -> ssl.SSLContext:
    """Return a client's context that accepts any certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@contextlib.asynccontextmanager
async def front(
    tmp_path: Path, identity: Identity, concurrency: int = 4, max_body: int = 1 << 20, **changes: Any
) -> AsyncIterator[Bed]:
    """Run a front; `changes` are attributes of its configuration."""
    settings = config(tmp_path, concurrency, max_body)
    for name, value in changes.items():
        object.__setattr__(settings, name, value)
    listener = Listener(settings, identity)
    port = await listener.start()
    try:
        yield Bed(listener, port)
    finally:
        listener.stop()
        await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def bed(
    tmp_path: Path, identity: Identity, behaviour: Optional[Behaviour] = None, **changes: Any
) -> AsyncIterator[tuple[Bed, RelayClient, StubEngine]]:
    """Run an engine, a front before it, and a relay."""
    async with (
        StubEngine(behaviour or Behaviour(), tmp_path / "engine.sock") as engine,
        front(tmp_path, identity, **changes) as running,
    ):
        relay = await running.connect()
        yield running, relay, engine
        relay.endpoint.abort()


def chat(stream: bool = False) -> bytes:
    """Return a small chat request."""
    return json.dumps({"model": "m", "messages": [], "stream": stream}).encode()


async def until(condition: Callable[[], object], seconds: float = 60.0) -> float:
    """Wait until the condition holds; return the time in turns of the loop: a busy machine adds none."""
    took = 0.0
    while not condition():
        assert took < seconds, "did not come true in time"
        await asyncio.sleep(0.005)
        took += 0.005
    return took


@contextlib.asynccontextmanager
async def scripted(
    tmp_path: Path, serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
) -> AsyncIterator[list[asyncio.StreamWriter]]:
    """Run an engine that the test provides; yield the connections that it accepted."""
    taken: list[asyncio.StreamWriter] = []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        taken.append(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await serve(reader, writer)

    async with await asyncio.start_unix_server(accept, tmp_path / "engine.sock"):
        yield taken
        for writer in taken:
            writer.transport.abort()
        await asyncio.sleep(0.01)
