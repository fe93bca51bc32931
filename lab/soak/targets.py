"""The targets: what gets the inputs, and what must hold after each. One target serves all cases."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import Awaitable
from pathlib import Path
from random import Random
from typing import Any, Callable, Optional, Protocol
from unittest import mock

from lab.soak import mutate
from lab.soak.cluster import Demand, Folders, Queue
from lab.soak.memory import Memory
from sluice.bodies.kinds import OTHER
from sluice.bodies.positions import SCALARS
from sluice.bodies.scan import BodyScanner
from sluice.contracts.files import write_json
from sluice.contracts.heads import InstanceRequest, ResponseHead
from sluice.contracts.paths import CAPABILITIES
from sluice.contracts.routing import RoutedInstance, RoutedModel, RoutingTable
from sluice.errors import SluiceError
from sluice.front.config import EngineAddress
from sluice.front.connections import RelayConnection
from sluice.front.engine import Call, Engine, EngineConnection
from sluice.front.http import AnswerParser, InvalidAnswer
from sluice.front.stall import StallDetector
from sluice.relay.config import RelayConfig
from sluice.relay.connections import InstanceConnection
from sluice.relay.session import Session
from sluice.wire import events
from sluice.wire.connection import Connection, Side
from sluice.wire.frames import Decoder, FrameType, ProtocolError, encode
from sluice.wire.hello import Hello
from sluice.wire.links import PROXY_RELAY, RELAY_FRONT, Link

CORPUS = 100
GOLDEN = Path(__file__).parents[2] / "tests" / "golden" / "contracts"
ANSWERS = mutate.answers()
# Where writing whole costs no disk.
QUICK = Path("/dev/shm")
DATA = ResponseHead(200, "application/json")


class Target(Protocol):
    """Takes one input made by `chance`; raises an error if a required property does not hold."""

    def __call__(self, chance: Random) -> Optional[Awaitable[None]]:
        """Make an input and feed it."""


class Wire:
    """One end of the wire, with any bytes from its peer."""

    def __init__(self, link: Link, side: Side) -> None:
        peer = Side.CLIENT if side is Side.SERVER else Side.SERVER
        self._link, self._side = link, side
        self._corpus = mutate.sessions(Random(1), link, peer, CORPUS)

    def __call__(self, chance: Random) -> None:
        key = mutate.KEY if self._link.keyed else ""
        end = Connection(self._side, Hello("soak", mutate.ROOMY), self._link, key=key)
        raw = mutate.frames(chance, chance.choice(self._corpus))
        if chance.random() < 0.1:
            raw = mutate.random_frames(chance)
        end.data_to_send()
        for piece in mutate.pieces(chance, raw):
            try:
                found = end.receive(piece)
            except ProtocolError:
                self._check_refused(end)
                return
            for event in found:
                self._act(end, event)
            out = end.data_to_send()
            assert len(out) <= 4 * len(piece) + 100_000
        assert end.open_streams <= mutate.ROOMY.max_streams

    def _check_refused(self, end: Connection) -> None:
        said = Decoder().feed(end.data_to_send())
        if said or end.peer is not None or not (self._link.keyed and self._side is Side.SERVER):
            assert said[-1].type == FrameType.GO_AWAY or end.peer_going_away or end.going_away
        # Otherwise the peer was unauthenticated: it is sent nothing.
        try:
            end.receive(b"")
        except ProtocolError:
            return
        raise AssertionError("a broken session takes more")

    def _act(self, end: Connection, event: events.Event) -> None:
        if isinstance(event, events.HelloReceived) and self._side is Side.CLIENT:
            for number in range(5):
                head = InstanceRequest(f"req-{number:032x}", "POST", "/v1/completions", 5)
                end.send_data(end.open_request(head), b"hello")
        elif isinstance(event, events.DataReceived):
            end.consume(event.stream, len(event.data))
        elif isinstance(event, events.StreamEnded) and self._side is Side.SERVER:
            end.respond(event.stream, DATA)
            end.send_data(event.stream, b"{}")
            end.send_end(event.stream)


def scan(chance: Random) -> None:
    """A body that the scanner accepts is read by a JSON parser in the same way."""
    raw = chance.choice(mutate.BODIES)
    raw = mutate.fields(chance, raw) if chance.random() < 0.3 else mutate.noise(chance, raw)
    scanner = BodyScanner(chance.choice(CAPABILITIES))
    try:
        for piece in mutate.pieces(chance, raw):
            scanner.feed(piece)
        model = scanner.finish()
    except SluiceError:
        return
    try:
        document = json.loads(raw.decode("utf-8"), strict=False)
    except json.JSONDecodeError as error:
        assert "escape" in error.msg
        return
    assert document["model"] == model
    assert document.get("stream") is scanner.stream
    assert scanner.given == {
        name: OTHER if isinstance(document[name], (str, list, dict)) else document[name]
        for name in SCALARS
        if name in document
    }
    json.dumps(document, ensure_ascii=False).encode()  # which fails on half of a surrogate pair
    assert len(scanner.prefix) <= 4096


def parse(chance: Random) -> None:
    """An engine's answer is read or refused, however it is cut; at most its head is buffered."""
    raw = mutate.answer(chance, ANSWERS)
    parser = AnswerParser()
    passed = 0
    try:
        for piece in mutate.pieces(chance, raw):
            passed += len(parser.feed(piece))
    except InvalidAnswer:
        return
    assert passed <= len(raw)
    assert len(parser._rest) <= 32_768
    assert not (parser.complete and parser.head is None)


# --- the front ------------------------------------------------------------------------------------------


class MemoryEngine(Engine):
    """An engine in this process that answers each request with bytes made by `answer`."""

    def __init__(self, answer: Callable[[], list[bytes]]) -> None:
        super().__init__(EngineAddress("/nowhere"), 4)
        self._answer = answer

    def open(self, call: Call) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(self._attach(call))

    async def _attach(self, call: Call) -> None:
        connection = EngineConnection(self, call)
        transport = Memory(connection)
        transport.wrote = lambda data: self._wrote(transport, data)
        connection.connection_made(transport)

    def _wrote(self, transport: Memory, data: bytes) -> None:
        if data.startswith((b"POST ", b"GET ")):
            loop = asyncio.get_running_loop()
            for piece in self._answer():
                loop.call_soon(transport.give, piece)


class Front:
    """A relay's connection to the front, an engine behind it; `engine`: whether the engine is the bad one."""

    health_path = "/health"
    max_body = mutate.ROOMY.max_body

    def __init__(self, *, bad_engine: bool) -> None:
        self.running = 0
        self.leaving = ""
        self.stall_detector = StallDetector()
        self._bad_engine = bad_engine
        self._corpus = mutate.sessions(Random(2), RELAY_FRONT, Side.CLIENT, CORPUS)
        self.engine: Engine

    def enter(self, places: int) -> None:
        if self.running >= 8:
            raise SluiceError("overloaded", "full", retry_after=1)
        self.running += places

    def leave(self, places: int) -> None:
        self.running -= places

    def greeted(self, relay: RelayConnection) -> None:
        """Nothing is counted here."""

    def gone(self, relay: RelayConnection, why: str) -> None:
        """Nothing is counted here."""

    async def __call__(self, chance: Random) -> None:
        bad = self._bad_engine
        self.engine = MemoryEngine(
            lambda: mutate.pieces(chance, mutate.answer(chance, ANSWERS) if bad else ANSWERS[2])
        )
        session = chance.choice(self._corpus)
        raw = b"".join(map(_bytes, session)) if bad else mutate.frames(chance, session)
        relay = RelayConnection(self, Hello("soak", mutate.ROOMY), mutate.KEY)
        transport = Memory(relay.endpoint)
        relay.endpoint.connection_made(transport)
        await _play(transport, mutate.pieces(chance, raw))
        relay.tick(time.monotonic())
        assert relay.connection.open_streams <= mutate.ROOMY.max_streams
        transport.abort()
        self.engine.close()
        for _ in range(3):
            await asyncio.sleep(0)
        assert self.running == 0
        assert not relay._requests


def _bytes(frame: Any) -> bytes:
    return encode(frame.type, frame.stream, frame.payload, last=frame.last)


async def _play(transport: Memory, pieces: list[bytes]) -> None:
    for number, piece in enumerate(pieces):
        transport.give(piece)
        if number % 8 == 0:
            await asyncio.sleep(0)
    for _ in range(6):
        await asyncio.sleep(0)


# --- the relay ------------------------------------------------------------------------------------------


class FrontInMemory:
    """A front at the far end of a connection; its bytes are `changed` on their way."""

    def __init__(self, transport: Memory, changed: Callable[[bytes], bytes]) -> None:
        self._transport = transport
        self._changed = changed
        self._connection = Connection(Side.SERVER, Hello("soak", mutate.ROOMY), RELAY_FRONT, key=mutate.KEY)

    def wrote(self, data: bytes) -> None:
        """Answer what the relay has said."""
        try:
            found = self._connection.receive(data)
        except ProtocolError:
            # The changed bytes broke the front's own state; this is not the relay's fault.
            found = []
        for event in found:
            if isinstance(event, events.DataReceived):
                self._connection.consume(event.stream, len(event.data))
            elif isinstance(event, events.StreamEnded):
                self._answer(event.stream)
        said = self._connection.data_to_send()
        if said:
            asyncio.get_running_loop().call_soon(self._transport.give, self._changed(said))

    def _answer(self, stream: int) -> None:
        self._connection.send_load(3)
        self._connection.respond(stream, ResponseHead(200, "text/event-stream"))
        for _ in range(3):
            self._connection.send_data(stream, b'data: {"choices": []}\n\n')
        self._connection.send_end(stream)


class RelaySession:
    """A relay's session with a proxy before it and a front behind it; `bad_front`: which of them is bad.

    `settle`: seconds after which a session's last timer has run.
    """

    settle = 1.5

    def __init__(self, *, bad_front: bool) -> None:
        self._bad_front = bad_front
        self._proxies = mutate.sessions(Random(3), PROXY_RELAY, Side.CLIENT, CORPUS)
        self._directory = tempfile.TemporaryDirectory(
            prefix="sluice-soak-", dir=QUICK if QUICK.is_dir() else None
        )
        place = Path(self._directory.name)
        (place / "demand").mkdir()
        self._config = RelayConfig(
            cluster="soak",
            routing_table=str(place / "routing.json"),
            demand_dir=str(place / "demand"),
            figures=str(place / "figures.json"),
            closed_file=str(place / "closed"),
            # Every bad input must reach the parsers and not the limit before them.
            requests_per_second=0,
        )
        write_json(place / "routing.json", _table().dump())

    def close(self) -> None:
        """Remove the relay's files."""
        self._directory.cleanup()

    async def __call__(self, chance: Random) -> None:
        session = chance.choice(self._proxies)
        raw = b"".join(map(_bytes, session)) if self._bad_front else mutate.frames(chance, session)

        def changed(said: bytes) -> bytes:
            if not self._bad_front or chance.random() < 0.3:
                return said
            return mutate.frames(chance, Decoder().feed(said))

        def connect(connection: InstanceConnection) -> None:
            if not connection.exists:
                transport = Memory()
                transport.wrote = FrontInMemory(transport, changed).wrote
                connection._deadline = time.monotonic() + 5
                connection._trusted(transport)

        with mock.patch.object(InstanceConnection, "connect", connect):
            await self._serve(mutate.pieces(chance, raw))

    async def _serve(self, pieces: list[bytes]) -> None:
        relay = Session(self._config)
        transport = Memory(relay.endpoint)
        relay.endpoint.connection_made(transport)
        running = asyncio.ensure_future(relay.run())
        await _play(transport, pieces)
        assert relay._connection.open_streams <= self._config.max_streams
        transport.abort()
        await asyncio.wait_for(running, 5)
        assert not relay._requests


def _table() -> RoutingTable:
    record = json.loads((GOLDEN / "job-record.json").read_text())
    instance = RoutedInstance(
        id=mutate.INSTANCE, job_id="1", host="127.0.0.1", port=20000, certificate=record["certificate"],
        key=mutate.KEY, state="ready",
    )  # fmt: skip
    model = RoutedModel(
        status="ready", expected_ready=None, context_length=2048, capabilities=CAPABILITIES,
        groups=("all",), description="", concurrency=8, starting=0, instances=(instance,),
        usage="none", cache_isolation="none", created=0,
    )  # fmt: skip
    return RoutingTable("soak", 1, time.time(), {mutate.MODEL: model})


# Of two thousand inputs, how many each gets: the quick ones more.
TARGETS: dict[str, tuple[int, Callable[[], Target]]] = {
    "wire: relay hears proxy": (150, lambda: Wire(PROXY_RELAY, Side.SERVER)),
    "wire: proxy hears relay": (150, lambda: Wire(PROXY_RELAY, Side.CLIENT)),
    "wire: front hears relay": (100, lambda: Wire(RELAY_FRONT, Side.SERVER)),
    "scanner": (250, lambda: scan),
    "engine's answer": (200, lambda: parse),
    "front: bad relay": (50, lambda: Front(bad_engine=False)),
    "front: bad engine": (50, lambda: Front(bad_engine=True)),
    "relay: bad proxy": (25, lambda: RelaySession(bad_front=False)),
    "relay: bad front": (25, lambda: RelaySession(bad_front=True)),
    "squeue and scontrol": (500, Queue),
    "job folders": (250, Folders),
    "demand files": (250, Demand),
}
