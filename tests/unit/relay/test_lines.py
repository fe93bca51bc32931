"""The connections to instances: made in advance, shared, lost, made again, left alone, dropped."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path

import pytest

from sluice.front.identity import Identity
from sluice.relay import instances
from sluice.relay.instances import Line
from tests.unit.relay.bed import MODEL, Bed, Behaviour, bed, chat, routed, until


def line(running: Bed, number: int = 0) -> Line:
    """Return the session's line to an instance."""
    return running.session._services.lines.of(running.instances[number])


async def test_an_instance_is_connected_to_before_anybody_asks(tmp_path: Path, identity: Identity) -> None:
    async with bed(tmp_path, identity, Behaviour(), Behaviour()) as running:
        await until(lambda: all(front.accepted for front in running.fronts))
        await until(lambda: line(running, 0).open and line(running, 1).open)
        assert await running.sample("sluice_relay_instance_connections", model=MODEL) == 2


async def test_requests_share_one_connection(tmp_path: Path, identity: Identity) -> None:
    async with bed(tmp_path, identity, Behaviour(delay=0.01)) as running:
        running.publish(concurrency=64)
        begun = [await running.client.begin(MODEL, chat()) for _ in range(50)]
        for answer in begun:
            await running.client.wait(answer)
    assert {answer.code for answer in begun} == {""}
    assert running.fronts[0].accepted == 1


async def test_a_connection_is_dropped_with_its_instance(tmp_path: Path, identity: Identity) -> None:
    async with bed(tmp_path, identity, Behaviour(tokens=6, delay=0.3)) as running:
        answer = await running.client.begin(MODEL, chat(stream=True))
        await until(lambda: answer.body)
        running.publish({"other": routed([])})
        await until(lambda: running.session._services.lines._leaving)
        assert running.fronts[0].endpoints
        await running.client.wait(answer)
        await until(lambda: not running.fronts[0].endpoints)
        await until(lambda: not running.session._services.lines._leaving)
    assert answer.ended


async def test_a_draining_instance_keeps_its_connection_for_a_while(
    tmp_path: Path, identity: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(instances, "IDLE_SECONDS", 1.5)
    async with bed(tmp_path, identity, Behaviour()) as running:
        await until(lambda: running.fronts[0].endpoints)
        began = time.monotonic()
        running.publish(instances=[replace(running.instances[0], state="draining")])
        await until(lambda: not running.fronts[0].endpoints)
        assert time.monotonic() - began > 1
        running.publish()
        await until(lambda: running.fronts[0].endpoints)


async def test_an_instance_of_the_same_name_elsewhere_is_another(tmp_path: Path, identity: Identity) -> None:
    async with bed(tmp_path, identity, Behaviour(), Behaviour()) as running:
        first = await running.client.request(MODEL, chat())
        moved = replace(running.instances[0], port=running.fronts[1].port)
        running.publish(instances=[moved])
        second = await running.client.request(MODEL, chat())
        await until(lambda: not running.fronts[0].endpoints)
    assert (first.code, second.code) == ("", "")
    assert running.fronts[1].received


async def test_a_stale_connection_is_made_anew_and_does_not_count(tmp_path: Path, identity: Identity) -> None:
    async with bed(tmp_path, identity, Behaviour(delay=0.02)) as running:
        await until(lambda: line(running).open)
        begun = [await running.client.begin(MODEL, chat()) for _ in range(4)]
        await until(lambda: len(running.received()) == 4)
        running.fronts[0].cut()
        for answer in begun:
            await running.client.wait(answer)
        retries = await running.sample("sluice_relay_retries_total")
    assert {answer.code for answer in begun} == {""}
    assert running.fronts[0].accepted == 2
    assert len(running.received()) == 8
    assert retries == 4


async def test_a_request_that_breaks_every_connection_ends(tmp_path: Path, identity: Identity) -> None:
    async with bed(tmp_path, identity, *[Behaviour(fault="cut")] * 3) as running:
        await until(lambda: all(line(running, number).open for number in range(3)))
        answer = await running.client.request(MODEL, chat())
    assert answer.code == "instance_failed"
    # Twice at the first, whose connection was older than the request, and so at the second.
    assert len(running.received()) == 4


async def test_a_front_that_speaks_nonsense_costs_its_own_connection_alone(
    tmp_path: Path, identity: Identity
) -> None:
    async with bed(
        tmp_path, identity, Behaviour(fault="nonsense"), Behaviour(tokens=4, delay=0.1)
    ) as running:
        running.publish({MODEL: routed(running.instances[:1]), "other": routed(running.instances[1:])})
        other = await running.client.begin("other", chat(stream=True, model="other"))
        answer = await running.client.request(MODEL, chat())
        await running.client.wait(other)
        losses = await running.sample("sluice_relay_instance_losses_total", reason="protocol")
    assert answer.code == "instance_failed"
    assert other.ended
    assert losses == 1


async def test_an_instance_that_keeps_failing_is_left_alone_and_tried_again(
    tmp_path: Path, identity: Identity
) -> None:
    async with bed(tmp_path, identity, Behaviour(fault="instance_failed")) as running:
        front = running.fronts[0]
        for _ in range(3):
            assert (await running.client.request(MODEL, chat())).code == "no_instance"
        refused = await running.client.request(MODEL, chat())
        assert len(front.received) == 3
        assert await running.sample("sluice_relay_breaker_open", model=MODEL) == 1
        front.behaviour = Behaviour(delay=0.02)
        await until(lambda: line(running).breaker.allows(time.monotonic()))
        trial = await running.client.begin(MODEL, chat())
        await until(lambda: len(front.received) == 4)
        beside = await running.client.request(MODEL, chat())
        await running.client.wait(trial)
        after = await running.client.request(MODEL, chat())
        assert await running.sample("sluice_relay_breaker_open", model=MODEL) == 0
    assert refused.error is not None
    assert refused.error.retry_after
    assert (refused.code, trial.code, beside.code, after.code) == ("no_instance", "", "no_instance", "")


async def test_others_take_over_from_an_instance_that_keeps_failing(
    tmp_path: Path, identity: Identity
) -> None:
    async with bed(tmp_path, identity, Behaviour(fault="instance_failed"), Behaviour()) as running:
        answers = [await running.client.request(MODEL, chat()) for _ in range(20)]
    assert {answer.code for answer in answers} == {""}
    assert len(running.fronts[0].received) <= 4


async def test_an_instance_that_cannot_be_reached_is_asked_less_and_less(
    tmp_path: Path, identity: Identity
) -> None:
    async with bed(tmp_path, identity, Behaviour()) as running:
        await until(lambda: line(running).open)
        port = running.fronts[0].port
        running.fronts[0].stop()
        await until(lambda: line(running).breaker.open, 10)
        assert not line(running).standing
        await running.fronts[0].start(port)
        await until(lambda: line(running).open, 10)
        await until(lambda: line(running).breaker.allows(time.monotonic()))
        answer = await running.client.request(MODEL, chat())
        assert not line(running).breaker.open
    assert answer.code == ""


async def test_what_other_relays_have_there_counts(tmp_path: Path, identity: Identity) -> None:
    hang = Behaviour(fault="hang")
    async with bed(tmp_path, identity, hang, hang) as running:
        running.publish(concurrency=4)
        await until(lambda: line(running, 0).open and line(running, 1).open)
        running.fronts[0].report_load(4)
        await until(lambda: line(running).load == 4)
        for _ in range(4):
            await running.client.begin(MODEL, chat())
        await until(lambda: len(running.received()) == 4)
        # The other has fewer until both have four.
        assert len(running.fronts[1].received) == 4
        # Its own are part of what the front reports.
        running.fronts[1].report_load(4)
        await asyncio.sleep(0.1)
        assert line(running, 1).load == 4
        for _ in range(2):
            await running.client.begin(MODEL, chat())
        beyond = await running.client.request(MODEL, chat())
    assert beyond.code == "overloaded"


async def test_a_full_front_sends_requests_to_the_next(tmp_path: Path, identity: Identity) -> None:
    async with bed(tmp_path, identity, Behaviour(fault="overloaded"), Behaviour()) as running:
        answers = [await running.client.request(MODEL, chat()) for _ in range(6)]
        assert not line(running).breaker.open
        running.publish(instances=running.instances[:1])
        alone = await running.client.request(MODEL, chat())
    assert {answer.code for answer in answers} == {""}
    assert alone.code == "overloaded"
    assert alone.error is not None
    assert "canary" not in alone.error.message


async def test_a_front_that_goes_away_ends_its_streams_and_is_asked_again(
    tmp_path: Path, identity: Identity
) -> None:
    async with bed(tmp_path, identity, Behaviour(tokens=4, delay=0.1)) as running:
        answer = await running.client.begin(MODEL, chat(stream=True))
        await until(lambda: answer.body)
        (endpoint,) = running.fronts[0].endpoints
        endpoint.connection.go_away("shutdown", "the job ends")
        endpoint.wake()
        connection = line(running).endpoint
        assert connection is not None
        await until(lambda: connection.connection.peer_going_away)
        refused = await running.client.request(MODEL, chat())
        await running.client.wait(answer)
        await until(lambda: running.fronts[0].accepted == 2)
        after = await running.client.request(MODEL, chat())
    assert answer.ended
    assert (refused.code, after.code) == ("no_instance", "")
