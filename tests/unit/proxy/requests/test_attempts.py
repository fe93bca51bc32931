"""How often and how long a request is tried, whatever its relays answer and whatever fails."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import replace
from pathlib import Path

import pytest

from sluice.contracts.heads import MOST_BREAKS
from sluice.proxy.requests.forwarding import MOST_LOST
from tests.fakes.wire_relay import EVENTS, Call, FakeRelay, model
from tests.unit.proxy.conftest import Bed, answer_well, chat, config, event, open_bed


async def test_the_next_relay_is_told_how_many_attempts_broke(bed: Bed) -> None:
    async def break_once(call: Call) -> None:
        if call.head.breaks:
            await answer_well(call)
        else:
            call.fail("instance_failed", breaks=1)

    bed.relay.answer = break_once
    status, _, _ = await bed.post(chat())
    assert status == 200
    assert [call.head.breaks for call in bed.relay.calls] == [0, 1]


async def test_what_a_relay_tried_twice_is_not_tried_again(bed: Bed) -> None:
    async def broken(call: Call) -> None:
        call.fail("instance_failed", breaks=MOST_BREAKS)

    bed.relay.answer = broken
    status, _, answer = await bed.post(chat())
    assert (status, answer["error"]["code"]) == (502, "instance_failed")
    assert len(bed.relay.calls) == 1


async def test_a_break_before_a_lack_of_room_counts(bed: Bed) -> None:
    faults = iter([("overloaded", 1), ("instance_failed", MOST_BREAKS)])

    async def fail(call: Call) -> None:
        code, breaks = next(faults)
        call.fail(code, retry_after=0.1, breaks=breaks)

    bed.relay.answer = fail
    assert (await bed.post(chat()))[0] == 502
    assert [call.head.breaks for call in bed.relay.calls] == [0, 1]


async def test_a_relay_of_an_older_release_is_not_told(bed: Bed) -> None:
    async def broken(call: Call) -> None:
        call.fail("instance_failed")

    bed.relay.answer = broken
    session = bed.service.fleet.clusters[0].session()
    assert session is not None
    peer = session._wire.peer
    assert peer is not None
    session._wire.peer = replace(peer, minor=0)
    assert (await bed.post(chat()))[0] == 502
    assert [call.head.breaks for call in bed.relay.calls] == [0, 0]


async def test_what_broke_holds_nobody_else_back(bed: Bed) -> None:
    async def broken(call: Call) -> None:
        if call.head.breaks or b"bad" in call.body:
            call.fail("instance_failed", breaks=call.head.breaks + 1)
        else:
            await answer_well(call)

    bed.relay.answer = broken
    for _ in range(5):
        bad, good = await asyncio.gather(bed.post(chat(user="bad")), bed.post(chat()))
        assert (bad[0], good[0]) == (502, 200)
    assert bed.metric("sluice_proxy_turned_away_total", model="smol", reason="no_room") is None


@pytest.mark.parametrize("seed", range(12))
async def test_whatever_relays_do_a_request_ends_and_is_not_sent_without_end(
    tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    broke = lost = 0

    async def anything(call: Call) -> None:
        nonlocal broke, lost
        what = chance.choice(["broke", "lost", "full", "gone", "head", "hang", "broke"])
        if what in ("broke", "head"):
            broke += 1
            if what == "head":
                call.start(content_type=EVENTS)
            call.fail("instance_failed", breaks=call.head.breaks + 1)
        elif what == "lost":
            lost += 1
            call.link.die()
        elif what == "full":
            call.fail("overloaded", retry_after=0.1)
        elif what == "gone":
            call.fail("no_instance", retry_after=0.1)
        else:
            await call.cancelled.wait()

    settings = replace(config(tmp_path), request_timeout=4.0, queue_wait=3.0)
    async with (
        open_bed(settings, FakeRelay(anything)) as bed,
        bed.http.post(
            "http://proxy/v1/chat/completions", json=chat(stream=bool(seed % 2)), headers=bed.headers()
        ) as response,
    ):
        body = await asyncio.wait_for(response.read(), 60)
    # A stream that had to wait has begun: its error is an event.
    assert response.status in ((502, 503, 504) if not seed % 2 else (200, 502, 503, 504))
    assert b'"error"' in body
    assert broke <= MOST_BREAKS
    assert lost <= MOST_LOST


async def never(call: Call) -> None:
    await call.cancelled.wait()


async def head_alone(call: Call) -> None:
    call.start(content_type=EVENTS)
    await call.cancelled.wait()


async def half(call: Call) -> None:
    call.start(content_type=EVENTS)
    await call.send(event("Good"))
    await call.cancelled.wait()


async def trickle(call: Call) -> None:
    call.start(content_type=EVENTS)
    while not call.cancelled.is_set():
        await call.send(event("Good"))
        await asyncio.sleep(0.05)


async def half_a_document(call: Call) -> None:
    call.start()
    await call.send(b'{"half":')
    await call.cancelled.wait()


async def full(call: Call) -> None:
    call.fail("overloaded", retry_after=0.2)


@pytest.mark.parametrize("answer", [never, head_alone, half, trickle, half_a_document, full])
async def test_a_request_takes_no_longer_than_its_bound(tmp_path: Path, answer: object) -> None:
    settings = replace(config(tmp_path), request_timeout=1.0, queue_wait=30.0)
    stream = answer is not half_a_document
    async with open_bed(settings, FakeRelay(answer)) as bed:  # type: ignore[arg-type]
        began = time.monotonic()
        async with bed.http.post(
            "http://proxy/v1/chat/completions", json=chat(stream=stream), headers=bed.headers()
        ) as response:
            body = await asyncio.wait_for(response.read(), 60)
        assert time.monotonic() - began >= 0.8
        if answer is not full:
            await asyncio.wait_for(bed.relay.calls[-1].cancelled.wait(), 10)
    assert b'"overloaded"' in body if answer is full else b'"instance_timeout"' in body


async def test_a_session_that_is_lost_late_is_replaced_as_well(tmp_path: Path) -> None:
    async def late(call: Call) -> None:
        if len(relay.calls) == 1:
            await asyncio.sleep(1.5)
            call.link.die()
        else:
            await answer_well(call)

    relay = FakeRelay(late)
    # The attempt took longer than a request may wait.
    async with open_bed(replace(config(tmp_path), queue_wait=0.6), relay) as bed:
        assert (await bed.post(chat()))[0] == 200


async def test_a_wait_that_ends_says_what_is_and_not_what_was(tmp_path: Path) -> None:
    """A relay reported no instance; since then one has begun to start."""

    async def gone(call: Call) -> None:
        relay.models = [
            model("smol", status="starting", ready=0, starting=1, expected_ready=time.time() + 500)
        ]
        call.fail("no_instance", retry_after=0.1)

    relay = FakeRelay(gone)
    async with open_bed(replace(config(tmp_path), queue_wait=10.0), relay) as bed:
        status, headers, answer = await bed.post(chat())
    assert (status, answer["error"]["code"]) == (503, "no_instance")
    assert answer["error"]["message"] == "No instance of the model is ready. The cluster was asked for one."
    assert int(headers["Retry-After"]) > 400
