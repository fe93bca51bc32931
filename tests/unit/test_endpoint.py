"""A wire connection on a transport: what is written when, and when a peer counts as gone."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import Any, Callable, Optional

from sluice import endpoint as endpoint_module
from sluice.contracts.heads import InstanceRequest, ResponseHead
from sluice.endpoint import BUSY_STREAMS, CLOSE_TIMEOUT, HELLO_TIMEOUT, Endpoint
from sluice.wire import events
from sluice.wire.connection import Connection, Side
from sluice.wire.hello import Hello, Limits
from sluice.wire.links import RELAY_FRONT

KEY = "k" * 43
BATCH = 0.1


class Written(asyncio.Transport):
    """A transport that remembers each write, with its time, and whether it was closed."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[tuple[float, bytes]] = []
        self.closed = self.aborted = False

    def set_write_buffer_limits(self, high: Optional[int] = None, low: Optional[int] = None) -> None:
        """Keep everything."""

    def write(self, data: Any) -> None:
        """Remember."""
        self.writes.append((time.monotonic(), bytes(data)))

    def close(self) -> None:
        """Remember."""
        self.closed = True

    def abort(self) -> None:
        """Remember."""
        self.aborted = True


class Pair:
    """A server's endpoint on a recording transport, and a client's connection."""

    def __init__(self, streams: int, batch: float = BATCH, key: str = KEY) -> None:
        limits = Limits(session_credit=1 << 24)
        self.lost: list[str] = []
        self.opened: list[int] = []
        self.transport = Written()
        handlers: dict[type, Callable[[Any], None]] = {
            events.RequestOpened: lambda event: self.opened.append(event.stream)
        }
        server = Connection(Side.SERVER, Hello("server", limits), RELAY_FRONT, key=KEY)
        self.endpoint = Endpoint(server, handlers, on_lost=self.lost.append, batch=batch)
        self.client = Connection(Side.CLIENT, Hello("client", limits), RELAY_FRONT, key=key)
        self.endpoint.connection_made(self.transport)
        self.give()
        if self.endpoint.connection.peer is not None:
            self.endpoint.wake()
            self.endpoint._flush()
            self.client.receive(b"".join(data for _, data in self.transport.writes))
            for _ in range(streams):
                self.client.open_request(InstanceRequest("req-" + "0" * 32, "GET", "/health", 0))
            self.give()
        self.transport.writes.clear()

    def give(self) -> None:
        """Deliver what the client has sent."""
        while data := self.client.data_to_send():
            self.endpoint.data_received(data)

    def say(self, index: int, *, urgent: bool = False) -> None:
        """Send a byte on one of the streams."""
        stream = self.opened[index]
        connection = self.endpoint.connection
        connection.respond(stream, ResponseHead(200, "text/plain"))
        connection.send_data(stream, b"x")
        self.endpoint.wake(urgent=urgent)


async def turns() -> None:
    """Let the loop run a few turns without waiting."""
    for _ in range(4):
        await asyncio.sleep(0)


async def test_what_comes_together_leaves_together() -> None:
    pair = Pair(2)
    for urgent in (False, True):
        pair.say(0, urgent=urgent)
        pair.say(1, urgent=urgent)
    assert pair.transport.writes == []
    await turns()
    assert len(pair.transport.writes) == 1


async def test_one_of_few_streams_never_waits() -> None:
    pair = Pair(BUSY_STREAMS - 1)
    for number in range(5):
        pair.say(number)
        await turns()
    assert len(pair.transport.writes) == 5


async def test_while_many_are_open_writes_keep_a_distance() -> None:
    pair = Pair(BUSY_STREAMS)
    await asyncio.sleep(BATCH * 1.5)
    pair.say(0)
    await turns()
    assert len(pair.transport.writes) == 1, "the first write after a pause must not wait"
    deadline = time.monotonic() + 20.0
    while len(pair.transport.writes) < 5:
        assert time.monotonic() < deadline, "what waits was never sent"
        pair.say(0)
        await asyncio.sleep(0.001)
    times = [at for at, _ in pair.transport.writes]
    assert all(later - earlier > 0.9 * BATCH for earlier, later in zip(times, times[1:], strict=False))


async def test_what_is_urgent_leaves_at_once_and_takes_the_rest_along() -> None:
    pair = Pair(BUSY_STREAMS, batch=30.0)
    pair.say(0)
    await turns()
    written = len(pair.transport.writes)
    pair.say(1)
    await turns()
    assert len(pair.transport.writes) == written
    pair.say(2, urgent=True)
    await turns()
    assert len(pair.transport.writes) == written + 1
    assert pair.endpoint._later is None
    assert not pair.endpoint.connection.has_data(), "nothing is left for later"


async def test_without_a_batch_nothing_waits() -> None:
    pair = Pair(BUSY_STREAMS * 2, batch=0.0)
    for number in range(5):
        pair.say(number)
        await turns()
    assert len(pair.transport.writes) == 5


async def test_a_peer_that_does_not_read_is_not_written_to() -> None:
    pair = Pair(1)
    pair.endpoint.pause_writing()
    pair.say(0)
    await turns()
    assert pair.transport.writes == []
    pair.endpoint.resume_writing()
    assert len(pair.transport.writes) == 1


async def test_a_peer_without_a_hello_is_given_up() -> None:
    pair = Pair(0, key="")
    endpoint = Endpoint(
        Connection(Side.SERVER, Hello("server", Limits()), RELAY_FRONT, key=KEY), {}, on_lost=pair.lost.append
    )
    transport = Written()
    endpoint.connection_made(transport)
    endpoint.tick(time.monotonic() + HELLO_TIMEOUT - 1)
    assert not transport.aborted
    endpoint.tick(time.monotonic() + HELLO_TIMEOUT + 1)
    assert transport.aborted
    assert transport.writes == []


async def test_silence_is_asked_about_and_then_given_up() -> None:
    pair = Pair(1)
    now = time.monotonic()
    pair.endpoint.tick(now + endpoint_module.PING_INTERVAL + 1)
    await turns()
    assert len(pair.transport.writes) == 1
    pair.client.receive(pair.transport.writes[0][1])
    assert pair.client.has_data(), "a pong"
    for number in range(2, endpoint_module.SILENT_PINGS + 1):
        assert not pair.transport.aborted
        pair.endpoint.tick(now + number * (endpoint_module.PING_INTERVAL + 1))
    assert pair.transport.aborted


async def test_a_machine_that_stood_still_gives_its_peer_time_to_answer() -> None:
    pair = Pair(1)
    now = time.monotonic()
    for number in range(10):
        pair.endpoint.tick(now + number * 3600)
        pair.client.ping(b"alive")
        pair.give()
    assert not pair.transport.aborted


async def test_a_closing_connection_says_why_and_ends_even_if_the_peer_does_not() -> None:
    pair = Pair(1)
    pair.endpoint.close("shutdown", "the job ends")
    assert pair.transport.closed
    assert b"the job ends" in pair.transport.writes[0][1]
    pair.say(0)
    await turns()
    assert len(pair.transport.writes) == 1
    pair.endpoint.tick(time.monotonic() + CLOSE_TIMEOUT / 2)
    assert not pair.transport.aborted
    pair.endpoint.tick(time.monotonic() + CLOSE_TIMEOUT + 1)
    assert pair.transport.aborted
    pair.endpoint.connection_lost(None)
    pair.endpoint.connection_lost(None)
    assert pair.lost == ["the job ends"]


async def test_a_broken_protocol_closes_and_reads_no_further() -> None:
    pair = Pair(1)
    pair.endpoint.data_received(b"\xff" * 8)
    assert pair.transport.closed
    opened = len(pair.opened)
    pair.client.open_request(InstanceRequest("req-" + "0" * 32, "GET", "/health", 0))
    pair.give()
    assert len(pair.opened) == opened


# --- on real sockets --------------------------------------------------------------------------------------


class Party:
    """An endpoint on one end of a socket pair, and the events that it got."""

    def __init__(self, role: Side, limits: Limits, **options: Any) -> None:
        self.lost: list[str] = []
        self.heard: list[tuple[float, Any]] = []
        kinds = (events.RequestOpened, events.ResponseStarted, events.DataReceived, events.StreamEnded)
        connection = Connection(role, Hello("test", limits), RELAY_FRONT, key=KEY)
        handlers = dict.fromkeys(kinds, lambda event: self.heard.append((time.monotonic(), event)))
        self.endpoint = Endpoint(connection, handlers, on_lost=self.lost.append, **options)

    @property
    def connection(self) -> Connection:
        return self.endpoint.connection

    def of(self, kind: type) -> list[Any]:
        return [event for _, event in self.heard if isinstance(event, kind)]


async def joined(limits: Limits, **options: Any) -> tuple[Party, Party]:
    """Return a client and a server that have exchanged hellos over a socket pair."""
    loop = asyncio.get_running_loop()
    ends = socket.socketpair()
    client, server = Party(Side.CLIENT, limits), Party(Side.SERVER, limits, **options)
    for end, party in zip(ends, (client, server)):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)
        end.setblocking(False)
        await loop.create_connection(lambda party=party: party.endpoint, sock=end)  # type: ignore[misc]
    await until(lambda: client.connection.peer is not None and server.connection.peer is not None)
    return client, server


async def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait for the condition, for this many seconds at most."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        await asyncio.sleep(0.002)


def close_all(*parties: Party) -> None:
    for party in parties:
        party.endpoint.abort()


def ask(client: Party) -> int:
    stream = client.connection.open_request(InstanceRequest("req-" + "0" * 32, "GET", "/metrics", 0))
    client.connection.send_end(stream)
    client.endpoint.wake()
    return stream


async def test_an_answer_of_megabytes_arrives_whole_and_in_order() -> None:
    client, server = await joined(Limits(session_credit=64 << 20))
    stream = ask(client)
    await until(lambda: server.of(events.RequestOpened))
    body = bytes(range(256)) * 20_000
    server.connection.respond(stream, ResponseHead(200, "text/plain"))
    server.connection.send_data(stream, body)
    server.connection.send_end(stream)
    server.endpoint.wake()
    seen = 0
    while not client.of(events.StreamEnded):
        await asyncio.sleep(0)
        fresh = client.of(events.DataReceived)[seen:]
        seen += len(fresh)
        for event in fresh:
            client.connection.consume(event.stream, len(event.data))
        client.endpoint.wake()
    assert b"".join(event.data for event in client.of(events.DataReceived)) == body
    close_all(client, server)


async def test_what_a_slow_network_does_not_take_waits_in_the_wire() -> None:
    limits = Limits(stream_credit=1 << 26, session_credit=1 << 26)
    client, server = await joined(limits)
    stream = ask(client)
    await until(lambda: server.of(events.RequestOpened))
    assert client.endpoint.transport is not None
    client.endpoint.transport.pause_reading()
    server.connection.respond(stream, ResponseHead(200, "text/plain"))
    server.connection.send_data(stream, bytes(32 << 20))
    server.endpoint.wake()
    await asyncio.sleep(0.05)
    transport = server.endpoint.transport
    assert transport is not None
    assert transport.get_write_buffer_size() <= endpoint_module.HIGH_WATER + endpoint_module.WRITE_SIZE * 2
    assert server.connection.pending(stream) > 31 << 20
    client.endpoint.transport.resume_reading()
    await until(lambda: server.connection.pending(stream) == 0)
    await until(lambda: sum(len(event.data) for event in client.of(events.DataReceived)) == 32 << 20)
    close_all(client, server)


async def test_what_left_is_told_to_who_passes_data_on() -> None:
    client, server = await joined(Limits())
    stream = ask(client)
    await until(lambda: server.of(events.RequestOpened))
    pending: list[int] = []
    server.endpoint.after_flush = lambda: pending.append(server.connection.pending(stream))
    server.connection.respond(stream, ResponseHead(200, "text/plain"))
    server.connection.send_data(stream, bytes(5000))
    server.endpoint.wake()
    await until(lambda: client.of(events.DataReceived))
    assert pending == [0]
    close_all(client, server)


async def test_an_end_that_is_cut_tells_its_owner_once() -> None:
    client, server = await joined(Limits())
    server.endpoint.abort("enough")
    await until(lambda: client.lost and server.lost)
    assert server.lost == ["enough"]
    assert len(client.lost) == 1
    assert client.endpoint.lost
    client.endpoint.wake()
    client.endpoint.tick(time.monotonic() + 1000)
    await turns()


async def test_a_go_away_comes_before_the_end() -> None:
    client, server = await joined(Limits())
    server.endpoint.close("age", "a new session, please")
    await until(lambda: client.lost and server.lost)
    assert client.connection.peer_going_away
    assert server.lost == ["a new session, please"]
