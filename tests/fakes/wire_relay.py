"""A relay's side of the wire in the test's process: real frames, no SSH, scripted answers."""

from __future__ import annotations

import asyncio
import collections
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

from sluice.contracts.heads import ErrorHead, RequestHead, ResponseHead
from sluice.contracts.metrics import MetricsSnapshot, Sample
from sluice.contracts.status import ModelsAnswer, ModelStatus
from sluice.proxy.clusters.transport import WRITE_BUFFER, Receiver, TransportError
from sluice.proxy.config import ClusterConfig
from sluice.wire import events
from sluice.wire.connection import Connection, Side
from sluice.wire.hello import Hello, Limits

JSON = "application/json"
EVENTS = "text/event-stream"


def model(name: str, **changes: Any) -> ModelStatus:
    """Return a model as a relay describes it."""
    fields: dict[str, Any] = {
        "name": name,
        "status": "ready",
        "ready": 1,
        "starting": 0,
        "running": 0,
        "concurrency": 64,
        "expected_ready": None,
        "context_length": 2048,
        "capabilities": ("chat", "completions"),
        "groups": ("all",),
        "description": "A model for tests",
        "usage": "none",
        "cache_isolation": "none",
        "created": 0,
    }
    return ModelStatus(**{**fields, **changes})


class Call:
    """One request that reached the relay."""

    def __init__(self, link: FakeTransport, stream: int, head: RequestHead) -> None:
        self.link = link
        self.stream = stream
        self.head = head
        self.parts: list[bytes] = []
        self.cancelled = asyncio.Event()
        self.began = time.monotonic()

    @property
    def body(self) -> bytes:
        """What has come of the body."""
        return b"".join(self.parts)

    def start(self, status: int = 200, content_type: str = JSON, instance: str = "smol-0badcafe") -> None:
        """Begin the answer."""
        self.link.wire.respond(self.stream, ResponseHead(status, content_type, instance))
        self.link.pump()

    def accept(self) -> None:
        """Say that an instance has accepted the stream."""
        self.link.wire.accept(self.stream)
        self.link.pump()

    async def send(self, data: bytes) -> None:
        """Send bytes of the answer; come back when the wire has taken them, as the relay does."""
        self.link.wire.send_data(self.stream, data)
        self.link.pump()
        while self.link.wire.pending(self.stream) and not self.cancelled.is_set():
            self.link.granted.clear()
            await self.link.granted.wait()

    def end(self) -> None:
        """Complete the answer."""
        self.link.wire.send_end(self.stream)
        self.link.pump()

    def fail(self, code: str, retry_after: float | None = None, breaks: int = 0) -> None:
        """End with an error frame."""
        head = ErrorHead(code, f"the relay says {code}", retry_after, breaks)
        self.link.wire.send_error(self.stream, head)
        self.link.pump()

    async def answer(self, document: Any, status: int = 200) -> None:
        """Answer with a JSON document."""
        self.start(status)
        await self.send(json.dumps(document).encode())
        self.end()


Answer = Callable[[Call], Awaitable[None]]


class FakeRelay:
    """The state that all sessions with one relay share; tests read and change it."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.cluster = "demo"
        self.models: list[ModelStatus] = [model("smol")]
        self.samples: list[Sample] = []
        self.calls: list[Call] = []
        self.demand: list[dict[str, int]] = []
        self.links: list[FakeTransport] = []
        self.refuse: TransportError | None = None
        self.limits = Limits()
        self.silent = False
        # Whether bodies are consumed as they come; if not, `FakeTransport.take` consumes them.
        self.takes = True

    def transport(self, config: ClusterConfig) -> FakeTransport:
        """Make the connection that a proxy asks for."""
        return FakeTransport(self)

    @property
    def link(self) -> FakeTransport:
        """The newest connection."""
        return self.links[-1]


class FakeTransport:
    """A transport whose far end is the fake relay."""

    def __init__(self, relay: FakeRelay) -> None:
        self.relay = relay
        self.wire = Connection(Side.SERVER, Hello("sluice-fake-1", relay.limits))
        self.calls: dict[int, Call] = {}
        self.tasks: set[asyncio.Task[None]] = set()
        self.receiver: Receiver | None = None
        self.closed = False
        self.received = 0
        self.granted = asyncio.Event()
        self.untaken: collections.Counter[int] = collections.Counter()

    async def connect(self, receiver: Receiver) -> None:
        """Connect, or refuse if the test wants it."""
        await asyncio.sleep(0)
        if self.relay.refuse is not None:
            raise self.relay.refuse
        self.receiver = receiver
        self.relay.links.append(self)
        self.pump()

    def can_write(self) -> bool:
        """Return True: the far end accepts everything at once."""
        return self.received < WRITE_BUFFER or not self.closed

    def write(self, data: bytes) -> None:
        """Take bytes from the proxy."""
        self.received += len(data)
        if self.closed or self.relay.silent:
            return
        for event in self.wire.receive(data):
            self._handle(event)
        self.pump()
        self.granted.set()

    def take(self) -> None:
        """Consume what has come of all bodies, and grant as much credit."""
        for stream, size in self.untaken.items():
            self.wire.consume(stream, size)
        self.untaken.clear()
        self.pump()

    def close(self) -> None:
        """End, from the proxy's side."""
        self.closed = True
        for task in self.tasks:
            task.cancel()

    async def wait_closed(self) -> None:
        """Nothing is left after `close`."""

    def die(self) -> None:
        """End as if the login node had lost power."""
        asyncio.get_running_loop().call_soon(self._die)  # after the bytes that are in transit

    def _die(self) -> None:
        self.closed = True
        if self.receiver is not None:
            self.receiver.connection_lost(TransportError("the far side closed the connection"))

    def pump(self) -> None:
        """Send what the wire's credit allows."""
        data = self.wire.data_to_send()
        if data and self.receiver is not None and not self.closed:
            asyncio.get_running_loop().call_soon(self._deliver, data)

    def _deliver(self, data: bytes) -> None:
        if self.receiver is not None and not self.closed:
            self.receiver.data_received(data)
            self.pump()

    def _handle(self, event: events.Event) -> None:
        if isinstance(event, events.RequestOpened):
            assert isinstance(event.head, RequestHead)
            call = self.calls[event.stream] = Call(self, event.stream, event.head)
            self.relay.calls.append(call)
        elif isinstance(event, events.DataReceived):
            self.calls[event.stream].parts.append(event.data)
            if self.relay.takes:
                self.wire.consume(event.stream, len(event.data))
            else:
                self.untaken[event.stream] += len(event.data)
        elif isinstance(event, events.StreamEnded):
            self._start(self.relay.answer(self.calls[event.stream]))
        elif isinstance(event, events.StreamCancelled) and event.stream in self.calls:
            self.calls[event.stream].cancelled.set()
        else:
            self._handle_question(event)

    def _handle_question(self, event: events.Event) -> None:
        if isinstance(event, events.ModelsOpened):
            answer = ModelsAnswer(cluster=self.relay.cluster, models=tuple(self.relay.models))
            self._tell(event.stream, answer.dump())
        elif isinstance(event, events.MetricsOpened):
            self._tell(event.stream, MetricsSnapshot(time.time(), tuple(self.relay.samples)).dump())
        elif isinstance(event, events.DemandOpened):
            self.relay.demand.append(event.head.models)
            self.wire.respond(event.stream, ResponseHead(204, JSON))
            self.wire.send_end(event.stream)

    def _tell(self, stream: int, document: Any) -> None:
        self.wire.respond(stream, ResponseHead(200, JSON))
        self.wire.send_data(stream, json.dumps(document).encode())
        self.wire.send_end(stream)

    def _start(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
