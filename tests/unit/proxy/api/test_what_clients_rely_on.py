"""What old and new public clients rely on: retries, comment lines, base URLs, keys, headers."""

from __future__ import annotations

import asyncio
import io
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import openai
import pytest

from sluice.contracts.paths import CAPABILITIES, PATHS
from sluice.errors import SluiceError
from sluice.proxy.accounts.keys import presented_key
from sluice.proxy.api.answers import error, error_event
from sluice.proxy.http.server import MOST_FIELDS
from sluice.proxy.requests.context import RequestContext
from sluice.proxy.requests.pump import without_gaps
from tests.clients import go_events
from tests.fakes.authority import make_key
from tests.fakes.wire_relay import EVENTS, Call, FakeRelay, model
from tests.unit.proxy.api.test_paths import BODIES, RESPONSES, known
from tests.unit.proxy.conftest import CHAT, Bed, answer_well, chat, config, event, eventually, open_bed
from tests.unit.proxy.http.test_bad_input import ask, error_of, post
from tests.unit.proxy.requests.test_limiter import limited

MESSAGES: list[Any] = [{"role": "user", "content": "Hello?"}]


@asynccontextmanager
async def clients(bed: Bed) -> AsyncIterator[tuple[openai.AsyncOpenAI, anthropic.AsyncAnthropic]]:
    """The public clients with their default retries."""
    transport = httpx2.AsyncHTTPTransport(uds=bed.config.socket)
    async with httpx2.AsyncClient(transport=transport) as http:
        yield (
            openai.AsyncOpenAI(api_key=bed.key, base_url="http://proxy/v1", http_client=http),
            anthropic.AsyncAnthropic(api_key=bed.key, base_url="http://proxy", http_client=http),
        )


# --- when to retry ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "retry_after", "told", "retried"),
    [
        ("day_limited", 36_000.0, "36000", "false"),
        ("no_instance", 60.1, "61", "false"),
        ("no_instance", 600.0, "600", "false"),
        ("overloaded", 60.0, "60", None),
        ("requests_limited", 0.2, "1", None),
        # The request alone is more than the limit: it will never fit.
        ("tokens_limited", None, None, "false"),
        ("internal_error", None, None, None),
        ("invalid_request", None, None, None),
    ],
)
def test_clients_are_told_not_to_wait_for_more_than_a_minute(
    code: str, retry_after: float | None, told: str | None, retried: str | None
) -> None:
    answer = error(RequestContext("req-0"), SluiceError(code, "No.", retry_after=retry_after))
    assert (answer.headers.get("Retry-After"), answer.headers.get("x-should-retry")) == (told, retried)


async def test_the_public_clients_give_up_at_once_where_they_would_wait_for_long(tmp_path: Path) -> None:
    relay = FakeRelay(answer_well)
    relay.models = [
        model(
            "smol",
            status="starting",
            ready=0,
            starting=1,
            capabilities=CAPABILITIES,
            expected_ready=time.time() + 3600.0,
        )
    ]
    async with open_bed(config(tmp_path), relay) as bed, clients(bed) as (gpt, claude), asyncio.timeout(20):
        with pytest.raises(openai.InternalServerError) as by_openai:
            await gpt.chat.completions.create(model="smol", messages=MESSAGES)
        with pytest.raises(anthropic.InternalServerError) as by_anthropic:
            await claude.messages.create(model="smol", messages=MESSAGES, max_tokens=10)
        for refused in (by_openai.value, by_anthropic.value):
            assert int(refused.response.headers["retry-after"]) > 60
            assert refused.response.headers["x-should-retry"] == "false"
        assert bed.metric("sluice_proxy_refused_total", model="smol", reason="too_late") == 2


# --- comment lines --------------------------------------------------------------------------------------


async def test_a_client_for_which_each_blank_line_is_an_event_reads_a_stream_that_waited(
    tmp_path: Path,
) -> None:
    relay = FakeRelay(answer_well)
    relay.models = [model("smol", status="starting", ready=0, starting=1)]
    async with (
        open_bed(replace(config(tmp_path), queue_wait=30.0), relay) as bed,
        bed.http.post(f"http://proxy{CHAT}", json=chat(stream=True), headers=bed.headers()) as response,
    ):
        begun = await response.content.readany()
        assert begun.startswith(b": queued position=1")
        relay.models = [model("smol")]
        got = begun + await response.read()
    words = [chunk["choices"][0]["delta"]["content"] for chunk in go_events.chunks(got)]
    assert words == ["Good ", "day", "!"]


def test_the_rebuilt_client_breaks_on_a_comment_with_a_blank_line_behind_it() -> None:
    with pytest.raises(go_events.BrokenStream):
        list(go_events.chunks(b": queued position=1\n\n" + event("Good ")))


# As llama.cpp and vLLM write them, alone and between events.
PINGS = (b":\n\n", b": keep-alive\n\n", b":\n:\n\n")


@pytest.mark.parametrize("ping", PINGS)
async def test_an_engines_own_comments_end_no_event(bed: Bed, ping: bytes) -> None:
    async def answer(call: Call) -> None:
        call.start(content_type=EVENTS)
        for part in (ping, event("Good "), ping, ping, event("day") + ping + event("!"), b"data: [DONE]\n\n"):
            await call.send(part)
            await asyncio.sleep(0)
        call.end()

    bed.relay.answer = answer
    async with bed.http.post(
        f"http://proxy{CHAT}", json=chat(stream=True), headers=bed.headers()
    ) as response:
        got = await response.read()
    words = [chunk["choices"][0]["delta"]["content"] for chunk in go_events.chunks(got)]
    assert words == ["Good ", "day", "!"]
    assert got.count(b":\n") + got.count(b": keep-alive\n") >= 4, (
        "they must still show that the engine is alive"
    )


@pytest.mark.parametrize(
    ("data", "before", "told"),
    [
        (b":\n\ndata: {}\n\n", b"\n\n", b":\ndata: {}\n\n"),
        (b"data: {}\n\n: a\n: b\n\ndata: {}\n\n", b"\n\n", b"data: {}\n\n: a\n: b\ndata: {}\n\n"),
        # A line that a chunk has cut, and a comment within an event: its blank line ends that event.
        (b':"x"}\n\n', b'{"a"', b':"x"}\n\n'),
        (b":\n\n", b"data: {}\n", b":\n\n"),
        (b"data: {}\n:\n\n", b"\n\n", b"data: {}\n:\n\n"),
    ],
)
def test_only_the_blank_line_behind_a_comment_of_its_own_is_left_out(
    data: bytes, before: bytes, told: bytes
) -> None:
    assert without_gaps(data, before) == told


@pytest.mark.parametrize("before", [b"data: {}\n\n", b": queued position=1\n", b""])
def test_an_error_event_has_no_blank_line_before_it(before: bytes) -> None:
    """Only complete events and comments pass: some clients count blank lines."""
    told = error_event(RequestContext("req-0"), SluiceError("instance_failed", "It broke off."), before)
    assert told.startswith(b"data: {")
    assert told.endswith(b"}}\n\n")


# --- base URLs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [path.removeprefix("/v1") for path in PATHS if path.startswith("/v1/")])
async def test_a_base_url_without_v1_is_told_to_add_it(bed: Bed, path: str) -> None:
    status, _, answer = await bed.post(BODIES[f"/v1{path}"], path)
    assert (status, answer["error"]["code"]) == (404, "path_not_found")
    assert "Add /v1" in answer["error"]["message"]
    assert ("type" in answer) == path.startswith("/messages")


@pytest.mark.parametrize("path", ["/models", "/models/smol", "/v2/models", "/files"])
async def test_a_base_url_without_v1_is_told_so_when_it_asks_for_models(bed: Bed, path: str) -> None:
    status, _, answer = await bed.get(path)
    assert (status, answer["error"]["code"]) == (404, "path_not_found")
    assert "Add /v1" in answer["error"]["message"]


@pytest.mark.parametrize("path", [path for path in PATHS if path.startswith("/v1/")])
async def test_v1_twice_is_told_to_leave_it_out(bed: Bed, path: str) -> None:
    status, _, answer = await bed.post(BODIES[path], f"/v1{path}")
    assert (status, answer["error"]["code"]) == (404, "path_not_found")
    assert "twice" in answer["error"]["message"]
    assert ("type" in answer) == path.startswith("/v1/messages")


@pytest.mark.parametrize(
    "name", ["org%2Fmodel", "org/model", "%2e%2e%2fadmin", "a%00b", "%", "%zz", "%C3%A9"]
)
async def test_a_models_name_may_have_any_signs_and_is_unknown_then(bed: Bed, name: str) -> None:
    head = f"GET /v1/models/{name} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer KEY\r\n\r\n"
    statuses, got = await ask(bed, head.encode())
    assert statuses == [b"404"], got
    assert error_of(got)["code"] == "model_not_found"


async def test_a_models_name_may_be_escaped(bed: Bed) -> None:
    head = b"GET /v1/models/%73mol HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer KEY\r\n\r\n"
    statuses, got = await ask(bed, head)
    assert statuses == [b"200"], got


# --- keys -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "scheme", ["Bearer", "bearer", "BEARER", "bEaReR", "Bearer  ", "Bearer\t", " Bearer"]
)
async def test_the_name_of_the_scheme_is_read_in_any_case(bed: Bed, scheme: str) -> None:
    key = make_key()
    assert presented_key(f"{scheme} {key}") == key
    assert presented_key(f"{scheme} {key} \t") == key
    statuses, got = await ask(
        bed, f"GET /v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: {scheme} KEY\r\n\r\n".encode()
    )
    assert statuses == [b"200"], got
    assert not bed.metric("sluice_proxy_authority_total", result="malformed")


@pytest.mark.parametrize("other", ["Bearer", "Bearerr {}", "Basic {}", "Bearer{}", "Bearer {} x", "Token {}"])
def test_another_scheme_holds_no_key(other: str) -> None:
    assert presented_key(other.format(make_key())) is None


async def test_the_key_of_anthropics_header_counts_on_every_path(bed: Bed) -> None:
    bed.relay.models = [model("smol", capabilities=CAPABILITIES)]
    await known(bed)
    shown = {"x-api-key": bed.key}
    for path in ("/v1/models", "/v1/models/smol"):
        async with bed.http.get(f"http://proxy{path}", headers=shown) as response:
            assert response.status == 200
    for path, body in BODIES.items():
        async with bed.http.post(f"http://proxy{path}", json=body, headers=shown) as response:
            assert response.status == 200
    wrong = {**shown, "Authorization": "Bearer sk-sluice-wrong"}
    async with bed.http.get("http://proxy/v1/models", headers=wrong) as response:
        assert response.status == 401


async def test_anthropics_client_lists_models_with_its_own_header(bed: Bed) -> None:
    async with clients(bed) as (_, claude):
        assert [one.id async for one in claude.models.list()] == ["smol"]


# --- headers --------------------------------------------------------------------------------------------

BODY = json.dumps(chat()).encode()


def with_fields(count: int) -> bytes:
    """Return a request that reaches the proxy through nginx with this many header fields of the client."""
    added = b"X-Request-Id: req-%032d\r\nX-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: https\r\n" % 7
    length = b"Content-Length: %d\r\n" % len(BODY)
    plain = post(added + length, BODY)
    own = plain.partition(b"\r\n\r\n")[0].count(b"\r\n") - added.count(b"\r\n")
    more = b"".join(b"X-%d: y\r\n" % number for number in range(count - own))
    return post(added + more + length, BODY)


async def test_a_hundred_header_fields_are_taken_and_one_more_is_431(bed: Bed) -> None:
    statuses, got = await ask(bed, with_fields(MOST_FIELDS))
    assert statuses == [b"200"], got
    statuses, got = await ask(bed, with_fields(MOST_FIELDS + 1))
    assert statuses == [b"431"]
    assert error_of(got)["code"] == "headers_too_large"


# --- what engines refuse --------------------------------------------------------------------------------

TOO_LONG = [
    # vLLM 0.32, as its renderer, its engine, its responses and its older releases say it; llama.cpp; SGLang.
    "This model's maximum context length is 2048 tokens. However, your prompt contains at least 2049 input "
    "tokens, which exceeds this limit even without any output tokens. Please reduce the length of the input "
    "prompt. (parameter=input_tokens, value=2049)",
    "The decoder prompt (length 3000) is longer than the maximum model length of 2048. Make sure that "
    "`max_model_len` is no smaller than the number of text tokens.",
    "The engine prompt length 2048 exceeds the max_model_len 2048. Please reduce prompt.",
    "This model's maximum context length is 2048 tokens. However, you requested 2100 tokens (100 in the "
    "messages, 2000 in the completion). Please reduce the length of the messages or completion.",
    "request (9412 tokens) exceeds the available context size (8192 tokens), try increasing it",
    "The input (3000 tokens) is longer than the model's context length (2048 tokens).",
]


@pytest.mark.parametrize("message", TOO_LONG)
@pytest.mark.parametrize("path", PATHS)
async def test_a_prompt_that_is_too_long_has_openais_code_and_the_engines_words(
    bed: Bed, path: str, message: str
) -> None:
    async def refuse(call: Call) -> None:
        await call.answer({"error": {"message": message, "code": 400, "param": "input_tokens"}}, status=400)

    bed.relay.answer = refuse
    bed.relay.models = [model("smol", capabilities=CAPABILITIES)]
    await known(bed)
    status, _, answer = await bed.post(BODIES[path], path)
    told = answer["error"]
    assert (status, told["code"], told["type"]) == (400, "context_length_exceeded", "invalid_request_error")
    assert told["message"] == message
    assert told["param"] in BODIES[path]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"error": {"message": "`top_k` must be 1 or more."}}, "`top_k` must be 1 or more."),
        ({"object": "error", "message": "`top_k` must be 1 or more."}, "`top_k` must be 1 or more."),
        ({"detail": "Not Found"}, "Not Found"),
        ({"error": "no"}, "no"),
        ({"error": {"message": 5}}, "The engine refused this request."),
        ([], "The engine refused this request."),
    ],
)
async def test_an_engines_other_refusals_keep_their_words(bed: Bed, document: Any, message: str) -> None:
    async def refuse(call: Call) -> None:
        await call.answer(document, status=422)

    bed.relay.answer = refuse
    status, _, answer = await bed.post(chat())
    assert (status, answer["error"]["code"]) == (422, "invalid_request")
    assert answer["error"]["message"] == message


async def test_a_stream_that_waited_tells_a_prompt_that_is_too_long_by_the_same_code(tmp_path: Path) -> None:
    async def refuse(call: Call) -> None:
        await call.answer({"error": {"message": TOO_LONG[0]}}, status=400)

    relay = FakeRelay(refuse)
    relay.models = [model("smol", status="starting", ready=0, starting=1, capabilities=CAPABILITIES)]
    async with open_bed(replace(config(tmp_path), queue_wait=30.0), relay) as bed:
        await eventually(lambda: bed.service.fleet.clusters[0].models["smol"].capabilities == CAPABILITIES)
        async with bed.http.post(
            f"http://proxy{RESPONSES}", json={**BODIES[RESPONSES], "stream": True}, headers=bed.headers()
        ) as response:
            begun = await response.content.readany()
            relay.models = [model("smol", capabilities=CAPABILITIES)]
            got = begun + await response.read()
    assert b'"code":"context_length_exceeded"' in got
    assert response.content_type == EVENTS


@pytest.mark.parametrize(
    ("path", "prompt", "longest"),
    [
        ("/v1/completions", [1] * 3000, 3000),
        ("/v1/completions", [[1], [1] * 2049], 2049),
        ("/v1/embeddings", [[1] * 2049], 2049),
        ("/v1/completions", [1] * 2048, 0),
        ("/v1/completions", ["x"] * 100, 0),
    ],
)
async def test_a_prompt_of_too_many_tokens_goes_nowhere(
    bed: Bed, path: str, prompt: list[Any], longest: int
) -> None:
    bed.relay.models = [model("smol", capabilities=CAPABILITIES, context_length=2048, concurrency=3000)]
    await eventually(lambda: bed.service.fleet.clusters[0].models["smol"].concurrency == 3000)
    name = "prompt" if path.endswith("completions") else "input"
    status, _, answer = await bed.post({"model": "smol", name: prompt}, path)
    if longest:
        told = answer["error"]
        assert (status, told["code"], told["param"]) == (400, "context_length_exceeded", name)
        assert f"has {longest}." in told["message"]
    assert len(bed.relay.calls) == (0 if longest else 1)
    cut = {"model": "smol", name: prompt, "truncate_prompt_tokens": 100}
    assert (await bed.post(cut, path))[0] == 200, "a prompt that the engine will cut may be longer"


# --- counting -------------------------------------------------------------------------------------------

ANSWERS: dict[str, dict[str, Any]] = {
    "/v1/messages/count_tokens": {"input_tokens": 9},
    "/v1/responses/input_tokens": {"object": "response.input_tokens", "input_tokens": 9},
    "/tokenize": {"count": 2, "max_model_len": 2048, "tokens": [1, 2], "token_strs": None},
}


@asynccontextmanager
async def counting(tmp_path: Path, context_length: int = 2048) -> AsyncIterator[Bed]:
    """A proxy before a model that counts."""

    async def count(call: Call) -> None:
        await call.answer(ANSWERS[call.head.path])

    relay = FakeRelay(count)
    relay.models = [model("smol", capabilities=CAPABILITIES, context_length=context_length)]
    async with open_bed(replace(config(tmp_path), max_body=4 << 20), relay) as bed:
        yield bed


async def test_the_public_clients_count_tokens(tmp_path: Path) -> None:
    async with counting(tmp_path) as bed, clients(bed) as (gpt, claude):
        told = await claude.messages.count_tokens(model="smol", messages=MESSAGES)
        assert told.input_tokens == 9
        counted = await gpt.responses.input_tokens.count(model="smol", input="Hello?")
        assert counted.input_tokens == 9
        for path in ("/tokenize", "/v1/tokenize"):
            status, _, answer = await bed.post({"model": "smol", "messages": MESSAGES}, path)
            assert (status, answer) == (200, ANSWERS["/tokenize"])
        assert [call.head.path for call in bed.relay.calls] == [*ANSWERS, "/tokenize"]


async def test_what_is_counted_is_not_charged_and_counts_as_a_request(tmp_path: Path) -> None:
    async with counting(tmp_path) as bed:
        limited(bed, tokens_per_minute=1, requests_per_minute=len(ANSWERS))
        for path in ANSWERS:
            assert (await bed.post(BODIES[path], path))[0] == 200
        status, _, answer = await bed.post(BODIES["/tokenize"], "/tokenize")
        assert (status, answer["error"]["code"]) == (429, "requests_limited")
        records = await bed.settled()
        assert [(one.path, one.input_tokens, one.output_tokens) for one in records] == [
            (path, 0, 0) for path in ANSWERS
        ]


@pytest.mark.parametrize("path", ANSWERS)
@pytest.mark.parametrize(("context_length", "most"), [(2048, 1 << 20), (200_000, 1_600_000)])
async def test_what_is_counted_is_bounded(tmp_path: Path, path: str, context_length: int, most: int) -> None:
    async with counting(tmp_path, context_length) as bed:
        empty = json.dumps({**BODIES[path], "metadata": {"x": ""}}).encode()
        for size, status in ((most, 200), (most + 1, 413)):
            body = empty.replace(b'"x": ""', b'"x": "' + b"y" * (size - len(empty)) + b'"')
            assert len(body) == size
            async with bed.http.post(
                f"http://proxy{path}", data=io.BytesIO(body), headers=bed.headers()
            ) as response:
                answer = await response.json()
                assert response.status == status, answer
        assert answer["error"]["code"] == "body_too_large"


# --- models ---------------------------------------------------------------------------------------------


async def test_a_model_tells_its_longest_context_by_vllms_name_too(bed: Bed) -> None:
    _, _, one = await bed.get("/v1/models/smol")
    assert one["max_model_len"] == one["context_length"] > 0


async def test_a_model_tells_when_its_cluster_first_had_it(tmp_path: Path) -> None:
    relay = FakeRelay(answer_well)
    relay.models = [model("smol", created=1_794_000_000)]
    async with open_bed(config(tmp_path), relay) as bed:
        _, _, one = await bed.get("/v1/models/smol")
        _, _, listed = await bed.get("/v1/models")
    assert one["created"] == listed["data"][0]["created"] == 1_794_000_000
