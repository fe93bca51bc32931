"""The engine's side of the front: what it writes, and answers read whole, byte by byte and cut anywhere.

An engine is not trusted: what two readers could read differently is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple, Optional

import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sluice.front.http import (
    MAX_FIELDS,
    MAX_HEAD,
    MAX_TRAILERS,
    AnswerHead,
    AnswerParser,
    InvalidAnswer,
    request_head,
)

REQUEST_ID = "req-" + "0" * 31 + "1"
JSON = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


class Outcome(NamedTuple):
    """What a parser returned; if it refused the input, `head` is None and `refused` is True."""

    refused: bool
    head: Optional[AnswerHead] = None
    body: bytes = b""
    complete: bool = False
    excess: bool = False
    reusable: bool = False


def read(pieces: Iterable[bytes]) -> Outcome:
    """Feed a parser; a refusal hides what came before it, because the connection is closed anyway."""
    parser = AnswerParser()
    body = b""
    try:
        for piece in pieces:
            body += parser.feed(piece)
    except InvalidAnswer:
        return Outcome(True)
    return Outcome(False, parser.head, body, parser.complete, parser.excess, parser.reusable)


def each_byte(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


def chunk(data: bytes, extension: bytes = b"") -> bytes:
    return b"%x%s\r\n%s\r\n" % (len(data), extension, data)


GOOD = {
    "length": (JSON + b"Content-Length: 5\r\n\r\nhello", b"hello", True),
    "empty": (JSON + b"Content-Length: 0\r\n\r\n", b"", True),
    "no reason": (b"HTTP/1.1 200\r\nContent-Length: 1\r\n\r\nx", b"x", True),
    "empty reason": (b"HTTP/1.1 200 \r\nContent-Length: 1\r\n\r\nx", b"x", True),
    "no space behind the colon": (b"HTTP/1.1 200 OK\r\nContent-Length:1\r\n\r\nx", b"x", True),
    "space around a value": (b"HTTP/1.1 200 OK\r\nContent-Length: \t1 \t\r\n\r\nx", b"x", True),
    "a field of one's own": (JSON + b"X-A: \xe4b\r\nContent-Length: 1\r\n\r\nx", b"x", True),
    "an empty value": (JSON + b"Server:\r\nContent-Length: 1\r\n\r\nx", b"x", True),
    "close": (JSON + b"Connection: close\r\nContent-Length: 1\r\n\r\nx", b"x", False),
    "keep-alive": (JSON + b"connection: Keep-Alive\r\nContent-Length: 1\r\n\r\nx", b"x", True),
    "an older version": (b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx", b"x", False),
    "chunks": (CHUNKED + chunk(b"ab") + chunk(b"c" * 300) + b"0\r\n\r\n", b"ab" + b"c" * 300, True),
    "no chunks": (CHUNKED + b"0\r\n\r\n", b"", True),
    "many zeros": (CHUNKED + b"00000002\r\nab\r\n00000000\r\n\r\n", b"ab", True),
    "line ends within chunks": (CHUNKED + chunk(b"\r\n0\r\n\r\n") + b"0\r\n\r\n", b"\r\n0\r\n\r\n", True),
    "extensions": (CHUNKED + chunk(b"ab", b";x") + chunk(b"c", b'; y="z"') + b"0;q\r\n\r\n", b"abc", True),
    "trailers": (CHUNKED + chunk(b"ab") + b"0\r\nX-A: b\r\nContent-Length: 9\r\n\r\n", b"ab", True),
    "in capitals": (b"HTTP/1.1 200 OK\r\nTRANSFER-ENCODING: CHUNKED\r\n\r\n1\r\na\r\n0\r\n\r\n", b"a", True),
    "interim answers": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 x\r\nA: b\r\n\r\n" + JSON + b"Content-Length: 1\r\n\r\nx",
        b"x",
        True,
    ),
    "most interim answers": (
        b"HTTP/1.1 100 Continue\r\n\r\n" * 8 + JSON + b"Content-Length: 1\r\n\r\nx",
        b"x",
        True,
    ),
    "most fields": (JSON + b"a: b\r\n" * (MAX_FIELDS - 2) + b"Content-Length: 1\r\n\r\nx", b"x", True),
}


@pytest.mark.parametrize("name", GOOD)
def test_a_good_answer_is_read_whole_and_byte_by_byte(name: str) -> None:
    data, body, reusable = GOOD[name]
    seen = read([data])
    assert (seen.refused, seen.body, seen.complete, seen.excess, seen.reusable) == (
        False, body, True, False, reusable
    )  # fmt: skip
    assert seen.head is not None
    assert seen.head.status == 200
    assert read(each_byte(data)) == seen


BAD = {
    "a length and chunks": JSON + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and a length": JSON + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "two lengths": JSON + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "the same length twice": JSON + b"Content-Length: 5\r\ncontent-length: 5\r\n\r\nhello",
    "a list of lengths": JSON + b"Content-Length: 5, 5\r\n\r\nhello",
    "a signed length": JSON + b"Content-Length: +5\r\n\r\nhello",
    "a negative length": JSON + b"Content-Length: -5\r\n\r\nhello",
    "a hexadecimal length": JSON + b"Content-Length: 0x5\r\n\r\nhello",
    "a length with an underscore": JSON + b"Content-Length: 1_0\r\n\r\nhello",
    "a length in other digits": JSON + b"Content-Length: \xd9\xa5\r\n\r\nhello",
    "an empty length": JSON + b"Content-Length:\r\n\r\nhello",
    "an endless length": JSON + b"Content-Length: " + b"9" * 16 + b"\r\n\r\nhello",
    "no length": JSON + b"\r\nhello",
    "an older version without a length": b"HTTP/1.0 200 OK\r\n\r\nhello",
    "an older version with chunks": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks twice": JSON + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks of chunks": JSON + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "compressed chunks": JSON + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "a hidden coding": JSON + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "identity": JSON + b"Transfer-Encoding: identity\r\nContent-Length: 5\r\n\r\nhello",
    "a bare line feed in the status line": b"HTTP/1.1 200 OK\nContent-Length: 5\r\n\r\nhello",
    "a bare line feed between fields": JSON + b"A: b\nContent-Length: 5\r\n\r\nhello",
    "a bare line feed at the end": JSON + b"Content-Length: 5\r\n\nhello",
    "two bare line feeds": b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello",
    "a bare carriage return": JSON + b"A: b\rContent-Length: 6\r\nContent-Length: 5\r\n\r\nhello",
    "a folded field": JSON + b"A: b\r\n c\r\nContent-Length: 5\r\n\r\nhello",
    "a folded length": JSON + b"Content-Length:\r\n 5\r\n\r\nhello",
    "a space before the first field": b"HTTP/1.1 200 OK\r\n Content-Length: 5\r\n\r\nhello",
    "a space before the colon": JSON + b"Content-Length : 5\r\n\r\nhello",
    "no colon": JSON + b"Content-Length 5\r\n\r\nhello",
    "no name": JSON + b": 5\r\nContent-Length: 5\r\n\r\nhello",
    "a NUL": JSON + b"A: b\x00c\r\nContent-Length: 5\r\n\r\nhello",
    "an escape": JSON + b"A: \x1b[2J\r\nContent-Length: 5\r\n\r\nhello",
    "a delete": JSON + b"A: \x7f\r\nContent-Length: 5\r\n\r\nhello",
    "a name beyond ASCII": JSON + b"\xc3\xa4: b\r\nContent-Length: 5\r\n\r\nhello",
    "a control character in the reason": b"HTTP/1.1 200 O\x08K\r\nContent-Length: 5\r\n\r\nhello",
    "two content types": JSON + b"Content-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello",
    "lower case": b"http/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "another version": b"HTTP/2.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "a version to come": b"HTTP/1.2 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "another protocol": b"SSH-2.0-x\r\n",
    "a request": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "an empty line first": b"\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "a status of two digits": b"HTTP/1.1 20 OK\r\nContent-Length: 5\r\n\r\nhello",
    "a status of four digits": b"HTTP/1.1 2000 OK\r\nContent-Length: 5\r\n\r\nhello",
    "a status below 100": b"HTTP/1.1 099 OK\r\nContent-Length: 5\r\n\r\nhello",
    "a status above 599": b"HTTP/1.1 600 OK\r\nContent-Length: 5\r\n\r\nhello",
    "two spaces": b"HTTP/1.1  200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "a tab": b"HTTP/1.1\t200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "no content with content": b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello",
    "not modified": b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\nhello",
    "a change of protocol": b"HTTP/1.1 101 Switching\r\nUpgrade: h2c\r\n\r\n",
    "an interim answer with a length": b"HTTP/1.1 100 x\r\nContent-Length: 5\r\n\r\nhello",
    "an interim answer with chunks": b"HTTP/1.1 103 x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "nine interim answers": b"HTTP/1.1 100 Continue\r\n\r\n" * 9,
    "too many fields": JSON + b"a: b\r\n" * (MAX_FIELDS - 1) + b"Content-Length: 1\r\n\r\nx",
    "a head too long": JSON + b"A: " + b"b" * MAX_HEAD + b"\r\nContent-Length: 1\r\n\r\nx",
    "an endless status line": b"HTTP/1.1 200 " + b"O" * MAX_HEAD,
    "a size beyond eight digits": CHUNKED + b"000000001\r\na\r\n0\r\n\r\n",
    "no size": CHUNKED + b"\r\na\r\n0\r\n\r\n",
    "a signed size": CHUNKED + b"+1\r\na\r\n0\r\n\r\n",
    "a negative size": CHUNKED + b"-1\r\na\r\n0\r\n\r\n",
    "a size with a prefix": CHUNKED + b"0x1\r\na\r\n0\r\n\r\n",
    "a size with an underscore": CHUNKED + b"1_0\r\n" + b"a" * 16 + b"\r\n0\r\n\r\n",
    "a size behind a space": CHUNKED + b" 1\r\na\r\n0\r\n\r\n",
    "a size before a space": CHUNKED + b"1 \r\na\r\n0\r\n\r\n",
    "a space before an extension": CHUNKED + b"1 ;x\r\na\r\n0\r\n\r\n",
    "a size that is no number": CHUNKED + b"g\r\na\r\n0\r\n\r\n",
    "a size before a bare line feed": CHUNKED + b"1\na\r\n0\r\n\r\n",
    "a bare line feed in an extension": CHUNKED + b"1;a\nb\r\na\r\n0\r\n\r\n",
    "a NUL in an extension": CHUNKED + b"1;\x00\r\na\r\n0\r\n\r\n",
    "an endless extension": CHUNKED + b"1;" + b"x" * 300,
    "a chunk too long": CHUNKED + b"1\r\nab\r\n0\r\n\r\n",
    "a chunk too short": CHUNKED + b"3\r\nab\r\n0\r\n\r\n",
    "a chunk before a bare line feed": CHUNKED + b"1\r\na\n0\r\n\r\n",
    "a folded trailer": CHUNKED + b"0\r\nA: b\r\n c\r\n\r\n",
    "a trailer without a colon": CHUNKED + b"0\r\nA\r\n\r\n",
    "a trailer before a bare line feed": CHUNKED + b"0\r\nA: b\n\r\n",
    "endless trailers": CHUNKED + b"0\r\n" + b"A: b\r\n" * MAX_TRAILERS,
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_trying_to_smuggle(name: str) -> None:
    assert read([BAD[name]]).refused
    assert read(each_byte(BAD[name])).refused


@pytest.mark.parametrize("name", BAD)
def test_a_refusal_holds_nothing_of_what_came(name: str) -> None:
    with pytest.raises(InvalidAnswer) as caught:
        AnswerParser().feed(BAD[name])
    assert re.fullmatch(r"[A-Za-z', -]+|not an HTTP/1 answer", str(caught.value))


@pytest.mark.parametrize("behind", [b"x", b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"])
@pytest.mark.parametrize("name", ["length", "chunks", "trailers", "empty"])
def test_trying_to_answer_the_next_request_too(name: str, behind: bytes) -> None:
    """The answer is valid, but no other request follows on that connection."""
    data, body, _ = GOOD[name]
    for pieces in ([data + behind], [data, behind], each_byte(data + behind)):
        seen = read(pieces)
        assert (seen.body, seen.complete, seen.excess, seen.reusable) == (body, True, True, False)


@pytest.mark.parametrize("name", GOOD)
def test_half_an_answer_is_never_complete(name: str) -> None:
    data, body, _ = GOOD[name]
    for end in range(len(data)):
        seen = read([data[:end]])
        assert not (seen.refused or seen.complete or seen.reusable)
        assert body.startswith(seen.body)


@pytest.mark.parametrize(
    ("given_type", "media"),
    [
        (b"application/json", "application/json"),
        (b"Text/Event-Stream; charset=utf-8", "text/event-stream"),
        (b"text/plain ;version=0.0.4", "text/plain"),
        (b"\xff", "\xff"),
        (b"", ""),
    ],
)
def test_the_media_type_is_read_without_parameters(given_type: bytes, media: str) -> None:
    seen = read([b"HTTP/1.1 418 x\r\nContent-Type: " + given_type + b"\r\nContent-Length: 0\r\n\r\n"])
    assert seen.head == AnswerHead(418, media)


def test_it_knows_whether_anything_came() -> None:
    parser = AnswerParser()
    assert not parser.begun
    parser.feed(b"H")
    assert parser.begun
    parser = AnswerParser()
    parser.feed(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert parser.begun


def test_what_it_keeps_is_bounded() -> None:
    parser = AnswerParser()
    kept = 0
    for piece in each_byte(
        CHUNKED + chunk(b"a" * 5000, b";" + b"x" * 200) * 3 + b"0\r\n" + b"A: b\r\n" * 500
    ):
        parser.feed(piece)
        kept = max(kept, len(parser._rest))
    assert kept < MAX_TRAILERS


INPUTS = [data for data, _, _ in GOOD.values()] + list(BAD.values())


@given(st.sampled_from(INPUTS), st.lists(st.integers(0, 17_000), max_size=8))
def test_wherever_it_is_cut_the_reading_is_the_same(data: bytes, cuts: list[int]) -> None:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    pieces = [data[begin:end] for begin, end in zip(edges, edges[1:], strict=False)]
    assert read(pieces) == read([data])


@given(
    st.sampled_from([data for data in INPUTS if len(data) < 1000]),
    st.integers(0, 999),
    st.integers(0, 4),
    st.binary(max_size=4),
    st.lists(st.integers(0, 1000), max_size=4),
)
@example(CHUNKED + b"0\r\n\r\n", len(CHUNKED) + 3, 0, b"\r\n", [])
def test_a_mutant_is_read_the_same_however_it_is_cut(
    data: bytes, at: int, gone: int, new: bytes, cuts: list[int]
) -> None:
    at %= len(data) + 1
    mutant = data[:at] + new + data[at + gone :]
    edges = [0, *sorted(cut % (len(mutant) + 1) for cut in cuts), len(mutant)]
    pieces = [mutant[begin:end] for begin, end in zip(edges, edges[1:], strict=False)]
    whole = read([mutant])
    assert read(pieces) == whole
    assert read(each_byte(mutant)) == whole


@given(st.binary(max_size=400))
def test_any_bytes_are_an_answer_or_nonsense(data: bytes) -> None:
    seen = read([data])
    assert seen.refused or seen.complete or not seen.reusable


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=20), st.booleans())
def test_what_another_implementation_writes_is_read_back(parts: list[bytes], chunks: bool) -> None:
    body = b"".join(parts)
    framing = ("Transfer-Encoding", "chunked") if chunks else ("Content-Length", str(len(body)))
    writer = h11.Connection(h11.SERVER)
    writer.receive_data(request_head("GET", "/metrics", 0, ""))
    writer.next_event()
    writer.next_event()
    sent = (
        writer.send(h11.Response(status_code=200, headers=[("Content-Type", "text/plain"), framing])) or b""
    )
    for part in parts:
        sent += writer.send(h11.Data(data=part)) or b""
    sent += writer.send(h11.EndOfMessage()) or b""
    assert read([sent]) == Outcome(False, AnswerHead(200, "text/plain"), body, True, False, True)
    assert read(each_byte(sent)) == read([sent])


@given(st.sampled_from(INPUTS))
def test_what_is_accepted_another_implementation_reads_the_same_way(data: bytes) -> None:
    seen = read([data])
    if seen.refused:
        return
    reader = h11.Connection(h11.CLIENT)
    reader.send(h11.Request(method="GET", target="/metrics", headers=[("Host", "engine")]))
    reader.send(h11.EndOfMessage())
    reader.receive_data(data)
    body = b""
    event = reader.next_event()
    while not isinstance(event, h11.EndOfMessage):
        if isinstance(event, h11.Data):
            body += event.data
        assert event is not h11.NEED_DATA
        event = reader.next_event()
    assert body == seen.body


def test_a_request_carries_only_what_was_checked() -> None:
    assert request_head("POST", "/v1/completions", 12, REQUEST_ID) == (
        b"POST /v1/completions HTTP/1.1\r\nHost: engine\r\nAccept: application/json, text/event-stream\r\n"
        b"Content-Type: application/json\r\nContent-Length: 12\r\n"
        b"X-Request-Id: " + REQUEST_ID.encode() + b"\r\n\r\n"
    )
    assert request_head("GET", "/health", 0, "") == (
        b"GET /health HTTP/1.1\r\nHost: engine\r\nAccept: */*\r\n\r\n"
    )
