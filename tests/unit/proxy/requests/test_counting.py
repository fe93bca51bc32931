"""The counted tokens of complete answers, of streams, and of streams whose clients left."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from sluice.contracts.paths import CAPABILITIES
from sluice.proxy.requests.context import CLIENT_LEFT
from tests.fakes.wire_relay import EVENTS, Call, FakeRelay, model
from tests.unit.proxy.conftest import CHAT, COMPLETIONS, Bed, chat, config, open_bed

PROMPT = 7
DONE = b"data: [DONE]\n\n"
EVERY_PATH = CAPABILITIES


def compact(document: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(document, separators=(",", ":")).encode() + b"\n\n"


def usage(output: int) -> dict[str, int]:
    return {"prompt_tokens": PROMPT, "total_tokens": PROMPT + output, "completion_tokens": output}


class Engine:
    """Streams like vLLM: `tokens` tokens, `bunch` in each chunk, with the usage that it is asked for.

    It waits before the chunk numbered `pause` until `go_on` is set.
    """

    def __init__(self) -> None:
        self.tokens = 12
        self.bunch = 1
        self.pause = -1
        self.go_on = asyncio.Event()

    async def __call__(self, call: Call) -> None:
        """Answer one request."""
        body = json.loads(call.body)
        options = body.get("stream_options") or {}
        each = bool(options.get("include_usage") and options.get("continuous_usage_stats"))
        call.start(content_type=EVENTS)
        for number in range(0, self.tokens, self.bunch):
            if number // self.bunch == self.pause:
                await self.go_on.wait()
            told = min(number + self.bunch, self.tokens)
            for index in range(body.get("n", 1)):
                await call.send(compact(self.chunk(call.head.path, index, usage(told) if each else None)))
        if options.get("include_usage"):
            everything = usage(self.tokens * body.get("n", 1))
            await call.send(
                compact({**self.chunk(call.head.path, 0, None), "choices": [], "usage": everything})
            )
        await call.send(DONE)
        call.end()

    @staticmethod
    def chunk(path: str, index: int, told: dict[str, int] | None) -> dict[str, Any]:
        """Return a chunk of one choice."""
        text = {"delta": {"content": "ab "}} if path == CHAT else {"text": "ab "}
        document = {"id": "c", "model": "smol", "choices": [{"index": index, **text, "finish_reason": None}]}
        return document if told is None else {**document, "usage": told}


@pytest.fixture
def engine() -> Engine:
    """The engine behind the fake relay."""
    return Engine()


@pytest_asyncio.fixture
async def counting(tmp_path: Path, engine: Engine) -> AsyncIterator[Bed]:
    """A proxy with one model for each kind of usage that engines can report."""
    relay = FakeRelay(engine)
    relay.models = [
        model(name, usage=name, capabilities=EVERY_PATH) for name in ("continuous", "final", "none")
    ]
    async with open_bed(config(tmp_path), relay) as bed:
        yield bed


def asks(name: str, **more: Any) -> dict[str, Any]:
    return chat(model=name, stream=True, **more)


async def read(bed: Bed, document: dict[str, Any], path: str = CHAT) -> bytes:
    """Return a complete stream."""
    async with bed.http.post(f"http://proxy{path}", json=document, headers=bed.headers()) as response:
        assert response.status == 200, await response.read()
        return await response.read()


async def leave(bed: Bed, document: dict[str, Any], chunks: int, path: str = CHAT) -> None:
    """Read this many chunks of a stream, and leave."""
    async with bed.http.post(f"http://proxy{path}", json=document, headers=bed.headers()) as response:
        seen = b""
        while seen.count(b"ab ") < chunks:
            seen += await response.content.readany()
        response.close()
    await asyncio.wait_for(bed.relay.calls[-1].cancelled.wait(), 5)


def figures(record: Any) -> tuple[int, int, bool]:
    return record.input_tokens, record.output_tokens, record.measured


# --- streams that end ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["continuous", "final"])
@pytest.mark.parametrize("size", [1, 200_000])
async def test_a_client_that_did_not_ask_is_counted_and_sees_no_difference(
    counting: Bed, engine: Engine, name: str, size: int
) -> None:
    document = asks(name, messages=[{"role": "user", "content": "?" * size}])
    sent = json.dumps(document).encode()
    seen = await read(counting, document)
    assert seen == compact(engine.chunk(CHAT, 0, None)) * engine.tokens + DONE
    call = counting.relay.calls[-1]
    options = json.loads(call.body)["stream_options"]
    assert options == {
        "include_usage": True,
        **({"continuous_usage_stats": True} if name == "continuous" else {}),
    }
    assert call.body.startswith(b'{"stream_options":{') and call.body.endswith(sent[1:])
    (record,) = await counting.settled()
    assert figures(record) == (PROMPT, engine.tokens, True)
    assert (record.bytes_in, record.bytes_out) == (len(sent), len(seen))


@pytest.mark.parametrize("name", ["continuous", "final"])
async def test_a_client_that_asked_sees_what_it_asked_for(counting: Bed, engine: Engine, name: str) -> None:
    seen = await read(counting, asks(name, stream_options={"include_usage": True}))
    last = {**engine.chunk(CHAT, 0, None), "choices": [], "usage": usage(engine.tokens)}
    assert seen == compact(engine.chunk(CHAT, 0, None)) * engine.tokens + compact(last) + DONE
    (record,) = await counting.settled()
    assert figures(record) == (PROMPT, engine.tokens, True)


async def test_a_client_that_asked_for_all_sees_all(counting: Bed, engine: Engine) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    seen = await read(counting, asks("continuous", stream_options=options))
    assert seen.count(b'"usage"') == engine.tokens + 1
    (record,) = await counting.settled()
    assert figures(record) == (PROMPT, engine.tokens, True)


async def test_an_engine_that_tells_nothing_is_asked_nothing_and_its_chunks_count(
    counting: Bed, engine: Engine
) -> None:
    document = asks("none", messages=[{"role": "user", "content": "?" * 400}])
    await read(counting, document)
    assert json.loads(counting.relay.calls[-1].body) == document
    (record,) = await counting.settled()
    assert figures(record) == (len(json.dumps(document)) // 4, engine.tokens, False)


async def test_several_answers_to_one_prompt_are_all_counted(counting: Bed, engine: Engine) -> None:
    seen = await read(counting, asks("continuous", n=3))
    assert seen.count(b"ab ") == 3 * engine.tokens and b"usage" not in seen
    (record,) = await counting.settled()
    assert figures(record) == (PROMPT, 3 * engine.tokens, True)


# --- streams that are left ----------------------------------------------------------------------------------


@pytest.mark.parametrize("left", [1, 5, 11])
@pytest.mark.parametrize(("path", "more"), [(CHAT, {}), (COMPLETIONS, {"prompt": "?"})])
async def test_a_stream_that_is_left_is_accounted_to_the_token(
    counting: Bed, engine: Engine, left: int, path: str, more: dict[str, Any]
) -> None:
    engine.pause = left
    await leave(counting, asks("continuous", **more), left, path)
    (record,) = await counting.settled()
    assert (record.status, figures(record)) == (CLIENT_LEFT, (PROMPT, left, True))


async def test_chunks_of_several_tokens_are_accounted_to_the_token(counting: Bed, engine: Engine) -> None:
    engine.tokens, engine.bunch, engine.pause = 60, 7, 4
    await leave(counting, asks("continuous"), 4)
    (record,) = await counting.settled()
    assert figures(record) == (PROMPT, 28, True)


async def test_several_answers_that_are_left_are_accounted_to_the_token(
    counting: Bed, engine: Engine
) -> None:
    engine.pause = 4
    await leave(counting, asks("continuous", n=3), 12)
    (record,) = await counting.settled()
    assert figures(record) == (PROMPT, 12, True)


@pytest.mark.parametrize("name", ["final", "none"])
async def test_elsewhere_a_stream_that_is_left_is_estimated_by_its_chunks(
    counting: Bed, engine: Engine, name: str
) -> None:
    engine.pause = 5
    document = asks(name)
    await leave(counting, document, 5)
    (record,) = await counting.settled()
    assert figures(record) == (len(json.dumps(document)) // 4, 5, False)


async def test_a_stream_that_breaks_is_accounted_to_the_token(counting: Bed, engine: Engine) -> None:
    async def breaking(call: Call) -> None:
        call.start(content_type=EVENTS)
        for number in range(3):
            await call.send(compact(engine.chunk(CHAT, 0, usage(number + 1))))
        await call.send(b'data: {"choices":[{"index":0,"delta":{"content":"cut')
        call.fail("instance_failed")

    counting.relay.answer = breaking
    seen = await read(counting, asks("continuous"))
    whole, _, told = seen.partition(b'data: {"error"')
    assert whole == compact(engine.chunk(CHAT, 0, None)) * 3
    assert json.loads(b'{"error"' + told)["error"]["code"] == "instance_failed"
    (record,) = await counting.settled()
    assert (record.code, figures(record)) == ("instance_failed", (PROMPT, 3, True))


# --- the other paths ----------------------------------------------------------------------------------------


async def test_a_record_says_what_came_out_of_the_cache_and_which_project_it_was_for(counting: Bed) -> None:
    counted = {**usage(3), "prompt_tokens_details": {"cached_tokens": 6}}
    counting.relay.answer = lambda call: call.answer({"object": "chat.completion", "usage": counted})
    counting.authority.principals = {
        key: replace(one, project="climate") for key, one in counting.authority.principals.items()
    }
    await counting.post(chat(model="continuous"))
    (record,) = await counting.settled()
    assert (*figures(record), record.cached_tokens) == (PROMPT, 3, True, 6)
    assert record.project == "climate"


RESPONSES = {
    "input_tokens": 9,
    "input_tokens_details": {"cached_tokens": 4},
    "output_tokens": 5,
    "output_tokens_details": {"reasoning_tokens": 1},
    "total_tokens": 14,
}
MESSAGES = {"input_tokens": 5, "cache_read_input_tokens": 4, "output_tokens": 6}


@pytest.mark.parametrize(
    ("path", "asked", "answer", "counted"),
    [
        ("/v1/responses", {"input": "?"}, {"output": [], "usage": RESPONSES, "user": None}, (9, 5, 4)),
        (
            "/v1/embeddings",
            {"input": "?"},
            {"data": [], "usage": {"prompt_tokens": 8, "total_tokens": 8}},
            (8, 0, 0),
        ),
        (
            "/v1/rerank",
            {"query": "?", "documents": ["a"]},
            {
                "usage": {"prompt_tokens": 3, "total_tokens": 3},
                "results": [{"document": {"text": "x" * 9000}}],
            },
            (3, 0, 0),
        ),
        (
            "/v1/rerank",
            {"query": "?", "documents": ["a"]},
            {"usage": {"total_tokens": 4}, "results": []},
            (4, 0, 0),
        ),
        (
            "/v1/messages",
            {"max_tokens": 9, "messages": [{"role": "user", "content": "?"}]},
            {"type": "message", "content": [], "usage": MESSAGES},
            (9, 6, 4),
        ),
    ],
)
async def test_each_path_tells_tokens_by_its_own_names(
    counting: Bed, path: str, asked: dict[str, Any], answer: dict[str, Any], counted: tuple[int, int, int]
) -> None:
    counting.relay.answer = lambda call: call.answer(answer)
    status, _, _ = await counting.post({"model": "continuous", **asked}, path)
    assert status == 200
    (record,) = await counting.settled()
    assert (record.input_tokens, record.output_tokens, record.cached_tokens, record.measured) == (
        *counted,
        True,
    )


def typed(document: dict[str, Any]) -> bytes:
    return f"event: {document['type']}\ndata: {json.dumps(document)}\n\n".encode()


async def streamed(bed: Bed, path: str, asked: dict[str, Any], events: list[bytes], left: bool) -> Any:
    """Ask for a stream of these events, leave after them if asked to, and return its record."""

    async def answer(call: Call) -> None:
        call.start(content_type=EVENTS)
        for one in events:
            await call.send(one)
        if left:
            await call.cancelled.wait()
        call.end()

    bed.relay.answer = answer
    document = {"model": "continuous", "stream": True, **asked}
    async with bed.http.post(f"http://proxy{path}", json=document, headers=bed.headers()) as response:
        seen = b""
        while len(seen) < len(b"".join(events)):
            seen += await response.content.readany()
        assert seen == b"".join(events)
        if left:
            response.close()
            await asyncio.wait_for(bed.relay.calls[-1].cancelled.wait(), 5)
    assert json.loads(bed.relay.calls[-1].body) == document
    (record,) = await bed.settled()
    return record


@pytest.mark.parametrize(
    ("count", "counted"), [(5, (9, 5, True)), (3, (PROMPT, 2, False)), (1, (PROMPT, 0, False))]
)
async def test_a_stream_of_messages_tells_its_input_first_and_its_output_last(
    counting: Bed, count: int, counted: tuple[int, int, bool]
) -> None:
    begun = {"type": "message_start", "message": {"usage": {"input_tokens": PROMPT, "output_tokens": 0}}}
    delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "ab"}}
    ended = {"type": "message_delta", "delta": {}, "usage": {**MESSAGES, "output_tokens": 5}}
    events = [typed(one) for one in (begun, delta, delta, ended, {"type": "message_stop"})]
    asked = {"max_tokens": 9, "messages": [{"role": "user", "content": "?"}]}
    record = await streamed(counting, "/v1/messages", asked, events[:count], left=count < 5)
    assert figures(record) == counted


@pytest.mark.parametrize(("count", "output", "measured"), [(4, 5, True), (3, 2, False)])
async def test_a_stream_of_a_response_tells_its_tokens_when_it_is_completed(
    counting: Bed, count: int, output: int, measured: bool
) -> None:
    # The answer repeats the client's tools: a "usage" in them is not the engine's.
    tools = [{"name": "t", "parameters": {"usage": {"input_tokens": 0, "output_tokens": 0}}}]
    begun = {"type": "response.created", "response": {"tools": tools, "usage": None}}
    delta = {"type": "response.output_text.delta", "delta": "ab"}
    ended = {"type": "response.completed", "response": {"tools": tools, "usage": RESPONSES, "user": None}}
    events = [typed(one) for one in (begun, delta, delta, ended)]
    record = await streamed(counting, "/v1/responses", {"input": "?"}, events[:count], left=count < 4)
    assert (record.output_tokens, record.measured) == (output, measured)
