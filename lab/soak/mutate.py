"""Valid sessions and bodies, and changed ones: changed by their form, or at random."""

from __future__ import annotations

import json
from random import Random
from typing import Any

from sluice.contracts.heads import DemandHead, ErrorHead, InstanceRequest, RequestHead, ResponseHead
from sluice.contracts.paths import PATHS
from sluice.wire.connection import Connection, Side
from sluice.wire.frames import HEADER, LAST, Decoder, Frame, FrameType, encode
from sluice.wire.hello import Hello, Limits
from sluice.wire.links import RELAY_FRONT, Link

KEY = "k" * 43
MODEL = "tiny"
INSTANCE = f"{MODEL}-00000001"
ROOMY = Limits(stream_credit=32_768, session_credit=1 << 22, max_streams=64, max_body=1 << 20)

MOST_PIECES = 100

_WORDS: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    1.5,
    1 << 70,
    "",
    "x",
    "../../etc/passwd",
    "é\u0000",
    [],
    {},
    [[]],
    {"a": 1},
)
_NOISE = (
    b"",
    b"\0",
    b"\xff",
    b"{",
    b"}",
    b'"',
    b"\\",
    b",",
    b"\r\n",
    b"\n",
    b"0",
    b"\xef\xbb\xbf",
    b"\\u0000",
    b"\\ud83d",
    b"\\uDE00",
)


def bodies() -> list[bytes]:
    """Return requests' bodies as clients write them."""
    turns = [{"role": "system", "content": "be brief"}, {"role": "user", "content": 'hello \n"you" \\ 日本'}]
    parts = [
        {"type": "text", "text": "look"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
    ]
    documents: list[dict[str, Any]] = [
        {"model": MODEL, "messages": turns},
        {"model": MODEL, "messages": turns, "stream": True, "max_tokens": 16, "temperature": 0.5},
        {
            "messages": [{"role": "user", "content": parts}],
            "model": MODEL,
            "tools": [{"function": {"name": "f"}}],
        },
        {"model": MODEL, "prompt": "once upon a time " * 20, "stream": False},
        {"model": MODEL, "prompt": list(range(200)), "stop": ["\n", None]},
        {
            "model": MODEL,
            "input": turns,
            "store": False,
            "max_output_tokens": 9,
            "instructions": "\U0001f600",
        },
        {
            "model": MODEL,
            "query": "x",
            "documents": ["a", {"text": "b"}],
            "n": 2,
            "stream_options": {"a": [1]},
        },
        {"model": MODEL, "prompt": ["a", "b"], "url": "http://outside", "x": [[[[{"uri": 1}]]]]},
    ]
    found = []
    for document in documents:
        for spacing in ((",", ":"), (", ", ": "), (" ,\n", "\t:\r\n")):
            for ascii_only in (True, False):
                found.append(json.dumps(document, separators=spacing, ensure_ascii=ascii_only).encode())
    return found


BODIES = bodies()


def sessions(chance: Random, link: Link, side: Side, count: int) -> list[list[Frame]]:
    """Return the frames that a well-behaved peer on this side sends in `count` sessions."""
    return [_session(chance, link, side) for _ in range(count)]


def _session(chance: Random, link: Link, side: Side) -> list[Frame]:
    key = KEY if link.keyed else ""
    client = Connection(Side.CLIENT, Hello("soak", ROOMY), link, key=key)
    server = Connection(Side.SERVER, Hello("soak", ROOMY), link, key=key)
    said: dict[Side, bytes] = {Side.CLIENT: b"", Side.SERVER: b""}

    def move() -> None:
        for _ in range(4):
            up, down = client.data_to_send(), server.data_to_send()
            said[Side.CLIENT] += up
            said[Side.SERVER] += down
            server.receive(up)
            client.receive(down)

    move()
    move()
    for number in range(chance.randint(1, 4)):
        _exchange(chance, client, server, number, move)
    move()
    return Decoder().feed(said[side])


def _exchange(chance: Random, client: Connection, server: Connection, number: int, move: Any) -> None:
    body = chance.choice(BODIES)
    path = chance.choice(tuple(PATHS))
    name = f"req-{number:032x}"
    if client.link is RELAY_FRONT:
        stream = client.open_request(InstanceRequest(name, "POST", path, len(body)))
        server.send_load(number)
    else:
        stream = client.open_request(RequestHead(name, MODEL, "POST", path, "u", "api", len(body)))
        for verb in chance.sample((client.open_models, client.open_metrics), chance.randint(0, 2)):
            verb()
        if chance.random() < 0.3:
            client.open_demand(DemandHead({MODEL: 3}))
    client.send_data(stream, body)
    client.send_end(stream)
    client.ping(b"sluice")
    move()
    server.respond(stream, ResponseHead(200, "text/event-stream", INSTANCE))
    for _ in range(chance.randint(0, 5)):
        server.send_data(stream, b'data: {"choices": []}\n\n' * chance.randint(1, 40))
        move()
    end = chance.random()
    if end < 0.6:
        server.send_end(stream)
    elif end < 0.8:
        server.send_error(stream, ErrorHead("instance_failed", "it died"))
    else:
        client.cancel(stream)
    move()


def frames(chance: Random, session: list[Frame]) -> bytes:
    """Return a session's bytes, with some frames changed, and sometimes single bytes."""
    found = list(session)
    for _ in range(chance.choice((0, 1, 1, 2, 3, 8))):
        _change_frame(chance, found)
    raw = b"".join(encode(f.type & 0x7F, f.stream, f.payload[:65_536], last=f.last) for f in found)
    return noise(chance, raw) if chance.random() < 0.3 else raw


def _change_frame(chance: Random, found: list[Frame]) -> None:
    place = chance.randrange(len(found) + 1)
    if place == len(found) or not found:
        kind = chance.choice((*FrameType, 8, 16, 100))
        found.insert(
            place,
            Frame(
                kind, _stream(chance), chance.randbytes(chance.choice((0, 4, 8, 30))), chance.random() < 0.3
            ),
        )
        return
    frame = found[place]
    change = chance.randrange(9)
    if change == 0:
        del found[place]
    elif change == 1:
        found.insert(place, frame)
    elif change == 2:
        other = chance.randrange(len(found))
        found[place], found[other] = found[other], frame
    elif change == 3:
        found[place] = frame._replace(stream=_stream(chance))
    elif change == 4:
        found[place] = frame._replace(type=chance.choice((*FrameType, 8, 16, 100)))
    elif change == 5:
        found[place] = frame._replace(last=not frame.last)
    elif change == 6:
        found[place] = frame._replace(payload=frame.payload[: chance.randrange(len(frame.payload) + 1)])
    elif change == 7:
        found[place] = frame._replace(payload=noise(chance, frame.payload))
    else:
        found[place] = frame._replace(payload=fields(chance, frame.payload))


def _stream(chance: Random) -> int:
    return chance.choice((0, 1, 1, 2, 3, 5, 7, 99, 0xFFFFFFFF))


def fields(chance: Random, raw: bytes) -> bytes:
    """Return a JSON document with a field changed, dropped, added or written twice; others by bytes."""
    try:
        document = json.loads(raw)
    except ValueError:
        return noise(chance, raw)
    if not isinstance(document, dict) or not document:
        return noise(chance, raw)
    name = chance.choice(list(document))
    change = chance.randrange(4)
    if change == 0:
        del document[name]
    elif change == 1:
        document[chance.choice(("x", "host", "model", "url", "é"))] = chance.choice(_WORDS)
    elif change == 2:
        document[name] = chance.choice(_WORDS)
    written = json.dumps(document).encode()
    if change == 3:
        written = b'{"' + name.encode() + b'": 0, ' + written[1:]
    return written


def noise(chance: Random, raw: bytes) -> bytes:
    """Return the bytes with a few of them changed, dropped, repeated or added."""
    found = bytearray(raw)
    for _ in range(chance.choice((1, 1, 2, 5))):
        place = chance.randrange(len(found) + 1)
        change = chance.randrange(5)
        if change == 0 and place < len(found):
            found[place] = chance.randrange(256)
        elif change == 1:
            del found[place : place + chance.randint(1, 20)]
        elif change == 2:
            found[place:place] = found[place : place + chance.randint(1, 40)]
        elif change == 3:
            found[place:place] = chance.choice(_NOISE) * chance.choice((1, 1, 2, 300))
        elif place < len(found):
            found[place] ^= 1 << chance.randrange(8)
    return bytes(found)


def random_frames(chance: Random) -> bytes:
    """Return bytes that no peer sends: random ones, or frames with wrong lengths."""
    if chance.random() < 0.5:
        return chance.randbytes(chance.choice((1, 8, 30, 300)))
    parts = []
    for _ in range(chance.randint(1, 6)):
        payload = chance.randbytes(chance.choice((0, 4, 8, 50)))
        length = chance.choice((len(payload), len(payload), 0, 5, 65_536, 65_537, 0xFFFFFF))
        kind = chance.choice((*FrameType, 100)) | (LAST if chance.random() < 0.3 else 0)
        parts.append(HEADER.pack(length << 8 | kind, _stream(chance)) + payload)
    return b"".join(parts)


def pieces(chance: Random, raw: bytes) -> list[bytes]:
    """Cut bytes as networks do: not at all, in two, or in small pieces."""
    size = chance.choice((len(raw), len(raw), len(raw) // 2 + 1, 1000, 1000, 97, 5)) or 1
    size = max(size, len(raw) // MOST_PIECES + 1)
    return [raw[place : place + size] for place in range(0, len(raw), size)]


_CHUNKED = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
)
_PLAIN = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nContent-Length: %d\r\nserver: uvicorn\r\n\r\n%s"
)


def answers() -> list[bytes]:
    """Return what engines answer."""
    events = [b'data: {"choices": [{"delta": {"content": "ab "}}]}\n\n'] * 5 + [b"data: [DONE]\n\n"]
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(event), event) for event in events)
    answer = b'{"choices": [{"message": {"content": "hello"}}]}'
    return [
        _PLAIN % (len(answer), answer),
        _PLAIN % (0, b""),
        _CHUNKED + chunks + b"0\r\n\r\n",
        _CHUNKED + chunks + b"0;ext=1\r\nTrailer: x\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" + _PLAIN % (len(answer), answer),
        (_PLAIN % (len(answer), answer)).replace(b"200 OK", b"500 Internal Server Error"),
        (_PLAIN % (len(answer), answer)).replace(b"server: uvicorn", b"Connection: close"),
    ]


_LINES = (
    b"Content-Length: 5\r\n", b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: gzip\r\n", b"X: y\n", b" folded\r\n", b"Content-Length : 5\r\n", b"\r\n",
    b"ffffffff\r\n", b"-1\r\n", b"Content-Type: image/png\r\n", b"HTTP/1.1 101 Switching\r\n",
    b"Connection: upgrade\r\n", b"A" * 20_000, b"b: c\r\n" * 200,
)  # fmt: skip


def answer(chance: Random, valid: list[bytes]) -> bytes:
    """Return an engine's answer, changed by lines or bytes."""
    raw = chance.choice(valid)
    change = chance.randrange(5)
    if change == 0:
        return raw
    if change == 1:
        return chance.randbytes(chance.choice((1, 20, 200)))
    lines = raw.splitlines(keepends=True)
    if change == 2 or not lines:
        return noise(chance, raw)
    for _ in range(chance.randint(1, 3)):
        place = chance.randrange(len(lines))
        if chance.random() < 0.5:
            lines.insert(place, chance.choice(_LINES))
        elif len(lines) > 1:
            del lines[place]
    return b"".join(lines)
