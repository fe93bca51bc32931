"""The front's connections to the engine: kept, found stale, retried once; and engines that misbehave."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest

from sluice.front import engine as engine_module
from sluice.front import tally
from sluice.front.identity import Identity
from tests.unit.front.bed import CHAT, Answer, bed, chat, front, scripted, until

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
SECRET = b"the-prompt-in-an-answer"


async def request(reader: asyncio.StreamReader) -> bytes:
    """Read one request; return its body."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next((line for line in head.split(b"\r\n") if line.startswith(b"Content-Length: ")), b": 0")
    return await reader.readexactly(int(length.split(b": ")[1]))


def saying(*answers: bytes, close: bool = True) -> Serve:
    """Return an engine that sends these answers on each connection, in order."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            await request(reader)
            writer.write(answer)
            await writer.drain()
        if close:
            writer.close()
        else:
            await reader.read()

    return serve


def all_over(answers: list[Answer]) -> bool:
    """Whether all have ended."""
    return all(answer.over for answer in answers)


async def test_a_connection_is_kept_between_requests(tmp_path: Path, identity: Identity) -> None:
    async with (
        scripted(tmp_path, saying(*[ANSWER] * 9, close=False)) as taken,
        front(tmp_path, identity) as running,
    ):
        relay = await running.connect()
        for _ in range(5):
            assert (await relay.ask("POST", CHAT, chat())).outcome == 200
        assert (await relay.ask("GET", "/health")).outcome == 200
        assert len(taken) == 1
        relay.endpoint.abort()


async def test_requests_at_once_have_connections_of_their_own(tmp_path: Path, identity: Identity) -> None:
    async with bed(tmp_path, identity) as (running, relay, engine):
        for _ in range(3):
            answers = [relay.start("POST", CHAT, chat()) for _ in range(8)]
            await until(partial(all_over, answers))
            assert [answer.outcome for answer in answers] == [200] * 8
        assert 1 <= len(running.listener.engine._idle) <= 8
    assert len(engine.requests()) == 24


async def test_an_idle_connection_never_keeps_a_request_waiting_that_has_none(
    tmp_path: Path, identity: Identity
) -> None:
    """An engine with one thread for each connection, and as many threads as its concurrency."""
    threads = asyncio.Semaphore(2)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with threads:
            while True:
                await request(reader)
                await asyncio.sleep(0.05)
                writer.write(ANSWER)

    async with scripted(tmp_path, serve), front(tmp_path, identity, concurrency=2) as running:
        relay = await running.connect()
        for _ in range(3):
            answers = [relay.start("POST", CHAT, chat()) for _ in range(4)]
            took = await until(partial(all_over, answers))
            assert [answer.outcome for answer in answers] == [200] * 4
            assert took < engine_module.IDLE_SECONDS / 2
        assert len(running.listener.engine._idle) == len(running.listener.engine.open_connections) == 2
        relay.endpoint.abort()


async def test_an_idle_connection_is_closed_before_the_engine_would(
    tmp_path: Path, identity: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "IDLE_SECONDS", 0.1)
    async with bed(tmp_path, identity) as (running, relay, _):
        await relay.ask("POST", CHAT, chat())
        assert running.listener.engine._idle
        await until(lambda: not running.listener.engine._idle)


async def test_an_engine_that_closes_behind_each_answer_is_no_hindrance(
    tmp_path: Path, identity: Identity
) -> None:
    """The engine closes kept connections without notice: they are found stale when used, or just before."""
    async with scripted(tmp_path, saying(ANSWER)) as taken, front(tmp_path, identity) as running:
        relay = await running.connect()
        for _ in range(30):
            assert (await relay.ask("POST", CHAT, chat())).outcome == 200
        assert len(taken) == 30
        relay.endpoint.abort()


async def stale(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer once; take the second request and close without a byte."""
    await request(reader)
    writer.write(ANSWER)
    await request(reader)
    writer.close()


async def test_a_request_on_a_stale_connection_is_sent_again(tmp_path: Path, identity: Identity) -> None:
    async with scripted(tmp_path, stale) as taken, front(tmp_path, identity) as running:
        relay = await running.connect()
        for _ in range(4):
            assert (await relay.ask("POST", CHAT, chat())).outcome == 200
        assert len(taken) == 4
        relay.endpoint.abort()


async def test_only_once_and_only_as_long_as_nothing_of_an_answer_came(
    tmp_path: Path, identity: Identity
) -> None:
    seen: list[bytes] = []
    turn = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal turn
        turn += 1
        mine = turn
        for number in range(2):
            seen.append(await request(reader))
            if mine == 1 and number == 0:
                writer.write(ANSWER)
                continue
            writer.close()
            return

    async with scripted(tmp_path, serve) as taken, front(tmp_path, identity) as running:
        relay = await running.connect()
        assert (await relay.ask("POST", CHAT, b'{"a":1}')).outcome == 200
        assert (await relay.ask("POST", CHAT, b'{"b":2}')).outcome == "instance_failed"
        assert running.listener.running == 0
        relay.endpoint.abort()
    assert seen == [b'{"a":1}', b'{"b":2}', b'{"b":2}']
    assert len(taken) == 2


@pytest.mark.parametrize("begun", [b"H", b"HTTP/1.1 100 Continue\r\n\r\n", CHUNKED, CHUNKED + b"1\r\na\r\n"])
async def test_not_once_anything_of_an_answer_came(tmp_path: Path, identity: Identity, begun: bytes) -> None:
    async with (
        scripted(tmp_path, saying(ANSWER, begun)) as taken,
        front(tmp_path, identity) as running,
    ):
        relay = await running.connect()
        assert (await relay.ask("POST", CHAT, chat())).outcome == 200
        assert (await relay.ask("POST", CHAT, chat())).outcome == "instance_failed"
        assert len(taken) == 1
        relay.endpoint.abort()


async def test_an_engine_that_breaks_on_a_request_and_listens_no_more_has_had_it(
    tmp_path: Path, identity: Identity
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(ANSWER)
        await request(reader)
        (tmp_path / "engine.sock").unlink()
        writer.close()

    async with scripted(tmp_path, serve), front(tmp_path, identity) as running:
        relay = await running.connect()
        assert (await relay.ask("POST", CHAT, chat())).outcome == 200
        # Not `no_instance`, which tells a relay that the engine never got the request.
        assert (await relay.ask("POST", CHAT, chat())).outcome == "instance_failed"
        relay.endpoint.abort()


async def test_a_large_body_is_never_held_for_another_try(tmp_path: Path, identity: Identity) -> None:
    """A large request has a new connection, so it is not tried again."""
    async with bed(tmp_path, identity) as (running, relay, engine):
        await relay.ask("POST", CHAT, chat())
        kept = len(running.listener.engine._idle)
        answer = relay.open("POST", CHAT, 200_000)
        relay.send(answer, b" " * 100_000)
        await asyncio.sleep(0.1)
        assert len(running.listener.engine._idle) == kept == 1
        relay.send(answer, chat().ljust(100_000), last=True)
        await until(lambda: answer.over)
    assert answer.outcome == 200
    assert len(engine.requests()[1].body) == 200_000


async def test_a_connection_on_which_the_engine_speaks_unasked_is_closed(
    tmp_path: Path, identity: Identity
) -> None:
    """Trying to answer the next request before it is sent."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(ANSWER)
        await asyncio.sleep(0.1)
        writer.write(ANSWER.replace(b"{}", b"[]"))
        await reader.read()

    async with scripted(tmp_path, serve) as taken, front(tmp_path, identity) as running:
        relay = await running.connect()
        assert (await relay.ask("POST", CHAT, chat())).outcome == 200
        await until(lambda: not running.listener.engine._idle)
        answer = await relay.ask("POST", CHAT, chat())
        assert (answer.outcome, bytes(answer.body), len(taken)) == (200, b"{}", 2)
        assert running.listener.engine.violations.count == 1
        relay.endpoint.abort()


async def test_bytes_behind_an_answer_answer_nothing(tmp_path: Path, identity: Identity) -> None:
    forged = ANSWER + ANSWER.replace(b"{}", b"[]")
    async with (
        scripted(tmp_path, saying(forged, forged, close=False)) as taken,
        front(tmp_path, identity) as running,
    ):
        relay = await running.connect()
        answers = [await relay.ask("POST", CHAT, chat()) for _ in range(3)]
        assert [bytes(answer.body) for answer in answers] == [b"{}"] * 3
        assert len(taken) == 3
        assert running.listener.engine.violations.count == 3
        relay.endpoint.abort()


@pytest.mark.parametrize(
    "answer",
    [
        ANSWER.replace(b"Content-Length: 2", b"Content-Length: 2\r\nTransfer-Encoding: chunked"),
        ANSWER.replace(b"\r\n\r\n", b"\n\n"),
        ANSWER.replace(b"Content-Length: 2\r\n", b""),
        ANSWER.replace(b"application/json", b"text/html"),
        ANSWER.replace(b"Content-Type: application/json\r\n", b""),
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n",
        CHUNKED + b"zz\r\n",
        b"\x00" * 100,
        b"A" * 100_000,
        b"HTTP/1.1 200 OK\r\nX: " + b"A" * 100_000,
        b"",
    ],
)
async def test_an_engine_that_speaks_nonsense_has_failed(
    tmp_path: Path, identity: Identity, caplog: pytest.LogCaptureFixture, answer: bytes
) -> None:
    async with scripted(tmp_path, saying(answer)), front(tmp_path, identity) as running:
        relay = await running.connect()
        refused = await relay.ask("POST", CHAT, chat())
        assert refused.outcome == "instance_failed"
        assert refused.head is None
        assert running.listener.running == 0
        relay.endpoint.abort()


async def test_nonsense_in_the_middle_of_an_answer_ends_it_with_an_error(
    tmp_path: Path, identity: Identity, caplog: pytest.LogCaptureFixture
) -> None:
    broken = CHUNKED + b"17\r\n" + SECRET + b"\r\n"
    async with scripted(tmp_path, saying(broken + SECRET, close=False)), front(tmp_path, identity) as running:
        relay = await running.connect()
        answer = await relay.ask("POST", CHAT, chat(True))
        relay.endpoint.abort()
    assert answer.outcome == "instance_failed"
    assert answer.error is not None
    assert SECRET.decode() not in answer.error.message
    (line,) = [one for one in caplog.records if one.levelno >= logging.WARNING]
    assert line.message == "the engine violated HTTP"
    assert SECRET.decode() not in str(vars(line))


async def test_an_engine_cannot_fill_the_log(
    tmp_path: Path, identity: Identity, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tally, "PAUSE", 600.0)
    async with scripted(tmp_path, saying(b"nonsense\r\n\r\n")), front(tmp_path, identity) as running:
        relay = await running.connect()
        for _ in range(50):
            await relay.ask("POST", CHAT, chat())
        monkeypatch.setattr(tally, "PAUSE", 0.0)
        await relay.ask("POST", CHAT, chat())
        assert running.listener.engine.violations.count == 51
        relay.endpoint.abort()
    counts = [one.count for one in caplog.records if one.levelno >= logging.WARNING]  # type: ignore[attr-defined]
    assert counts == [1, 51]


async def test_an_answer_in_single_bytes_passes_whole(tmp_path: Path, identity: Identity) -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        for byte in b"HTTP/1.1 100 Continue\r\n\r\n" + CHUNKED + b"2;x\r\nab\r\n1\r\nc\r\n0\r\nA: b\r\n\r\n":
            writer.write(bytes((byte,)))
            await asyncio.sleep(0)
        await reader.read()

    async with scripted(tmp_path, drip), front(tmp_path, identity) as running:
        relay = await running.connect()
        answer = await relay.ask("POST", CHAT, chat(True))
        assert (answer.outcome, bytes(answer.body)) == (200, b"abc")
        assert len(running.listener.engine._idle) == 1
        relay.endpoint.abort()


async def test_an_engine_may_refuse_a_body_that_it_has_not_read(tmp_path: Path, identity: Identity) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(ANSWER.replace(b"200 OK", b"413 Too Large"))
        await writer.drain()
        await asyncio.sleep(0.2)
        writer.close()

    async with scripted(tmp_path, refuse), front(tmp_path, identity, max_body=1 << 24) as running:
        relay = await running.connect()
        answer = await relay.ask("POST", CHAT, b"x" * (4 << 20))
        assert answer.outcome == 413
        assert running.listener.running == 0
        assert not running.listener.engine._idle
        await until(lambda: relay.connection.open_streams == 0)
        assert (await relay.ask("POST", CHAT, chat())).outcome == 413, "the session's credit came back"
        relay.endpoint.abort()


async def test_a_full_backlog_is_waited_for(tmp_path: Path, identity: Identity) -> None:
    """The event loop by itself would take EAGAIN for an open connection."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.bind(str(tmp_path / "engine.sock"))
        sock.listen(0)
        async with front(tmp_path, identity) as running:
            relay = await running.connect()
            answers = [relay.start("POST", CHAT, chat()) for _ in range(4)]
            await asyncio.sleep(0.2)
            assert not any(answer.over for answer in answers)
            server = await asyncio.start_unix_server(_once, sock=sock.dup())
            await until(lambda: all(answer.over for answer in answers))
            assert [answer.outcome for answer in answers] == [200] * 4
            relay.endpoint.abort()
            server.close()


async def _once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await request(reader)
    writer.write(ANSWER)
    writer.close()


async def test_a_request_cancelled_while_it_connects_leaves_nothing_behind(
    tmp_path: Path, identity: Identity
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.bind(str(tmp_path / "engine.sock"))
        sock.listen(0)
        async with front(tmp_path, identity) as running:
            relay = await running.connect()
            answers = [relay.start("POST", CHAT, chat()) for _ in range(4)]
            await until(lambda: running.listener.running == 4)
            for answer in answers:
                relay.cancel(answer)
            await until(lambda: running.listener.running == 0)
            await asyncio.sleep(0.05)
            assert len(asyncio.all_tasks()) == 1
            relay.endpoint.abort()


async def test_no_task_runs_for_a_request(tmp_path: Path, identity: Identity) -> None:
    async with scripted(tmp_path, saying(ANSWER, CHUNKED, close=False)), front(tmp_path, identity) as running:
        relay = await running.connect()
        await relay.ask("POST", CHAT, chat())
        before = asyncio.all_tasks()
        answer = relay.start("POST", CHAT, chat(True))
        await until(lambda: running.listener.running == 1)
        assert asyncio.all_tasks() == before
        assert not answer.over
        relay.endpoint.abort()
