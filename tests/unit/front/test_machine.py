"""A relay's connection with everything at once, in any order: what relay, engine and network can do to it.

No sockets: a client's own wire connection checks that the front never breaks the protocol, and engines are
transports that remember. `run` is one random history; more of them are run elsewhere, for longer.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any, Callable, Optional

from hypothesis import given
from hypothesis import strategies as st

from sluice.contracts.heads import InstanceRequest
from sluice.errors import SluiceError
from sluice.front import connections
from sluice.front.config import EngineAddress
from sluice.front.connections import RelayConnection
from sluice.front.engine import Call, Engine, EngineConnection
from sluice.front.stall import StallDetector
from sluice.wire import events
from sluice.wire.connection import Connection, Side
from sluice.wire.hello import Hello, Limits
from sluice.wire.links import RELAY_FRONT
from tests.trials import examples

KEY = "k" * 43
REQUEST_ID = "req-" + "0" * 32
LIMITS = Limits(stream_credit=16_384, session_credit=1 << 20, max_streams=12, max_body=300_000)
MOST_RUNNING = 6
STEPS = 200

WHOLE = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNK = b"3\r\nabc\r\n"
LARGE = b"8000\r\n" + b"x" * 0x8000 + b"\r\n"
LAST = b"0\r\n\r\n"
SAID = (
    WHOLE,
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}x",
    STREAM,
    b"HTTP/1.1 500 No\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\n{}",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    CHUNK,
    LARGE,
    LAST,
    b"H",
    b"TTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n",
    b"\x00",
)


class Remembering(asyncio.Transport):
    """A transport whose other end is the test."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.over = self.paused = False

    def set_write_buffer_limits(self, high: Optional[int] = None, low: Optional[int] = None) -> None:
        """Keep everything."""

    def write(self, data: Any) -> None:
        """Remember, while it stands."""
        if not self.over:
            self.written.append(bytes(data))

    def is_closing(self) -> bool:
        """Whether it was closed."""
        return self.over

    def close(self) -> None:
        """Be over."""
        self.over = True

    def abort(self) -> None:
        """Be over."""
        self.over = True

    def pause_reading(self) -> None:
        """Deliver nothing for now."""
        self.paused = True

    def resume_reading(self) -> None:
        """Deliver again."""
        self.paused = False


class Opening:
    """A connection to the engine that is being opened."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.cancelled = False

    def cancel(self) -> None:
        """Cancel it."""
        self.cancelled = True


class ScriptedEngine(Engine):
    """An engine whose connections open and send when the test says so."""

    def __init__(self) -> None:
        super().__init__(EngineAddress("/nowhere"), 4)
        self.openings: list[Opening] = []
        self.connections: list[EngineConnection] = []

    def open(self, call: Call) -> Any:
        """Let the test decide."""
        self.openings.append(Opening(call))
        return self.openings[-1]

    def opened(self, opening: Opening) -> None:
        """The connection is open, even if it was cancelled just now."""
        connection = EngineConnection(self, opening.call)
        self.connections.append(connection)
        connection.connection_made(Remembering())

    def say(self, connection: EngineConnection, data: bytes) -> None:
        """Deliver bytes from the engine, as the event loop would."""
        transport = connection.transport
        assert isinstance(transport, Remembering)
        while data and not (transport.over or transport.paused):
            room = connection.get_buffer(-1)
            piece, data = data[: len(room)], data[len(room) :]
            room[: len(piece)] = piece
            connection.buffer_updated(len(piece))


class Front:
    """The front as its connections see it, without a listener."""

    def __init__(self) -> None:
        self.engine: Engine = ScriptedEngine()
        self.stall_detector = StallDetector()
        self.health_path = "/health"
        self.max_body = LIMITS.max_body
        self.running = 0
        self.leaving = ""
        self.lost = 0

    def enter(self, places: int) -> None:
        """Count, within a bound."""
        if self.running >= MOST_RUNNING:
            raise SluiceError("overloaded", "full", retry_after=1)
        self.running += 1

    def leave(self, places: int) -> None:
        """Count down."""
        self.running -= 1

    def greeted(self, relay: RelayConnection) -> None:
        """Say how much runs."""
        relay.tell_load(self.running)

    def gone(self, relay: RelayConnection, why: str) -> None:
        """Count the end."""
        self.lost += 1


class History:
    """One random history, step by step."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.front = Front()
        assert isinstance(self.front.engine, ScriptedEngine)
        self.engine: ScriptedEngine = self.front.engine
        self.relay = RelayConnection(self.front, Hello("front", LIMITS), KEY)
        self.wire = Remembering()
        self.client = Connection(Side.CLIENT, Hello("relay", LIMITS), RELAY_FRONT, key=KEY)
        self.streams: dict[int, int] = {}
        self.unconsumed: dict[int, int] = {}
        self.now = time.monotonic()
        self.relay.endpoint.connection_made(self.wire)
        self.request()

    def request(self) -> None:
        """Carry the bytes of both sides."""
        while data := self.client.data_to_send():
            self.relay.endpoint.data_received(data)
        self.relay.endpoint._flush()
        written, self.wire.written = self.wire.written, []
        for event in self.client.receive(b"".join(written)):
            if isinstance(event, events.DataReceived):
                known = self.unconsumed.get(event.stream, 0)
                self.unconsumed[event.stream] = known + len(event.data)
            elif isinstance(event, (events.StreamEnded, events.StreamFailed)):
                self.streams.pop(event.stream, None)

    def step(self) -> None:
        """Do one thing, then hold the invariants."""
        self.random.choice(STEPS_TO_TAKE)(self)
        if self.random.random() < 0.7:
            self.request()
        counted = [one for one in self.relay._requests.values() if one._counted]
        assert self.front.running == len(counted) <= MOST_RUNNING
        assert self.front.stall_detector._open == len(counted)
        for request in self.relay._requests.values():
            assert not request._over
            assert self.relay.connection.pending(request.stream) <= connections.HIGH_WATER + 0x10000

    def begin(self) -> None:
        """Open a request."""
        path, length = self.random.choice(
            [("/health", 0), ("/metrics", 0), ("/v1/completions", 5), ("/v1/chat/completions", 200_000)]
        )
        if self.random.random() < 0.1:
            length = self.random.choice([0, 1, 5, 65_537, 300_001])
        method = "POST" if path.startswith("/v1") else "GET"
        try:
            stream = self.client.open_request(InstanceRequest(REQUEST_ID, method, path, length))
        except SluiceError:
            return
        self.streams[stream] = length
        if length == 0 or self.random.random() < 0.5:
            self.client.send_data(stream, b"x" * length)
            self.client.send_end(stream)

    def body(self) -> None:
        """Send more of a body, or its end, or too much."""
        for stream in self.one_of(list(self.streams)):
            self.client.send_data(stream, b"x" * self.random.choice([1, 5, 30_000]))
            if self.random.random() < 0.3:
                self.client.send_end(stream)

    def cancel(self) -> None:
        """Cancel an answer."""
        for stream in self.one_of(list(self.streams)):
            self.client.cancel(stream)
            del self.streams[stream]

    def take(self) -> None:
        """Give credit for what has come of an answer."""
        for stream in self.one_of(list(self.unconsumed)):
            self.client.consume(stream, self.unconsumed.pop(stream))

    def speak(self) -> None:
        """Have the engine send something, whole or in two parts."""
        for connection in self.one_of(self.engine.connections):
            said = self.random.choice(SAID) if self.random.random() < 0.1 else self.proper(connection)
            cut = self.random.randrange(len(said) + 1) if self.random.random() < 0.3 else len(said)
            for part in (said[:cut], said[cut:]):
                if part:
                    self.engine.say(connection, part)

    def proper(self, connection: EngineConnection) -> bytes:
        """Return what a correct engine sends next."""
        call = connection.call
        if call is None:
            return b""
        if call.head is None:
            return self.random.choice([WHOLE, STREAM])
        return self.random.choice([CHUNK, CHUNK, LARGE, LARGE, LAST])

    def lose(self) -> None:
        """Have the engine close."""
        for connection in self.one_of(self.engine.connections):
            self.engine.connections.remove(connection)
            connection.transport.abort()
            connection.connection_lost(None)

    def stall(self) -> None:
        """Have the engine stop reading, or read again."""
        for connection in self.one_of(self.engine.connections):
            (connection.resume_writing if connection.full else connection.pause_writing)()

    def connect(self) -> None:
        """Let a connection to the engine open, or fail."""
        for opening in self.one_of(self.engine.openings):
            self.engine.openings.remove(opening)
            if self.random.random() < 0.8:
                # Cancelled or not: both can happen at the same time.
                self.engine.opened(opening)
            elif not opening.cancelled:
                opening.call.unreachable()

    def wait(self) -> None:
        """Let time pass."""
        self.now += self.random.choice([1, 5, 61])
        for request in tuple(self.relay._requests.values()):
            request.tick(self.now)
        self.engine.sweep(self.now)

    def one_of(self, things: list[Any]) -> list[Any]:
        """Return one of them, None if there is none."""
        return [self.random.choice(things)] if things else []

    def end(self) -> None:
        """Lose the relay: no request continues, and no engine works without a client."""
        self.relay.endpoint.connection_lost(None)
        assert self.front.running == self.front.stall_detector._open == 0
        assert not self.relay._requests
        assert self.front.lost == 1
        for connection in self.engine.connections:
            assert connection.call is None
            assert connection.transport.is_closing() or connection in self.engine._idle
        assert set(self.engine.open_connections) == set(self.engine._idle)
        assert all(opening.cancelled for opening in self.engine.openings)


STEPS_TO_TAKE: tuple[Callable[[History], None], ...] = (
    History.begin,
    History.begin,
    History.body,
    History.body,
    History.cancel,
    History.take,
    History.take,
    *[History.speak] * 6,
    History.lose,
    History.stall,
    History.connect,
    History.connect,
    History.wait,
)


async def run(seed: int, steps: int = STEPS) -> None:
    """Live through one history."""
    history = History(seed)
    for _ in range(steps):
        history.step()
    history.request()
    history.end()


@examples(300)
@given(st.integers(0, 1 << 32))
def test_whatever_happens_counts_hold_and_nobody_works_for_nobody(seed: int) -> None:
    asyncio.run(run(seed))
