"""Connections to a front: which are accepted, how many, and what they may ask."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import ssl
import time
from pathlib import Path

import pytest

from sluice.contracts.heads import InstanceRequest
from sluice.front import listener as listener_module
from sluice.front import unauthenticated
from sluice.front.identity import Identity, make
from sluice.front.listener import SPARE_STREAMS, bind
from sluice.front.unauthenticated import Unauthenticated
from sluice.wire.connection import Connection, Side
from sluice.wire.frames import FrameType, encode
from sluice.wire.hello import Hello, Limits
from sluice.wire.links import RELAY_FRONT
from tests.fakes.engine import Behaviour, StubEngine
from tests.unit.front.bed import CHAT, REQUEST_ID, SECONDS, Answer, Bed, bed, chat, front, trusting, until


@pytest.mark.parametrize("key", ["", "x", "x" * 43, "X" * 5000])
async def test_trying_without_the_key(tmp_path: Path, identity: Identity, key: str) -> None:
    async with (
        StubEngine(Behaviour(), tmp_path / "engine.sock") as engine,
        front(tmp_path, identity) as running,
    ):
        relay = await running.connect(key)
        await until(lambda: relay.why is not None)
        assert relay.connection.peer is None, "an unauthenticated peer must not learn even the version"
    assert engine.received == []


async def test_trying_the_key_in_capitals(tmp_path: Path, identity: Identity) -> None:
    async with front(tmp_path, identity) as running:
        relay = await running.connect(running.key.swapcase())
        await until(lambda: relay.why is not None)
        assert relay.connection.peer is None


async def test_trying_to_ask_before_the_key_is_shown(tmp_path: Path, identity: Identity) -> None:
    head = InstanceRequest(REQUEST_ID, "GET", "/health", 0).encode()
    async with (
        StubEngine(Behaviour(), tmp_path / "engine.sock") as engine,
        front(tmp_path, identity) as running,
    ):
        reader, writer = await running.raw()
        writer.write(encode(FrameType.REQUEST, 1, head, last=True))
        said = await asyncio.wait_for(reader.read(), SECONDS)
        writer.transport.abort()
    assert said == b""
    assert engine.received == []


@pytest.mark.parametrize(
    "said",
    [
        b"GET /health HTTP/1.1\r\nHost: front\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nHost: front\r\nContent-Length: 3\r\n\r\nabc",
        b"\x00" * 8,
        b"\xff" * 4096,
        encode(FrameType.HELLO, 0, b"x" * 4000),
        encode(FrameType.HELLO, 0, b"x" * 5000),
        encode(FrameType.PING, 0, b"12345678"),
    ],
)
async def test_trying_another_language(tmp_path: Path, identity: Identity, said: bytes) -> None:
    async with (
        StubEngine(Behaviour(), tmp_path / "engine.sock") as engine,
        front(tmp_path, identity) as running,
    ):
        reader, writer = await running.raw()
        writer.write(said)
        answer = await asyncio.wait_for(reader.read(), SECONDS)
        writer.transport.abort()
    assert answer == b"", "an unauthenticated peer must learn nothing, not even why it is closed"
    assert engine.received == []


@pytest.mark.parametrize("why", ["it stops", "it is crowded", "it waits in vain"])
async def test_a_stranger_who_waits_hears_nothing_whyever_the_front_ends_it(
    tmp_path: Path, identity: Identity, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    async with front(tmp_path, identity) as running:
        reader, writer = await running.raw()
        await until(lambda: not running.listener._handshakes)
        if why == "it stops":
            running.listener.stop()
        elif why == "it is crowded":
            for peer in running.listener._unauthenticated:
                running.listener._close_unauthenticated(peer)
        else:
            monkeypatch.setattr("sluice.endpoint.HELLO_TIMEOUT", 0.0)
        said = b""
        with contextlib.suppress(ConnectionResetError):
            said = await asyncio.wait_for(reader.read(), SECONDS)
        writer.transport.abort()
    assert said == b""


async def test_a_stranger_who_says_nothing_is_hung_up_on(
    tmp_path: Path, identity: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sluice.endpoint.HELLO_TIMEOUT", 0.5)
    async with front(tmp_path, identity) as running:
        reader, writer = await running.raw()
        assert await asyncio.wait_for(reader.read(), SECONDS) == b""
        writer.transport.abort()


async def test_a_stranger_who_never_begins_tls_is_hung_up_on(
    tmp_path: Path, identity: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener_module, "UNAUTHENTICATED_SECONDS", 0.5)
    async with front(tmp_path, identity) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        assert await asyncio.wait_for(reader.read(), SECONDS) == b""
        writer.transport.abort()


async def test_a_fault_of_ours_does_not_stop_the_clock(
    tmp_path: Path, identity: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener_module, "TICK", 0.02)
    async with front(tmp_path, identity) as running:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        ticks = []

        def fail(now: float) -> None:
            ticks.append(now)
            raise RuntimeError("a fault of ours")

        monkeypatch.setattr(running.listener.engine, "sweep", fail)
        await until(lambda: len(ticks) > 3)


@pytest.mark.parametrize("silent_in", ["handshake", "hello"])
async def test_idle_connections_keep_neither_relay_nor_probe_out(
    tmp_path: Path, identity: Identity, silent_in: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the bound the oldest unauthenticated connection is closed: who shows the key soon gets in."""
    most = 20
    monkeypatch.setattr(listener_module, "Unauthenticated", lambda: Unauthenticated(most))
    async with bed(tmp_path, identity) as (running, relay, _):
        opened = running.raw if silent_in == "hello" else running.silent
        occupied = [await opened() for _ in range(most + 5)]
        for reader, _ in occupied[:5]:
            assert await asyncio.wait_for(reader.read(), SECONDS) == b""
        assert len(running.listener._unauthenticated) == most
        another = await running.connect()
        assert (await another.ask("GET", "/health")).outcome == 200
        assert (await relay.ask("POST", CHAT, chat())).outcome == 200
        for _, peer in occupied:
            peer.transport.abort()
        another.endpoint.abort()
        await until(lambda: not running.listener._handshakes and not running.listener._unauthenticated)


async def test_two_thousand_unauthenticated_peers_keep_nobody_out(tmp_path: Path, identity: Identity) -> None:
    """Idle, unfinished and slow ones from several sources; requests and new probes still work."""
    async with bed(tmp_path, identity) as (running, relay, _):
        sources = [f"127.0.{number}.1" for number in range(4)]
        flood = asyncio.create_task(_flood(running.port, sources, 2000))
        probes = 0
        while not flood.done():
            probe = await running.connect()
            assert (await probe.ask("GET", "/health")).outcome == 200
            assert (await relay.ask("POST", CHAT, chat())).outcome == 200
            probe.endpoint.abort()
            probes += 1
        occupied = await flood
        assert probes > 1
        assert len(running.listener._unauthenticated) <= unauthenticated.MOST_UNAUTHENTICATED
        another = await running.connect()
        assert (await another.ask("GET", "/health")).outcome == 200
        another.endpoint.abort()
        for peer in occupied:
            peer.close()


async def _flood(port: int, sources: list[str], count: int) -> list[socket.socket]:
    loop = asyncio.get_running_loop()
    opened = []
    for number in range(count):
        sock = socket.socket()
        sock.setblocking(False)
        sock.bind((sources[number % len(sources)], 0))
        await loop.sock_connect(sock, ("127.0.0.1", port))
        if number % 3 == 1:
            with contextlib.suppress(OSError):
                await loop.sock_sendall(sock, b"\x16\x03\x01\x02\x00\x01\x00")
        opened.append(sock)
    return opened


async def test_relays_are_bounded(
    tmp_path: Path, identity: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener_module, "MAX_RELAYS", 2)
    async with front(tmp_path, identity) as running:
        relays = [await running.connect() for _ in range(3)]
        await until(lambda: relays[2].why is not None)
        assert [relay.why for relay in relays[:2]] == [None, None]
        for relay in relays:
            relay.endpoint.abort()


async def test_unauthenticated_peers_do_not_fill_the_log(
    tmp_path: Path, identity: Identity, caplog: pytest.LogCaptureFixture
) -> None:
    async with front(tmp_path, identity) as running:
        for _ in range(10):
            await running.connect("x" * 43)
        await until(lambda: running.listener._turned_away.count == 10)
    assert len([line for line in caplog.records if line.levelno >= logging.WARNING]) == 1
    assert "x" * 43 not in caplog.text


async def test_speaks_nothing_older_than_tls_1_3(tmp_path: Path, identity: Identity) -> None:
    context = trusting()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with front(tmp_path, identity) as running:
        with pytest.raises(OSError):
            await asyncio.open_connection("127.0.0.1", running.port, ssl=context)


async def test_its_hello_has_room_for_twice_the_concurrency(tmp_path: Path, identity: Identity) -> None:
    async with bed(tmp_path, identity, concurrency=7, max_body=4321) as (_, relay, _engine):
        peer = relay.connection.peer
    assert peer is not None
    limits = peer.limits
    assert limits.max_streams == 14 + SPARE_STREAMS
    assert limits.max_body == 4321
    assert limits.session_credit >= limits.max_streams * limits.stream_credit


@pytest.mark.parametrize(
    ("method", "path", "length", "code"),
    [
        ("GET", "/", 0, "invalid_request"),
        ("GET", "/v1/models", 0, "invalid_request"),
        ("POST", "/v1/completions/", 0, "invalid_request"),
        ("POST", "/v1/chat%2fcompletions", 0, "invalid_request"),
        ("POST", "/v1/../v1/completions", 0, "invalid_request"),
        ("POST", "//v1/completions", 0, "invalid_request"),
        ("POST", "/v1/completions?a=b", 0, "invalid_request"),
        ("POST", "http://front/v1/completions", 0, "invalid_request"),
        ("POST", "/v1/completions\r\nX: y", 0, "invalid_request"),
        ("POST", "/detokenize", 0, "invalid_request"),
        ("GET", "/v1/completions", 0, "method_not_allowed"),
        ("POST", "/health", 0, "method_not_allowed"),
        ("PUT", "/v1/completions", 0, "invalid_request"),
        ("OPTIONS", "/v1/completions", 0, "invalid_request"),
        ("GET", "/health", 1, "invalid_request"),
        ("GET", "/metrics", 1, "invalid_request"),
        ("POST", "/v1/completions", -1, "invalid_request"),
        ("POST", "/v1/completions", (1 << 20) + 1, "body_too_large"),
    ],
)
async def test_trying_another_method_path_or_length(
    tmp_path: Path, identity: Identity, method: str, path: str, length: int, code: str
) -> None:
    async with bed(tmp_path, identity) as (_, relay, engine):
        answer = relay.open(method, path, length)
        await until(lambda: answer.over)
        assert answer.outcome == code
        assert (await relay.ask("GET", "/health")).outcome == 200, "the connection goes on"
    assert len(engine.received) == 1


@pytest.mark.parametrize("identifier", ["", "evil", "req-" + "0" * 31 + "G", "req-" + "0" * 32 + "\r\nA: b"])
async def test_trying_another_request_id(tmp_path: Path, identity: Identity, identifier: str) -> None:
    async with bed(tmp_path, identity) as (_, relay, engine):
        answer = relay.start("POST", CHAT, chat(), identifier)
        await until(lambda: answer.over)
    assert answer.outcome == "invalid_request"
    assert engine.received == []


async def test_trying_another_field(tmp_path: Path, identity: Identity) -> None:
    class Wider(InstanceRequest):
        def encode(self) -> bytes:
            return json.dumps(
                {**json.loads(super().encode()), "headers": {"X-Forwarded-For": "::1"}}
            ).encode()

    async with bed(tmp_path, identity) as (_, relay, engine):
        stream = relay.connection.open_request(Wider(REQUEST_ID, "GET", "/health", 0))
        relay.answers[stream] = refused = Answer(stream)
        assert (await relay.ask("GET", "/metrics")).outcome == 200
    assert refused.outcome == "invalid_request"
    assert [one.path for one in engine.received] == ["/metrics"]


@pytest.mark.parametrize("kind", [FrameType.MODELS, FrameType.DEMAND, FrameType.METRICS, FrameType.RESPONSE])
async def test_trying_another_verb(tmp_path: Path, identity: Identity, kind: FrameType) -> None:
    async with front(tmp_path, identity) as running:
        reader, writer = await running.raw()
        hello = Connection(Side.CLIENT, Hello("test", Limits()), RELAY_FRONT, key=running.key)
        writer.write(hello.data_to_send() + encode(kind, 1, b""))
        said = await asyncio.wait_for(reader.read(), SECONDS)
        writer.transport.abort()
    assert b"is not allowed for this side" in said


async def test_a_relay_is_told_how_many_requests_run(tmp_path: Path, identity: Identity) -> None:
    async with bed(tmp_path, identity, Behaviour(fault="hang")) as (running, relay, _):
        waiting = [relay.start("POST", CHAT, chat()) for _ in range(3)]
        other = await running.connect()
        await until(lambda: 3 in relay.loads and 3 in other.loads)
        for answer in waiting:
            relay.cancel(answer)
        await until(lambda: relay.loads[-1] == other.loads[-1] == 0)
        relay.start("GET", "/health")
        other.endpoint.abort()


async def test_load_is_told_seldom(tmp_path: Path, identity: Identity) -> None:
    async with bed(tmp_path, identity) as (_, relay, _engine):
        began = time.monotonic()
        for _ in range(40):
            assert (await relay.ask("POST", CHAT, chat())).outcome == 200
        took = time.monotonic() - began
        assert len(relay.loads) <= 2 + took / 0.1


async def test_an_ending_front_says_so(tmp_path: Path, identity: Identity) -> None:
    async with bed(tmp_path, identity, Behaviour(fault="hang")) as (running, relay, engine):
        relay.start("POST", CHAT, chat())
        await until(engine.requests)
        running.listener.stop()
        await until(lambda: relay.why is not None)
        assert relay.connection.peer_going_away
        await until(lambda: engine.requests()[0].left is not None)


async def health(running: Bed) -> object:
    """Return the health that a front reports on a new connection."""
    probe = await running.connect()
    answer = await probe.ask("GET", "/health")
    probe.endpoint.abort()
    return json.loads(answer.body) if answer.outcome == 200 else answer.outcome


async def test_a_leaving_front_sends_relays_away_and_ends_what_runs(
    tmp_path: Path, identity: Identity
) -> None:
    async with bed(tmp_path, identity, Behaviour(tokens=8, delay=0.1)) as (running, relay, engine):
        other = await running.connect()
        assert await health(running) == {"version": 1, "status": "ok"}
        answer = relay.start("POST", CHAT, chat(stream=True))
        await until(lambda: answer.body)
        running.listener.drain("warned")
        await until(lambda: relay.connection.peer_going_away and other.connection.peer_going_away, 0.5)
        golden = Path(__file__).parents[2] / "golden" / "contracts" / "front-health.json"
        assert await health(running) == json.loads(golden.read_text())
        running.listener.drain("terminated")
        running.listener.drain("warned")
        assert await health(running) == {"version": 1, "status": "leaving", "why": "terminated"}
        await until(lambda: answer.over)
        assert relay.why is None
    assert answer.ended
    assert answer.body.endswith(b"data: [DONE]\n\n")
    assert engine.requests()[0].left is None


async def test_a_leaving_front_refuses_new_requests_before_the_engine_sees_them(
    tmp_path: Path, identity: Identity
) -> None:
    async with bed(tmp_path, identity) as (running, relay, engine):
        running.listener.drain("warned")
        crossing = relay.start("POST", CHAT, chat())
        late = await running.connect()
        refused = await late.ask("POST", CHAT, chat())
        await until(lambda: crossing.over)
        await until(lambda: late.connection.peer_going_away, 0.5)
        silent = await running.connect()
        await until(lambda: silent.connection.peer_going_away)
    assert (crossing.outcome, refused.outcome) == ("cluster_unreachable", "no_instance")
    assert not engine.requests()


async def test_a_front_is_quiet_when_the_last_answer_has_left(tmp_path: Path, identity: Identity) -> None:
    async with bed(tmp_path, identity, Behaviour(tokens=16_000)) as (running, relay, engine):
        await asyncio.wait_for(running.listener.wait_idle(10), 1)
        relay.reading = False
        answer = relay.start("POST", CHAT, chat())
        await until(
            lambda: engine.requests() and engine.requests()[0].finished and not running.listener.running
        )
        began = time.monotonic()
        await running.listener.wait_idle(0.5)
        assert time.monotonic() - began >= 0.5
        relay.reading = True
        relay.connection.consume(answer.stream, len(answer.body))
        relay.endpoint.wake()
        await asyncio.wait_for(running.listener.wait_idle(10), 5)
        await until(lambda: answer.over)
    assert answer.outcome == 200


async def test_without_descriptors_it_waits_and_goes_on(
    tmp_path: Path, identity: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener_module, "ACCEPT_PAUSE", 0.2)

    class Full:
        def __init__(self, real: object) -> None:
            self.real, self.left = real, 3

        def accept(self) -> object:
            self.left -= 1
            if self.left >= 0:
                raise OSError(24, "Too many open files")
            return self.real.accept()  # type: ignore[attr-defined]

        def __getattr__(self, name: str) -> object:
            return getattr(self.real, name)

    async with front(tmp_path, identity) as running:
        running.listener._socket = Full(running.listener._socket)  # type: ignore[assignment]
        relay = await running.connect()
        assert relay.connection.peer is not None
        relay.endpoint.abort()


def test_takes_a_port_that_is_free_and_no_other() -> None:
    with contextlib.closing(bind(range(21000, 22000))) as first:
        taken = first.getsockname()[1]
        first.listen()
        assert 21000 <= taken < 22000
        with pytest.raises(OSError, match=str(taken)):
            bind(range(taken, taken + 1))


def test_the_private_key_is_gone_once_loaded(tmp_path: Path) -> None:
    private = tmp_path / "front"
    first, second = make(private), make(private)
    assert not any(private.iterdir())
    assert private.stat().st_mode & 0o777 == 0o700
    assert first.key != second.key
    assert first.certificate != second.certificate


async def test_bytes_after_the_protocol_was_broken_are_not_read(tmp_path: Path, identity: Identity) -> None:
    async with (
        StubEngine(Behaviour(), tmp_path / "engine.sock") as engine,
        front(tmp_path, identity) as running,
    ):
        await _broken(running)
    assert engine.received == []


async def _broken(running: Bed) -> None:
    reader, writer = await running.raw()
    relay = Connection(Side.CLIENT, Hello("test", Limits()), RELAY_FRONT, key=running.key)
    head = InstanceRequest(REQUEST_ID, "GET", "/health", 0).encode()
    writer.write(relay.data_to_send() + encode(FrameType.DATA, 7, b"x"))
    writer.write(encode(FrameType.REQUEST, 1, head, last=True))
    assert b"never opened" in await asyncio.wait_for(reader.read(), SECONDS)
    writer.transport.abort()
