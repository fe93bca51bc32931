"""Two connections joined by hand, and a single end that gets raw frames."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sluice.contracts.heads import InstanceRequest, RequestHead, ResponseHead
from sluice.wire import events
from sluice.wire.connection import Connection, Side
from sluice.wire.frames import Decoder, Frame, FrameType, encode
from sluice.wire.hello import Hello, Limits
from sluice.wire.links import PROXY_RELAY, RELAY_FRONT, Link

GOLDEN = Path(__file__).parents[2] / "golden"
CONTRACTS = GOLDEN / "contracts"
HEAD = RequestHead.parse(json.loads((CONTRACTS / "wire-request.json").read_text()))
INSTANCE_HEAD = InstanceRequest.parse(json.loads((CONTRACTS / "wire-instance-request.json").read_text()))
KEY = json.loads((CONTRACTS / "wire-hello-key.json").read_text())["key"]
OK = ResponseHead(200, "application/json")
SMALL = Limits(stream_credit=1024, session_credit=65_536, max_streams=4, max_body=1_000_000)


class Pair:
    """A client's and a server's end, and the events of each; `step`: bytes delivered at once."""

    def __init__(
        self, limits: Limits = SMALL, step: int = 1 << 20, link: Link = PROXY_RELAY, **options: Any
    ) -> None:
        key = KEY if link.keyed else ""
        self.client = Connection(Side.CLIENT, Hello("test", limits), link, key=key, **options)
        self.server = Connection(Side.SERVER, Hello("test", limits), link, key=key, **options)
        self.at_client: list[events.Event] = []
        self.at_server: list[events.Event] = []
        self.step = step
        self.head = INSTANCE_HEAD if link is RELAY_FRONT else HEAD
        self.pump()

    def open(self) -> int:
        """Open a request without its body."""
        return self.client.open_request(self.head)

    def pump(self) -> None:
        """Carry bytes both ways until nothing moves."""
        for _ in range(10_000):
            up, down = self.client.data_to_send(), self.server.data_to_send()
            if not up and not down:
                return
            self.at_server += feed(self.server, up, self.step)
            self.at_client += feed(self.client, down, self.step)
        raise AssertionError("the two never come to rest")

    def heard_by_server(self, kind: type) -> list[Any]:
        return [event for event in self.at_server if isinstance(event, kind)]

    def heard_by_client(self, kind: type) -> list[Any]:
        return [event for event in self.at_client if isinstance(event, kind)]


def feed(connection: Connection, data: bytes, step: int) -> list[events.Event]:
    """Feed `data` in pieces of `step` bytes."""
    found: list[events.Event] = []
    for position in range(0, len(data), step):
        found += connection.receive(data[position : position + step])
    return found


def hello(limits: Limits = SMALL, **changes: Any) -> bytes:
    """Return a peer's hello as a frame."""
    return encode(FrameType.HELLO, 0, json.dumps(Hello("t", limits).dump() | changes).encode())


def raw_server(*frames: bytes, limits: Limits = SMALL) -> Connection:
    """A server's end that has received a hello and then these frames."""
    server = Connection(Side.SERVER, Hello("test", limits))
    server.receive(hello())
    server.data_to_send()
    for frame in frames:
        server.receive(frame)
    return server


def request(stream: int, *, last: bool = False, **changes: Any) -> bytes:
    """Return a request frame with the golden head and `changes`."""
    return encode(
        FrameType.REQUEST, stream, json.dumps(json.loads(HEAD.encode()) | changes).encode(), last=last
    )


def sent(connection: Connection) -> list[Frame]:
    """Return the frames that the connection wants to send now."""
    return Decoder().feed(connection.data_to_send())


def typed(found: list[events.Event]) -> list[tuple[str, tuple[Any, ...]]]:
    """Add the events' types: as tuples, events of different types may be equal."""
    return [(type(event).__name__, tuple(event)) for event in found]
