"""The bytes of every frame: `tests/golden/wire/<frame>.hex`, the header on one line, the payload on the next.

Each is what a connection sends, and what the other side understands.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest

from sluice.bodies.costs import Bounds
from sluice.contracts.heads import DemandHead, ErrorHead, ResponseHead
from sluice.wire.connection import Connection, Side
from sluice.wire.frames import HEADER_BYTES, LAST, Decoder, FrameType
from sluice.wire.hello import Hello, Limits
from sluice.wire.links import PROXY_RELAY, RELAY_FRONT, Link
from tests.unit.wire.ends import CONTRACTS, GOLDEN, HEAD, INSTANCE_HEAD, KEY, Pair

HELLO = Hello("0.1.0+3f2a91c0d1e2", Limits())
EVENT_STREAM = ResponseHead(200, "text/event-stream", "smollm2-01234567")
ERROR = ErrorHead("instance_failed", "the instance broke off before it answered", None, 1)


def client(act: Callable[[Connection], object], link: Link = PROXY_RELAY) -> bytes:
    """Return what a client sends for `act`, its hello being over."""
    pair = Pair(Limits(), link=link)
    act(pair.client)
    return pair.client.data_to_send()


def server(act: Callable[[Connection, int], object], link: Link = PROXY_RELAY) -> bytes:
    """Return what a server sends for `act` on an open request."""
    pair = Pair(Limits(), link=link)
    stream = pair.open()
    pair.client.send_data(stream, bytes(20_000))
    pair.pump()
    act(pair.server, stream)
    return pair.server.data_to_send()


def answer_behind_head(connection: Connection, stream: int, data: bytes, *, end: bool) -> None:
    connection.respond(stream, EVENT_STREAM)
    connection.data_to_send()
    connection.send_data(stream, data)
    if end:
        connection.send_end(stream)


def sent_request(connection: Connection) -> int:
    stream = connection.open_request(HEAD)
    connection.data_to_send()
    return stream


FRAMES: dict[str, Callable[[], bytes]] = {
    "hello": lambda: Connection(Side.SERVER, HELLO).data_to_send(),
    "hello-schemas": lambda: Connection(
        Side.SERVER, dataclasses.replace(HELLO, schemas=Bounds())
    ).data_to_send(),
    "hello-key": lambda: Connection(Side.CLIENT, HELLO, RELAY_FRONT, key=KEY).data_to_send(),
    "request": lambda: client(lambda c: c.open_request(HEAD)),
    "request-last": lambda: client(lambda c: c.send_end(c.open_request(HEAD))),
    "request-again": lambda: client(lambda c: c.open_request(HEAD._replace(breaks=1))),
    "request-places": lambda: client(lambda c: c.open_request(HEAD._replace(places=8))),
    "request-instance-places": lambda: client(
        lambda c: c.open_request(INSTANCE_HEAD._replace(places=8)), RELAY_FRONT
    ),
    "request-instance": lambda: client(lambda c: c.open_request(INSTANCE_HEAD), RELAY_FRONT),
    "models": lambda: client(lambda c: c.open_models()),
    "demand": lambda: client(lambda c: c.open_demand(DemandHead({"smollm2": 3}))),
    "metrics": lambda: client(lambda c: c.open_metrics()),
    "response": lambda: server(lambda s, stream: s.respond(stream, EVENT_STREAM)),
    "data": lambda: server(lambda s, stream: answer_behind_head(s, stream, b"data: hi\n\n", end=False)),
    "data-last": lambda: server(lambda s, stream: answer_behind_head(s, stream, b"data: hi\n\n", end=True)),
    "data-last-empty": lambda: server(lambda s, stream: answer_behind_head(s, stream, b"", end=True)),
    "error": lambda: server(lambda s, stream: s.send_error(stream, ERROR)),
    "cancel": lambda: client(lambda c: c.cancel(sent_request(c))),
    "credit": lambda: server(lambda s, stream: s.consume(stream, 20_000)),
    "ping": lambda: client(lambda c: c.ping(b"sluice")),
    "go-away": lambda: server(lambda s, _: s.go_away("shutdown", "the relay ends")),
    "accepted": lambda: server(lambda s, stream: s.accept(stream)),
    "load": lambda: server(lambda s, _: s.send_load(17), RELAY_FRONT),
}
JSON = {
    "hello": "wire-hello",
    "hello-key": "wire-hello-key",
    "hello-schemas": "wire-hello-schemas",
    "request": "wire-request",
    "request-last": "wire-request",
    "request-again": "wire-request-again",
    "request-places": "wire-request-places",
    "request-instance-places": "wire-instance-request-places",
    "request-instance": "wire-instance-request",
    "error": "wire-error",
    "go-away": "wire-goaway",
}


def written(frame: bytes) -> str:
    return f"{frame[:HEADER_BYTES].hex()}\n{frame[HEADER_BYTES:].hex()}\n"


@pytest.mark.parametrize("name", FRAMES)
def test_what_is_sent_is_golden(name: str) -> None:
    golden = (GOLDEN / "wire" / f"{name}.hex").read_text()
    assert written(FRAMES[name]()) == golden


@pytest.mark.parametrize("name", JSON)
def test_the_json_within_is_the_golden_contract(name: str) -> None:
    (frame,) = Decoder().feed(bytes.fromhex((GOLDEN / "wire" / f"{name}.hex").read_text()))
    assert json.loads(frame.payload) == json.loads((CONTRACTS / f"{JSON[name]}.json").read_text())


def test_every_frame_has_an_example() -> None:
    found: set[Any] = set()
    for path in (GOLDEN / "wire").iterdir():
        frames = Decoder().feed(bytes.fromhex(path.read_text()))
        assert path.stem in FRAMES
        assert len(frames) == 1
        found.add(frames[0].type)
    assert found | {FrameType.PONG} == set(FrameType)


def test_the_last_bit_is_all_that_differs() -> None:
    plain, last = FRAMES["data"](), FRAMES["data-last"]()
    assert plain[3] | LAST == last[3]
    assert (plain[:3], plain[4:]) == (last[:3], last[4:])
