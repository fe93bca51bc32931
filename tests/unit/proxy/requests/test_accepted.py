"""A stream that an instance has accepted: its client is told long before the first token."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import anthropic
import httpx2
import openai
import pytest
import pytest_asyncio

from sluice.proxy.requests import forwarding
from tests.fakes.wire_relay import EVENTS, Call, FakeRelay, model
from tests.unit.proxy.conftest import CHAT, Bed, chat, config, event, eventually, open_bed

WORKING = b": working\n"
EVERY_PATH: dict[str, dict[str, Any]] = {
    CHAT: {"messages": [{"role": "user", "content": "hi"}]},
    "/v1/completions": {"prompt": "hi"},
    "/v1/responses": {"input": "hi"},
    "/v1/messages": {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 9},
}


class Reading:
    """An engine that accepts each request, and reads its prompt until `done` is set."""

    def __init__(self) -> None:
        self.done = asyncio.Event()
        self.events: tuple[bytes, ...] = (event("Good"), b"data: [DONE]\n\n")

    async def __call__(self, call: Call) -> None:
        """Answer one request."""
        call.accept()
        await self.done.wait()
        call.start(content_type=EVENTS)
        for one in self.events:
            await call.send(one)
        call.end()


@pytest_asyncio.fixture
async def reading(tmp_path: Path) -> AsyncIterator[tuple[Bed, Reading]]:
    """A proxy that sends comments often, with such an engine."""
    engine = Reading()
    relay = FakeRelay(engine)
    relay.models = [model("smol", capabilities=("chat", "completions", "responses", "messages"))]
    async with open_bed(replace(config(tmp_path), comment_interval=0.2, queue_wait=20.0), relay) as bed:
        yield bed, engine


async def ask(bed: Bed, path: str = CHAT, **more: Any) -> aiohttp.ClientResponse:
    """Ask for a stream and return the answer's beginning."""
    body = {"model": "smol", "stream": True, **EVERY_PATH[path], **more}
    return await asyncio.wait_for(bed.http.post(f"http://proxy{path}", json=body, headers=bed.headers()), 20)


@pytest.mark.parametrize("path", EVERY_PATH)
async def test_the_head_and_comments_come_before_the_first_token(
    reading: tuple[Bed, Reading], path: str
) -> None:
    bed, engine = reading
    response = await ask(bed, path)
    assert response.status == 200
    assert response.content_type == EVENTS
    for _ in range(3):
        assert await asyncio.wait_for(response.content.readline(), 20) == WORKING
    engine.done.set()
    rest = await response.read()
    lines = [line for line in rest.splitlines(keepends=True) if line != WORKING]
    assert b"".join(lines) == b"".join(engine.events)
    (record,) = await bed.settled()
    assert record.status == 200
    # What is sent before is not a token.
    assert record.first_byte is not None and record.first_byte > 0.5
    assert record.bytes_out == len(b"".join(engine.events))


async def test_an_answer_that_comes_at_once_has_no_comment(reading: tuple[Bed, Reading]) -> None:
    bed, engine = reading
    engine.done.set()
    response = await ask(bed)
    assert await response.read() == b"".join(engine.events)


async def test_a_request_for_no_stream_hears_nothing_before(reading: tuple[Bed, Reading]) -> None:
    bed, _ = reading

    async def document(call: Call) -> None:
        call.accept()
        await asyncio.sleep(0.5)
        await call.answer({"object": "chat.completion"})

    bed.relay.answer = document
    status, headers, answer = await bed.post(chat())
    assert (status, answer) == (200, {"object": "chat.completion"})
    assert "Content-Length" in headers


async def test_another_attempt_takes_over_behind_the_head(reading: tuple[Bed, Reading]) -> None:
    bed, engine = reading

    async def break_first(call: Call) -> None:
        if call.head.breaks:
            await engine(call)
            return
        call.accept()
        await asyncio.sleep(0.5)
        call.fail("instance_failed", breaks=1)

    bed.relay.answer = break_first
    response = await ask(bed)
    assert await response.content.readline() == WORKING
    engine.done.set()
    body = await response.read()
    assert body.endswith(b"".join(engine.events))
    assert b"error" not in body


async def test_comments_go_on_while_another_place_is_waited_for(reading: tuple[Bed, Reading]) -> None:
    bed, engine = reading
    full = asyncio.Event()

    async def lose(call: Call) -> None:
        if full.is_set():
            await engine(call)
            return
        call.accept()
        await asyncio.sleep(0.3)
        full.set()
        call.fail("overloaded", retry_after=0.1)

    bed.relay.answer = lose
    engine.done.set()
    response = await ask(bed)
    body = await response.read()
    assert body.endswith(b"".join(engine.events))


@pytest.mark.parametrize("path", EVERY_PATH)
async def test_what_fails_behind_the_head_is_an_event(reading: tuple[Bed, Reading], path: str) -> None:
    bed, _ = reading

    async def fail(call: Call) -> None:
        call.accept()
        await asyncio.sleep(0.5)
        call.fail("instance_timeout")

    bed.relay.answer = fail
    response = await ask(bed, path)
    assert response.status == 200
    last = (await response.read()).strip().splitlines()[-1]
    assert json.loads(last.removeprefix(b"data: "))["error"]["code"] == "instance_timeout"


async def test_what_breaks_at_once_has_its_status(
    reading: tuple[Bed, Reading], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forwarding, "HEAD_PAUSE", 5.0)
    bed, _ = reading

    async def fail(call: Call) -> None:
        call.accept()
        call.fail("instance_failed", breaks=call.head.breaks + 1)

    bed.relay.answer = fail
    response = await ask(bed)
    assert response.status == 502


async def test_what_the_engine_refuses_keeps_its_status(reading: tuple[Bed, Reading]) -> None:
    bed, _ = reading

    async def refuse(call: Call) -> None:
        await asyncio.sleep(0.5)
        await call.answer({"error": {"message": "too long", "code": 400}}, 400)

    bed.relay.answer = refuse
    response = await ask(bed)
    assert response.status == 400


async def test_a_client_that_leaves_while_the_prompt_is_read_cancels(reading: tuple[Bed, Reading]) -> None:
    bed, _ = reading
    response = await ask(bed)
    assert await response.content.readline() == WORKING
    response.close()
    await asyncio.wait_for(bed.relay.calls[0].cancelled.wait(), 20)
    await eventually(lambda: bed.metric("sluice_proxy_open_requests") == 0)


async def test_the_public_clients_pass_over_the_comments(reading: tuple[Bed, Reading]) -> None:
    bed, engine = reading
    asyncio.get_running_loop().call_later(1.0, engine.done.set)
    transport = httpx2.AsyncHTTPTransport(uds=bed.config.socket)
    async with httpx2.AsyncClient(transport=transport) as http:
        client = openai.AsyncOpenAI(api_key=bed.key, base_url="http://proxy/v1", http_client=http)
        stream = await client.chat.completions.create(
            model="smol", messages=[{"role": "user", "content": "hi"}], stream=True
        )
        chunks = [chunk async for chunk in stream]
        engine.done.clear()
        engine.events = (b'event: message_stop\ndata: {"type": "message_stop"}\n\n',)
        asyncio.get_running_loop().call_later(1.0, engine.done.set)
        other = anthropic.AsyncAnthropic(api_key=bed.key, base_url="http://proxy", http_client=http)
        events = await other.messages.create(
            model="smol", max_tokens=9, messages=[{"role": "user", "content": "hi"}], stream=True
        )
        kinds = [one.type async for one in events]
    assert [chunk.choices[0].delta.content for chunk in chunks] == ["Good"]
    assert kinds == ["message_stop"]
