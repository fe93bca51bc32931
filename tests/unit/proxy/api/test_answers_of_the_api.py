"""What a well-behaved client gets: models, answers, streams."""

from __future__ import annotations

import json
from typing import Any

from sluice.contracts.values import REQUEST_ID
from tests.fakes.wire_relay import EVENTS, Call, model
from tests.unit.proxy.conftest import CHAT, COMPLETIONS, Bed, chat, event, eventually


async def test_a_chat_without_streaming_comes_back_whole_with_its_length(bed: Bed) -> None:
    status, headers, answer = await bed.post(chat())
    assert (status, answer["usage"]["completion_tokens"]) == (200, 3)
    assert int(headers["Content-Length"]) == len(json.dumps(answer))
    assert REQUEST_ID.fullmatch(headers["X-Request-Id"])
    assert headers["Cache-Control"] == "no-store"


async def test_the_relay_gets_the_body_byte_for_byte_and_a_validated_head(bed: Bed) -> None:
    body = b'{ "model":"smol",\n "messages" : [{"role":"user","content":"\\u00e9 \xc3\xa9"}], "unknown": 1 }'
    given = "req-" + "0123456789abcdef" * 2
    await bed.post(body, **{"X-Request-Id": given})
    call = bed.relay.calls[0]
    assert call.body == body
    assert (call.head.id, call.head.model, call.head.path) == (given, "smol", CHAT)
    assert (call.head.user, call.head.class_, call.head.length) == ("u-1", "api", len(body))
    assert len(call.head.affinity) == 64


async def test_the_turns_of_a_conversation_have_the_same_affinity_and_another_has_not(bed: Bed) -> None:
    first = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "One?"}]
    later = [*first, {"role": "assistant", "content": "Yes"}, {"role": "user", "content": "Two?"}]
    other = [{"role": "user", "content": "Something else"}]
    for messages in (first, later, other):
        await bed.post(chat(messages=messages))
    one, two, three = (call.head.affinity for call in bed.relay.calls)
    assert one == two != three


async def test_a_stream_passes_through_as_the_engines_bytes(bed: Bed) -> None:
    async with bed.http.post(
        f"http://proxy{CHAT}", json=chat(stream=True), headers=bed.headers()
    ) as response:
        assert response.status == 200
        assert response.headers["Content-Type"] == EVENTS
        assert response.headers["X-Accel-Buffering"] == "no"
        body = await response.read()
    assert body == event("Good ") + event("day") + event("!") + b"data: [DONE]\n\n"


async def test_a_stream_reaches_the_client_while_it_is_made(bed: Bed) -> None:
    async def answer(call: Call) -> None:
        call.start(content_type=EVENTS)
        await call.send(event("first"))
        await eventually(lambda: seen)
        await call.send(event("second"))
        call.end()

    seen: list[bytes] = []
    bed.relay.answer = answer
    async with bed.http.post(
        f"http://proxy{CHAT}", json=chat(stream=True), headers=bed.headers()
    ) as response:
        seen.append(await response.content.readany())
        assert seen == [event("first")]
        assert await response.read() == event("second")


async def test_completions_take_a_prompt(bed: Bed) -> None:
    status, _, _ = await bed.post({"model": "smol", "prompt": "Once"}, COMPLETIONS)
    assert status == 200
    assert bed.relay.calls[0].head.path == COMPLETIONS


async def test_a_large_answer_comes_in_chunks_and_whole(bed: Bed) -> None:
    large = {"object": "chat.completion", "text": "x" * 1_000_000, "usage": {}}

    async def answer(call: Call) -> None:
        await call.answer(large)

    bed.relay.answer = answer
    status, headers, got = await bed.post(chat())
    assert (status, got) == (200, large)
    assert headers["Transfer-Encoding"] == "chunked"


async def test_a_large_body_goes_up_whole(bed: Bed) -> None:
    text = "y" * 900_000
    status, _, _ = await bed.post(chat(messages=[{"role": "user", "content": text}]))
    assert status == 200
    assert json.loads(bed.relay.calls[0].body)["messages"][0]["content"] == text


async def test_a_body_in_chunks_is_taken(bed: Bed) -> None:
    async def pieces() -> Any:
        raw = json.dumps(chat()).encode()
        yield raw[:10]
        yield raw[10:]

    async with bed.http.post(f"http://proxy{CHAT}", data=pieces(), headers=bed.headers()) as response:
        assert response.status == 200
    assert json.loads(bed.relay.calls[0].body) == chat()


async def test_models_are_listed_with_their_live_state(bed: Bed) -> None:
    bed.relay.models = [model("smol"), model("lite", status="sleeping", ready=0, expected_ready=2e9)]
    await eventually(lambda: "lite" in bed.service.fleet.clusters[0].models)
    status, _, answer = await bed.get("/v1/models")
    assert (status, answer["object"]) == (200, "list")
    lite, smol = answer["data"]
    assert (smol["id"], smol["object"], smol["status"], smol["ready"]) == ("smol", "model", "ready", 1)
    assert (lite["id"], lite["status"], lite["expected_ready"]) == ("lite", "sleeping", 2e9)


async def test_models_that_the_groups_may_not_use_are_not_listed(bed: Bed) -> None:
    bed.relay.models = [model("smol"), model("ours", groups=("staff",)), model("theirs", groups=("physics",))]
    await eventually(lambda: "theirs" in bed.service.fleet.clusters[0].models)
    _, _, answer = await bed.get("/v1/models")
    assert [entry["id"] for entry in answer["data"]] == ["ours", "smol"]


async def test_one_model_is_shown(bed: Bed) -> None:
    status, _, answer = await bed.get("/v1/models/smol")
    assert (status, answer["id"], answer["context_length"]) == (200, "smol", 2048)


async def test_a_new_request_id_replaces_one_that_is_not_nginxs(bed: Bed) -> None:
    _, headers, _ = await bed.get("/v1/models", **{"X-Request-Id": "req-" + "A" * 32})
    assert REQUEST_ID.fullmatch(headers["X-Request-Id"])
    assert headers["X-Request-Id"] != "req-" + "A" * 32
