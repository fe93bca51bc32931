"""The HTTP client that relay and front share: whole, byte by byte, and against peers that misbehave."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from sluice.http1 import ClientConnection, Head, PeerError, PeerTimeout

GOOD = b"HTTP/1.1 200 OK\r\nContent-Type: Text/Event-Stream; charset=utf-8\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
)


@contextlib.asynccontextmanager
async def peer(*pieces: bytes, pause: float = 0.0, hold: bool = False) -> AsyncIterator[ClientConnection]:
    """Connect to a peer that reads a request and sends the pieces; with `hold` it keeps the connection."""
    released = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            await reader.readuntil(b"\r\n\r\n")
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(pause)
            if hold:
                await released.wait()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    connection = ClientConnection(
        *await asyncio.open_connection("127.0.0.1", server.sockets[0].getsockname()[1])
    )
    try:
        yield connection
    finally:
        released.set()
        connection.abort()
        server.close()
        await server.wait_closed()
        await asyncio.sleep(0.01)


async def ask(connection: ClientConnection, timeout: float = 5.0) -> tuple[Head, bytes]:
    """Send a request without a body and read the whole answer."""
    connection.start("GET", "/", [("Host", "x")])
    await connection.finish()
    head = await connection.head(timeout)
    body = b""
    part = await connection.data(timeout)
    while part:
        body += part
        part = await connection.data(timeout)
    return head, body


@pytest.mark.parametrize("answer", [GOOD, CHUNKED])
@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_reads_an_answer_however_it_comes(answer: bytes, size: int) -> None:
    pieces = [answer[place : place + size] for place in range(0, len(answer), size)]
    async with peer(*pieces, hold=True) as connection:
        head, body = await ask(connection)
        assert connection.reusable()
    assert (head.status, head.media_type, head.delimited) == (200, "text/event-stream", True)
    assert body in (b"hello", b"abcde")


async def test_what_came_at_once_is_returned_at_once() -> None:
    async with peer(CHUNKED, hold=True) as connection:
        connection.start("GET", "/", [("Host", "x")])
        await connection.finish()
        await connection.head(5)
        assert await connection.data(5) == b"abcde"
        assert await connection.data(5) == b""
        assert await connection.data(5) == b""


async def test_interim_answers_are_skipped() -> None:
    async with peer(b"HTTP/1.1 100 Continue\r\n\r\n" + GOOD, hold=True) as connection:
        head, body = await ask(connection)
    assert (head.status, body) == (200, b"hello")


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-",
        GOOD[:-1],
        CHUNKED[:-1],
        CHUNKED[:-5],
    ],
)
async def test_a_peer_that_breaks_off_is_no_nonsense(answer: bytes) -> None:
    async with peer(answer) as connection:
        with pytest.raises(PeerError) as caught:
            await ask(connection)
    assert not caught.value.nonsense
    assert not isinstance(caught.value, PeerTimeout)


@pytest.mark.parametrize(
    "answer",
    [
        b"\x00\x01\x02\r\n\r\n",
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 999999 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000 + b"\r\n\r\n",
    ],
)
async def test_nonsense_is_told_apart(answer: bytes) -> None:
    async with peer(answer, hold=True) as connection:
        with pytest.raises(PeerError) as caught:
            await ask(connection)
    assert caught.value.nonsense


@pytest.mark.parametrize("answer", [b"", GOOD[:-1]])
async def test_a_silent_peer_is_a_timeout(answer: bytes) -> None:
    async with peer(answer, hold=True) as connection:
        with pytest.raises(PeerTimeout):
            await ask(connection, timeout=0.1)


async def test_a_body_without_an_end_of_its_own_is_known() -> None:
    async with peer(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nhalf") as connection:
        head, body = await ask(connection)
        assert not connection.reusable()
    assert (head.delimited, body) == (False, b"half")


async def test_a_connection_whose_peer_has_left_is_not_idle() -> None:
    async with peer(GOOD) as connection:
        await ask(connection)
        await asyncio.sleep(0.05)
        assert not connection.reusable()


async def test_a_connection_that_the_peer_wants_closed_is_not_reused() -> None:
    closing = GOOD.replace(b"\r\nContent-Length", b"\r\nConnection: close\r\nContent-Length")
    async with peer(closing, hold=True) as connection:
        await ask(connection)
        assert not connection.reusable()


async def test_sending_to_a_peer_that_has_left_is_an_error() -> None:
    async with peer() as connection:
        connection.start("POST", "/", [("Host", "x"), ("Content-Length", "100000000")])
        with pytest.raises(PeerError):
            for _ in range(1000):
                await connection.send(b"x" * 100_000, timeout=5)


async def test_an_error_names_the_step_and_never_what_was_sent() -> None:
    async with peer(b"canary canary\r\n\r\n", hold=True) as connection:
        with pytest.raises(PeerError) as caught:
            await ask(connection)
    assert "canary" not in str(caught.value)
    assert caught.value.__suppress_context__
