"""Random bytes for a running session: it ends or continues, and nothing unchecked reaches an engine.

A fixed number of sessions from fixed seeds; `make soak` runs more.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
from pathlib import Path

import pytest

from sluice.contracts.heads import RequestHead, ResponseHead
from sluice.front.identity import Identity
from sluice.wire.connection import Connection, Side
from sluice.wire.frames import FrameType, encode
from sluice.wire.hello import Hello, Limits
from tests.fakes.routed import routed
from tests.trials import scaled
from tests.unit.relay.bed import MODEL, Bed, Behaviour, bed, chat, until

SEEDS = range(scaled(40))
FRAMES = 30


def good_session(chance: random.Random) -> bytes:
    """Return what a proxy sends in a session with a few requests."""
    connection = Connection(Side.CLIENT, Hello("fuzz", Limits()))
    relay = Connection(Side.SERVER, Hello("relay", Limits()))
    connection.receive(relay.data_to_send())
    for number in range(chance.randint(1, 5)):
        body = chat(stream=chance.random() < 0.5)
        head = RequestHead(f"req-{number:032x}", MODEL, "POST", "/v1/completions", "u", "api", len(body))
        stream = connection.open_request(head)
        connection.send_data(stream, body)
        connection.send_end(stream)
        if chance.random() < 0.3:
            connection.cancel(stream)
    connection.open_models()
    connection.open_metrics()
    return connection.data_to_send()


def mutated(chance: random.Random, data: bytes) -> bytes:
    """Return the bytes with a few of them changed, dropped or repeated."""
    found = bytearray(data)
    for _ in range(chance.randint(1, 6)):
        place = chance.randrange(len(found))
        kind = chance.randrange(3)
        if kind == 0:
            found[place] = chance.randrange(256)
        elif kind == 1:
            del found[place : place + chance.randint(1, 20)]
        else:
            found[place:place] = found[place : place + chance.randint(1, 20)]
    return bytes(found)


def random_frames(chance: random.Random) -> bytes:
    """Return a valid hello and then frames of random types, streams and payloads."""
    payloads = [
        b"",
        b"{}",
        b"null",
        chat(),
        b"\x00\x00\xff\xff",
        b"12345678",
        chance.randbytes(100),
        json.dumps({"models": {MODEL: 3}}).encode(),
        RequestHead("req-" + "0" * 32, MODEL, "POST", "/v1/completions", "u", "api", 5).encode(),
    ]
    parts = [Connection(Side.CLIENT, Hello("fuzz", Limits())).data_to_send()]
    for _ in range(FRAMES):
        kind = chance.choice([*FrameType, 99])
        parts.append(encode(kind, chance.choice([0, 1, 1, 3, 5, 7, 9]), chance.choice(payloads)))
    return b"".join(parts)


async def feed(running: Bed, data: bytes, chance: random.Random) -> None:
    """Send bytes in pieces of random sizes, and give the session time to act on them."""
    place = 0
    while place < len(data):
        size = chance.choice([1, 7, 100, 5000])
        running.client.write_raw(data[place : place + size])
        place += size
        await asyncio.sleep(0)
    await asyncio.sleep(0.02)


@pytest.mark.parametrize("make", [mutated, random_frames], ids=["mutated", "random-frames"])
async def test_no_bytes_bring_a_session_down_uncontrolled(
    tmp_path: Path, identity: Identity, caplog: pytest.LogCaptureFixture, make: object
) -> None:
    caplog.set_level(logging.INFO)
    for seed in SEEDS:
        # One seed for each session: a failing one can be repeated alone.
        chance = random.Random(seed)
        data = random_frames(chance) if make is random_frames else mutated(chance, good_session(chance))
        place = tmp_path / str(seed)
        place.mkdir()
        async with bed(place, identity, Behaviour(tokens=2), hello=False) as running:
            await feed(running, data, chance)
        for received in running.fronts[0].received:
            assert json.loads(received.body)["model"] == MODEL
            assert received.head.length == len(received.body)
    assert "unexpected fault" not in caplog.text


def answers(chance: random.Random) -> bytes:
    """Return what a front sends after its hello: frames of random types, some of them in a valid order."""
    head = ResponseHead(200, "application/json").encode()
    payloads = [b"", b"{}", b"null", head, head, chance.randbytes(40), b"\x00\x00\x00\x05", b"12345678"]
    parts = []
    for _ in range(FRAMES):
        if chance.random() < 0.4:
            parts.append(encode(FrameType.RESPONSE, 1, head) + encode(FrameType.DATA, 1, b"x", last=True))
        kind = chance.choice([*FrameType, 99])
        parts.append(encode(kind, chance.choice([0, 1, 1, 2, 3, 9]), chance.choice(payloads)))
    return b"".join(parts)


async def test_no_bytes_of_a_front_hurt_more_than_its_own_requests(
    tmp_path: Path, identity: Identity, caplog: pytest.LogCaptureFixture
) -> None:
    async with bed(tmp_path, identity, Behaviour(fault="hang"), Behaviour()) as running:
        running.publish({MODEL: routed(running.instances[:1]), "other": routed(running.instances[1:])})
        front = running.fronts[0]
        for seed in SEEDS:
            chance = random.Random(seed)
            said = chance.randbytes(200) if seed % 4 == 0 else answers(chance)
            connection = running.session._services.connections.of(running.instances[0])
            connection.breaker.succeed()
            front.received.clear()
            asked = await running.client.begin(MODEL, chat())
            await until(lambda: bool(front.received))
            transport = front.endpoints[-1].transport
            assert transport is not None
            transport.write(said)
            await asyncio.sleep(0.02)
            # The sending side no longer knows what it has sent.
            front.cut()
            await running.client.cancel(asked)
            other = await running.client.request("other", chat(model="other"))
            assert other.code == ""
    assert "unexpected fault" not in caplog.text
