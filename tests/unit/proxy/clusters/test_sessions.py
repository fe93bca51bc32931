"""The life of a session: states, reconnection, go-away, pings, models, metrics and demand."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from pathlib import Path

import pytest

from sluice.contracts.metrics import Sample
from sluice.proxy.clusters.transport import AuthenticationFailed, HostKeyChanged, TransportError
from tests.fakes.wire_relay import Call, FakeRelay, model
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


@pytest.mark.parametrize(
    ("refusal", "state"),
    [
        (HostKeyChanged("login shows another host key"), "host_key_changed"),
        (AuthenticationFailed("login does not accept the key"), "auth_failed"),
        (TransportError("login:22 cannot be reached"), "down"),
    ],
)
async def test_a_refused_session_says_so_everywhere(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    refusal: TransportError,
    state: str,
) -> None:
    monkeypatch.setattr("sluice.proxy.clusters.keeper.RETURN_SECONDS", 0.0)
    relay = FakeRelay(answer_well)
    relay.refuse = refusal
    caplog.set_level(logging.INFO)
    async with open_bed(config(tmp_path), relay, wait=False) as bed:
        (keeper,) = bed.service.fleet.keepers
        await eventually(lambda: keeper.state == state)
        for status, headers, answer in (await bed.get("/v1/models"), await bed.post(chat())):
            assert (status, answer["error"]["code"]) == (503, "cluster_unreachable")
            assert int(headers["Retry-After"]) >= 1
        health = await bed.service.status.health()
        assert health["status"] == "degraded"
        assert health["clusters"][0]["sessions"][0]["state"] == state
        assert health["clusters"][0]["sessions"][0]["detail"] == str(refusal)
        labels = {"cluster": "demo", "session": "0"}
        assert bed.metric("sluice_proxy_session_up", **labels) == 0
        assert bed.metric("sluice_proxy_session_state", **labels, state=state) == 1
        assert any(getattr(record, "why", "") == str(refusal) for record in caplog.records)
        relay.refuse = None
        await eventually(lambda: keeper.state == "up")
        await eventually(lambda: bed.service.fleet.clusters[0].models_known)
        assert (await bed.post(chat()))[0] == 200


async def test_a_lost_session_comes_back(bed: Bed) -> None:
    bed.relay.link.die()
    await eventually(lambda: len(bed.relay.links) == 2 and bed.service.fleet.keepers[0].state == "up")
    assert (await bed.post(chat()))[0] == 200


async def test_a_request_that_comes_while_the_process_starts_is_held_and_answered(tmp_path: Path) -> None:
    async with open_bed(config(tmp_path), FakeRelay(answer_well), wait=False) as bed:
        assert not bed.service.fleet.clusters[0].models_known
        assert (await bed.post(chat()))[0] == 200


async def test_a_request_while_a_session_comes_back_is_held_and_answered(bed: Bed) -> None:
    bed.relay.refuse = TransportError("not yet")
    bed.relay.link.die()
    await eventually(lambda: bed.service.fleet.keepers[0].state == "down")
    asking = asyncio.create_task(bed.post(chat()))
    await eventually(lambda: bed.service.fleet.clusters[0].demand.waiting(0) == {"smol": 1})
    bed.relay.refuse = None
    assert (await asking)[0] == 200


async def test_the_back_off_grows_and_is_bounded(bed: Bed) -> None:
    keeper = bed.service.fleet.keepers[0]
    keeper.config = replace(keeper.config, backoff_max=30.0)
    delays = []
    for failures in (1, 4, 40):
        keeper._failures = failures
        delays.append(keeper._backoff())
    assert 0.5 <= delays[0] <= 1.0
    assert 4.0 <= delays[1] <= 8.0
    assert 15.0 <= delays[2] <= 30.0


async def test_a_silent_relay_is_lost_by_its_missing_pong(tmp_path: Path) -> None:
    relay = FakeRelay(answer_well)
    settings = config(tmp_path)
    settings = replace(
        settings, clusters=(replace(settings.clusters[0], ping_interval=0.05, ping_timeout=1.0),)
    )
    async with open_bed(settings, relay) as bed:
        await asyncio.sleep(0.3)
        assert len(relay.links) == 1, "a session whose pings are answered was lost"
        relay.silent = True
        await eventually(lambda: bed.service.fleet.keepers[0].state == "down")
        assert "ping" in bed.service.fleet.keepers[0].detail
        relay.silent = False
        await eventually(lambda: bed.service.fleet.keepers[0].state == "up")


async def test_a_relay_that_says_no_hello_is_given_up(tmp_path: Path) -> None:
    relay = FakeRelay(answer_well)
    relay.silent = True
    settings = config(tmp_path)
    settings = replace(settings, clusters=(replace(settings.clusters[0], connect_timeout=0.1),))

    async with open_bed(settings, relay, wait=False) as bed:
        keeper = bed.service.fleet.keepers[0]
        for link in relay.links:
            link.receiver = None
        await eventually(lambda: keeper.state in ("down", "up"))


async def test_after_go_away_open_streams_end_in_peace_and_new_ones_go_to_a_new_session(bed: Bed) -> None:
    bed.relay.answer = slow = TwoParts()
    response = await bed.http.post(f"http://proxy{CHAT}", json=chat(stream=True), headers=bed.headers())
    assert await response.content.readany() == event("first")
    old = bed.relay.link
    old.wire.go_away("age", "the session is a day old")
    old.pump()
    await eventually(lambda: len(bed.relay.links) == 2 and bed.service.fleet.keepers[0].state == "up")
    bed.relay.answer = answer_well
    assert (await bed.post(chat()))[0] == 200
    assert bed.relay.calls[-1].link is not old
    assert bed.service.fleet.keepers[0].open_streams >= 1
    slow.go_on.set()
    assert await response.read() == event("second")
    await eventually(lambda: old.closed)


async def test_a_session_is_replaced_before_it_goes_and_no_request_notices(tmp_path: Path) -> None:
    settings = config(tmp_path)
    settings = replace(settings, clusters=(replace(settings.clusters[0], session_age=0.2),))
    relay = FakeRelay(answer_well)
    async with open_bed(settings, relay) as bed:
        keeper = bed.service.fleet.keepers[0]
        up = []
        keeper.on_change = lambda: up.append(keeper.live)
        while len(relay.links) < 5:
            assert (await bed.post(chat()))[0] == 200
        assert all(up), "there was a moment without a session"
        assert bed.metric("sluice_proxy_retries_total") in (None, 0)
        await eventually(lambda: sum(not link.closed for link in relay.links) <= 2)
        assert all(link.wire.peer_going_away for link in relay.links if link.closed)


async def test_a_stream_goes_on_while_its_session_is_replaced(tmp_path: Path) -> None:
    settings = config(tmp_path)
    settings = replace(settings, clusters=(replace(settings.clusters[0], session_age=0.1),))
    slow = TwoParts()
    async with open_bed(settings, FakeRelay(slow)) as bed:
        response = await bed.http.post(f"http://proxy{CHAT}", json=chat(stream=True), headers=bed.headers())
        assert await response.content.readany() == event("first")
        carrying = bed.relay.calls[0].link
        await eventually(lambda: bed.relay.link is not carrying)
        await asyncio.sleep(0.3)
        assert not carrying.closed
        assert bed.service.fleet.keepers[0].open_streams >= 1
        slow.go_on.set()
        assert await response.read() == event("second")
        await eventually(lambda: carrying.closed)


async def test_a_session_that_cannot_be_replaced_serves_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = config(tmp_path)
    settings = replace(settings, clusters=(replace(settings.clusters[0], session_age=0.1),))
    async with open_bed(settings, FakeRelay(answer_well)) as bed:
        bed.relay.refuse = TransportError("login:22 cannot be reached")
        link = bed.relay.link
        await eventually(lambda: sum("cannot be replaced" in record.message for record in caplog.records) > 1)
        assert (await bed.post(chat()))[0] == 200
        assert bed.service.fleet.keepers[0].state == "up"
        assert bed.relay.link is link
        bed.relay.refuse = None
        await eventually(lambda: bed.relay.link is not link)
        assert (await bed.post(chat()))[0] == 200


async def test_a_session_that_drains_too_long_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sluice.proxy.clusters.keeper.DRAIN_SECONDS", 0.1)
    slow = TwoParts()
    async with open_bed(config(tmp_path), FakeRelay(slow)) as bed:
        response = await bed.http.post(f"http://proxy{CHAT}", json=chat(stream=True), headers=bed.headers())
        assert await response.content.readany() == event("first")
        bed.relay.link.wire.go_away("age", "the session is a day old")
        bed.relay.link.pump()
        assert b'"code":"cluster_unreachable"' in await response.read()


async def test_a_request_that_crosses_a_go_away_is_answered_by_the_next_session(bed: Bed) -> None:
    # Not pumped: the relay's frame is sent together with its answer to the request.
    bed.relay.link.wire.go_away("age", "the session is a day old")
    assert (await bed.post(chat()))[0] == 200
    assert bed.relay.calls[-1].link is bed.relay.links[1]


async def test_a_closed_cluster_says_closed(bed: Bed) -> None:
    bed.relay.link.wire.go_away("closed", "/etc/sluice/closed exists")
    bed.relay.refuse = TransportError("not asked")
    bed.relay.link.pump()
    keeper = bed.service.fleet.keepers[0]
    await eventually(lambda: keeper.state == "closed")
    status, headers, answer = await bed.post(chat())
    assert (status, answer["error"]["code"]) == (503, "closed")
    assert "Retry-After" in headers


async def test_a_relay_that_breaks_the_protocol_is_dropped(bed: Bed) -> None:
    link = bed.relay.link
    assert link.receiver is not None
    link.receiver.data_received(b"\x00\x00\x00\x02\x00\x00\x00\x00")
    await eventually(lambda: link.closed)
    await eventually(lambda: len(bed.relay.links) == 2)


async def test_requests_sent_away_count_as_waiting_until_their_time_has_passed(bed: Bed) -> None:
    async def none(call: Call) -> None:
        call.fail("no_instance", 2.0)

    bed.relay.answer = none
    await asyncio.gather(*(bed.post(chat()) for _ in range(3)))
    await eventually(lambda: {"smol": 3} in bed.relay.demand)
    await eventually(lambda: bed.relay.demand[-1] == {})


async def test_models_follow_the_relay(bed: Bed) -> None:
    bed.relay.models = [model("new")]
    await eventually(lambda: "new" in bed.service.fleet.clusters[0].models)
    assert (await bed.post(chat()))[0] == 404
    assert (await bed.post(chat(model="new")))[0] == 200


async def test_the_figures_of_relay_and_scheduler_are_passed_on(tmp_path: Path) -> None:
    relay = FakeRelay(answer_well)
    relay.samples = [
        Sample("sluice_scheduler_model_ready", "gauge", "Ready?", 1.0, {"model": "smol"}),
        Sample("sluice_scheduler_submissions_total", "counter", "Jobs.", 4.0),
        Sample("sluice_relay_streams", "gauge", "Streams.", 2.0),
        Sample("sluice_relay_streams", "counter", "Another kind.", 9.0),
    ]
    async with open_bed(config(tmp_path, clusters=2), relay) as bed:
        await eventually(lambda: all(keeper.samples for keeper in bed.service.fleet.keepers))
        text = bed.service.metrics.render().decode()
        assert 'sluice_scheduler_model_ready{cluster="demo",model="smol"} 1.0' in text
        assert text.count("sluice_scheduler_submissions_total{") == 1
        assert 'sluice_relay_streams{cluster="demo",session="0"} 2.0' in text
        assert 'sluice_relay_streams{cluster="demo",session="1"} 2.0' in text
        assert "9.0" not in [line.split()[-1] for line in text.splitlines() if "sluice_relay" in line]
        relay.refuse = TransportError("gone")
        for link in relay.links:
            link.die()
        await eventually(lambda: not any(keeper.samples for keeper in bed.service.fleet.keepers))
        assert "sluice_scheduler_model_ready{" not in bed.service.metrics.render().decode()
