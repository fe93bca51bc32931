"""Requests that wait for an instance: what clients are told, who goes when, what ends the wait."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from sluice.proxy.queue.admission import TicketState
from sluice.proxy.queue.waiting import SILENT_WAIT, RequestQueues
from tests.fakes.wire_relay import EVENTS, Answer, Call, FakeRelay, model
from tests.felt import Stopwatch
from tests.unit.proxy.conftest import (
    CHAT,
    Bed,
    TwoParts,
    answer_well,
    chat,
    config,
    event,
    eventually,
    open_bed,
)


@asynccontextmanager
async def narrow(tmp_path: Path, answer: Answer, **settings: Any) -> AsyncIterator[Bed]:
    """Open a proxy with one instance that runs one request at a time."""
    relay = FakeRelay(answer)
    relay.models = [model("smol", concurrency=1)]
    async with open_bed(replace(config(tmp_path), **{"queue_wait": 20.0, **settings}), relay) as bed:
        yield bed


def asleep(**changes: Any) -> Any:
    """Return a model without an instance."""
    return model("smol", **{"ready": 0, "status": "sleeping", **changes})


def queues(bed: Bed) -> RequestQueues:
    """Return the proxy's queues."""
    return bed.service.queues


def waiting(bed: Bed) -> int:
    """Return how many places requests wait for at the model."""
    return int(bed.metric("sluice_proxy_waiting", **{"model": "smol", "class": "api"}) or 0)


class Gate:
    """Answers each request when the test lets it."""

    def __init__(self) -> None:
        self.let = asyncio.Semaphore(0)
        self.running = self.most = 0

    async def __call__(self, call: Call) -> None:
        """Answer one request."""
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.let.acquire()
            await answer_well(call)
        finally:
            self.running -= 1


def ask(bed: Bed, **changes: Any) -> asyncio.Task[Any]:
    """Ask, without waiting for the answer."""
    return asyncio.create_task(bed.post(chat(**changes)))


async def stream(bed: Bed, told: asyncio.Event | None = None) -> bytes:
    """Ask for a stream; return all of it. `told` is set when it has begun, possibly with a comment."""
    async with bed.http.post(
        f"http://proxy{CHAT}", json=chat(stream=True), headers=bed.headers()
    ) as response:
        assert response.status == 200
        assert response.headers["Content-Type"] == "text/event-stream"
        if told is not None:
            told.set()
        return await response.read()


# --- what is told ----------------------------------------------------------------------------------------


async def test_a_stream_that_waits_is_told_its_position_and_then_answered(tmp_path: Path) -> None:
    gate = Gate()
    async with narrow(tmp_path, gate) as bed:
        gate.let.release()
        await bed.post(chat())  # now a service time is known
        first = ask(bed)
        await eventually(lambda: gate.running == 1)
        told_already = asyncio.Event()
        second = asyncio.create_task(stream(bed, told_already))
        await told_already.wait()
        gate.let.release()
        gate.let.release()
        assert (await first)[0] == 200
        told, _, events = (await second).partition(b"\n")
        assert told == b": queued position=1 expected=1s"
        assert events.startswith(event("Good "))
        assert events.endswith(b"data: [DONE]\n\n")
        assert gate.most == 1
        assert bed.metric("sluice_proxy_wait_seconds_count", model="smol") == 1
        last = (await bed.settled())[-1]
        assert 0.05 < last.wait < 20.0
        assert last.wait < last.first_byte, "a comment must not count as the answer's first byte"


async def test_a_short_wait_is_not_spoken_of(tmp_path: Path) -> None:
    gate = Gate()
    async with narrow(tmp_path, gate, quiet_wait=5.0) as bed:
        first = ask(bed)
        await eventually(lambda: gate.running == 1)
        second = asyncio.create_task(stream(bed))
        await eventually(lambda: waiting(bed) == 1)
        gate.let.release()
        gate.let.release()
        assert (await first)[0] == 200
        assert (await second).startswith(event("Good "))


def public_client(bed: Bed) -> openai.AsyncOpenAI:
    """Return the public client, on the proxy's socket, without retries."""
    transport = httpx2.AsyncHTTPTransport(uds=bed.config.socket)
    return openai.AsyncOpenAI(
        base_url="http://proxy/v1",
        api_key=bed.key,
        max_retries=0,
        http_client=httpx2.AsyncClient(transport=transport),
    )


async def test_the_openai_client_passes_over_what_is_told(tmp_path: Path) -> None:
    gate = Gate()
    async with narrow(tmp_path, gate) as bed:
        first = ask(bed)
        await eventually(lambda: gate.running == 1)
        async with public_client(bed) as client:
            opened = await client.chat.completions.create(
                model="smol", messages=[{"role": "user", "content": "Hello?"}], stream=True
            )
            assert waiting(bed) == 1, "the answer began while it waited"
            gate.let.release()
            gate.let.release()
            words = [chunk.choices[0].delta.content async for chunk in opened]
        assert words == ["Good ", "day", "!"]
        assert (await first)[0] == 200


async def test_the_openai_client_raises_the_error_that_ends_a_wait(tmp_path: Path) -> None:
    gate = Gate()
    async with narrow(tmp_path, gate, queue_wait=0.5) as bed:
        first = ask(bed)
        await eventually(lambda: gate.running == 1)
        async with public_client(bed) as client:
            opened = await client.chat.completions.create(
                model="smol", messages=[{"role": "user", "content": "Hello?"}], stream=True
            )
            with pytest.raises(openai.APIError) as caught:
                async for _ in opened:
                    pass
        assert caught.value.code == "overloaded"
        gate.let.release()
        assert (await first)[0] == 200


async def test_an_error_after_a_told_wait_is_an_event_that_says_when_to_come_back(tmp_path: Path) -> None:
    relay = FakeRelay(answer_well)
    relay.models = [asleep()]
    async with open_bed(replace(config(tmp_path), queue_wait=0.4), relay) as bed:
        told, end = (await stream(bed)).removesuffix(b"\n\n").split(b"\n")
        assert told == b": queued position=1"
        error = json.loads(end.removeprefix(b"data: "))["error"]
        assert error["code"] == "no_instance"
        assert error["retry_after"] >= 1
        assert not relay.calls
        (record,) = await bed.settled()
        assert (record.status, record.code) == (200, "no_instance")


async def test_an_engines_refusal_after_a_told_wait_is_an_event(tmp_path: Path) -> None:
    gate = Gate()

    async def answer(call: Call) -> None:
        if len(bed.relay.calls) == 1:
            await gate(call)
        else:
            await call.answer({"error": {"message": "too long"}}, status=400)

    async with narrow(tmp_path, answer) as bed:
        first = ask(bed)
        await eventually(lambda: gate.running == 1)
        told_already = asyncio.Event()
        second = asyncio.create_task(stream(bed, told_already))
        await told_already.wait()
        gate.let.release()
        await first
        told, end = (await second).removesuffix(b"\n\n").split(b"\n")
        assert told.startswith(b": queued")
        error = json.loads(end.removeprefix(b"data: "))["error"]
        assert (error["code"], error["message"]) == ("invalid_request", "too long")


# --- models that sleep -----------------------------------------------------------------------------------


@pytest.mark.parametrize("streaming", [False, True])
async def test_a_request_for_a_model_that_sleeps_wakes_it_and_is_answered(
    tmp_path: Path, streaming: bool
) -> None:
    relay = FakeRelay(answer_well)
    relay.models = [asleep()]
    async with open_bed(replace(config(tmp_path), queue_wait=10.0), relay) as bed:
        asking = asyncio.create_task(stream(bed)) if streaming else ask(bed)
        await eventually(lambda: relay.demand and relay.demand[-1] == {"smol": 1})
        relay.models = [asleep(status="starting", starting=1, expected_ready=time.time() + 2.0)]
        await asyncio.sleep(0.3)
        assert not asking.done()
        relay.models = [model("smol")]
        answer = await asking
        assert (b"day" in answer) if streaming else (answer[0] == 200)
        await eventually(lambda: relay.demand[-1] == {})


@pytest.mark.parametrize("why", ["too_late", "queue_full", "user_full"])
async def test_a_request_sent_away_is_demand_for_all_the_places_it_asked_for(
    tmp_path: Path, why: str
) -> None:
    """It will retry with as many places: a sleeping model should have instances for them by then."""
    relay = FakeRelay(answer_well)
    late = {"status": "starting", "starting": 1, "expected_ready": time.time() + 120.0}
    relay.models = [asleep(**(late if why == "too_late" else {}))]
    bounds: dict[str, Any] = {"queue_full": {"queue_length": 8}, "user_full": {"queue_per_user": 8}}.get(
        why, {}
    )
    async with open_bed(replace(config(tmp_path), queue_wait=20.0, **bounds), relay) as bed:
        held, asking = 0, None
        if why != "too_late":
            held, asking = 3, asyncio.create_task(bed.post(chat(n=3)))
            await eventually(lambda: relay.demand and relay.demand[-1] == {"smol": 3})
        status, headers, _ = await bed.post(chat(n=6))
        assert status == 503 and "Retry-After" in headers
        assert bed.metric("sluice_proxy_refused_total", model="smol", reason=why) == 1
        await eventually(lambda: relay.demand and relay.demand[-1] == {"smol": held + 6})
        relay.models = [model("smol")]
        if asking is not None:
            assert (await asking)[0] == 200


async def test_an_instance_that_comes_too_late_is_told_at_once(tmp_path: Path) -> None:
    """Without a stream, only the answer can tell anything: a longer wait is answered with Retry-After."""
    relay = FakeRelay(answer_well)
    relay.models = [asleep(status="starting", starting=1, expected_ready=time.time() + 120.0)]
    async with open_bed(replace(config(tmp_path), queue_wait=300.0), relay) as bed:
        with Stopwatch() as felt:
            status, headers, answer = await bed.post(chat())
        assert felt.seconds < 5.0
        assert (status, answer["error"]["code"]) == (503, "no_instance")
        assert 100 <= int(headers["Retry-After"]) <= 120
        await eventually(lambda: relay.demand and relay.demand[-1] == {"smol": 1})
        assert bed.metric("sluice_proxy_refused_total", model="smol", reason="too_late") == 1
        told_already = asyncio.Event()
        streaming = asyncio.create_task(stream(bed, told_already))
        await told_already.wait()
        relay.models = [model("smol")]
        assert (await streaming).startswith(b": queued position=1 expected=1")
    assert SILENT_WAIT < 60.0


@pytest.mark.parametrize(("status", "words"), [("failed", "fails to start"), ("drained", "out of service")])
async def test_a_model_without_a_prospect_is_not_waited_for(tmp_path: Path, status: str, words: str) -> None:
    relay = FakeRelay(answer_well)
    relay.models = [asleep(status=status)]
    async with open_bed(replace(config(tmp_path), queue_wait=30.0), relay) as bed:
        code, headers, answer = await bed.post(chat())
        assert (code, answer["error"]["code"]) == (503, "no_instance")
        assert words in answer["error"]["message"]
        assert int(headers["Retry-After"]) >= 1
        assert bed.metric("sluice_proxy_refused_total", model="smol", reason="vain") == 1


async def test_a_model_that_goes_while_one_waits_for_it_ends_the_wait(tmp_path: Path) -> None:
    relay = FakeRelay(answer_well)
    relay.models = [asleep()]
    async with open_bed(replace(config(tmp_path), queue_wait=30.0), relay) as bed:
        asking = ask(bed)
        await eventually(lambda: waiting(bed) == 1)
        relay.models = []
        status, _, answer = await asking
        assert (status, answer["error"]["code"]) == (404, "model_not_found")


async def test_who_waits_when_the_process_stops_is_told_so(tmp_path: Path) -> None:
    relay = FakeRelay(answer_well)
    relay.models = [asleep()]
    async with open_bed(replace(config(tmp_path), queue_wait=30.0, quiet_wait=0.1), relay) as bed:
        silent, streaming = ask(bed), asyncio.create_task(stream(bed))
        await eventually(lambda: waiting(bed) == 2)
        await asyncio.sleep(0.2)
        await bed.service.stop(drain=5.0)
        status, headers, answer = await silent
        assert (status, answer["error"]["code"]) == (503, "overloaded")
        assert headers["Retry-After"] == "5"
        assert b'"retry_after":5' in await streaming


# --- who goes when ---------------------------------------------------------------------------------------


async def test_one_users_five_hundred_delay_anothers_first_by_one_service_time(tmp_path: Path) -> None:
    gate = Gate()
    async with narrow(tmp_path, gate, queue_per_user=500) as bed:
        bed.relay.models = [model("smol", concurrency=8)]
        await asyncio.sleep(0.2)
        other = bed.authority.add_key(groups=("staff",))
        crowd = [ask(bed) for _ in range(500)]
        await eventually(lambda: gate.running == 8 and waiting(bed) == 492)
        one = asyncio.create_task(bed.post(chat(), Authorization=f"Bearer {other}"))
        await eventually(lambda: waiting(bed) == 493)
        served = len(bed.relay.calls)
        gate.let.release()
        await eventually(lambda: len(bed.relay.calls) == served + 1)
        assert bed.relay.calls[-1].head.user == "u-2", (
            "of 493 waiting requests, that of the user without any goes first"
        )
        for _ in range(501):
            gate.let.release()
        assert (await one)[0] == 200
        assert {(await asked)[0] for asked in crowd} == {200}
        assert gate.most == 8


async def test_requests_on_draining_instances_take_no_place_of_the_others(tmp_path: Path) -> None:
    """Two requests run on a draining instance: the ready one still gets its two."""
    gate = Gate()
    async with narrow(tmp_path, gate) as bed:
        bed.relay.models = [model("smol", ready=2, concurrency=1)]
        await asyncio.sleep(0.2)
        drained = [ask(bed) for _ in range(2)]
        await eventually(lambda: gate.running == 2)
        bed.relay.models = [model("smol", concurrency=2, draining=2)]
        await asyncio.sleep(0.2)
        more = [ask(bed) for _ in range(3)]
        await eventually(lambda: gate.running == 4 and waiting(bed) == 1)
        for _ in range(5):
            gate.let.release()
        assert {(await asked)[0] for asked in (*drained, *more)} == {200}
        assert gate.most == 4


async def test_a_client_who_leaves_makes_room_at_once(tmp_path: Path) -> None:
    gate = Gate()
    async with narrow(tmp_path, gate, queue_length=1, queue_per_user=1) as bed:
        first = ask(bed)
        await eventually(lambda: gate.running == 1)
        second = ask(bed)
        await eventually(lambda: waiting(bed) == 1)
        assert (await bed.post(chat()))[0] == 503
        second.cancel()
        await eventually(lambda: waiting(bed) == 0)
        third = ask(bed)
        await eventually(lambda: waiting(bed) == 1)
        gate.let.release()
        gate.let.release()
        assert [(await one)[0] for one in (first, third)] == [200, 200]
        assert len(bed.relay.calls) == 2, "the request of a client that left must not be sent"
        assert not bed.service.fleet.clusters[0].demand._held


@pytest.mark.parametrize(("length", "per_user", "reason"), [(2, 2, "queue_full"), (3, 2, "user_full")])
async def test_a_full_queue_refuses_and_says_when_to_come_back(
    tmp_path: Path, length: int, per_user: int, reason: str
) -> None:
    gate = Gate()
    async with narrow(tmp_path, gate, queue_length=length, queue_per_user=per_user) as bed:
        asked = [ask(bed) for _ in range(3)]
        await eventually(lambda: waiting(bed) == 2)
        status, headers, answer = await bed.post(chat())
        assert (status, answer["error"]["code"]) == (503, "overloaded")
        assert int(headers["Retry-After"]) >= 1
        assert bed.metric("sluice_proxy_refused_total", model="smol", reason=reason) == 1
        for _ in asked:
            gate.let.release()
        assert [(await one)[0] for one in asked] == [200, 200, 200]


async def test_what_is_malformed_or_not_allowed_does_not_wait(tmp_path: Path) -> None:
    relay = FakeRelay(answer_well)
    relay.models = [asleep(groups=("others",))]
    async with open_bed(replace(config(tmp_path), queue_wait=30.0), relay) as bed:
        assert (await bed.post(chat(messages=[])))[0] == 400
        assert (await bed.post(chat()))[0] == 403
        assert waiting(bed) == 0


# --- full or lost clusters -------------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["overloaded", "no_instance"])
async def test_a_request_that_found_no_room_is_put_back_and_goes_later(tmp_path: Path, code: str) -> None:
    async def full_at_first(call: Call) -> None:
        if len(bed.relay.calls) < 3:
            call.fail(code)
        else:
            await answer_well(call)

    async with narrow(tmp_path, full_at_first) as bed:
        began = time.monotonic()
        assert (await bed.post(chat()))[0] == 200
        assert time.monotonic() - began > 1.0, "a full cluster must not be asked again at once"
        assert len(bed.relay.calls) == 3
        assert len({call.head.id for call in bed.relay.calls}) == 1


async def test_a_session_lost_before_the_first_byte_is_not_noticed(bed: Bed) -> None:
    """An engine's head comes long before its first token; until then the client has seen nothing."""

    async def die_after_the_head(call: Call) -> None:
        call.start(content_type=EVENTS)
        if len(bed.relay.calls) == 1:
            await asyncio.sleep(0.05)
            call.link.die()
            return
        await call.send(event("Good day!"))
        call.end()

    bed.relay.answer = die_after_the_head
    assert (await stream(bed)).endswith(event("Good day!"))
    assert len(bed.relay.calls) == 2


async def test_an_instance_that_fails_before_the_first_byte_is_given_one_more_chance(bed: Bed) -> None:
    async def fail_at_first(call: Call) -> None:
        if len(bed.relay.calls) == 1:
            call.start(content_type=EVENTS)
            call.fail("instance_failed")
        else:
            await answer_well(call)

    bed.relay.answer = fail_at_first
    assert (await stream(bed)).startswith(event("Good "))
    assert len(bed.relay.calls) == 2


async def test_an_instance_that_fails_again_is_told(bed: Bed) -> None:
    async def fail(call: Call) -> None:
        call.fail("instance_failed")

    bed.relay.answer = fail
    status, _, answer = await bed.post(chat())
    assert (status, answer["error"]["code"]) == (502, "instance_failed")
    assert len(bed.relay.calls) == 2


async def test_a_session_lost_after_the_first_byte_ends_the_stream_with_an_event(bed: Bed) -> None:
    bed.relay.answer = slow = TwoParts()
    async with bed.http.post(
        f"http://proxy{CHAT}", json=chat(stream=True), headers=bed.headers()
    ) as response:
        assert await response.content.readany() == event("first")
        bed.relay.link.die()
        end = await response.read()
    assert json.loads(end.removeprefix(b"data: "))["error"]["code"] == "cluster_unreachable"
    assert len(bed.relay.calls) == 1
    slow.go_on.set()


async def test_slots_are_given_back_however_a_request_ends(bed: Bed) -> None:
    async def fail(call: Call) -> None:
        call.fail("instance_failed")

    async def refuse(call: Call) -> None:
        await call.answer({"error": {"message": "no"}}, status=400)

    for answer in (answer_well, fail, refuse):
        bed.relay.answer = answer
        await bed.post(chat())
        await stream(bed) if answer is answer_well else await bed.post(chat(stream=True))
    bed.relay.answer = TwoParts()
    left = asyncio.create_task(stream(bed))
    await eventually(lambda: queues(bed)._queues["smol"].running == 1)
    left.cancel()
    await eventually(lambda: queues(bed)._queues["smol"].running == 0)
    assert not queues(bed)._queues["smol"]._users


async def test_a_request_passes_the_room_for_a_few_microseconds(bed: Bed) -> None:
    """The bound is generous here; the benchmark measures the real value."""
    door = queues(bed)

    def pass_through() -> None:
        turn = door.enter("smol", "u-1", "api", stream=True)
        assert turn.state is TicketState.ADMITTED
        door.leave(turn)

    began = time.process_time()
    for _ in range(10_000):
        pass_through()
    spent = (time.process_time() - began) / 10_000
    print(f"{spent * 1e6:.1f} us")
    assert spent < 50e-6
