"""A stream that breaks within an event: its client gets complete events, and then an error event."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.contracts.paths import CAPABILITIES
from sluice.proxy.http.events import LONGEST_EVENT, Events
from sluice.proxy.requests.context import CLIENT_LEFT
from tests.fakes.wire_relay import EVENTS, Call, model
from tests.unit.proxy.api.test_paths import BODIES, MESSAGES, RESPONSES, gpt
from tests.unit.proxy.conftest import CHAT, COMPLETIONS, Bed, eventually

BOTH = {"stream_options": {"include_usage": True, "continuous_usage_stats": True}}
# What decides how the proxy filters a stream: the path, the client's options, the engine's usage.
WAYS = {
    "chat, figures taken out": (CHAT, {}, "continuous"),
    "chat, the last figures taken out": (CHAT, {}, "final"),
    "chat, all figures asked": (CHAT, BOTH, "continuous"),
    "chat, an engine without figures": (CHAT, {}, "none"),
    "completions": (COMPLETIONS, {}, "continuous"),
    "responses": (RESPONSES, {}, "continuous"),
    "messages": (MESSAGES, {}, "continuous"),
}
# Everything in an event that may be cut: names, data in two lines, a letter of two bytes.
LF = 'event: message\ndata: {"text":\ndata: "für","sequence_number":4}\n\n'.encode()
ENDS = {"LF": LF, "CR LF": LF.replace(b"\n", b"\r\n"), "CR": LF.replace(b"\n", b"\r")}
Death = Callable[[Bed, list[Call]], Awaitable[None]]


async def fail(bed: Bed, calls: list[Call]) -> None:
    for call in calls:
        call.fail("instance_failed")


async def lose_the_session(bed: Bed, calls: list[Call]) -> None:
    bed.relay.link.die()


async def fall_silent(bed: Bed, calls: list[Call]) -> None:
    """Do nothing more; the proxy's timeouts are short here."""


DEATHS: dict[str, tuple[Death, str]] = {
    "it fails": (fail, "instance_failed"),
    "its session is lost": (lose_the_session, "cluster_unreachable"),
    "it falls silent": (fall_silent, "instance_timeout"),
}


def parsed(stream: bytes) -> list[tuple[str, Any]]:
    """Return name and data of each event, as strict clients read them; fail on an event without an end."""
    text = stream.decode().replace("\r\n", "\n").replace("\r", "\n")
    blocks = text.split("\n\n")
    assert blocks.pop() == "", "an event has no end"
    found = []
    for block in blocks:
        fields = [line.partition(": ")[::2] for line in block.split("\n") if not line.startswith(":")]
        names = [value for name, value in fields if name == "event"]
        found.append((*names[-1:], json.loads("\n".join(value for name, value in fields if name == "data"))))
    return [one if len(one) == 2 else ("", *one) for one in found]


async def ask(bed: Bed, way: str) -> tuple[int, bytes]:
    path, more, _ = WAYS[way]
    body = {**BODIES[path], "stream": True, **more}
    async with bed.http.post(f"http://proxy{path}", json=body, headers=bed.headers()) as response:
        return response.status, await response.read()


async def serve(bed: Bed, way: str) -> None:
    """Have a model that serves everything, and an engine that reports the usage of this way."""
    bed.relay.models = [model("smol", capabilities=CAPABILITIES, usage=WAYS[way][2], concurrency=256)]
    await eventually(lambda: bed.service.fleet.models().get("smol") == bed.relay.models[0])


async def die(bed: Bed, way: str, death: str, before: bytes, halves: list[bytes]) -> list[tuple[int, bytes]]:
    """Ask for a stream for each half; when each engine has sent it after `before`, all fail."""
    left, sent = list(halves), []

    async def begin(call: Call) -> None:
        half = left.pop(0)
        call.start(content_type=EVENTS)
        for part in (before, half):
            if part:
                await call.send(part)
        sent.append(call)
        await call.cancelled.wait()

    bed.relay.answer = begin
    asking = [asyncio.create_task(ask(bed, way)) for _ in halves]
    await eventually(lambda: len(sent) == len(halves))
    await DEATHS[death][0](bed, sent)
    return list(await asyncio.gather(*asking))


@pytest.fixture(params=DEATHS)
def death(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How the engine fails; if it becomes silent, that is noticed soon."""
    if DEATHS[request.param][0] is fall_silent:
        monkeypatch.setattr("sluice.proxy.requests.pump.SILENT", 0.5)
        monkeypatch.setattr("sluice.proxy.requests.pump.SWEEP_SECONDS", 0.05)
        monkeypatch.setattr("sluice.proxy.requests.forwarding.IDLE_TIMEOUT", 0.5)
    return str(request.param)


@pytest.mark.parametrize("way", WAYS)
async def test_an_engine_that_dies_within_an_event(bed: Bed, way: str, death: str) -> None:
    await check_every_cut(bed, way, death, LF)


@pytest.mark.parametrize("way", WAYS)
async def test_an_engine_that_ends_lines_as_windows_does_and_dies_within_an_event(bed: Bed, way: str) -> None:
    await check_every_cut(bed, way, "it fails", ENDS["CR LF"])


async def check_every_cut(bed: Bed, way: str, death: str, whole: bytes) -> None:
    """Cut an event after each of its bytes; before it the client got a complete one."""
    await serve(bed, way)
    answers = await die(bed, way, death, whole, [whole[:cut] for cut in range(len(whole))])
    for status, body in answers:
        assert status == 200
        assert body.startswith(whole)
        (_, first), (_, last) = parsed(body)
        assert first == {"text": "für", "sequence_number": 4}
        assert last["error"]["code"] == DEATHS[death][1]


@pytest.mark.parametrize("way", WAYS)
async def test_an_engine_that_dies_within_its_first_event(bed: Bed, way: str, death: str) -> None:
    await serve(bed, way)
    answers = await die(bed, way, death, b"", [LF[:cut] for cut in range(1, len(LF), 3)])
    for status, body in answers:
        assert status >= 500, "nothing had been sent: the error must have its own status"
        assert json.loads(body)["error"]["code"] == DEATHS[death][1]


@pytest.mark.parametrize("way", WAYS)
async def test_an_engine_that_dies_within_an_event_too_long_to_hold(bed: Bed, way: str) -> None:
    """It has no place for an error: the client sees a broken transfer, and never a complete answer."""
    await serve(bed, way)
    half = b"data: " + b"x" * LONGEST_EVENT + b"xx"

    async def broken(call: Call) -> None:
        call.start(content_type=EVENTS)
        await call.send(LF)
        await call.send(half)
        call.fail("instance_failed")

    bed.relay.answer = broken
    path, more, _ = WAYS[way]
    got = bytearray()
    async with bed.http.post(
        f"http://proxy{path}", json={**BODIES[path], "stream": True, **more}, headers=bed.headers()
    ) as response:
        with pytest.raises(Exception, match="payload"):
            async for part in response.content.iter_any():
                got += part
    assert bytes(got) == LF + half
    (record,) = await bed.settled()
    assert (record.status, record.code) == (CLIENT_LEFT, "instance_failed")


@pytest.mark.parametrize("way", WAYS)
async def test_a_first_event_in_parts_is_an_answer_like_any_other(bed: Bed, way: str) -> None:
    await serve(bed, way)

    async def slowly(call: Call) -> None:
        call.start(content_type=EVENTS)
        for at in range(len(LF)):
            await call.send(LF[at : at + 1])
            await asyncio.sleep(0)
        await call.send(b"data: [DONE]\n")  # an end without a blank line is an end too
        call.end()

    bed.relay.answer = slowly
    assert await ask(bed, way) == (200, LF + b"data: [DONE]\n")


@pytest.mark.parametrize("cut", [1, 20, 60])
async def test_openais_client_has_what_came_whole_and_raises_the_reason(bed: Bed, cut: int) -> None:
    await serve(bed, "responses")
    whole = b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","delta":"a"}\n\n'

    async def broken(call: Call) -> None:
        call.start(content_type=EVENTS)
        await call.send(whole + whole[:cut])
        call.fail("instance_failed")

    bed.relay.answer = broken
    seen = []
    async with gpt(bed) as client:
        events = await client.responses.create(model="smol", input="Hi", stream=True)
        with pytest.raises(openai.APIError, match="the relay says instance_failed"):
            async for one in events:
                seen.append(one.type)
    assert seen == ["response.output_text.delta"]


# --- the cutting itself -------------------------------------------------------------------------------------

pieces = st.lists(
    st.sampled_from([b"data: a", b"event: b", b": c", b"\n", b"\r\n", b"\r", b"\n\n", b"\r\n\r\n", b"\r\r"]),
    max_size=30,
).map(b"".join)


def whole_of(stream: bytes) -> int:
    """Return where the last event ends, found line by line."""
    at = end = 0
    for line in stream.splitlines(keepends=True):
        at += len(line)
        if not line.strip(b"\r\n"):
            end = at
    return end


@given(pieces, st.lists(st.integers(0, 200)))
def test_nothing_of_an_unfinished_event_passes_wherever_it_is_cut(stream: bytes, cuts: list[int]) -> None:
    places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    events, passed = Events(), b""
    for start, end in zip(places, places[1:], strict=False):
        passed += events.feed(stream[start:end])
        assert not events.torn
        unfinished = stream[whole_of(stream[: len(passed)]) : len(passed)]
        assert all(line.startswith(b":") for line in unfinished.split(b"\n")[:-1])
        assert unfinished.split(b"\n")[-1] in (b"", b"\r")
    # Nobody waits for blank lines alone; only a CR behind an LF waits for the byte that may belong to it.
    sure = stream[:-1] if stream.endswith(b"\n\r") else stream
    assert len(passed) >= len(sure[: whole_of(sure)].rstrip(b"\r\n"))
    assert passed + events.rest() == stream


def test_an_event_passes_in_the_turn_in_which_it_is_whole() -> None:
    for whole in ENDS.values():
        events = Events()
        assert events.feed(whole) == whole
        assert events.feed(whole + whole[:9]) == whole
        assert events.feed(whole[9:] + b": alive\n") == whole + b": alive\n"


def test_a_comment_passes_at_once() -> None:
    events = Events()
    assert events.feed(LF + b": alive\n") == LF + b": alive\n"
    assert events.feed(b": ali") == b""
    assert events.feed(b"ve\ndata: {") == b": alive\n"
    assert events.feed(b"}\n: within an event\n") == b""
    assert not events.torn


@pytest.mark.parametrize("start", [b":", b": a\n:", b":a\r", b"data: x", b"\r"])
def test_a_line_in_small_pieces_costs_no_more_than_its_bytes(start: bytes) -> None:
    events = Events()
    began = time.process_time()
    events.feed(start + b"x" * 200_000)
    for _ in range(50_000):
        events.feed(b"x")
    assert time.process_time() - began < 5


@pytest.mark.parametrize("step", [1000, 16384, LONGEST_EVENT * 2])
def test_an_event_too_long_to_hold_passes_in_parts_until_it_ends(step: int) -> None:
    whole = b"data: " + b"x" * (LONGEST_EVENT + 5000) + b"\r\n\r\n"
    events, passed = Events(), b""
    for start in range(0, len(whole), step):
        passed += events.feed(whole[start : start + step])
        assert len(passed) >= min(start + step, len(whole)) - LONGEST_EVENT
        assert events.torn == (LONGEST_EVENT < start + step < len(whole))
    assert (passed, events.torn) == (whole, False)
    assert events.feed(LF[:20]) == b""
    assert events.feed(LF[20:]) == LF


@pytest.mark.parametrize("blank", [b"\n\n", b"\r\n\r\n", b"\r\r"])
@pytest.mark.parametrize("cut", range(5))
def test_the_end_of_a_long_event_is_found_where_it_is_cut(blank: bytes, cut: int) -> None:
    events = Events()
    events.feed(b"data: " + b"x" * LONGEST_EVENT + blank[:cut])
    events.feed(blank[cut:])
    assert events.feed(b"data: half") == b""
    assert not events.torn
