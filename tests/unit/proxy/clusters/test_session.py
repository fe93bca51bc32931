"""One session without the rest of the proxy: bodies and answers under credit, waits, the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import islice

import pytest

from sluice.contracts.heads import RequestHead
from sluice.errors import SluiceError
from sluice.proxy.clusters.session import MAX_STREAM_CREDIT, MAX_STREAMS, STREAM_CREDIT, Session
from sluice.proxy.clusters.stream import RequestStream, SessionLost
from sluice.proxy.clusters.transport import TransportError
from sluice.proxy.clusters.uploads import UPLOAD_QUEUE
from sluice.proxy.config import ClusterConfig
from sluice.wire.hello import Limits
from tests.fakes.wire_relay import Answer, Call, FakeRelay, FakeTransport
from tests.unit.proxy.conftest import eventually

CLUSTER = ClusterConfig("demo", "login", 22, "relay", "key", "known_hosts")
CREDIT = 64 * 1024
MIB = 1 << 20
FLOOD = b"x" * MIB
WAIT = 5.0


def head(length: int) -> RequestHead:
    return RequestHead(
        id="req-" + "0" * 32,
        model="smol",
        method="POST",
        path="/v1/chat/completions",
        user="ada",
        class_="api",
        length=length,
    )


@asynccontextmanager
async def opened(answer: Answer, **limits: int) -> AsyncIterator[tuple[Session, FakeRelay]]:
    """Yield a session that is up, and its relay."""
    relay = FakeRelay(answer)
    relay.limits = Limits(**{"max_streams": 2048, "max_body": 64 * MIB, "stream_credit": CREDIT, **limits})
    session = Session(relay.transport(CLUSTER), "demo/0")
    await session.start(WAIT)
    try:
        yield session, relay
    finally:
        session.close("the test is over")


async def read_all(stream: RequestStream) -> bytes:
    """Read an answer to its end and consume everything."""
    await stream.response(WAIT)
    found = b""
    while data := await stream.read(WAIT):
        found += data
        stream.consume(len(data))
    stream.close()
    return found


async def say_length(call: Call) -> None:
    """Answer with the length of the body."""
    call.start()
    await call.send(str(len(call.body)).encode())
    call.end()


class Chunks:
    """A body of 64 KiB chunks that counts how many were asked for."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.taken = 0

    def __iter__(self) -> Iterator[bytes]:
        for _ in range(self.count):
            self.taken += 1
            yield bytes(64 * 1024)


# --- bodies ---------------------------------------------------------------------------------------------


async def test_a_large_body_waits_with_its_request_and_not_in_the_queues() -> None:
    body = Chunks(128)
    async with opened(say_length) as (session, relay):
        relay.takes = False
        stream = session.request(head(8 * MIB), body)
        most = (CREDIT + UPLOAD_QUEUE) // (64 * 1024) + 1
        for _ in range(50):
            await asyncio.sleep(0)
        assert 0 < body.taken <= most
        relay.link.take()
        for _ in range(50):
            await asyncio.sleep(0)
        assert most - 1 <= body.taken <= most + 2
        relay.takes = True
        relay.link.take()
        assert await read_all(stream) == str(8 * MIB).encode()
        assert body.taken == 128


async def test_bodies_arrive_as_they_were_however_they_are_cut() -> None:
    text = bytes(range(256)) * 2000
    async with opened(say_length) as (session, relay):
        for cut in (
            text,
            [text],
            [text[:1], b"", text[1:70_000], text[70_000:]],
            iter([text[:-1], text[-1:]]),
        ):
            assert await read_all(session.request(head(len(text)), cut)) == b"512000"
        assert await read_all(session.request(head(3), [b"a", b"bc"])) == b"3"

    assert [call.body for call in relay.calls] == [text] * 4 + [b"abc"]


async def test_a_small_request_does_not_wait_for_the_large_ones() -> None:
    async with opened(say_length) as (session, relay):
        relay.takes = False
        large = [session.request(head(32 * MIB), Chunks(512)) for _ in range(8)]
        assert await read_all(session.request(head(2), b"{}")) == b"2"
        for stream in large:
            stream.close()
        await eventually(lambda: session.open_streams == 0)
        assert not session._uploads


@pytest.mark.parametrize("code", ["invalid_request", "overloaded"])
async def test_an_error_before_the_end_of_a_body_drops_the_rest(code: str) -> None:
    body = Chunks(512)
    async with opened(say_length) as (session, relay):
        relay.takes = False
        stream = session.request(head(32 * MIB), body)
        await eventually(lambda: relay.calls)
        relay.calls[0].fail(code)
        with pytest.raises(SluiceError) as refused:
            await stream.response(WAIT)
        assert refused.value.code == code
        relay.takes = True
        assert await read_all(session.request(head(2), b"{}")) == b"2"
        assert body.taken < 10
        assert not session._uploads


# --- answers --------------------------------------------------------------------------------------------


async def test_a_thousand_readers_that_stand_still_do_not_stop_one_that_reads() -> None:
    async def flood(call: Call) -> None:
        call.start()
        await call.send(FLOOD)
        call.end()

    async with opened(flood) as (session, relay):
        still = [session.request(head(2), b"{}") for _ in range(1000)]
        await eventually(lambda: len(relay.calls) == 1000)
        assert len(await read_all(session.request(head(2), b"{}"))) == len(FLOOD)
        held = [sum(map(len, stream._chunks)) for stream in still]
        assert max(held) <= STREAM_CREDIT
        # A fast reader reads everything, and so its window grows.
        assert len(await read_all(still[0])) == len(FLOOD)


async def test_a_reader_that_stops_after_a_while_holds_a_bounded_part() -> None:
    async def flood(call: Call) -> None:
        call.start()
        await call.send(b"x" * 8 * MIB)

    async with opened(flood) as (session, _):
        stream = session.request(head(2), b"{}")
        await stream.response(WAIT)
        read = 0
        while read < 4 * MIB:
            data = await stream.read(WAIT)
            read += len(data)
            stream.consume(len(data))
        for _ in range(100):
            await asyncio.sleep(0)
        assert STREAM_CREDIT < sum(map(len, stream._chunks)) <= MAX_STREAM_CREDIT


async def test_no_more_streams_are_opened_than_there_is_credit_for() -> None:
    async def never(call: Call) -> None:
        await asyncio.sleep(60)

    async with opened(never, max_streams=5000) as (session, _):
        opened_now = 0
        while session.takes_requests:
            session.request(head(2), b"{}")
            opened_now += 1
        assert MAX_STREAMS - 10 < opened_now < MAX_STREAMS


async def test_a_wait_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(call: Call) -> None:
        await asyncio.sleep(60)

    monkeypatch.setattr("sluice.proxy.clusters.session.SWEEP_SECONDS", 0.01)
    async with opened(never) as (session, _):
        stream = session.request(head(2), b"{}")
        with pytest.raises(TimeoutError):
            await stream.response(0.05)


# --- the end --------------------------------------------------------------------------------------------


async def test_a_request_that_crosses_a_go_away_may_go_to_another_session() -> None:
    async with opened(say_length) as (session, relay):
        relay.link.wire.go_away("age", "the session is a day old")
        stream = session.request(head(2), b"{}")
        relay.link.pump()
        with pytest.raises(SessionLost):
            await stream.response(WAIT)
        assert not session.takes_requests


async def test_a_session_that_is_replaced_takes_nothing_new_and_ends_its_streams_in_peace() -> None:
    go_on = asyncio.Event()

    async def slowly(call: Call) -> None:
        await go_on.wait()
        await say_length(call)

    async with opened(slowly) as (session, relay):
        stream = session.request(head(2), b"{}")
        session.retire()
        assert not session.takes_requests
        go_on.set()
        assert await read_all(stream) == b"2"
        assert session.idle.is_set()
        assert relay.link.wire.peer_going_away


async def test_a_lost_session_breaks_all_its_streams() -> None:
    async def half(call: Call) -> None:
        call.start()
        await call.send(b"half")

    async with opened(half) as (session, _):
        streams = [session.request(head(2), b"{}") for _ in range(20)]
        started = list(islice(streams, 10))
        for stream in started:
            await stream.response(WAIT)
        session.connection_lost(TransportError("the connection was closed"))
        for stream in started:
            assert await stream.read(WAIT) == b"half"
            with pytest.raises(SessionLost):
                await stream.read(WAIT)
        with pytest.raises(SessionLost):
            session.request(head(2), b"{}")
        assert session.open_streams == 0


@pytest.mark.parametrize("size", [1, 3, 4096])
@pytest.mark.parametrize(
    "noise", [b"WELCOME to the cluster\n", b"\x1b[1mhi", b"\n", "Grüße\n".encode(), b"x" * 70_000]
)
async def test_text_before_the_relays_hello_is_told_as_what_it_is(noise: bytes, size: int) -> None:
    """An echo in `/etc/ssh/sshrc` was reported as "a frame of 5727596 bytes"."""
    relay = FakeRelay(say_length)
    relay.limits = Limits()
    session = Session(Noisy(relay, noise, size), "demo/0")
    with pytest.raises(TransportError) as told:
        await session.start(1.0)
    assert "text came before the relay's hello" in str(told.value)
    assert "/etc/ssh/sshrc" in str(told.value) and "standard error" in str(told.value)
    assert str(told.value).isprintable() and len(str(told.value)) < 700
    await session.wait_closed()


class Noisy(FakeTransport):
    """A login node that writes text instead of the relay's hello, in pieces of `size` bytes."""

    def __init__(self, relay: FakeRelay, noise: bytes, size: int) -> None:
        super().__init__(relay)
        self._noise, self._size = noise, size

    def _deliver(self, data: bytes) -> None:
        noise, self._noise = self._noise, b""
        for place in range(0, len(noise), self._size):
            if self.receiver is not None and not self.closed:
                self.receiver.data_received(noise[place : place + self._size])
        super()._deliver(data)
