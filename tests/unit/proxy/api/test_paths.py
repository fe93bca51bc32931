"""The paths other than chat and completions: their fields, answers and error formats."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import openai
import pytest

from sluice.contracts.paths import CAPABILITIES, PATHS
from sluice.contracts.values import REQUEST_ID
from sluice.errors import SluiceError
from sluice.proxy.http import dialect
from tests.fakes import shapes
from tests.fakes.wire_relay import EVENTS, Call, model
from tests.unit.proxy.conftest import CHAT, Bed, chat, eventually
from tests.unit.proxy.http.test_bad_input import ODD_CHUNKS, SMUGGLING, ask
from tests.unit.proxy.http.test_bad_input import post as request

RESPONSES, EMBEDDINGS, RERANK, MESSAGES = "/v1/responses", "/v1/embeddings", "/v1/rerank", "/v1/messages"
CHUNKED_BODIES = [request(b"Transfer-Encoding: chunked\r\n", chunks) for chunks in ODD_CHUNKS.values()]
COUNT_TOKENS, INPUT_TOKENS, TOKENIZE = "/v1/messages/count_tokens", "/v1/responses/input_tokens", "/tokenize"
USER = [{"role": "user", "content": "Hello?"}]
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": chat(),
    "/v1/completions": {"model": "smol", "prompt": "Hello?"},
    RESPONSES: {"model": "smol", "input": "Hello?"},
    EMBEDDINGS: {"model": "smol", "input": ["Hello?", "Good day!"]},
    RERANK: {"model": "smol", "query": "greeting", "documents": ["Hello?", "Stop!"]},
    MESSAGES: {"model": "smol", "messages": USER, "max_tokens": 5},
    COUNT_TOKENS: {"model": "smol", "messages": USER},
    INPUT_TOKENS: {"model": "smol", "input": "Hello?"},
    TOKENIZE: {"model": "smol", "prompt": "Hello?"},
}
NEW = (RESPONSES, EMBEDDINGS, RERANK, MESSAGES, COUNT_TOKENS, INPUT_TOKENS, TOKENIZE)


async def answer_as_an_engine(call: Call) -> None:
    """Answer on the paths of this module in vLLM's formats."""
    body = json.loads(call.body)
    asked = shapes.Question(body, ["Good ", "day"], "1")
    if not body.get("stream"):
        await call.answer(shapes.whole(call.head.path, asked))
        return
    call.start(content_type=EVENTS)
    for event in shapes.events(call.head.path, asked) or ():
        await call.send(event)
    call.end()


async def break_off(call: Call) -> None:
    """Begin a stream and fail in the middle."""
    asked = shapes.Question(json.loads(call.body), ["Good ", "day"], "1")
    call.start(content_type=EVENTS)
    for event, _ in zip(shapes.events(call.head.path, asked) or (), range(4)):
        await call.send(event)
    call.fail("instance_failed")


@pytest.fixture
def answer() -> Any:
    """What the relay does."""
    return answer_as_an_engine


@pytest.fixture
def every(bed: Bed) -> Bed:
    """The proxy, with a model that serves every path."""
    bed.relay.models = [model("smol", capabilities=CAPABILITIES)]
    return bed


async def known(bed: Bed) -> Bed:
    """Wait until the proxy knows what the model serves."""
    served = bed.relay.models[0].capabilities
    await eventually(lambda: bed.service.fleet.clusters[0].models["smol"].capabilities == served)
    return bed


async def stream(bed: Bed, path: str, **changes: Any) -> bytes:
    """Ask for a stream; return all of it."""
    async with bed.http.post(
        f"http://proxy{path}", json={**BODIES[path], "stream": True, **changes}, headers=bed.headers()
    ) as response:
        assert (response.status, response.headers["Content-Type"]) == (200, EVENTS)
        return await response.read()


def last_event(got: bytes) -> tuple[str, dict[str, Any]]:
    """Return name and data of the last event of a stream."""
    lines = got.rstrip(b"\n").split(b"\n\n")[-1].decode().split("\n")
    fields = dict(line.split(": ", 1) for line in lines)
    return fields.get("event", ""), json.loads(fields["data"])


def claude(bed: Bed, key: str = "") -> anthropic.AsyncAnthropic:
    """Return Anthropic's own client."""
    transport = httpx2.AsyncHTTPTransport(uds=bed.config.socket)
    return anthropic.AsyncAnthropic(
        api_key=key or bed.key,
        base_url="http://proxy",
        max_retries=0,
        http_client=httpx2.AsyncClient(transport=transport),
    )


def gpt(bed: Bed) -> openai.AsyncOpenAI:
    """Return OpenAI's own client."""
    transport = httpx2.AsyncHTTPTransport(uds=bed.config.socket)
    return openai.AsyncOpenAI(
        api_key=bed.key,
        base_url="http://proxy/v1",
        max_retries=0,
        http_client=httpx2.AsyncClient(transport=transport),
    )


# --- every path -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", NEW)
async def test_a_path_answers_with_the_engines_document(every: Bed, path: str) -> None:
    await known(every)
    status, _, answer = await every.post(BODIES[path], path)
    asked = shapes.Question(BODIES[path], ["Good ", "day"], "1")
    assert (status, answer) == (200, shapes.whole(path, asked))
    call = every.relay.calls[0]
    assert (call.head.path, json.loads(call.body)) == (path, BODIES[path])
    record = (await every.settled())[0]
    assert (record.path, record.status) == (path, 200)


@pytest.mark.parametrize("path", [RESPONSES, MESSAGES])
async def test_a_path_streams_the_engines_events(every: Bed, path: str) -> None:
    await known(every)
    got = await stream(every, path)
    asked = shapes.Question({**BODIES[path], "stream": True}, ["Good ", "day"], "1")
    assert got == b"".join(shapes.events(path, asked) or ())


@pytest.mark.parametrize("path", sorted(PATHS))
async def test_a_path_that_the_model_does_not_serve_says_which_it_serves(bed: Bed, path: str) -> None:
    others = tuple(one for one in CAPABILITIES if one != PATHS[path])
    bed.relay.models = [model("smol", capabilities=others)]
    await known(bed)
    status, _, answer = await bed.post(BODIES[path], path)
    assert (status, answer["error"]["code"], answer["error"]["param"]) == (400, "capability_missing", "model")
    served = answer["error"]["message"].rpartition("it serves ")[2].rstrip(".").split(", ")
    assert served == [one for one in PATHS if one != path]
    assert not bed.relay.calls


@pytest.mark.parametrize("path", [EMBEDDINGS, RERANK])
async def test_what_has_no_conversation_goes_to_any_instance(every: Bed, path: str) -> None:
    await known(every)
    await every.post(BODIES[path], path)
    assert every.relay.calls[0].head.affinity == ""


async def test_the_turns_of_a_conversation_have_the_same_affinity(every: Bed) -> None:
    await known(every)
    later = [*USER, {"role": "assistant", "content": "Yes"}, {"role": "user", "content": "Two?"}]
    for path, name in ((RESPONSES, "input"), (MESSAGES, "messages")):
        for turns in (USER, later):
            await every.post({**BODIES[path], name: turns}, path)
    affinities = [call.head.affinity for call in every.relay.calls]
    assert affinities[0] == affinities[1]
    assert affinities[2] == affinities[3]
    assert len(affinities[0]) == 64


async def test_a_wrong_field_and_media_by_address_never_reach_a_cluster(every: Bed) -> None:
    for change, code, param in (
        ({"store": True}, "invalid_request", "store"),
        ({"input": [{"image_url": "http://x/"}]}, "media_url_refused", "input[].image_url"),
        ({"input": [{"type": "x", "image_url": "http://x/"}]}, "media_url_refused", "input[].image_url"),
    ):
        status, _, answer = await every.post({**BODIES[RESPONSES], **change}, RESPONSES)
        assert (status, answer["error"]["code"], answer["error"]["param"]) == (400, code, param)
    assert not every.relay.calls


@pytest.mark.parametrize("path", NEW)
async def test_a_large_body_reaches_the_engine(every: Bed, path: str) -> None:
    await known(every)
    body = {**BODIES[path], "metadata": {"long": "x" * 100_000}}
    status, _, _ = await every.post(body, path)
    assert (status, json.loads(every.relay.calls[0].body)) == (200, body)


@pytest.mark.parametrize("path", NEW)
async def test_smuggling_is_refused_on_each_path(bed: Bed, path: str) -> None:
    tries = [raw.replace(CHAT.encode(), path.encode()) for raw in (*SMUGGLING.values(), *CHUNKED_BODIES)]
    answers = await asyncio.gather(*(ask(bed, raw) for raw in tries))
    assert [statuses for statuses, _ in answers] == [[b"400"]] * len(tries)
    assert not bed.relay.calls
    assert (await bed.post(chat()))[0] == 200


async def test_an_answer_that_the_cluster_finds_too_large_has_a_code_of_its_own(every: Bed) -> None:
    await known(every)

    async def grow(call: Call) -> None:
        if json.loads(call.body).get("stream"):
            call.start(content_type=EVENTS)
            await call.send(b'event: x\ndata: {"sequence_number": 7}\n\n')
        call.fail("answer_too_large")

    every.relay.answer = grow
    for path in (RESPONSES, MESSAGES):
        status, _, answer = await every.post(BODIES[path], path)
        assert (status, answer["error"]["code"]) == (502, "answer_too_large")
        name, told = last_event(await stream(every, path))
        assert (name, told["error"]["code"]) == ("error", "answer_too_large")
    assert {record.code for record in await every.settled()} == {"answer_too_large"}


# --- the Responses API ----------------------------------------------------------------------------------


async def test_what_says_that_nothing_is_to_be_stored_goes_through(every: Bed) -> None:
    await known(every)
    said = {"store": False, "background": False, "previous_response_id": None, "conversation": None}
    status, _, _ = await every.post({**BODIES[RESPONSES], **said}, RESPONSES)
    assert status == 200


async def test_openais_client_streams_responses(every: Bed) -> None:
    await known(every)
    async with gpt(every) as client:
        events = [one async for one in await client.responses.create(model="smol", input="Hi", stream=True)]
        answer = await client.responses.create(model="smol", input="Hi")
    assert events[0].type == "response.created"
    assert events[-1].type == "response.completed"
    assert answer.output_text == "Good day"


async def test_a_response_that_breaks_ends_with_a_numbered_error_event(every: Bed) -> None:
    await known(every)
    every.relay.answer = break_off
    name, told = last_event(await stream(every, RESPONSES))
    assert (name, told["type"], told["code"]) == ("error", "error", "instance_failed")
    assert told["sequence_number"] == 4
    assert told["param"] is None
    assert told["message"] == told["error"]["message"]
    assert REQUEST_ID.fullmatch(told["error"]["request_id"])


async def test_openais_client_raises_where_a_response_breaks(every: Bed) -> None:
    await known(every)
    every.relay.answer = break_off
    async with gpt(every) as client:
        events = await client.responses.create(model="smol", input="Hi", stream=True)
        with pytest.raises(openai.APIError, match="the relay says instance_failed"):
            async for _ in events:
                pass


# --- the Messages API -----------------------------------------------------------------------------------


def check_anthropics_shape(answer: Any, kind: str, code: str) -> dict[str, Any]:
    """Check what every error of the Messages API has; return its `error`."""
    assert set(answer) == {"type", "error", "request_id"}
    assert answer["type"] == "error"
    assert REQUEST_ID.fullmatch(answer["request_id"])
    error = answer["error"]
    assert (error["type"], error["code"]) == (kind, code)
    assert error["message"]
    return dict(error)


async def test_anthropics_client_gets_and_streams_messages(every: Bed) -> None:
    await known(every)
    async with claude(every) as client:
        asked: dict[str, Any] = {"model": "smol", "max_tokens": 5, "messages": USER}
        answer = await client.messages.create(**asked)
        async with client.messages.stream(**asked) as streamed:
            text = await streamed.get_final_text()
    assert answer.content[0].text == text == "Good day"
    assert REQUEST_ID.fullmatch(answer._request_id or "")
    assert [call.head.user for call in every.relay.calls] == ["u-1", "u-1"]


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (400, "invalid_request_error", "capability_missing"),
        (401, "authentication_error", "invalid_api_key"),
        (403, "permission_error", "model_not_allowed"),
        (404, "not_found_error", "model_not_found"),
        (405, "invalid_request_error", "method_not_allowed"),
        (411, "invalid_request_error", "length_required"),
        (413, "request_too_large", "body_too_large"),
        (429, "rate_limit_error", "rate_limited"),
        (500, "api_error", "internal_error"),
        (502, "api_error", "instance_failed"),
        (503, "overloaded_error", "overloaded"),
        (504, "api_error", "instance_timeout"),
    ],
)
def test_each_status_has_anthropics_type(status: int, kind: str, code: str) -> None:
    fault = SluiceError(code, "Why.", param="model")
    told = dialect.of(MESSAGES).document(fault.to_openai("req-" + "0" * 32), status)
    assert fault.status == status
    assert check_anthropics_shape(told, kind, code)["param"] == "model"


GOLDEN = Path(__file__).parents[3] / "golden" / "contracts"
GIVEN = "req-1795371489594183d4735dc923dec010"


def test_the_shapes_are_those_of_the_contract() -> None:
    full = SluiceError("overloaded", "All instances are full.")
    told = dialect.of(MESSAGES).document(full.to_openai(GIVEN), full.status)
    assert told == json.loads((GOLDEN / "error-messages.json").read_text())
    broken = SluiceError("instance_failed", "The instance broke off.")
    before = b'event: x\ndata: {"delta": "\\"sequence_number\\": 9", "sequence_number": 4}\n\n'
    event = dialect.of(RESPONSES).event(broken.to_openai(GIVEN), broken.status, before)
    assert last_event(event) == ("error", json.loads((GOLDEN / "error-responses.json").read_text()))


async def test_refusals_before_and_behind_the_relay_are_in_anthropics_shape(every: Bed) -> None:
    await known(every)
    asked = BODIES[MESSAGES]
    unknown = await every.post({**asked, "model": "other"}, MESSAGES)
    check_anthropics_shape(unknown[2], "not_found_error", "model_not_found")
    nowhere = await every.post(asked, f"{MESSAGES}/batches")
    check_anthropics_shape(nowhere[2], "not_found_error", "path_not_found")
    keyless = await every.post(asked, MESSAGES, Authorization="Bearer sk-sluice-wrong")
    assert keyless[0] == 401
    check_anthropics_shape(keyless[2], "authentication_error", "invalid_api_key")

    async def refuse(call: Call) -> None:
        error = {"type": "BadRequestError", "message": "max_tokens is too large"}
        await call.answer({"type": "error", "error": error}, 400)

    every.relay.answer = refuse
    status, _, answer = await every.post(asked, MESSAGES)
    told = check_anthropics_shape(answer, "invalid_request_error", "invalid_request")
    assert (status, told["message"]) == (400, "max_tokens is too large")

    async def fail(call: Call) -> None:
        call.fail("overloaded", 3.0)

    every.relay.answer = fail
    status, headers, answer = await every.post(asked, MESSAGES)
    check_anthropics_shape(answer, "overloaded_error", "overloaded")
    assert (status, "Retry-After" in headers) == (503, True)


async def test_a_stream_of_messages_that_breaks_ends_with_anthropics_error_event(every: Bed) -> None:
    await known(every)
    every.relay.answer = break_off
    name, told = last_event(await stream(every, MESSAGES))
    assert name == "error"
    check_anthropics_shape(told, "api_error", "instance_failed")
    async with claude(every) as client:
        with pytest.raises(anthropic.APIStatusError, match="the relay says instance_failed"):
            async with client.messages.stream(model="smol", max_tokens=5, messages=USER) as streamed:  # type: ignore[arg-type]
                await streamed.get_final_text()


@pytest.mark.parametrize("path", [RESPONSES, MESSAGES])
async def test_a_stream_that_only_waited_ends_with_the_paths_event(every: Bed, path: str) -> None:
    every.relay.models = [model("smol", capabilities=CAPABILITIES, ready=0, status="starting", starting=1)]
    await known(every)
    await eventually(lambda: every.service.fleet.clusters[0].models["smol"].status == "starting")
    got = await stream(every, path)
    assert got.startswith(b": queued position=1\nevent: error\n")
    name, told = last_event(got)
    assert (name, told["error"]["code"]) == ("error", "no_instance")
    assert told["error"]["retry_after"] >= 1
