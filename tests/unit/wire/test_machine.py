"""Two connections with random calls, cuts and delays.

Nothing is lost, order is kept, credit is never exceeded, memory stays bounded, and nothing is left behind.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Optional

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sluice.contracts.heads import ErrorHead
from sluice.wire import events
from sluice.wire.connection import Connection, Side
from sluice.wire.frames import LAST, Decoder, FrameType
from sluice.wire.hello import Hello, Limits
from sluice.wire.links import PROXY_RELAY, RELAY_FRONT
from tests.trials import examples
from tests.unit.wire.ends import HEAD, INSTANCE_HEAD, KEY, OK

ERROR = ErrorHead("instance_failed", "it died")
MOST = 8192
PATTERN = bytes(range(251)) * 200


@dataclass
class Way:
    """One direction of one stream: what its owner sent, and what the other owner received."""

    sent: int = 0
    ended: bool = False
    received: int = 0
    consumed: int = 0
    heard_end: bool = False


@dataclass
class Exchange:
    """One stream as both owners see it."""

    up: Way = field(default_factory=Way)
    down: Way = field(default_factory=Way)
    opened: bool = False
    responded: bool = False
    cancelled: bool = False
    heard_cancel: bool = False
    failed: bool = False
    heard_failure: bool = False


class Pipe:
    """The bytes in transit, and a check of all credit in them."""

    def __init__(self, limits: Limits) -> None:
        self.bytes = bytearray()
        self.decoder = Decoder()
        self.limits = limits
        self.session = limits.session_credit
        self.streams: dict[int, int] = {}
        self.over: set[int] = set()

    def write(self, data: bytes, granted: Pipe) -> None:
        self.bytes += data
        for frame in self.decoder.feed(data):
            if frame.type == FrameType.DATA:
                left = self.streams.get(frame.stream, self.limits.stream_credit) - len(frame.payload)
                self.streams[frame.stream] = left
                self.session -= len(frame.payload)
                assert left >= 0
                assert self.session >= 0
                assert len(frame.payload) <= 16_384
            if frame.type in (FrameType.REQUEST, FrameType.RESPONSE, FrameType.DATA, FrameType.ERROR):
                assert frame.stream not in self.over
                if frame.last or frame.type == FrameType.ERROR:
                    self.over.add(frame.stream)
            if frame.type == FrameType.CREDIT:
                granted.grant(frame.stream, int.from_bytes(frame.payload, "big"))
            assert frame.type & LAST == 0

    def grant(self, stream: int, size: int) -> None:
        # Counted when it is sent, before it can be used: so the check is never too strict.
        if stream:
            self.streams[stream] = self.streams.get(stream, self.limits.stream_credit) + size
        else:
            self.session += size


class TwoEnds(RuleBasedStateMachine):
    """The owners of both ends do anything that the wire's rules allow."""

    @initialize(
        keyed=st.booleans(),
        stream_credit=st.sampled_from([1024, 4096]),
        session_credit=st.sampled_from([65_536, 80_000]),
        max_streams=st.integers(1, 6),
    )
    def begin(self, keyed: bool, stream_credit: int, session_credit: int, max_streams: int) -> None:
        limits = Limits(stream_credit, session_credit, max_streams, 1 << 20)
        self.link = RELAY_FRONT if keyed else PROXY_RELAY
        options: dict[str, Any] = {"key": KEY if keyed else "", "max_stream_credit": MOST}
        self.client = Connection(Side.CLIENT, Hello("test", limits), self.link, **options)
        self.server = Connection(Side.SERVER, Hello("test", limits), self.link, **options)
        self.limits = limits
        self.up, self.down = Pipe(limits), Pipe(limits)
        self.exchanges: dict[int, Exchange] = {}
        self.loads: list[int] = []
        self.move()
        self.move()

    # --- the owners ---------------------------------------------------------------------------------

    def pick(self, index: int, numbers: Iterable[int]) -> Optional[int]:
        found = list(numbers)
        return found[index % len(found)] if found else None

    @precondition(lambda self: self.client.peer and self.client.open_streams < self.limits.max_streams)
    @rule(size=st.integers(0, 6000), end=st.booleans())
    def open(self, size: int, end: bool) -> None:
        stream = self.client.open_request(INSTANCE_HEAD if self.link.keyed else HEAD)
        self.exchanges[stream] = Exchange()
        self.send(self.client, stream, size, end)

    @rule(index=st.integers(0, 50), size=st.integers(0, 20_000), end=st.booleans())
    def send_body(self, index: int, size: int, end: bool) -> None:
        stream = self.pick(index, (n for n, x in self.exchanges.items() if not (x.up.ended or x.cancelled)))
        if stream is not None:
            self.send(self.client, stream, size, end)

    @rule(index=st.integers(0, 50), size=st.integers(0, 20_000), end=st.booleans())
    def answer(self, index: int, size: int, end: bool) -> None:
        stream = self.pick(index, (n for n, x in self.exchanges.items() if x.opened and self.may_answer(x)))
        if stream is None:
            return
        exchange = self.exchanges[stream]
        if not exchange.responded:
            exchange.responded = True
            self.server.respond(stream, OK)
        self.send(self.server, stream, size, end)

    def may_answer(self, exchange: Exchange) -> bool:
        return not (exchange.down.ended or exchange.failed or exchange.heard_cancel)

    def send(self, connection: Connection, stream: int, size: int, end: bool) -> None:
        way = self.exchanges[stream].up if connection is self.client else self.exchanges[stream].down
        start = way.sent % 251
        connection.send_data(stream, PATTERN[start : start + size])
        way.sent += size
        if end:
            connection.send_end(stream)
            way.ended = True

    @precondition(lambda self: self.client.open_streams < self.limits.max_streams)
    @rule(size=st.integers(0, 3000))
    def exchange_at_once(self, size: int) -> None:
        self.open(size, end=True)
        self.move()
        stream = max(self.exchanges)
        if self.exchanges[stream].opened:
            self.exchanges[stream].responded = True
            self.server.respond(stream, OK)
            self.send(self.server, stream, size, end=True)
            self.move()

    @rule(index=st.integers(0, 50))
    def fail(self, index: int) -> None:
        stream = self.pick(index, (n for n, x in self.exchanges.items() if x.opened and self.may_answer(x)))
        if stream is not None:
            self.exchanges[stream].failed = True
            self.server.send_error(stream, ERROR)

    @rule(index=st.integers(0, 50))
    def cancel(self, index: int) -> None:
        stream = self.pick(index, (n for n, x in self.exchanges.items() if not x.cancelled))
        if stream is not None:
            self.exchanges[stream].cancelled = True
            self.client.cancel(stream)

    @rule(index=st.integers(0, 50), size=st.integers(1, 9000), at_client=st.booleans())
    def consume(self, index: int, size: int, at_client: bool) -> None:
        ways = {n: x.down if at_client else x.up for n, x in self.exchanges.items()}
        stream = self.pick(index, (n for n, way in ways.items() if way.consumed < way.received))
        if stream is not None:
            size = min(size, ways[stream].received - ways[stream].consumed)
            ways[stream].consumed += size
            (self.client if at_client else self.server).consume(stream, size)

    @precondition(lambda self: self.link.keyed and self.server.peer)
    @rule(running=st.integers(0, 1000))
    def tell_load(self, running: int) -> None:
        self.loads.append(running)
        self.server.send_load(running)

    # --- the way between ----------------------------------------------------------------------------

    @rule(limit=st.sampled_from([1, 3000, 262_144]))
    def flush_client(self, limit: int) -> None:
        self.up.write(self.client.data_to_send(limit), self.down)

    @rule(limit=st.sampled_from([1, 3000, 262_144]))
    def flush_server(self, limit: int) -> None:
        self.down.write(self.server.data_to_send(limit), self.up)

    @rule()
    def move(self) -> None:
        self.flush_client(262_144)
        self.flush_server(262_144)
        self.carry_up(1 << 20)
        self.carry_down(1 << 20)

    @rule(size=st.sampled_from([1, 7, 500, 20_000, 1 << 20]))
    def carry_up(self, size: int) -> None:
        data = bytes(self.up.bytes[:size])
        del self.up.bytes[:size]
        for event in self.server.receive(data):
            self.at_server(event)

    @rule(size=st.sampled_from([1, 7, 500, 20_000, 1 << 20]))
    def carry_down(self, size: int) -> None:
        data = bytes(self.down.bytes[:size])
        del self.down.bytes[:size]
        for event in self.client.receive(data):
            self.at_client(event)

    def at_server(self, event: events.Event) -> None:
        if isinstance(event, events.RequestOpened):
            self.exchanges[event.stream].opened = True
        elif isinstance(event, events.StreamCancelled):
            exchange = self.exchanges[event.stream]
            assert exchange.cancelled or exchange.down.heard_end
            exchange.heard_cancel = True
        elif isinstance(event, events.DataReceived):
            self.take(self.exchanges[event.stream].up, event.data)
        elif isinstance(event, events.StreamEnded):
            self.end(self.exchanges[event.stream].up)
        else:
            assert isinstance(event, (events.HelloReceived, events.CreditGranted))

    def at_client(self, event: events.Event) -> None:
        if isinstance(event, events.LoadReported):
            assert event.running in self.loads
        elif isinstance(event, events.StreamFailed):
            exchange = self.exchanges[event.stream]
            assert exchange.failed
            assert event.error == ERROR
            exchange.heard_failure = True
        elif isinstance(event, events.ResponseStarted):
            assert self.exchanges[event.stream].responded
        elif isinstance(event, events.DataReceived):
            self.take(self.exchanges[event.stream].down, event.data)
        elif isinstance(event, events.StreamEnded):
            self.end(self.exchanges[event.stream].down)
        else:
            assert isinstance(event, (events.HelloReceived, events.CreditGranted))

    def take(self, way: Way, data: bytes) -> None:
        assert not way.heard_end
        assert 0 < len(data) <= way.sent - way.received
        # Each call of `send` continues the pattern where the last one stopped.
        expected = (PATTERN * 2)[way.received % 251 :][: len(data)]
        assert data == expected
        way.received += len(data)

    def end(self, way: Way) -> None:
        assert way.ended
        assert way.received == way.sent
        assert not way.heard_end
        way.heard_end = True

    # --- what always holds --------------------------------------------------------------------------

    @invariant()
    def what_waits_for_a_reader_is_bounded(self) -> None:
        if not hasattr(self, "exchanges"):
            return
        for at_client in (True, False):
            held = [
                way.received - way.consumed
                for x in self.exchanges.values()
                for way in (x.down if at_client else x.up,)
                if not (x.cancelled or x.failed or x.down.heard_end)
            ]
            assert sum(held) <= self.limits.session_credit
            assert max(held, default=0) <= max(self.limits.stream_credit, MOST)

    def teardown(self) -> None:
        """Complete everything: all data arrives, and neither side keeps a stream."""
        if not hasattr(self, "exchanges"):
            return
        for stream, exchange in self.exchanges.items():
            if not (exchange.up.ended or exchange.cancelled):
                self.send(self.client, stream, 0, end=True)
        for _ in range(500):
            before = self.progress()
            self.move()
            for _ in self.exchanges:
                self.answer(0, 0, end=True)
            for _ in range(2 * len(self.exchanges)):
                self.consume(0, 1 << 20, at_client=True)
                self.consume(0, 1 << 20, at_client=False)
            if self.progress() == before and not (self.client.has_data() or self.server.has_data()):
                break
        for exchange in self.exchanges.values():
            self.check_complete(exchange)
        assert (self.client.open_streams, self.server.open_streams) == (0, 0)
        assert not (self.up.bytes or self.down.bytes)

    def check_complete(self, exchange: Exchange) -> None:
        if exchange.failed:
            assert exchange.heard_failure or exchange.cancelled
        elif not exchange.cancelled:
            assert exchange.down.heard_end
            assert exchange.up.heard_end or exchange.heard_cancel

    def progress(self) -> tuple[int, ...]:
        ways = [way for x in self.exchanges.values() for way in (x.up, x.down)]
        return (
            sum(way.received + way.consumed + way.heard_end for way in ways),
            sum(x.opened + x.heard_cancel + x.heard_failure for x in self.exchanges.values()),
            len(self.up.bytes) + len(self.down.bytes),
        )


TwoEnds.TestCase.settings = examples(120, stateful_step_count=60)
TestTwoEnds = TwoEnds.TestCase
