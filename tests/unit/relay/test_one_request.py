"""One request: large bodies that stream through, and the limits on size and time."""

from __future__ import annotations

import asyncio
import gc
import json
import tracemalloc
from pathlib import Path

import pytest

from sluice.contracts.heads import ResponseHead
from sluice.front.identity import Identity
from sluice.gate.body import COLLECTED
from sluice.relay.flow import LUMP
from sluice.wire.frames import FrameType, encode
from tests.fakes.proxy import Answer, WireClient
from tests.unit.relay.bed import MODEL, Bed, Behaviour, bed, chat, until

LARGE = chat(padding="x" * 3_000_000)


async def send_slowly(client: WireClient, body: bytes, keep: int) -> Answer:
    """Send all of a body but its last `keep` bytes."""
    stream = client.connection.open_request(client.head(MODEL, len(body)))
    answer = client._expect(stream)
    client.connection.send_data(stream, body[: len(body) - keep])
    await client.flush()
    return answer


async def send_rest(client: WireClient, answer: Answer, rest: bytes) -> None:
    """Send a body's end."""
    client.connection.send_data(answer.stream, rest)
    client.connection.send_end(answer.stream)
    await client.flush()


async def test_a_large_body_streams_through(tmp_path: Path, identity: Identity) -> None:
    async with bed(tmp_path, identity, Behaviour()) as running:
        answer = await send_slowly(running.client, LARGE, 10)
        await until(lambda: running.received() and len(running.received()[0].body) == len(LARGE) - 10)
        await send_rest(running.client, answer, LARGE[-10:])
        await running.client.wait(answer)
        assert running.session._services.memory.free == running.session._config.max_buffered
    assert answer.code == ""
    assert bytes(running.received()[0].body) == LARGE


@pytest.mark.parametrize("size", [COLLECTED - 1, COLLECTED, COLLECTED + 1, COLLECTED + 70_000])
async def test_bodies_around_the_bound_arrive_whole(tmp_path: Path, identity: Identity, size: int) -> None:
    body = chat(padding="").replace(b'""', b'"' + b"y" * (size - len(chat(padding=""))) + b'"')
    assert len(body) == size
    async with bed(tmp_path, identity, Behaviour()) as running:
        answer = await running.client.request(MODEL, body)
    assert answer.code == ""
    assert bytes(running.received()[0].body) == body


@pytest.mark.parametrize(
    ("tail", "code"),
    [
        (b'"model": "tiny"}}', "malformed_json"),
        (b'"model": "other"}', "model_mismatch"),
        (b'"model": "tiny", "model": "tiny"}', "malformed_json"),
        (b'"model": "tiny"', "malformed_json"),
        (b'"n": 1}', "invalid_request"),
    ],
)
async def test_a_large_body_that_turns_bad_at_its_end_never_becomes_whole(
    tmp_path: Path, identity: Identity, tail: bytes, code: str
) -> None:
    body = b'{"padding": "' + b"x" * 500_000 + b'", ' + tail
    async with bed(tmp_path, identity, Behaviour()) as running:
        answer = await running.client.request(MODEL, body)
        await until(lambda: not running.received() or running.received()[0].left is not None)
        after = await running.client.request(MODEL, chat())
    assert answer.code == code
    assert after.code == ""
    assert [one.complete for one in running.received()] in ([True], [False, True])


@pytest.mark.parametrize(("announced", "sent"), [(400_000, 300_000), (400_000, 400_001)])
async def test_trying_a_large_body_of_another_length(
    tmp_path: Path, identity: Identity, announced: int, sent: int
) -> None:
    body = chat(padding="x" * 200_000).ljust(sent)
    async with bed(tmp_path, identity, Behaviour()) as running:
        answer = await running.client.request(MODEL, body, length=announced)
        await until(lambda: all(one.left is not None for one in running.received()))
    assert answer.code == "invalid_request"
    assert not any(one.complete for one in running.received())


async def test_media_by_url_in_a_large_body_never_becomes_whole(tmp_path: Path, identity: Identity) -> None:
    part = {"type": "image_url", "image_url": {"url": "http://169.254.169.254/"}}
    content = [{"type": "text", "text": "x" * 500_000}, part]
    body = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": content}]}).encode()
    async with bed(tmp_path, identity, Behaviour()) as running:
        answer = await running.client.request(MODEL, body)
    assert answer.code == "media_url_refused"
    assert not any(one.complete for one in running.received())


async def test_a_large_body_is_held_back_by_an_instance_that_takes_nothing(
    tmp_path: Path, identity: Identity
) -> None:
    async with bed(tmp_path, identity, Behaviour(reading=False)) as running:
        running.publish(concurrency=64)
        stuck = [await running.client.begin(MODEL, LARGE) for _ in range(5)]
        await until(lambda: len(running.received()) == 5)
        await asyncio.sleep(0.3)
        connection = running.client.connection
        sent = [len(LARGE) - connection.pending(answer.stream) for answer in stuck]
        # The front's window, and what the relay may hold.
        assert all(size <= 65_536 + 2 * COLLECTED for size in sent)
        other = await running.client.verb("models")
        for answer in stuck:
            await running.client.cancel(answer)
        await until(lambda: all(one.left is not None for one in running.received()))
    assert other.code == ""


async def test_a_large_body_goes_on_when_the_instance_reads_again(tmp_path: Path, identity: Identity) -> None:
    async with bed(tmp_path, identity, Behaviour(tokens=2)) as running:
        answers = [await running.client.begin(MODEL, LARGE) for _ in range(6)]
        for answer in answers:
            await running.client.wait(answer)
        await until(lambda: not running.session.endpoint.connection.open_streams)
        await until(lambda: not running.fronts[0].endpoints[0].connection.open_streams)
    assert {answer.code for answer in answers} == {""}


@pytest.mark.parametrize("window", [LUMP, LUMP + 1])
async def test_the_smallest_window_that_may_be_set_moves_both_ways(
    tmp_path: Path, identity: Identity, window: int
) -> None:
    talkative = Behaviour(tokens=400, token="x" * 1000)
    async with bed(tmp_path, identity, talkative, stream_credit=window, idle_timeout=3) as running:
        answer = await running.client.request(MODEL, LARGE)
    assert answer.code == ""
    assert len(answer.body) > 400_000


async def test_a_large_body_is_not_retried_once_an_instance_has_some_of_it(
    tmp_path: Path, identity: Identity
) -> None:
    async with bed(tmp_path, identity, Behaviour(), Behaviour()) as running:
        answer = await send_slowly(running.client, LARGE, 10)
        await until(lambda: running.received() and len(running.received()[0].body) > 1_000_000)
        for front in running.fronts:
            front.cut()
        await running.client.wait(answer)
    # The proxy still has the body and may send it once more.
    assert answer.error is not None
    assert (answer.code, answer.error.breaks) == ("instance_failed", 1)
    assert len(running.received()) == 1


async def test_a_large_body_is_offered_elsewhere_while_no_instance_has_any(
    tmp_path: Path, identity: Identity
) -> None:
    async with bed(tmp_path, identity, Behaviour(), Behaviour()) as running:
        running.fronts[0].stop()
        answers = [await running.client.request(MODEL, LARGE) for _ in range(4)]
    assert {answer.code for answer in answers} == {""}


async def test_an_answer_before_the_body_is_whole_passes(tmp_path: Path, identity: Identity) -> None:
    async with bed(tmp_path, identity, Behaviour()) as running:
        answer = await send_slowly(running.client, LARGE, 10)
        await until(lambda: running.received() and len(running.received()[0].body) > 1_000_000)
        front = running.fronts[0].endpoints[0]
        front.connection.respond(1, ResponseHead(413, "application/json"))
        front.connection.send_data(1, b"{}")
        front.connection.send_end(1)
        front.wake()
        await running.client.wait(answer)
        after = await running.client.request(MODEL, chat())
        await until(lambda: not running.session.endpoint.connection.open_streams)
    assert answer.head is not None
    assert answer.head.status == 413
    assert after.code == ""


async def test_an_answer_beyond_the_limit_is_broken_off(tmp_path: Path, identity: Identity) -> None:
    endless = Behaviour(tokens=100_000, token="z" * 500)
    async with bed(tmp_path, identity, endless, max_answer=100_000) as running:
        answer = await running.client.request(MODEL, chat(stream=True))
        await until(lambda: running.received()[0].left is not None)
    assert answer.code == "answer_too_large"
    assert not answer.ended
    assert 0 < len(answer.body) <= 100_000


@pytest.mark.parametrize("fault", ["hang", "none"])
async def test_a_request_takes_no_longer_than_the_total_timeout(
    tmp_path: Path, identity: Identity, fault: str
) -> None:
    slow = Behaviour(tokens=1000, delay=0.02, fault=fault)
    async with bed(tmp_path, identity, slow, total_timeout=0.5) as running:
        answer = await running.client.request(MODEL, chat(stream=True), seconds=5)
        await until(lambda: running.received()[0].left is not None)
    assert answer.code == "instance_timeout"


async def test_a_body_that_does_not_come_is_given_up(tmp_path: Path, identity: Identity) -> None:
    async with bed(tmp_path, identity, Behaviour(), idle_timeout=0.3) as running:
        small = await send_slowly(running.client, chat(), 10)
        large = await send_slowly(running.client, LARGE, 10)
        for answer in (small, large):
            await running.client.wait(answer, 10)
        await until(lambda: all(one.left is not None for one in running.received()))
    assert (small.code, large.code) == ("invalid_request", "invalid_request")


async def test_an_answer_that_nobody_reads_any_more_frees_the_instances_stream(
    tmp_path: Path, identity: Identity
) -> None:
    whole = Behaviour(tokens=8, token="x" * 5_000)
    async with bed(tmp_path, identity, whole) as running:
        running.client.reading = False
        answer = await running.client.begin(MODEL, chat(stream=True))
        await until(lambda: len(answer.body) == 32_768)
        await until(lambda: not running.session._requests)
        instance = running.session._services.connections.of(running.instances[0])
        assert instance.endpoint is not None
        connection = instance.endpoint.connection
        assert connection.open_streams == 1
        await running.client.cancel(answer)
        await until(lambda: not connection.open_streams)


@pytest.mark.parametrize("size", [COLLECTED, 600_000])
async def test_a_body_in_tiny_frames_costs_its_bytes_alone(
    tmp_path: Path, identity: Identity, size: int
) -> None:
    body = chat(padding="").replace(b'""', b'"' + b"y" * (size - len(chat(padding=""))) + b'"')
    async with bed(tmp_path, identity, Behaviour(reading=False)) as running:
        await until(lambda: running.fronts[0].accepted)
        client = running.client
        stream = client.connection.open_request(client.head(MODEL, size))
        client._expect(stream)
        await client.flush()
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            frames = b"".join(encode(FrameType.DATA, stream, body[at : at + 2]) for at in range(0, 30_000, 2))
            client.write_raw(frames)
            held = await _received(running, 30_000)
            assert held - before < 30_000 * 20
        finally:
            tracemalloc.stop()


async def _received(running: Bed, size: int) -> int:
    """Wait until the relay holds this many bytes of bodies; return the memory that the process uses then."""
    await until(lambda: running.session._services.counters.bytes_in >= size)
    gc.collect()
    return tracemalloc.get_traced_memory()[0]
