"""Limits, stops and a key's models at the API: what a client sees, and what remains for the next one."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sluice.contracts.authority import Limit, Spent, Stop
from tests.fakes.wire_relay import EVENTS, Call, FakeRelay, model
from tests.unit.proxy.conftest import Bed, TwoParts, answer_well, chat, config, event, eventually, open_bed

MINE = "user:u-9"
# The usage in FakeRelay's answer.
TOKENS = 10


def limited(bed: Bed, **numbers: Any) -> str:
    """Add a key with one limit to the bed; return the key."""
    bed.key = bed.authority.add_key(limits=(Limit(MINE, **numbers),))
    return bed.key


async def stream(bed: Bed, **changes: Any) -> tuple[int, Any, bytes]:
    """Post a chat that streams; return status, headers and body."""
    async with bed.http.post(
        "http://proxy/v1/chat/completions", json=chat(stream=True, **changes), headers=bed.headers()
    ) as got:
        return got.status, got.headers.copy(), await got.read()


# --- requests, tokens, days, requests at once -----------------------------------------------------------


async def test_two_hundred_at_once_get_what_a_limit_of_fifty_allows(bed: Bed) -> None:
    limited(bed, requests_per_minute=50)
    answers = await asyncio.gather(*(bed.post(chat()) for _ in range(200)))
    assert sorted(status for status, _, _ in answers) == [200] * 50 + [429] * 150
    assert len(bed.relay.calls) == 50
    assert bed.authority.spent_questions == 1
    refused = next(answer for answer in answers if answer[0] == 429)
    assert 1 <= int(refused[1]["Retry-After"]) <= 61
    assert refused[1]["x-ratelimit-remaining-requests"] == "0"
    assert refused[2]["error"]["code"] == "requests_limited"
    assert refused[2]["error"]["type"] == "rate_limit_error"
    message = refused[2]["error"]["message"]
    assert message.startswith("The limit of your account for all models together is 50 requests a minute.")


async def test_tokens_are_reserved_by_what_a_request_may_need_and_settled_by_what_it_took(bed: Bed) -> None:
    limited(bed, tokens_per_minute=1000)
    size = len(bed_body(max_tokens=100))
    fit = 1000 // (size + 100)
    gate = TwoParts()
    bed.relay.answer = gate
    asked = [asyncio.create_task(bed.post(chat(max_tokens=100))) for _ in range(20)]
    await eventually(lambda: sum(task.done() for task in asked) == 20 - fit)
    assert {task.result()[2]["error"]["code"] for task in asked if task.done()} == {"tokens_limited"}
    bed.relay.answer = answer_well
    gate.go_on.set()
    await asyncio.gather(*asked, return_exceptions=True)
    _, headers, _ = await bed.post(chat(max_tokens=100))
    # These answers reported no usage: their chunks were counted and their input guessed.
    used = fit * (2 + size // 4)
    assert headers["x-ratelimit-limit-tokens"] == "1000"
    assert headers["x-ratelimit-remaining-tokens"] == str(1000 - used - size - 100)


def bed_body(**changes: Any) -> bytes:
    """Return a chat as `Bed.post` sends it."""
    return json.dumps(chat(**changes)).encode()


async def test_a_request_that_never_fits_is_told_so_without_a_time(bed: Bed) -> None:
    limited(bed, tokens_per_minute=50)
    status, headers, answer = await bed.post(chat(max_tokens=60))
    assert (status, answer["error"]["code"]) == (429, "tokens_limited")
    assert "Retry-After" not in headers
    assert "shorten it" in answer["error"]["message"]
    assert (await bed.post(chat(max_tokens=10)))[0] == 200


async def test_a_day_is_over_at_midnight(bed: Bed) -> None:
    limited(bed, tokens_per_day=100)
    second = int(time.time())
    bed.authority.spent[MINE, ""] = Spent(MINE, "", (), (), 95)
    status, headers, answer = await bed.post(chat(max_tokens=10))
    assert (status, answer["error"]["code"]) == (429, "day_limited")
    assert abs(int(headers["Retry-After"]) - (86_400 - second % 86_400)) <= 2


async def test_requests_at_once_are_bounded_and_the_next_goes_when_one_ends(bed: Bed) -> None:
    limited(bed, concurrent=2)
    gate = TwoParts()
    bed.relay.answer = gate
    running = [asyncio.create_task(stream(bed)) for _ in range(2)]
    await eventually(lambda: len(bed.relay.calls) == 2)
    status, _, answer = await bed.post(chat())
    assert (status, answer["error"]["code"]) == (429, "concurrency_limited")
    gate.go_on.set()
    await asyncio.gather(*running)
    bed.relay.answer = answer_well
    assert (await bed.post(chat()))[0] == 200


async def test_a_client_that_leaves_gives_back_what_it_has_not_used(bed: Bed) -> None:
    limited(bed, tokens_per_day=5000, concurrent=1)
    gate = TwoParts()
    bed.relay.answer = gate
    request = asyncio.create_task(stream(bed, max_tokens=1000))
    await eventually(lambda: len(bed.relay.calls) == 1)
    await asyncio.sleep(0.05)
    request.cancel()
    await eventually(bed.relay.calls[0].cancelled.is_set)
    bed.relay.answer = answer_well
    size = len(bed_body(max_tokens=100))
    status, headers, _ = await bed.post(chat(max_tokens=100))
    assert status == 200
    (left,) = [record for record in await bed.settled() if record.status == 499]
    used = left.input_tokens + left.output_tokens
    assert 0 < used < 50
    assert headers["x-ratelimit-remaining-tokens"] == str(5000 - used - size - 100)


async def test_what_was_never_sent_counts_for_nothing(tmp_path: Path) -> None:
    relay = FakeRelay(answer_well)
    relay.models = [model("smol", status="failed", ready=0)]
    async with open_bed(config(tmp_path), relay) as bed:
        limited(bed, requests_per_minute=1)
        for _ in range(3):
            status, headers, answer = await bed.post(chat())
            assert (status, answer["error"]["code"]) == (503, "no_instance")
            assert headers["x-ratelimit-remaining-requests"] == "0"
        relay.models = [model("smol")]
        await eventually(lambda: bed.service.fleet.clusters[0].models["smol"].ready)
        assert (await bed.post(chat()))[0] == 200
        assert (await bed.post(chat()))[0] == 429
        records = await bed.settled()
        assert sorted(record.cluster for record in records) == ["", "", "", "demo"]


async def test_who_waits_in_the_queue_is_held_to_the_limits_already(tmp_path: Path) -> None:
    relay = FakeRelay(answer_well)
    relay.models = [model("smol", status="sleeping", ready=0)]
    async with open_bed(replace(config(tmp_path), queue_wait=5.0), relay) as bed:
        limited(bed, requests_per_minute=2)
        waiting = [asyncio.create_task(stream(bed)) for _ in range(2)]
        await eventually(
            lambda: len(bed.service.queues._waiting()) and sum(bed.service.queues._waiting()["smol"]) == 2
        )
        assert (await bed.post(chat()))[0] == 429
        relay.models = [model("smol")]
        assert [status for status, _, _ in await asyncio.gather(*waiting)] == [200, 200]


# --- whose limit, of which model ------------------------------------------------------------------------


async def test_a_limit_is_shared_by_all_that_it_binds_and_binds_its_model_only(bed: Bed) -> None:
    bed.relay.models = [model("smol"), model("other")]
    await eventually(lambda: len(bed.service.fleet.clusters[0].models) == 2)
    shared = Limit("project:genomics", "smol", requests_per_minute=2)
    wide = Limit("site", requests_per_minute=100)
    keys = [bed.authority.add_key(limits=(wide, shared)) for _ in range(3)]
    found = []
    for bed.key in keys:
        found.append((await bed.post(chat()))[0])
    assert found == [200, 200, 429]
    status, headers, _ = await bed.post(chat(model="other"))
    assert (status, headers["x-ratelimit-remaining-requests"]) == (200, "97")
    _, headers, answer = await bed.post(chat())
    assert "the project genomics for the model smol is 2 requests" in answer["error"]["message"]
    assert headers["x-ratelimit-limit-requests"] == "2"


async def test_without_a_limit_no_header_speaks_of_one_and_nobody_is_asked(bed: Bed) -> None:
    _, headers, _ = await bed.post(chat())
    assert not [name for name in headers if name.lower().startswith("x-ratelimit")]
    assert bed.authority.spent_questions == 0


async def test_streams_and_errors_carry_the_headers_too(bed: Bed) -> None:
    limited(bed, requests_per_minute=10, tokens_per_minute=100_000)
    names = {
        f"x-ratelimit-{what}-{of}"
        for what in ("limit", "remaining", "reset")
        for of in ("requests", "tokens")
    }
    status, headers, _ = await stream(bed)
    assert status == 200
    assert names <= {name.lower() for name in headers}

    async def fail(call: Call) -> None:
        call.fail("instance_failed")

    bed.relay.answer = fail
    status, headers, _ = await bed.post(chat())
    assert status == 502
    assert names <= {name.lower() for name in headers}
    assert headers["x-ratelimit-remaining-requests"] == "8"


# --- filling --------------------------------------------------------------------------------------------


async def test_what_was_spent_before_this_process_counts(bed: Bed) -> None:
    limited(bed, requests_per_minute=5)
    second = int(time.time())
    bed.authority.spent[MINE, ""] = Spent(MINE, "", ((second - 2, 3), (second - 1, 1)), (), 0)
    assert [(await bed.post(chat()))[0] for _ in range(2)] == [200, 429]
    assert bed.authority.spent_questions == 1
    asked = bed.authority.documents["/v1/spent"]
    golden = Path(__file__).parents[3] / "golden" / "contracts" / "authority-spent-question.json"
    assert asked.keys() == json.loads(golden.read_text()).keys()
    assert asked["buckets"] == [{"scope": MINE, "model": ""}]
    assert abs(asked["now"] - second) < 5


async def test_many_limits_with_a_busy_minute_each_are_filled_by_one_question(bed: Bed) -> None:
    second = int(time.time())
    minute = tuple((second - age, 1) for age in range(60, -1, -1))
    names = [f"group:g-{number}" for number in range(200)]
    for name in names:
        bed.authority.spent[name, ""] = Spent(name, "", minute, minute, 61)
    bed.key = bed.authority.add_key(limits=tuple(Limit(name, tokens_per_day=10_000) for name in names))
    status, headers, _ = await bed.post(chat(max_tokens=10))
    assert (status, bed.authority.spent_questions) == (200, 1)
    assert headers["x-ratelimit-remaining-tokens"] == str(10_000 - 61 - 10 - len(bed_body(max_tokens=10)))


async def test_an_unknown_bucket_is_not_guessed_while_the_authority_is_away(bed: Bed) -> None:
    limited(bed, requests_per_minute=5)
    assert (await bed.get("/v1/models"))[0] == 200
    await bed.authority.stop()
    status, headers, answer = await bed.post(chat())
    assert (status, answer["error"]["code"]) == (503, "authority_unreachable")
    assert "Retry-After" in headers
    await bed.authority.start()
    assert (await bed.post(chat()))[0] == 200
    await bed.authority.stop()
    # Known by now: the stale key and what is left of its limits still count.
    assert [(await bed.post(chat()))[0] for _ in range(5)] == [200] * 4 + [429]


async def test_limits_are_filled_once_the_authority_has_what_an_earlier_process_left(tmp_path: Path) -> None:
    async with open_bed(config(tmp_path), FakeRelay(answer_well)) as first:
        await first.get("/v1/models")
        first.authority.status = 500
        await first.post(chat())
    async with open_bed(replace(config(tmp_path), usage_batch=3600.0), FakeRelay(answer_well)) as second:
        limited(second, requests_per_minute=5)
        await second.get("/v1/models")
        seen: list[int] = []
        answer = second.authority._spent

        def spent(bucket: Any) -> Any:
            seen.append(len(second.authority.usage))
            return answer(bucket)

        second.authority._spent = spent  # type: ignore[method-assign]
        assert (await second.post(chat()))[0] == 200
        assert seen == [1]


# --- models of a key, and stops -------------------------------------------------------------------------


async def test_a_key_is_good_for_its_own_models_only(bed: Bed) -> None:
    bed.relay.models = [model("smol"), model("other")]
    await eventually(lambda: len(bed.service.fleet.clusters[0].models) == 2)
    bed.key = bed.authority.add_key(models=("other", "gone"))
    _, _, answer = await bed.get("/v1/models")
    assert [one["id"] for one in answer["data"]] == ["other"]
    for got in (await bed.post(chat()), await bed.get("/v1/models/smol")):
        assert (got[0], got[2]["error"]["code"]) == (403, "key_not_allowed")
    assert (await bed.post(chat(model="other")))[0] == 200


async def test_a_stopped_model_says_why_and_what_runs_goes_on(bed: Bed) -> None:
    gate = TwoParts()
    bed.relay.answer = gate
    running = asyncio.create_task(stream(bed))
    await eventually(lambda: len(bed.relay.calls) == 1)
    bed.authority.stopped = [Stop("smol", "Moves to new weights; back on Tuesday.")]
    await eventually(lambda: "smol" in bed.service.stops.models)
    status, _, answer = await bed.post(chat())
    assert (status, answer["error"]["code"]) == (503, "model_stopped")
    assert "back on Tuesday" in answer["error"]["message"]
    assert (await bed.get("/v1/models/smol"))[2]["status"] == "stopped"
    assert (await bed.get("/v1/models"))[2]["data"][0]["status"] == "stopped"
    await bed.authority.stop()
    await asyncio.sleep(0.3)
    assert (await bed.post(chat()))[0] == 503
    gate.go_on.set()
    assert b"second" in (await running)[2]
    await bed.authority.start()
    bed.authority.stopped = []
    await eventually(lambda: "smol" not in bed.service.stops.models)
    bed.relay.answer = answer_well
    assert (await bed.post(chat()))[0] == 200


async def test_a_stop_is_known_before_the_first_request_is_let_through(tmp_path: Path) -> None:
    async with open_bed(config(tmp_path), FakeRelay(answer_well), authority=False) as bed:
        bed.service.stops._interval = 3600.0
        bed.authority.stopped = [Stop("smol", "")]
        await bed.authority.start()
        assert (await bed.post(chat()))[2]["error"]["code"] == "model_stopped"


async def test_a_stream_that_had_only_waited_has_the_headers_of_its_limits(tmp_path: Path) -> None:
    async def slowly(call: Call) -> None:
        call.start(content_type=EVENTS)
        await call.send(event("at last"))
        call.end()

    relay = FakeRelay(slowly)
    relay.models = [model("smol", status="sleeping", ready=0)]
    async with open_bed(replace(config(tmp_path), queue_wait=5.0), relay) as bed:
        limited(bed, requests_per_minute=3)
        waiting = asyncio.create_task(stream(bed))
        await asyncio.sleep(0.25)
        relay.models = [model("smol")]
        _, headers, body = await waiting
        assert body.startswith(b": queued position=1")
        assert headers["x-ratelimit-remaining-requests"] == "2"


@pytest.mark.parametrize("answered", [{"spent": []}, {"spent": [{"scope": "site", "model": ""}]}])
async def test_an_authority_that_answers_another_question_is_not_believed(bed: Bed, answered: Any) -> None:
    limited(bed, requests_per_minute=3)

    async def nonsense(path: str) -> Any:
        return 200, {"version": 1, **answered}

    call = bed.service.authority._call

    async def instead(method: str, path: str, body: bytes | None, timeout: float) -> tuple[int, object]:
        return await (nonsense(path) if path == "/v1/spent" else call(method, path, body, timeout))

    bed.service.authority._call = instead  # type: ignore[method-assign]
    assert (await bed.post(chat()))[2]["error"]["code"] == "authority_unreachable"
