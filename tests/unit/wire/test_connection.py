"""Two connections joined by hand: what one asks, the other hears, whatever the cuts."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluice.errors import SluiceError
from sluice.records import DemandHead, ErrorHead, RequestHead, ResponseHead
from sluice.wire import events
from sluice.wire.connection import MAX_CONTROL, Connection, Role
from sluice.wire.frames import Decoder, FrameType, ProtocolError, encode
from sluice.wire.hello import Hello, Limits

GOLDEN = Path(__file__).parents[2] / "golden" / "contracts"
HEAD = RequestHead.parse(json.loads((GOLDEN / "wire-request.json").read_text()))
OK = ResponseHead(200, "application/json")
SMALL = Limits(stream_credit=1024, session_credit=65_536, max_streams=4, max_body=1_000_000)


class Pair:
    """A proxy and a relay end, and what each has heard."""

    def __init__(self, limits: Limits = SMALL, step: int = 1 << 20) -> None:
        self.proxy = Connection(Role.PROXY, Hello("test", limits))
        self.relay = Connection(Role.RELAY, Hello("test", limits))
        self.at_proxy: list[events.Event] = []
        self.at_relay: list[events.Event] = []
        self.step = step
        self.pump()

    def pump(self) -> None:
        """Carry bytes both ways until nothing moves."""
        for _ in range(10_000):
            up, down = self.proxy.data_to_send(), self.relay.data_to_send()
            if not up and not down:
                return
            self.at_relay += _feed(self.relay, up, self.step)
            self.at_proxy += _feed(self.proxy, down, self.step)
        raise AssertionError("the two never come to rest")

    def heard_by_relay(self, kind: type) -> list[Any]:
        return [event for event in self.at_relay if isinstance(event, kind)]

    def heard_by_proxy(self, kind: type) -> list[Any]:
        return [event for event in self.at_proxy if isinstance(event, kind)]


def _feed(connection: Connection, data: bytes, step: int) -> list[events.Event]:
    found: list[events.Event] = []
    for position in range(0, len(data), step):
        found += connection.receive(data[position : position + step])
    return found


def raw_relay(*frames: bytes) -> Connection:
    """A relay end that has had a hello and then these frames."""
    relay = Connection(Role.RELAY, Hello("test", SMALL))
    relay.receive(encode(FrameType.HELLO, 0, json.dumps(Hello("t", SMALL).dump()).encode()))
    relay.data_to_send()
    for frame in frames:
        relay.receive(frame)
    return relay


def request(stream: int, **changes: Any) -> bytes:
    return encode(FrameType.REQUEST, stream, json.dumps(HEAD.dump() | changes).encode())


def sent(connection: Connection) -> list[tuple[int, int, bytes]]:
    return [(f.type, f.stream, f.payload) for f in Decoder().feed(connection.data_to_send())]


def test_the_hello_is_the_golden_one() -> None:
    document = json.loads((GOLDEN / "wire-hello.json").read_text())
    hello = Hello(document["software"], Limits())
    assert hello.dump() == document
    assert Hello.parse(document) == hello


def test_the_go_away_is_the_golden_one() -> None:
    relay = raw_relay()
    relay.go_away("shutdown", "the relay ends")
    ((kind, stream, payload),) = sent(relay)
    assert (kind, stream) == (FrameType.GO_AWAY, 0)
    assert json.loads(payload) == json.loads((GOLDEN / "wire-goaway.json").read_text())


@pytest.mark.parametrize("step", [1, 7, 1 << 20])
def test_a_request_and_its_answer(step: int) -> None:
    pair = Pair(step=step)
    stream = pair.proxy.open_request(HEAD)
    pair.proxy.send_data(stream, b"question")
    pair.proxy.send_end(stream)
    pair.pump()
    assert pair.heard_by_relay(events.RequestOpened) == [events.RequestOpened(stream, HEAD)]
    assert pair.heard_by_relay(events.DataReceived) == [events.DataReceived(stream, b"question")]
    pair.relay.consume(stream, 8)
    pair.relay.respond(stream, OK)
    pair.relay.send_data(stream, b"answer")
    pair.relay.send_end(stream)
    pair.pump()
    assert pair.heard_by_proxy(events.ResponseStarted) == [events.ResponseStarted(stream, OK)]
    assert pair.heard_by_proxy(events.StreamEnded) == [events.StreamEnded(stream)]
    pair.proxy.consume(stream, 6)
    assert (pair.proxy.open_streams, pair.relay.open_streams) == (0, 0)


def test_the_verbs_without_a_body() -> None:
    pair = Pair()
    models, metrics = pair.proxy.open_models(), pair.proxy.open_metrics()
    demand = pair.proxy.open_demand(DemandHead({"m": 3}))
    pair.pump()
    assert pair.at_relay[-3:] == [
        events.ModelsOpened(models),
        events.MetricsOpened(metrics),
        events.DemandOpened(demand, DemandHead({"m": 3})),
    ]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_every_byte_arrives_in_order_whatever_the_readers_do(data: st.DataObject) -> None:
    pair = Pair(step=data.draw(st.sampled_from([1, 13, 1000, 1 << 20])))
    bodies: dict[int, bytes] = {}
    for number in range(data.draw(st.integers(1, 4))):
        stream = pair.proxy.open_request(HEAD)
        bodies[stream] = bytes([65 + number]) * data.draw(st.integers(0, 5000))
        pair.proxy.send_data(stream, bodies[stream])
        pair.proxy.send_end(stream)
    got = dict.fromkeys(bodies, b"")
    seen = 0
    for _ in range(400):
        pair.pump()
        fresh, seen = pair.at_relay[seen:], len(pair.at_relay)
        for event in fresh:
            if isinstance(event, events.DataReceived):
                got[event.stream] += event.data
                pair.relay.consume(event.stream, len(event.data))
        if not fresh:
            break
    assert got == bodies
    assert len(pair.heard_by_relay(events.StreamEnded)) == len(bodies)


def test_a_reader_that_stops_holds_back_its_own_stream_alone() -> None:
    pair = Pair()
    slow, quick = pair.proxy.open_request(HEAD), pair.proxy.open_request(HEAD)
    pair.proxy.send_data(slow, bytes(10_000))
    pair.pump()
    pair.proxy.send_data(quick, b"quick")
    pair.pump()
    received = {slow: 0, quick: 0}
    for event in pair.heard_by_relay(events.DataReceived):
        received[event.stream] += len(event.data)
    assert received == {slow: SMALL.stream_credit, quick: 5}
    assert pair.proxy.pending(slow) == 10_000 - SMALL.stream_credit


def test_streams_take_turns() -> None:
    pair = Pair(Limits())
    big, small = pair.proxy.open_request(HEAD), pair.proxy.open_request(HEAD)
    pair.proxy.send_data(big, bytes(32_000))
    pair.proxy.send_data(small, b"x")
    order = [f.stream for f in Decoder().feed(pair.proxy.data_to_send()) if f.type == FrameType.DATA]
    assert order == [big, small, big]


def test_session_credit_starves_and_frees_all_streams() -> None:
    pair = Pair(Limits(stream_credit=65_536, session_credit=65_536, max_streams=4))
    first, second = pair.proxy.open_request(HEAD), pair.proxy.open_request(HEAD)
    pair.proxy.send_data(first, bytes(65_536))
    pair.proxy.send_data(second, b"later")
    pair.pump()
    taken = {first: 0, second: 0}
    for event in pair.heard_by_relay(events.DataReceived):
        taken[event.stream] += len(event.data)
    assert sum(taken.values()) == 65_536
    for stream, size in taken.items():
        pair.relay.consume(stream, size)
    pair.pump()
    assert sum(len(e.data) for e in pair.heard_by_relay(events.DataReceived)) == 65_541


def test_cancel_reaches_the_relay_and_gives_the_credit_back() -> None:
    pair = Pair()
    for _ in range(200):  # 200 KiB through a session credit of 64 KiB
        stream = pair.proxy.open_request(HEAD)
        pair.proxy.send_data(stream, bytes(1024))
        pair.pump()
        pair.proxy.cancel(stream)
        pair.pump()
    assert len(pair.heard_by_relay(events.StreamCancelled)) == 200
    assert sum(len(e.data) for e in pair.heard_by_relay(events.DataReceived)) == 200 * 1024
    assert (pair.proxy.open_streams, pair.relay.open_streams) == (0, 0)


def test_an_answer_cancelled_in_flight_gives_the_credit_back() -> None:
    pair = Pair()
    for _ in range(200):
        stream = pair.proxy.open_request(HEAD)
        pair.pump()
        pair.relay.respond(stream, OK)
        pair.relay.send_data(stream, bytes(1024))
        pair.proxy.cancel(stream)
        pair.pump()
    last = pair.proxy.open_request(HEAD)
    pair.pump()
    pair.relay.respond(last, OK)
    pair.relay.send_data(last, b"still works")
    pair.pump()
    assert pair.heard_by_proxy(events.DataReceived)[-1].data == b"still works"


def test_an_error_comes_behind_what_was_sent_before() -> None:
    pair = Pair()
    stream = pair.proxy.open_request(HEAD)
    pair.pump()
    pair.relay.respond(stream, OK)
    pair.relay.send_data(stream, b"half")
    pair.relay.send_error(stream, ErrorHead("instance_failed", "it died"))
    pair.pump()
    assert pair.at_proxy[-2:] == [
        events.DataReceived(stream, b"half"),
        events.StreamFailed(stream, ErrorHead("instance_failed", "it died")),
    ]


def test_an_answer_before_the_body_is_complete_ends_the_body() -> None:
    pair = Pair()
    stream = pair.proxy.open_request(HEAD)
    pair.proxy.send_data(stream, bytes(50_000))
    pair.pump()
    pair.relay.respond(stream, ResponseHead(413, "application/json"))
    pair.relay.send_end(stream)
    pair.pump()
    assert pair.heard_by_proxy(events.StreamEnded) == [events.StreamEnded(stream)]
    assert (pair.proxy.open_streams, pair.relay.open_streams) == (0, 0)


def test_ping_and_pong() -> None:
    pair = Pair()
    pair.proxy.ping(b"12345678")
    pair.pump()
    assert pair.heard_by_proxy(events.PongReceived) == [events.PongReceived(b"12345678")]


def test_no_request_before_the_relay_said_hello() -> None:
    with pytest.raises(SluiceError) as caught:
        Connection(Role.PROXY, Hello("test", SMALL)).open_request(HEAD)
    assert caught.value.code == "cluster_unreachable"


def test_no_more_streams_than_the_relay_takes() -> None:
    pair = Pair()
    for _ in range(SMALL.max_streams):
        pair.proxy.open_request(HEAD)
    with pytest.raises(SluiceError) as caught:
        pair.proxy.open_request(HEAD)
    assert caught.value.code == "overloaded"


def test_no_new_streams_after_a_go_away_and_the_open_ones_go_on() -> None:
    pair = Pair()
    stream = pair.proxy.open_request(HEAD)
    pair.pump()
    pair.relay.go_away("age", "time for a new session")
    pair.pump()
    assert pair.at_proxy[-1] == events.GoAwayReceived("age", "time for a new session")
    with pytest.raises(SluiceError):
        pair.proxy.open_request(HEAD)
    pair.relay.respond(stream, OK)
    pair.relay.send_end(stream)
    pair.pump()
    assert pair.heard_by_proxy(events.StreamEnded) == [events.StreamEnded(stream)]


def test_a_request_that_crosses_the_go_away_is_answered() -> None:
    pair = Pair()
    pair.relay.go_away("age", "new session, please")
    stream = pair.proxy.open_request(HEAD)
    pair.pump()
    (failed,) = pair.heard_by_proxy(events.StreamFailed)
    assert (failed.stream, failed.error.code) == (stream, "cluster_unreachable")


def test_newer_minors_and_unknown_frame_types_are_tolerated() -> None:
    relay = Connection(Role.RELAY, Hello("test", SMALL))
    hello = Hello("t", SMALL).dump() | {"protocol": [1, 9], "novelty": True}
    relay.receive(encode(FrameType.HELLO, 0, json.dumps(hello).encode()))
    assert relay.receive(encode(200, 5, b"whatever")) == []


def test_a_newer_major_is_refused_with_a_message() -> None:
    relay = Connection(Role.RELAY, Hello("1.0", SMALL))
    relay.data_to_send()
    hello = Hello("9.0", SMALL, major=2).dump()
    with pytest.raises(ProtocolError):
        relay.receive(encode(FrameType.HELLO, 0, json.dumps(hello).encode()))
    ((kind, _, payload),) = sent(relay)
    assert kind == FrameType.GO_AWAY
    assert "install the same release" in json.loads(payload)["message"]


@pytest.mark.parametrize(
    "changes",
    [
        {"path": "/v1/../admin"}, {"path": "/metrics"}, {"method": "DELETE"}, {"model": "a/b"},
        {"user": "alice@example.org"}, {"id": "1"}, {"length": -1}, {"host": "c1"}, {"class": "root"},
        {"affinity": "x"}, {"length": 10_000_000},
    ],
)  # fmt: skip
def test_trying_to_cheat_with_a_head_ends_that_stream_alone(changes: dict[str, Any]) -> None:
    relay = raw_relay()
    (event,) = relay.receive(request(1, **changes))
    assert isinstance(event, events.RequestRefused)
    ((kind, stream, payload),) = sent(relay)
    assert (kind, stream) == (FrameType.ERROR, 1)
    assert json.loads(payload)["code"] in ("invalid_request", "body_too_large")
    assert relay.receive(encode(FrameType.DATA, 1, b"late")) == []
    assert relay.receive(request(3)) == [events.RequestOpened(3, HEAD)]


@pytest.mark.parametrize(
    "frames",
    [
        [request(2)], [request(0)], [request(5), request(3)], [request(1), request(1)],
        [encode(FrameType.DATA, 1, b"x")], [encode(FrameType.END, 0)], [encode(FrameType.CANCEL, 7)],
        [encode(FrameType.RESPONSE, 1, b"{}")], [encode(FrameType.ERROR, 1, b"{}")],
        [encode(FrameType.CREDIT, 0, b"123")], [encode(FrameType.CREDIT, 0, b"\xff\xff\xff\xff")],
        [request(1), encode(FrameType.CREDIT, 1, b"\xff\xff\xff\xff")],
        [encode(FrameType.PING, 0, b"short")], [encode(FrameType.PONG, 0, b"")],
        [encode(FrameType.GO_AWAY, 0, b"{")], [encode(FrameType.GO_AWAY, 0, b'{"code":"x","message":""}')],
        [encode(FrameType.HELLO, 0, json.dumps(Hello("t", SMALL).dump()).encode())],
        [request(1), encode(FrameType.DATA, 1, bytes(1025))],
        [request(1), request(3), request(5), request(7), request(9)],
        [encode(FrameType.PING, 0, bytes(8))] * (MAX_CONTROL + 1),
    ],
)  # fmt: skip
def test_trying_to_cheat_with_frames_ends_the_session(frames: list[bytes]) -> None:
    with pytest.raises(ProtocolError):
        raw_relay(*frames)


def test_an_error_gives_the_credit_of_its_stream_back() -> None:
    pair = Pair()
    for _ in range(200):  # 200 KiB through a session credit of 64 KiB
        stream = pair.proxy.open_request(HEAD)
        pair.proxy.send_data(stream, bytes(1024))
        pair.pump()
        pair.relay.send_error(stream, ErrorHead("closed", "the circuit is open"))
        pair.pump()
    assert len(pair.heard_by_proxy(events.StreamFailed)) == 200
    assert (pair.proxy.open_streams, pair.relay.open_streams) == (0, 0)


def test_after_a_broken_protocol_nothing_more_is_taken() -> None:
    relay = raw_relay()
    with pytest.raises(ProtocolError):
        relay.receive(request(2))
    with pytest.raises(ProtocolError):
        relay.receive(request(3))


@pytest.mark.parametrize("frames", [
    [encode(FrameType.DATA, 1, b"x")],
    [encode(FrameType.END, 1)],
    [encode(FrameType.RESPONSE, 1, b"{}")],
    [encode(FrameType.RESPONSE, 3, json.dumps(OK.dump()).encode())],
    [encode(FrameType.RESPONSE, 1, json.dumps(OK.dump()).encode())] * 2,
    [encode(FrameType.REQUEST, 1, b"{}")],
])  # fmt: skip
def test_a_relay_that_cheats_loses_its_session(frames: list[bytes]) -> None:
    pair = Pair()
    pair.proxy.open_request(HEAD)
    pair.pump()
    with pytest.raises(ProtocolError):
        for frame in frames:
            pair.proxy.receive(frame)


def test_a_peer_that_opens_and_cancels_without_reading_costs_no_memory() -> None:
    relay = raw_relay()
    relay.data_to_send()
    tracemalloc.start()
    try:
        for number in range(1, 40_001, 2):
            relay.receive(encode(FrameType.REQUEST, number, b"{}") + encode(FrameType.CANCEL, number))
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert relay.open_streams == 0
    assert held < 100_000


def test_a_peer_that_grants_a_stream_again_and_again_costs_no_memory() -> None:
    """The session's credit is spent: each grant makes the stream wait for it anew, once."""
    pair = Pair()
    streams = [pair.proxy.open_request(HEAD) for _ in range(4)]
    pair.pump()
    relay = pair.relay
    for stream in streams:
        relay.respond(stream, OK)
        relay.send_data(stream, bytes(65_536))
    grant = b"".join(encode(FrameType.CREDIT, stream, (65_536).to_bytes(4, "big")) for stream in streams)
    relay.receive(grant)
    while relay.data_to_send():
        pass
    nothing = encode(FrameType.CREDIT, streams[-1], bytes(4))
    tracemalloc.start()
    try:
        for _ in range(20_000):
            relay.receive(nothing)
            relay.data_to_send()
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert held < 50_000


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400))
def test_fuzz_any_bytes_give_events_or_a_protocol_error(noise: bytes) -> None:
    relay = raw_relay(request(1))
    try:
        relay.receive(noise)
    except ProtocolError:
        assert sent(relay)[-1][0] == FrameType.GO_AWAY


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 16), st.integers(0, 9), st.binary(max_size=40) | st.just(b"\0\0\1\0")),
        max_size=20,
    )
)
def test_fuzz_any_frames_give_events_or_a_protocol_error(frames: list[tuple[int, int, bytes]]) -> None:
    relay = raw_relay(request(1))
    try:
        for frame in frames:
            relay.receive(encode(*frame))
            relay.data_to_send()
    except ProtocolError:
        return
    assert relay.open_streams <= SMALL.max_streams
