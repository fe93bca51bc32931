"""Two connections joined by hand: what one sends, the other receives, however the bytes are cut."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.contracts.heads import DemandHead, ErrorHead, ResponseHead
from sluice.errors import SluiceError
from sluice.wire import events
from sluice.wire.connection import Connection, Side
from sluice.wire.frames import FrameType, ProtocolError, encode
from sluice.wire.hello import MAJOR, Hello, Limits
from sluice.wire.links import RELAY_FRONT
from sluice.wire.sender import MAX_CONTROL
from tests.trials import examples
from tests.unit.wire.ends import HEAD, OK, SMALL, Pair, hello, raw_server, request, sent, typed


@pytest.mark.parametrize("step", [1, 7, 1 << 20])
def test_a_request_and_its_answer(step: int) -> None:
    pair = Pair(step=step)
    stream = pair.open()
    pair.client.send_data(stream, b"question")
    pair.client.send_end(stream)
    pair.pump()
    assert pair.heard_by_server(events.RequestOpened) == [events.RequestOpened(stream, HEAD)]
    assert pair.heard_by_server(events.DataReceived) == [events.DataReceived(stream, b"question")]
    assert pair.heard_by_server(events.StreamEnded) == [events.StreamEnded(stream)]
    pair.server.consume(stream, 8)
    pair.server.respond(stream, OK)
    pair.server.send_data(stream, b"answer")
    pair.server.send_end(stream)
    pair.pump()
    assert pair.heard_by_client(events.ResponseStarted) == [events.ResponseStarted(stream, OK)]
    assert pair.heard_by_client(events.StreamEnded) == [events.StreamEnded(stream)]
    pair.client.consume(stream, 6)
    assert (pair.client.open_streams, pair.server.open_streams) == (0, 0)


def test_the_verbs_without_a_body() -> None:
    pair = Pair()
    models, metrics = pair.client.open_models(), pair.client.open_metrics()
    demand = pair.client.open_demand(DemandHead({"m": 3}))
    pair.pump()
    assert pair.at_server[-3:] == [
        events.ModelsOpened(models),
        events.MetricsOpened(metrics),
        events.DemandOpened(demand, DemandHead({"m": 3})),
    ]


@examples(60)
@given(st.data())
def test_every_byte_arrives_in_order_whatever_the_readers_do(data: st.DataObject) -> None:
    pair = Pair(step=data.draw(st.sampled_from([1, 13, 1000, 1 << 20])))
    bodies: dict[int, bytes] = {}
    for number in range(data.draw(st.integers(1, 4))):
        stream = pair.open()
        bodies[stream] = bytes([65 + number]) * data.draw(st.integers(0, 5000))
        pair.client.send_data(stream, bodies[stream])
        pair.client.send_end(stream)
    got = dict.fromkeys(bodies, b"")
    seen = 0
    for _ in range(400):
        pair.pump()
        fresh, seen = pair.at_server[seen:], len(pair.at_server)
        for event in fresh:
            if isinstance(event, events.DataReceived):
                got[event.stream] += event.data
                pair.server.consume(event.stream, len(event.data))
        if not fresh:
            break
    assert got == bodies
    assert len(pair.heard_by_server(events.StreamEnded)) == len(bodies)


def test_a_reader_that_stops_holds_back_its_own_stream_alone() -> None:
    pair = Pair()
    slow, quick = pair.open(), pair.open()
    pair.client.send_data(slow, bytes(10_000))
    pair.pump()
    pair.client.send_data(quick, b"quick")
    pair.pump()
    received = {slow: 0, quick: 0}
    for event in pair.heard_by_server(events.DataReceived):
        received[event.stream] += len(event.data)
    assert received == {slow: SMALL.stream_credit, quick: 5}
    assert pair.client.pending(slow) == 10_000 - SMALL.stream_credit


def test_streams_take_turns() -> None:
    pair = Pair(Limits())
    big, small = pair.open(), pair.open()
    pair.client.send_data(big, bytes(32_000))
    pair.client.send_data(small, b"x")
    order = [f.stream for f in sent(pair.client) if f.type == FrameType.DATA]
    assert order == [big, small, big]


def test_session_credit_starves_and_frees_all_streams() -> None:
    pair = Pair(Limits(stream_credit=65_536, session_credit=65_536, max_streams=4))
    first, second = pair.open(), pair.open()
    pair.client.send_data(first, bytes(65_536))
    pair.client.send_data(second, b"later")
    pair.pump()
    taken = {first: 0, second: 0}
    for event in pair.heard_by_server(events.DataReceived):
        taken[event.stream] += len(event.data)
    assert sum(taken.values()) == 65_536
    for stream, size in taken.items():
        pair.server.consume(stream, size)
    pair.pump()
    assert sum(len(e.data) for e in pair.heard_by_server(events.DataReceived)) == 65_541


def test_cancel_reaches_the_server_and_gives_the_credit_back() -> None:
    pair = Pair()
    for _ in range(200):  # 200 KiB through a session credit of 64 KiB
        stream = pair.open()
        pair.client.send_data(stream, bytes(1024))
        pair.pump()
        pair.client.cancel(stream)
        pair.pump()
    assert len(pair.heard_by_server(events.StreamCancelled)) == 200
    assert sum(len(e.data) for e in pair.heard_by_server(events.DataReceived)) == 200 * 1024
    assert (pair.client.open_streams, pair.server.open_streams) == (0, 0)


def test_an_answer_cancelled_in_flight_gives_the_credit_back() -> None:
    pair = Pair()
    for _ in range(200):
        stream = pair.open()
        pair.pump()
        pair.server.respond(stream, OK)
        pair.server.send_data(stream, bytes(1024))
        pair.client.cancel(stream)
        pair.pump()
    last = pair.open()
    pair.pump()
    pair.server.respond(last, OK)
    pair.server.send_data(last, b"still works")
    pair.pump()
    assert pair.heard_by_client(events.DataReceived)[-1].data == b"still works"


def test_an_error_comes_behind_what_was_sent_before() -> None:
    pair = Pair()
    stream = pair.open()
    pair.pump()
    pair.server.respond(stream, OK)
    pair.server.send_data(stream, b"half")
    pair.server.send_error(stream, ErrorHead("instance_failed", "it died"))
    pair.pump()
    assert pair.at_client[-2:] == [
        events.DataReceived(stream, b"half"),
        events.StreamFailed(stream, ErrorHead("instance_failed", "it died")),
    ]


def test_an_answer_before_the_body_is_complete_ends_the_body() -> None:
    pair = Pair()
    stream = pair.open()
    pair.client.send_data(stream, bytes(50_000))
    pair.pump()
    pair.server.respond(stream, ResponseHead(413, "application/json"))
    pair.server.send_end(stream)
    pair.pump()
    assert pair.heard_by_client(events.StreamEnded) == [events.StreamEnded(stream)]
    assert (pair.client.open_streams, pair.server.open_streams) == (0, 0)


def test_ping_and_pong() -> None:
    pair = Pair()
    pair.client.ping(b"12345678")
    pair.pump()
    assert pair.heard_by_client(events.PongReceived) == [events.PongReceived(b"12345678")]


def test_no_request_before_the_server_said_hello() -> None:
    with pytest.raises(SluiceError) as caught:
        Connection(Side.CLIENT, Hello("test", SMALL)).open_request(HEAD)
    assert caught.value.code == "cluster_unreachable"


def test_no_more_streams_than_the_server_takes() -> None:
    pair = Pair()
    for _ in range(SMALL.max_streams):
        pair.open()
    with pytest.raises(SluiceError) as caught:
        pair.open()
    assert caught.value.code == "overloaded"


def test_no_new_streams_after_a_go_away_and_the_open_ones_go_on() -> None:
    pair = Pair()
    stream = pair.open()
    pair.pump()
    pair.server.go_away("age", "time for a new session")
    pair.pump()
    assert pair.at_client[-1] == events.GoAwayReceived("age", "time for a new session")
    with pytest.raises(SluiceError):
        pair.open()
    pair.server.respond(stream, OK)
    pair.server.send_end(stream)
    pair.pump()
    assert pair.heard_by_client(events.StreamEnded) == [events.StreamEnded(stream)]


def test_a_request_that_crosses_the_go_away_is_answered() -> None:
    pair = Pair()
    pair.server.go_away("age", "new session, please")
    stream = pair.open()
    pair.pump()
    (failed,) = pair.heard_by_client(events.StreamFailed)
    assert (failed.stream, failed.error.code) == (stream, "cluster_unreachable")


def test_newer_minors_and_unknown_frame_types_are_tolerated() -> None:
    server = Connection(Side.SERVER, Hello("test", SMALL))
    server.receive(hello(protocol=[MAJOR, 9], novelty=True))
    for frame_type in (8, 17, 127):
        for stream in (0, 1, 4, 5):
            for last in (False, True):
                assert server.receive(encode(frame_type, stream, b"whatever", last=last)) == []
    assert server.receive(request(1)) == [events.RequestOpened(1, HEAD)]


def test_a_newer_major_is_refused_with_a_message() -> None:
    server = Connection(Side.SERVER, Hello("1.0", SMALL))
    server.data_to_send()
    with pytest.raises(ProtocolError):
        server.receive(hello(protocol=[MAJOR + 1, 0], software="9.0"))
    ((kind, _, payload, _),) = sent(server)
    assert kind == FrameType.GO_AWAY
    message = json.loads(payload)["message"]
    assert f"protocol {MAJOR + 1}.0 of 9.0" in message
    assert "install the same release" in message


@pytest.mark.parametrize(
    "changes",
    [
        {"path": "/v1/../admin"}, {"path": "/metrics"},
        {"path": "/v1/responses/resp_1"}, {"path": "/v1/messages/batches"}, {"path": "/v1/score"},
        {"method": "DELETE"}, {"model": "a/b"},
        {"user": "alice@example.org"}, {"id": "1"}, {"length": -1}, {"host": "c1"}, {"class": "root"},
        {"affinity": "x"}, {"length": 10_000_000},
    ],
)  # fmt: skip
def test_trying_to_cheat_with_a_head_ends_that_stream_alone(changes: dict[str, Any]) -> None:
    server = raw_server()
    (event,) = server.receive(request(1, **changes))
    assert isinstance(event, events.RequestRefused)
    ((kind, stream, payload, _),) = sent(server)
    assert (kind, stream) == (FrameType.ERROR, 1)
    assert json.loads(payload)["code"] in ("invalid_request", "body_too_large")
    assert server.receive(encode(FrameType.DATA, 1, b"late")) == []
    assert server.receive(request(3)) == [events.RequestOpened(3, HEAD)]


@pytest.mark.parametrize(
    "frames",
    [
        [request(2)], [request(0)], [request(5), request(3)], [request(1), request(1)],
        [encode(FrameType.DATA, 1, b"x")], [encode(FrameType.DATA, 0, last=True)],
        [encode(FrameType.CANCEL, 7)], [encode(FrameType.RESPONSE, 1, b"{}")],
        [encode(FrameType.ERROR, 1, b"{}")],
        [encode(FrameType.CREDIT, 0, b"123")], [encode(FrameType.CREDIT, 0, b"\xff\xff\xff\xff")],
        [request(1), encode(FrameType.CREDIT, 1, b"\xff\xff\xff\xff")],
        [encode(FrameType.PING, 0, b"short")], [encode(FrameType.PONG, 0, b"")],
        [encode(FrameType.GO_AWAY, 0, b"{")], [encode(FrameType.GO_AWAY, 0, b'{"code":"x","message":""}')],
        [hello()], [encode(FrameType.LOAD, 0, bytes(4))],
        *([encode(t, 1, last=True)] for t in (FrameType.MODELS, FrameType.DEMAND, FrameType.CANCEL)),
        [encode(FrameType.PING, 0, bytes(8), last=True)], [encode(FrameType.GO_AWAY, 0, b"{}", last=True)],
        [request(1), encode(FrameType.CREDIT, 1, bytes(4), last=True)],
        [request(1), encode(FrameType.DATA, 1, bytes(1025))],
        [request(1), request(3), request(5), request(7), request(9)],
        [encode(FrameType.PING, 0, bytes(8))] * (MAX_CONTROL + 1),
    ],
)  # fmt: skip
def test_trying_to_cheat_with_frames_ends_the_session(frames: list[bytes]) -> None:
    with pytest.raises(ProtocolError):
        raw_server(*frames)


def test_an_error_gives_the_credit_of_its_stream_back() -> None:
    pair = Pair()
    for _ in range(200):  # 200 KiB through a session credit of 64 KiB
        stream = pair.open()
        pair.client.send_data(stream, bytes(1024))
        pair.pump()
        pair.server.send_error(stream, ErrorHead("closed", "the circuit is open"))
        pair.pump()
    assert len(pair.heard_by_client(events.StreamFailed)) == 200
    assert (pair.client.open_streams, pair.server.open_streams) == (0, 0)


def test_after_a_broken_protocol_nothing_more_is_taken() -> None:
    server = raw_server()
    with pytest.raises(ProtocolError):
        server.receive(request(2))
    with pytest.raises(ProtocolError):
        server.receive(request(3))


@pytest.mark.parametrize("frames", [
    [encode(FrameType.DATA, 1, b"x")],
    [encode(FrameType.DATA, 1, last=True)],
    [encode(FrameType.LOAD, 0, bytes(4))],
    [encode(FrameType.RESPONSE, 1, b'{"status": 200}')],
    [encode(FrameType.ERROR, 1, b'{"code": "No such code", "message": ""}')],
    [encode(FrameType.CANCEL, 1)],
    [encode(FrameType.RESPONSE, 1, b"{}")],
    [encode(FrameType.RESPONSE, 3, OK.encode())],
    [encode(FrameType.RESPONSE, 1, OK.encode())] * 2,
    [encode(FrameType.REQUEST, 1, b"{}")],
])  # fmt: skip
def test_a_server_that_cheats_loses_its_session(frames: list[bytes]) -> None:
    pair = Pair()
    pair.open()
    pair.pump()
    with pytest.raises(ProtocolError):
        for frame in frames:
            pair.client.receive(frame)


def test_a_peer_that_opens_and_cancels_without_reading_costs_no_memory() -> None:
    server = raw_server()
    server.data_to_send()
    tracemalloc.start()
    try:
        for number in range(1, 40_001, 2):
            server.receive(encode(FrameType.REQUEST, number, b"{}") + encode(FrameType.CANCEL, number))
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert server.open_streams == 0
    assert held < 100_000


def test_a_peer_that_grants_a_stream_again_and_again_costs_no_memory() -> None:
    """The session's credit is used up: after each grant the stream waits again, queued once."""
    pair = Pair()
    streams = [pair.open() for _ in range(4)]
    pair.pump()
    server = pair.server
    for stream in streams:
        server.respond(stream, OK)
        server.send_data(stream, bytes(65_536))
    grant = b"".join(encode(FrameType.CREDIT, stream, (65_536).to_bytes(4, "big")) for stream in streams)
    server.receive(grant)
    while server.data_to_send():
        pass
    nothing = encode(FrameType.CREDIT, streams[-1], bytes(4))
    tracemalloc.start()
    try:
        for _ in range(20_000):
            server.receive(nothing)
            server.data_to_send()
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert held < 50_000


@examples(300)
@given(st.binary(max_size=400))
def test_fuzz_any_bytes_give_events_or_a_protocol_error(noise: bytes) -> None:
    server = raw_server(request(1))
    try:
        server.receive(noise)
    except ProtocolError:
        assert sent(server)[-1].type == FrameType.GO_AWAY


@examples(300)
@given(
    st.lists(
        st.tuples(st.integers(0, 16), st.integers(0, 9), st.binary(max_size=40) | st.just(b"\0\0\1\0")),
        max_size=20,
    )
)
def test_fuzz_any_frames_give_events_or_a_protocol_error(frames: list[tuple[int, int, bytes]]) -> None:
    server = raw_server(request(1))
    try:
        for frame in frames:
            server.receive(encode(*frame))
            server.data_to_send()
    except ProtocolError:
        return
    assert server.open_streams <= SMALL.max_streams


# --- the last bit, and the end of streams -------------------------------------------------------------


def test_a_request_without_a_body_is_one_frame() -> None:
    pair = Pair()
    stream = pair.open()
    pair.client.send_end(stream)
    ((kind, _, _, last),) = sent(pair.client)
    assert (kind, last) == (FrameType.REQUEST, True)
    server = raw_server()
    assert typed(server.receive(request(1, last=True))) == [
        ("RequestOpened", (1, HEAD)),
        ("StreamEnded", (1,)),
    ]


def test_the_end_rides_on_the_last_data() -> None:
    pair = Pair(Limits())
    stream = pair.open()
    pair.client.send_data(stream, bytes(20_000))
    pair.client.send_end(stream)
    frames = [(frame.type, len(frame.payload), frame.last) for frame in sent(pair.client)]
    assert frames[1:] == [(FrameType.DATA, 16_384, False), (FrameType.DATA, 3616, True)]


def test_an_answer_of_a_head_alone_is_one_frame() -> None:
    pair = Pair()
    stream = pair.open()
    pair.client.send_end(stream)
    pair.pump()
    pair.server.respond(stream, ResponseHead(204, "application/json"))
    pair.server.send_end(stream)
    pair.pump()
    assert typed(pair.at_client[1:]) == [
        ("ResponseStarted", (stream, ResponseHead(204, "application/json"))),
        ("StreamEnded", (stream,)),
    ]
    assert (pair.client.open_streams, pair.server.open_streams) == (0, 0)


def test_an_end_needs_no_credit() -> None:
    pair = Pair()
    stream = pair.open()
    pair.client.send_data(stream, bytes(SMALL.stream_credit))
    pair.pump()
    pair.client.send_end(stream)
    pair.pump()
    assert pair.heard_by_server(events.StreamEnded) == [events.StreamEnded(stream)]


def test_what_is_sent_behind_an_end_is_dropped() -> None:
    pair = Pair()
    stream = pair.open()
    pair.client.send_end(stream)
    pair.client.send_data(stream, b"more")
    pair.client.send_end(stream)
    pair.pump()
    assert pair.heard_by_server(events.DataReceived) == []
    assert len(pair.heard_by_server(events.StreamEnded)) == 1


def test_a_stream_cancelled_before_it_left_is_never_heard_of() -> None:
    pair = Pair()
    pair.client.cancel(pair.open())
    stream = pair.open()
    pair.pump()
    assert pair.heard_by_server(events.StreamCancelled) == []
    assert [event.stream for event in pair.heard_by_server(events.RequestOpened)] == [stream]


def test_a_stream_answered_whole_counts_no_more_though_its_body_had_no_reader() -> None:
    pair = Pair()
    for _ in range(3 * SMALL.max_streams):
        stream = pair.open()
        pair.client.send_data(stream, b"unread")
        pair.client.send_end(stream)
        pair.pump()
        pair.server.respond(stream, OK)
        pair.server.send_end(stream)
        pair.pump()
    assert (pair.client.open_streams, pair.server.open_streams) == (0, 0)


def test_small_pieces_that_wait_grow_together() -> None:
    pair = Pair(Limits())
    stream = pair.open()
    pair.client.data_to_send()
    for _ in range(1000):
        pair.client.send_data(stream, b"word ")
    assert pair.client.pending(stream) == 5000
    frames = sent(pair.client)
    assert len(frames) < 5
    assert b"".join(frame.payload for frame in frames) == b"word " * 1000


def test_a_head_beyond_a_frame_is_a_programming_error() -> None:
    pair = Pair()
    with pytest.raises(ValueError, match="at most"):
        pair.client.open_demand(DemandHead({f"m{number}": 1 for number in range(10_000)}))


def test_only_a_client_opens_streams() -> None:
    with pytest.raises(ValueError, match="client"):
        raw_server().open_request(HEAD)


@pytest.mark.parametrize("step", [1, 5, 1 << 20])
def test_the_front_answers_as_the_relay_does(step: int) -> None:
    pair = Pair(step=step, link=RELAY_FRONT)
    stream = pair.open()
    pair.client.send_end(stream)
    pair.pump()
    pair.server.respond(stream, OK)
    pair.server.send_data(stream, b"answer")
    pair.server.send_end(stream)
    pair.pump()
    assert typed(pair.at_server[1:]) == [
        ("RequestOpened", (stream, pair.head)),
        ("StreamEnded", (stream,)),
    ]
    assert typed(pair.at_client[1:]) == [
        ("ResponseStarted", (stream, OK)),
        ("DataReceived", (stream, b"answer")),
        ("StreamEnded", (stream,)),
    ]


@pytest.mark.parametrize("cancels", [False, True])
def test_an_answer_before_the_whole_body_left_ends_the_body_though_its_end_is_queued(cancels: bool) -> None:
    pair = Pair()
    for _ in range(2 * SMALL.max_streams):
        stream = pair.open()
        pair.client.send_data(stream, bytes(3 * SMALL.stream_credit))
        pair.client.send_end(stream)
        pair.pump()
        pair.server.respond(stream, OK)
        pair.server.send_data(stream, b"no need to read on")
        pair.server.send_end(stream)
        pair.pump()
        assert pair.client.pending(stream) == 0
        if cancels:
            pair.client.cancel(stream)
        else:
            pair.client.consume(stream, 18)
        pair.pump()
    assert len(pair.heard_by_server(events.StreamCancelled)) == 2 * SMALL.max_streams
    assert (pair.client.open_streams, pair.server.open_streams) == (0, 0)


def test_accepted_comes_before_the_response_and_may_come_again() -> None:
    pair = Pair()
    stream = pair.open()
    pair.pump()
    pair.server.accept(stream)
    pair.server.accept(stream)
    pair.server.respond(stream, ResponseHead(200, "text/event-stream"))
    pair.pump()
    assert pair.heard_by_client(events.AcceptedReceived) == [events.AcceptedReceived(stream)] * 2
    with pytest.raises(ProtocolError):
        pair.client.receive(encode(FrameType.ACCEPTED, stream))


def test_accepted_for_a_stream_that_was_never_opened_ends_the_session() -> None:
    pair = Pair()
    pair.pump()
    with pytest.raises(ProtocolError):
        pair.client.receive(encode(FrameType.ACCEPTED, 1))


def test_no_front_says_accepted() -> None:
    pair = Pair(link=RELAY_FRONT)
    stream = pair.open()
    with pytest.raises(ProtocolError):
        pair.client.receive(encode(FrameType.ACCEPTED, stream))
