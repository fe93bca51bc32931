"""Input that no honest client sends, over the real socket: each ends in a named error, alone."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import pytest

from sluice.bodies.scan import BodyScanner
from sluice.proxy.api import handler
from sluice.proxy.bodies import reader as body_reader
from sluice.proxy.http.server import MAX_FIELD, MAX_FIELDS, MAX_LINE
from sluice.proxy.requests.forwarding import Forwarder
from sluice.proxy.requests.tokens import TokenMeter
from tests.unit.proxy.conftest import CHAT, COMPLETIONS, Bed, TwoParts, chat, eventually

STATUS = re.compile(rb"HTTP/[0-9]\.[0-9] ([0-9]{3}) ")
BODY = json.dumps(chat()).encode()
CHUNKED = b"Transfer-Encoding: chunked\r\n"
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
CHUNKS = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)


def post(fields: bytes, body: bytes = BODY, *, target: str = CHAT, version: str = "1.1") -> bytes:
    """Return a request with these fields beside the host's and the key's."""
    return (
        b"POST %b HTTP/%b\r\nHost: sluice.example\r\nAuthorization: Bearer KEY\r\n%b\r\n"
        % (target.encode("latin-1"), version.encode(), fields)
    ) + body


async def ask(bed: Bed, raw: bytes) -> tuple[list[bytes], bytes]:
    """Send bytes on a connection of their own; return the status lines that came, and all that came."""
    reader, writer = await asyncio.open_unix_connection(bed.config.socket)
    got = b""
    try:
        writer.write(raw.replace(b"KEY", bed.key.encode()))
        async with asyncio.timeout(5):
            while b"\r\n\r\n" not in got and (data := await reader.read(65_536)):
                got += data
        # Whether a second answer follows is what smuggling is about.
        async with asyncio.timeout(0.1):
            while data := await reader.read(65_536):
                got += data
    except (TimeoutError, ConnectionResetError):
        pass
    finally:
        writer.close()
    return STATUS.findall(got), got


def error_of(got: bytes) -> dict[str, Any]:
    """Return the error in an answer; its shape is that of all others."""
    error = json.loads(got.partition(b"\r\n\r\n")[2])["error"]
    assert set(error) == {"message", "type", "param", "code", "request_id"}
    return dict(error)


SMUGGLING = {
    "two lengths": post(LENGTH + LENGTH),
    "two different lengths": post(LENGTH + b"Content-Length: 3\r\n"),
    "a list of lengths": post(b"Content-Length: 7, 7\r\n"),
    "a signed length": post(b"Content-Length: +%d\r\n" % len(BODY)),
    "a negative length": post(b"Content-Length: -1\r\n"),
    "a length in hex": post(b"Content-Length: 0x10\r\n"),
    "an empty length": post(b"Content-Length: \r\n"),
    "length and chunks": post(LENGTH + CHUNKED, CHUNKS),
    "chunks and length": post(CHUNKED + LENGTH, CHUNKS),
    "chunked twice": post(CHUNKED + CHUNKED, CHUNKS),
    "chunked in another case, twice": post(CHUNKED + b"transfer-encoding: Chunked\r\n", CHUNKS),
    "another coding before chunked": post(b"Transfer-Encoding: gzip, chunked\r\n", CHUNKS),
    "identity before chunked": post(b"Transfer-Encoding: identity, chunked\r\n", CHUNKS),
    "a coding almost chunked": post(b"Transfer-Encoding: xchunked\r\n", CHUNKS),
    "chunked with a tab before it": post(b"Transfer-Encoding:\x0bchunked\r\n", CHUNKS),
    "chunks in HTTP/1.0": post(CHUNKED, CHUNKS, version="1.0"),
    "bare line feeds": post(LENGTH).replace(b"\r\n", b"\n"),
    "one bare line feed": post(b"X-One: 1\n" + LENGTH),
    "a bare carriage return": post(b"X-One: a\rX-Two: b\r\n" + LENGTH),
    "a folded field": post(b"X-One: a\r\n b\r\n" + LENGTH),
    "a space before the colon": post(b"Content-Length : %d\r\n" % len(BODY)),
    "a field without a name": post(b": x\r\n" + LENGTH),
    "a field without a colon": post(b"nonsense\r\n" + LENGTH),
    "NUL in a field": post(b"X-One: a\0b\r\n" + LENGTH),
    "a control character in a field": post(b"X-One: a\x01b\r\n" + LENGTH),
    "a control character in a name": post(b"X-\x01: b\r\n" + LENGTH),
    "two hosts": post(b"Host: other\r\n" + LENGTH),
    "no host": post(LENGTH).replace(b"Host: sluice.example\r\n", b""),
    "HTTP/2.0": post(LENGTH, version="2.0"),
    "HTTP/1.2": post(LENGTH, version="1.2"),
    "HTTP/0.9": b"GET /v1/models\r\n\r\n",
    "no version": post(LENGTH).replace(b" HTTP/1.1", b""),
    "HTTP/2's preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "no HTTP at all": b"\xff\xfe\xfd\r\n\r\n",
    "a method in small letters": post(LENGTH).replace(b"POST", b"post"),
    "tabs for spaces": post(LENGTH).replace(b" ", b"\t", 2),
    "an upgrade": post(b"Connection: Upgrade\r\nUpgrade: h2c\r\n" + LENGTH),
}
TOO_LARGE = {
    "too many fields": post(b"".join(b"X-%d: y\r\n" % n for n in range(MAX_FIELDS)) + LENGTH),
    "a field too long": post(b"X-One: " + b"y" * (MAX_FIELD + 1) + b"\r\n" + LENGTH),
    "a name too long": post(b"X-" + b"y" * (MAX_FIELD + 1) + b": y\r\n" + LENGTH),
    "a line too long": post(LENGTH, target="/" + "a" * (MAX_LINE + 1)),
}
ODD_CHUNKS = {
    "a size with a sign": b"-7\r\n{}\r\n0\r\n\r\n",
    "a size with a prefix": b"0x2\r\n{}\r\n0\r\n\r\n",
    "a size with a space": b"2 \r\n{}\r\n0\r\n\r\n",
    "no size": b"\r\n{}\r\n0\r\n\r\n",
    "a size that is no number": b"zz\r\n{}\r\n0\r\n\r\n",
    "a size beyond all numbers": b"f" * 17 + b"\r\n{}\r\n0\r\n\r\n",
    "a line feed alone": b"2\n{}\r\n0\r\n\r\n",
    "a line feed in an extension": b"2;a\nb\r\n{}\r\n0\r\n\r\n",
    "more than its size": b"2\r\n{}XX0\r\n\r\n",
    "a trailer with a control character": b"2\r\n{}\r\n0\r\nX: a\x01b\r\n\r\n",
}
TARGETS = {
    "an encoded slash": "/v1%2fchat/completions",
    "an encoded backslash": "/v1%5cchat/completions",
    "an encoded dot": "/v1/%2e%2e/v1/chat/completions",
    "an encoded NUL": "/v1/chat/completions%00",
    "an encoded letter": "/v1/chat/%63ompletions",
    "an encoded percent sign": "/v1/chat%252fcompletions",
    "dots": "/v1/../v1/chat/completions",
    "a dot": "/v1/./chat/completions",
    "two slashes": "/v1//chat/completions",
    "a backslash": "/v1\\chat/completions",
    "an absolute address": "http://sluice.example/v1/chat/completions",
    "an absolute address elsewhere": "http://10.0.0.1/v1/chat/completions",
    "a host for a path": "//sluice.example/v1/chat/completions",
    "an asterisk": "*",
    "a control character": "/v1/chat/completions\x01",
    "a byte beyond ASCII": "/v1/chat/completions\xff",
    "a space": "/v1/chat /completions",
}


async def refused(bed: Bed, raw: bytes, status: bytes = b"400", code: str = "invalid_request") -> None:
    """Check that `raw` is refused by name, once, is counted and logged, and that the next one is served."""
    statuses, got = await ask(bed, raw)
    assert statuses == [status], got[:300]
    assert error_of(got)["code"] == code
    assert not bed.relay.calls
    counted = [
        bed.metric("sluice_proxy_requests_total", model=m, status=status.decode(), code=code) for m in ("",)
    ]
    assert counted == [1.0]
    assert (await bed.post(chat()))[0] == 200
    assert bed.metric("sluice_proxy_open_requests") == 0
    assert bed.metric("sluice_proxy_held_body_bytes") == 0


@pytest.mark.parametrize("raw", SMUGGLING.values(), ids=SMUGGLING)
async def test_a_head_that_can_be_read_in_two_ways_is_refused(bed: Bed, raw: bytes) -> None:
    await refused(bed, raw)


@pytest.mark.parametrize("raw", TOO_LARGE.values(), ids=TOO_LARGE)
async def test_a_head_beyond_the_bounds_is_refused(bed: Bed, raw: bytes) -> None:
    await refused(bed, raw, b"431", "headers_too_large")


@pytest.mark.parametrize("chunks", ODD_CHUNKS.values(), ids=ODD_CHUNKS)
async def test_odd_chunks_are_refused(bed: Bed, chunks: bytes) -> None:
    await refused(bed, post(CHUNKED, chunks))


@pytest.mark.parametrize("chunks", ODD_CHUNKS.values(), ids=ODD_CHUNKS)
async def test_odd_chunks_that_come_later_are_refused(bed: Bed, chunks: bytes) -> None:
    reader, writer = await asyncio.open_unix_connection(bed.config.socket)
    writer.write(post(CHUNKED, b"2\r\n{ \r\n").replace(b"KEY", bed.key.encode()))
    await eventually(lambda: bed.metric("sluice_proxy_open_requests"))
    await asyncio.sleep(0.02)
    writer.write(chunks)
    async with asyncio.timeout(5):
        got = await reader.read(65_536)
    async with asyncio.timeout(5):
        rest = await reader.read(65_536)
    writer.close()
    assert got.startswith(b"HTTP/1.1 400 ")
    assert error_of(got)["code"] in ("invalid_request", "malformed_json")
    assert rest == b"", "a second answer on the same connection"
    assert not bed.relay.calls
    assert bed.metric("sluice_proxy_held_body_bytes") == 0


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
async def test_a_target_that_can_be_read_in_two_ways_is_refused(bed: Bed, target: str) -> None:
    await refused(bed, post(LENGTH, target=target))


async def test_a_second_request_in_the_first_ones_body_is_body(bed: Bed) -> None:
    hidden = post(LENGTH, target=COMPLETIONS).replace(b"KEY", bed.key.encode())
    statuses, got = await ask(bed, post(b"Content-Length: %d\r\n" % len(hidden), hidden))
    assert statuses == [b"400"]
    assert error_of(got)["code"] == "malformed_json"


async def test_what_follows_a_refused_head_is_not_read(bed: Bed) -> None:
    statuses, _ = await ask(bed, post(LENGTH + CHUNKED, CHUNKS) + post(LENGTH))
    assert len(statuses) == 1
    assert not bed.relay.calls


async def test_requests_one_behind_the_other_are_answered_in_turn(bed: Bed) -> None:
    statuses, _ = await ask(bed, post(LENGTH) + post(CHUNKED, CHUNKS) + post(LENGTH))
    await eventually(lambda: len(bed.relay.calls) >= 1)
    assert set(statuses) == {b"200"}


async def test_a_client_of_http_1_0_is_answered_whole(bed: Bed) -> None:
    for stream in (False, True):
        body = json.dumps(chat(stream=stream)).encode()
        statuses, got = await ask(bed, post(b"Content-Length: %d\r\n" % len(body), body, version="1.0"))
        assert statuses == [b"200"]
        assert b"chunked" not in got.lower()
        assert got.endswith(b"[DONE]\n\n") == stream


# --- room and time ----------------------------------------------------------------------------------------


async def begin_upload(bed: Bed, size: int, sent: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Announce a chat of `size` bytes and send the first of them."""
    reader, writer = await asyncio.open_unix_connection(bed.config.socket)
    head = post(b"Content-Length: %d\r\n" % size, b"").replace(b"KEY", bed.key.encode())
    start = b'{"model":"smol","messages":[{"role":"user","content":"'
    writer.write(head + start + b"x" * (sent - len(start)))
    return reader, writer


def end_of(size: int, sent: int) -> bytes:
    """Return what is missing of that chat."""
    return b"x" * (size - sent - 4) + b'"}]}'


async def test_a_body_for_which_there_is_no_room_waits_unread_and_then_goes_on(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 400_000
    pool = bed.service.handler._body_reader._large
    monkeypatch.setattr(pool, "_most", size)
    first_in, first_out = await begin_upload(bed, size, 1000)
    await eventually(lambda: bed.metric("sluice_proxy_held_body_bytes") == size)
    second_in, second_out = await begin_upload(bed, size, size)
    await asyncio.sleep(0.1)
    assert bed.metric("sluice_proxy_held_body_bytes") == size
    assert (await bed.post(chat()))[0] == 200, "a small request waits behind no large one"
    first_out.write(end_of(size, 1000))
    assert (await asyncio.wait_for(first_in.readline(), 5)).startswith(b"HTTP/1.1 200")
    # The second one's body is complete but for its end, which is no JSON: it was read, so there was room.
    assert (await asyncio.wait_for(second_in.readline(), 5)).startswith(b"HTTP/1.1 400")
    await eventually(lambda: bed.metric("sluice_proxy_held_body_bytes") == 0)
    first_out.close()
    second_out.close()


async def test_a_body_that_finds_no_room_in_time_is_told_to_come_back(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(body_reader, "MEMORY_SECONDS", 0.1)
    monkeypatch.setattr(bed.service.handler._body_reader._large, "_most", 300_000)
    reader, writer = await begin_upload(bed, 400_000, 1000)
    got = await asyncio.wait_for(reader.readuntil(b"}}"), 60)
    writer.close()
    assert got.startswith(b"HTTP/1.1 503 ")
    assert error_of(got)["code"] == "overloaded"
    assert b"Retry-After: 5" in got


async def test_one_user_cannot_take_all_room(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    size = 400_000
    monkeypatch.setattr(body_reader, "MEMORY_SECONDS", 0.1)
    monkeypatch.setattr(bed.service.handler._body_reader._large, "_share", size)
    _, first = await begin_upload(bed, size, 1000)
    await eventually(lambda: bed.metric("sluice_proxy_held_body_bytes") == size)
    reader, second = await begin_upload(bed, size, 1000)
    assert (await asyncio.wait_for(reader.readline(), 5)).startswith(b"HTTP/1.1 503")
    bed.key = bed.authority.add_key()
    status, _, _ = await bed.post(chat(messages=[{"role": "user", "content": "x" * (size - 200)}]))
    assert status == 200
    first.close()
    second.close()


async def test_one_user_cannot_fill_the_line_for_room(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = body_reader.MemoryPool(1000, 500)
    monkeypatch.setattr(body_reader, "USER_WAITING", 3)
    assert pool.take("greedy", 500)
    waiting = [asyncio.create_task(pool.wait("greedy", 100)) for _ in range(3)]
    await asyncio.sleep(0)
    assert not await pool.wait("greedy", 100)
    assert await pool.wait("other", 500)
    pool.put_back("other", 500)
    pool.put_back("greedy", 500)
    assert await asyncio.gather(*waiting) == [True] * 3


async def test_single_bytes_cost_a_body_no_more_than_their_number(bed: Bed) -> None:
    body = body_reader.Body(bed.service.handler._body_reader, "user", lambda: BodyScanner("chat"))
    raw = json.dumps(chat(padding="x" * 100_000)).encode()
    for index in range(70_000):
        await body.add(raw[index : index + 1])
    await body.add(raw[70_000:])
    assert len(body.chunks) <= 3
    assert (body.bytes(), body.size) == (raw, len(raw))
    assert body.scanner is not None
    assert body.scanner.finish() == "smol"


async def test_a_body_is_let_go_when_its_answer_begins(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Forwarder] = []

    class Watched(Forwarder):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            made.append(self)

    monkeypatch.setattr(handler, "Forwarder", Watched)
    bed.relay.answer = slow = TwoParts()
    body = chat(stream=True, padding="x" * 400_000)
    async with bed.http.post(f"http://proxy{CHAT}", json=body, headers=bed.headers()) as response:
        await response.content.readany()
        assert bed.metric("sluice_proxy_held_body_bytes") == 0
        assert not made[0]._body, "room is given back for what is still held"
        slow.go_on.set()
        assert (await response.read()).endswith(b"\n\n")


async def test_a_fault_behind_the_answers_beginning_puts_no_second_answer_there(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(meter: TokenMeter) -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(TokenMeter, "count", fail)
    reader, writer = await asyncio.open_unix_connection(bed.config.socket)
    body = json.dumps(chat(stream=True)).encode()
    head = post(b"Content-Length: %d\r\n" % len(body), body)
    writer.write(head.replace(b"KEY", bed.key.encode()))
    got = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    assert got.count(b"HTTP/1.1 ") == 1
    assert b"internal_error" not in got


async def test_a_body_that_stops_coming_is_given_up(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_reader, "IDLE_SECONDS", 0.1)
    reader, writer = await begin_upload(bed, 400_000, 1000)
    got = await asyncio.wait_for(reader.readuntil(b"}}"), 60)
    writer.close()
    assert got.startswith(b"HTTP/1.1 400 ")
    assert "did not arrive in time" in error_of(got)["message"]
    await eventually(lambda: bed.metric("sluice_proxy_held_body_bytes") == 0)


async def test_a_body_that_drips_is_given_up(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_reader, "BODY_SECONDS", 0.2)
    monkeypatch.setattr(body_reader, "SLOWEST", 1 << 30)
    reader, writer = await begin_upload(bed, 400_000, 1000)
    answer = asyncio.create_task(reader.readuntil(b"}}"))
    for _ in range(200):
        writer.write(b"x")
        await asyncio.sleep(0.01)
        if answer.done():
            break
    got = await asyncio.wait_for(answer, 5)
    writer.close()
    assert got.startswith(b"HTTP/1.1 400 ")
    await eventually(lambda: bed.metric("sluice_proxy_held_body_bytes") == 0)


async def test_a_large_body_is_refused_while_it_comes(bed: Bed) -> None:
    """The scanner needs no more of a body than what is wrong with it."""
    reader, writer = await asyncio.open_unix_connection(bed.config.socket)
    writer.write(post(b"Content-Length: 1000000\r\n", b"[" * 100_000).replace(b"KEY", bed.key.encode()))
    got = await asyncio.wait_for(reader.readuntil(b"}}"), 60)
    writer.close()
    assert error_of(got)["code"] == "malformed_json"
