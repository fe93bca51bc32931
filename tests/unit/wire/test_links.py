"""The link between relay and front: the key before anything else, and the load."""

from __future__ import annotations

import json

import pytest

from sluice.wire import events
from sluice.wire.connection import Connection, Side
from sluice.wire.frames import HEADER, FrameType, ProtocolError, encode
from sluice.wire.guard import MAX_UNAUTHENTICATED
from sluice.wire.hello import MAJOR, Hello, Limits
from sluice.wire.links import RELAY_FRONT
from tests.unit.wire.ends import INSTANCE_HEAD, KEY, SMALL, Pair, hello, request, sent, typed


def front(key: str = KEY) -> Connection:
    return Connection(Side.SERVER, Hello("test", SMALL), RELAY_FRONT, key=key)


def test_a_server_says_nothing_before_the_key() -> None:
    server = front()
    assert not server.has_data()
    assert server.data_to_send() == b""
    (event,) = server.receive(hello(key=KEY))
    assert isinstance(event, events.HelloReceived)
    assert [frame.type for frame in sent(server)] == [FrameType.HELLO]


def test_the_key_opens_the_session_byte_by_byte() -> None:
    pair = Pair(step=1, link=RELAY_FRONT)
    pair.open()
    pair.pump()
    assert pair.heard_by_server(events.RequestOpened) == [events.RequestOpened(1, INSTANCE_HEAD)]


WRONG = [
    hello(),
    hello(key=""),
    hello(key=KEY[:-1]),
    hello(key=KEY + "A"),
    hello(key=KEY[:-1] + "X"),
    hello(key=KEY.swapcase()),
    hello(key=None),
    hello(key=[KEY]),
    hello(key="\u00e9" * 43),
    hello(protocol=[MAJOR + 1, 0]),
    encode(FrameType.HELLO, 0, b'{"key": "' + KEY.encode() + b'", "key": "x"}'),
    encode(FrameType.HELLO, 0, b"{"),
    encode(FrameType.HELLO, 0, b"[]"),
    encode(FrameType.HELLO, 0, b""),
    encode(FrameType.GO_AWAY, 0, b'{"code": "shutdown", "message": ""}'),
    encode(FrameType.PING, 0, bytes(8)),
    encode(FrameType.DATA, 1, b"x"),
    encode(FrameType.CREDIT, 0, bytes(4)),
    encode(100, 0, b"unknown types too"),
    request(1),
    b"GET / HTTP/1.1\r\n\r\n",
    HEADER.pack((MAX_UNAUTHENTICATED + 1) << 8 | FrameType.HELLO, 0),
]


@pytest.mark.parametrize("knock", WRONG)
def test_trying_to_enter_without_the_key(knock: bytes) -> None:
    server = front()
    with pytest.raises(ProtocolError):
        server.receive(knock)
    assert server.data_to_send() == b"", "an unauthenticated peer must learn nothing, not even why"
    assert server.peer is None
    with pytest.raises(ProtocolError):
        server.receive(hello(key=KEY))


def test_a_wrong_key_learns_nothing_but_that() -> None:
    server = front()
    with pytest.raises(ProtocolError, match=r"^not authorised$"):
        server.receive(hello(key=KEY[:-1] + "X", protocol=[MAJOR + 1, 0]))


def test_a_front_without_a_key_lets_nobody_in() -> None:
    for shown in ("", KEY):
        with pytest.raises(ProtocolError, match="not authorised"):
            front("").receive(hello(key=shown))


def test_a_right_key_with_another_major_is_told_so() -> None:
    with pytest.raises(ProtocolError, match="install the same release"):
        front().receive(hello(key=KEY, protocol=[MAJOR + 1, 0]))


def test_after_the_key_frames_may_be_large() -> None:
    pair = Pair(Limits(), link=RELAY_FRONT)
    stream = pair.open()
    pair.client.send_data(stream, bytes(20_000))
    pair.pump()
    assert sum(len(event.data) for event in pair.heard_by_server(events.DataReceived)) == 20_000


@pytest.mark.parametrize(("code", "message"), [("shutdown", "the job ends"), ("closed", "no room")])
def test_a_server_that_ends_tells_strangers_nothing_and_relays_why(code: str, message: str) -> None:
    stranger, pair = front(), Pair(link=RELAY_FRONT)
    for server in (stranger, pair.server):
        server.go_away(code, message)
    assert stranger.data_to_send() == b""
    pair.pump()
    assert pair.heard_by_client(events.GoAwayReceived) == [events.GoAwayReceived(code, message)]


def test_a_right_key_with_a_broken_hello_hears_why() -> None:
    server = front()
    with pytest.raises(ProtocolError):
        server.receive(hello(key=KEY, software=None))
    assert [frame.type for frame in sent(server)] == [FrameType.HELLO, FrameType.GO_AWAY]


def test_a_client_still_takes_a_go_away_first_as_older_fronts_send_it() -> None:
    client = Connection(Side.CLIENT, Hello("test", SMALL), RELAY_FRONT, key="A" * 43)
    told = encode(FrameType.GO_AWAY, 0, b'{"code": "protocol", "message": "not authorised"}')
    assert typed(client.receive(told)) == [("GoAwayReceived", ("protocol", "not authorised"))]


def test_the_key_is_not_asked_for_nor_shown_over_ssh() -> None:
    client = Connection(Side.CLIENT, Hello("test", SMALL), key=KEY)
    assert KEY.encode() not in client.data_to_send()


@pytest.mark.parametrize("opener", [FrameType.MODELS, FrameType.DEMAND, FrameType.METRICS])
def test_a_front_takes_no_verb_but_request(opener: FrameType) -> None:
    pair = Pair(link=RELAY_FRONT)
    with pytest.raises(ProtocolError, match="not allowed for this side"):
        pair.server.receive(encode(opener, 1))


@pytest.mark.parametrize(
    "changes",
    [{"path": "/v1/models"}, {"path": "/"}, {"method": "PUT"}, {"id": "1"}, {"length": -1}, {"host": "x"}],
)
def test_a_head_that_a_front_does_not_know_ends_that_stream_alone(changes: dict[str, object]) -> None:
    pair = Pair(link=RELAY_FRONT)
    head = json.dumps(json.loads(INSTANCE_HEAD.encode()) | changes).encode()
    (event,) = pair.server.receive(encode(FrameType.REQUEST, 1, head))
    assert isinstance(event, events.RequestRefused)
    (frame,) = sent(pair.server)
    assert json.loads(frame.payload)["code"] == "invalid_request"


def test_the_newest_load_is_told_once() -> None:
    pair = Pair(link=RELAY_FRONT)
    for running in range(10_000):
        pair.server.send_load(running)
    assert pair.server.has_data()
    pair.pump()
    assert pair.heard_by_client(events.LoadReported) == [events.LoadReported(9999)]
    assert not pair.server.has_data()


@pytest.mark.parametrize(
    "frame",
    [
        encode(FrameType.LOAD, 0, bytes(3)),
        encode(FrameType.LOAD, 0, bytes(5)),
        encode(FrameType.LOAD, 1, bytes(4)),
        encode(FrameType.LOAD, 0, bytes(4), last=True),
    ],
)
def test_a_load_of_the_wrong_form_ends_the_session(frame: bytes) -> None:
    pair = Pair(link=RELAY_FRONT)
    with pytest.raises(ProtocolError):
        pair.client.receive(frame)
