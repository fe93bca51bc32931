"""Streams under stress: readers that leave or stop, answers that break, sessions that are lost."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from sluice.proxy.config import ClusterConfig
from sluice.proxy.requests.context import CLIENT_LEFT
from tests.fakes.wire_relay import EVENTS, Call, FakeRelay, FakeTransport, model
from tests.unit.proxy.conftest import CHAT, Bed, answer_well, chat, config, event, eventually, open_bed


async def endless(call: Call) -> None:
    """Send events until cancelled."""
    call.start(content_type=EVENTS)
    while not call.cancelled.is_set():
        await call.send(event("x" * 1000))
        await asyncio.sleep(0)


async def test_a_client_that_leaves_cancels_its_request_at_once(bed: Bed) -> None:
    bed.relay.answer = endless
    async with bed.http.post(
        f"http://proxy{CHAT}", json=chat(stream=True), headers=bed.headers()
    ) as response:
        await response.content.readany()
        response.close()
    await asyncio.wait_for(bed.relay.calls[0].cancelled.wait(), 5)
    (record,) = await bed.settled()
    assert (record.status, record.code) == (CLIENT_LEFT, "")
    assert record.bytes_out > 0
    assert record.output_tokens > 0


async def test_a_client_that_leaves_before_the_answer_cancels_too(bed: Bed) -> None:
    async def never(call: Call) -> None:
        await call.cancelled.wait()

    bed.relay.answer = never
    task = asyncio.create_task(bed.post(chat()))
    await eventually(lambda: bed.relay.calls)
    task.cancel()
    await asyncio.wait_for(bed.relay.calls[0].cancelled.wait(), 5)
    (record,) = await bed.settled()
    assert (record.status, record.first_byte) == (CLIENT_LEFT, None)


async def test_a_client_that_leaves_within_its_body_leaves_nothing_behind(bed: Bed) -> None:
    head = (
        f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {bed.key}\r\nContent-Length: 1000\r\n\r\n"
    )
    _, writer = await asyncio.open_unix_connection(bed.config.socket)
    writer.write(head.encode() + b'{"model":')
    await eventually(lambda: bed.metric("sluice_proxy_held_body_bytes"))
    writer.close()
    await eventually(lambda: bed.metric("sluice_proxy_held_body_bytes") == 0)
    await eventually(lambda: bed.metric("sluice_proxy_open_requests") == 0)
    assert not bed.relay.calls


async def test_an_answer_that_ended_is_not_cancelled(bed: Bed) -> None:
    await bed.post(chat())
    await bed.post(chat())
    assert not bed.relay.calls[0].cancelled.is_set()
    assert bed.relay.link.wire.open_streams == 0


async def test_a_reader_who_stands_still_stops_his_own_stream_alone(bed: Bed) -> None:
    sent = 0

    async def flood(call: Call) -> None:
        nonlocal sent
        if json.loads(call.body).get("user") != "slow":
            await answer_well(call)
            return
        call.start(content_type=EVENTS)
        for _ in range(2000):
            await call.send(event("x" * 10_000))
            sent += 10_000
        call.end()

    bed.relay.answer = flood
    slow = await bed.http.post(
        f"http://proxy{CHAT}", json=chat(stream=True, user="slow"), headers=bed.headers(), read_bufsize=4096
    )
    for _ in range(3):
        assert (await bed.post(chat()))[0] == 200
    await asyncio.sleep(0.2)
    held = sent
    await asyncio.sleep(0.2)
    assert sent == held < 2_000_000, "the engine was not held back"
    for _ in range(3):
        assert (await bed.post(chat()))[0] == 200
    body = await slow.read()
    assert body.count(b"\n\n") == 2000


async def test_a_reader_who_never_reads_again_is_given_up(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sluice.proxy.requests.pump.STALLED", 0.2)
    bed.relay.answer = endless
    response = await bed.http.post(
        f"http://proxy{CHAT}", json=chat(stream=True), headers=bed.headers(), read_bufsize=4096
    )
    await eventually(bed.relay.calls[0].cancelled.is_set)
    (record,) = await bed.settled()
    assert record.status == CLIENT_LEFT
    response.close()


async def test_a_stream_that_breaks_ends_with_an_error_event(bed: Bed) -> None:
    async def broken(call: Call) -> None:
        call.start(content_type=EVENTS)
        await call.send(event("Good"))
        await call.send(b'data: {"choi')
        call.fail("instance_failed")

    bed.relay.answer = broken
    async with bed.http.post(
        f"http://proxy{CHAT}", json=chat(stream=True), headers=bed.headers()
    ) as response:
        assert response.status == 200
        body = await response.read()
    *_, last, rest = body.split(b"\n\n")
    assert rest == b""
    error = json.loads(last.removeprefix(b"data: "))["error"]
    assert (error["code"], error["request_id"]) == ("instance_failed", response.headers["X-Request-Id"])
    (record,) = await bed.settled()
    assert (record.status, record.code) == (200, "instance_failed")


async def test_a_stream_that_fails_before_its_first_byte_has_a_status_of_its_own(bed: Bed) -> None:
    async def broken(call: Call) -> None:
        call.start(content_type=EVENTS)
        call.fail("instance_failed")

    bed.relay.answer = broken
    status, _, answer = await bed.post(chat(stream=True))
    assert (status, answer["error"]["code"]) == (502, "instance_failed")


async def test_a_session_that_dies_ends_its_streams_with_an_error_event(bed: Bed) -> None:
    async def hang(call: Call) -> None:
        call.start(content_type=EVENTS)
        await call.send(event("Good"))
        await call.cancelled.wait()

    bed.relay.answer = hang
    async with bed.http.post(
        f"http://proxy{CHAT}", json=chat(stream=True), headers=bed.headers()
    ) as response:
        await response.content.readany()
        bed.relay.link.die()
        body = await response.read()
    assert json.loads(body.strip().removeprefix(b"data: "))["error"]["code"] == "cluster_unreachable"


async def test_a_whole_answer_whose_session_dies_is_503(bed: Bed) -> None:
    async def hang(call: Call) -> None:
        call.start()
        await call.send(b'{"half":')
        call.link.die()

    bed.relay.answer = hang
    status, headers, answer = await bed.post(chat())
    assert (status, answer["error"]["code"]) == (503, "cluster_unreachable")
    assert "Retry-After" in headers
    assert len(bed.relay.calls) == 1, "an answer that had begun was requested again"


async def test_a_large_answer_whose_session_dies_is_cut_off_visibly(bed: Bed) -> None:
    async def hang(call: Call) -> None:
        call.start()
        await call.send(b'{"half":"' + b"x" * 400_000)
        call.link.die()

    bed.relay.answer = hang
    async with bed.http.post(f"http://proxy{CHAT}", json=chat(), headers=bed.headers()) as response:
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()


async def test_a_request_whose_session_dies_before_any_answer_is_sent_once_more(bed: Bed) -> None:
    async def die_first(call: Call) -> None:
        if len(bed.relay.calls) == 1:
            call.link.die()
        else:
            await answer_well(call)

    bed.relay.answer = die_first
    status, _, _ = await bed.post(chat())
    assert status == 200
    first, second = bed.relay.calls
    assert first.body == second.body
    assert first.head.id == second.head.id
    assert bed.metric("sluice_proxy_retries_total") == 1
    assert len(await bed.settled()) == 1


async def test_a_request_is_sent_three_times_at_most(bed: Bed) -> None:
    async def die(call: Call) -> None:
        call.link.die()

    bed.relay.answer = die
    status, headers, answer = await bed.post(chat())
    assert (status, answer["error"]["code"]) == (503, "cluster_unreachable")
    assert "Retry-After" in headers
    assert len(bed.relay.calls) == 3


async def test_with_two_sessions_the_other_one_takes_over(tmp_path: Path) -> None:
    async def die_first(call: Call) -> None:
        if len(relay.calls) == 1:
            relay.refuse = None
            call.link.die()
        else:
            await answer_well(call)

    relay = FakeRelay(die_first)
    async with open_bed(config(tmp_path, clusters=2), relay) as bed:
        await eventually(lambda: len(relay.links) == 2)
        assert (await bed.post(chat()))[0] == 200
        first, second = relay.calls
        assert first.link is not second.link


async def test_requests_beyond_the_relays_streams_are_overloaded(tmp_path: Path) -> None:
    async def never(call: Call) -> None:
        await call.cancelled.wait()

    relay = FakeRelay(never)
    relay.limits = relay.limits.__class__(max_streams=6)
    async with open_bed(config(tmp_path), relay) as bed:
        tasks = [asyncio.create_task(bed.post(chat())) for _ in range(2)]
        await eventually(lambda: len(relay.calls) == 2)
        status, headers, answer = await bed.post(chat())
        assert (status, answer["error"]["code"]) == (503, "overloaded")
        assert headers["Retry-After"] == "1"
        for task in tasks:
            task.cancel()


async def test_many_at_once_each_get_their_own_answer(bed: Bed) -> None:
    async def echo(call: Call) -> None:
        await asyncio.sleep(0)
        await call.answer({"echo": json.loads(call.body)["user"]})

    bed.relay.answer = echo
    answers = await asyncio.gather(*(bed.post(chat(user=f"user-{n}", pad="p" * n * 50)) for n in range(100)))
    assert [answer["echo"] for _, _, answer in answers] == [f"user-{n}" for n in range(100)]


async def test_a_reply_from_elsewhere_is_sought_when_the_first_cluster_has_no_instance(
    tmp_path: Path,
) -> None:
    async def by_cluster(call: Call) -> None:
        if call.link.relay is first:
            call.fail("no_instance")
        else:
            await answer_well(call)

    first, second = FakeRelay(by_cluster), FakeRelay(by_cluster)
    second.cluster = "other"
    second.models = [model("smol", ready=1)]
    settings = config(tmp_path, clusters=2)
    settings = replace(settings, clusters=(settings.clusters[0], replace(settings.clusters[1], name="other")))

    class Both(FakeRelay):
        def transport(self, config: ClusterConfig) -> FakeTransport:
            return FakeTransport(first if config.name == "demo" else second)

    async with open_bed(settings, Both(by_cluster)) as bed:
        await eventually(lambda: bed.service.fleet.clusters[1].models_known)
        assert (await bed.post(chat()))[0] == 200
        assert (len(first.calls), len(second.calls)) == (1, 1)
        (record,) = await bed.settled()
        assert record.cluster == "other"
