"""The connections to instances: opened in advance, shared, lost, opened again, not used, dropped."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path
from typing import Optional

import pytest

from sluice.contracts.heads import MOST_BREAKS
from sluice.front.identity import Identity
from sluice.relay import connections, handshake
from sluice.relay.connections import InstanceConnection
from sluice.wire import events
from sluice.wire.connection import Connection, Side
from sluice.wire.frames import FrameType, encode
from sluice.wire.hello import Hello, Limits
from sluice.wire.links import RELAY_FRONT
from tests.fakes.routed import routed
from tests.unit.relay.bed import MODEL, Bed, Behaviour, FakeFront, bed, chat, until


def connection(running: Bed, number: int = 0) -> InstanceConnection:
    """Return the session's connection to an instance."""
    return running.session._services.connections.of(running.instances[number])


async def test_an_instance_is_connected_to_before_anybody_asks(tmp_path: Path, identity: Identity) -> None:
    async with bed(tmp_path, identity, Behaviour(), Behaviour()) as running:
        await until(lambda: all(front.accepted for front in running.fronts))
        await until(lambda: connection(running, 0).open and connection(running, 1).open)
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
        await until(lambda: running.session._services.connections._retired)
        assert running.fronts[0].endpoints
        await running.client.wait(answer)
        await until(lambda: not running.fronts[0].endpoints)
        await until(lambda: not running.session._services.connections._retired)
    assert answer.ended


async def test_a_draining_instance_keeps_its_connection_for_a_while(
    tmp_path: Path, identity: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "IDLE_SECONDS", 1.5)
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
        await until(lambda: connection(running).open)
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
        await until(lambda: all(connection(running, number).open for number in range(3)))
        answer = await running.client.request(MODEL, chat())
    assert answer.code == "instance_failed"
    # Both at the first instance, whose connection was older than the request: two broken attempts end it.
    assert len(running.received()) == 2


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
        for number in range(3):
            broken = await running.client.request(MODEL, chat(), user=f"u-{number}")
            assert broken.code == "instance_failed"
        refused = await running.client.request(MODEL, chat(), user="other")
        assert len(front.received) == 3
        assert await running.sample("sluice_relay_breaker_open", model=MODEL) == 1
        front.behaviour = Behaviour(delay=0.02)
        await until(lambda: connection(running).breaker.allows(time.monotonic()))
        trial = await running.client.begin(MODEL, chat(), user="other")
        await until(lambda: len(front.received) == 4)
        beside = await running.client.request(MODEL, chat(), user="third")
        await running.client.wait(trial)
        after = await running.client.request(MODEL, chat(), user="third")
        assert await running.sample("sluice_relay_breaker_open", model=MODEL) == 0
    assert refused.error is not None
    assert refused.error.retry_after
    assert (refused.code, trial.code, beside.code, after.code) == ("no_instance", "", "no_instance", "")


async def test_one_users_broken_attempts_shut_nobody_else_out(tmp_path: Path, identity: Identity) -> None:
    async with bed(tmp_path, identity, Behaviour(fault="instance_failed")) as running:
        front = running.fronts[0]
        for number in range(3):
            broken = await running.client.request(MODEL, chat(seed=number))
            assert (broken.code, broken.error and broken.error.breaks) == ("instance_failed", 1)
        refused = await running.client.request(MODEL, chat(seed=4))
        assert len(front.received) == 3
        front.behaviour = Behaviour()
        assert await running.sample("sluice_relay_breaker_open", model=MODEL) == 0
        other = await running.client.request(MODEL, chat(), user="other")
        again = await running.client.request(MODEL, chat())
    # After this code the proxy does not try again, and does not hold other requests back.
    assert refused.error is not None
    assert (refused.code, refused.error.breaks) == ("instance_failed", MOST_BREAKS)
    assert refused.error.retry_after
    assert (other.code, again.code) == ("", "")


async def test_what_breaks_while_others_are_answered_is_the_requests_fault(
    tmp_path: Path, identity: Identity
) -> None:
    async with bed(tmp_path, identity, Behaviour(tokens=400, delay=0.01)) as running:
        front = running.fronts[0]
        other = await running.client.begin(MODEL, chat(stream=True), user="other")
        await until(lambda: other.body)
        front.behaviour = replace(front.behaviour, fault="late")
        for number in range(6):
            broken = await running.client.request(MODEL, chat(), user=f"u-{number}")
            assert broken.code == "instance_failed"
        assert not connection(running).breaker.open
        assert not other.done.is_set()


async def test_breaks_that_the_proxy_saw_elsewhere_count(tmp_path: Path, identity: Identity) -> None:
    async with bed(tmp_path, identity, *[Behaviour(fault="instance_failed")] * 2) as running:
        answer = await running.client.request(MODEL, chat(), breaks=1)
    assert (answer.code, answer.error and answer.error.breaks) == ("instance_failed", 2)
    assert len(running.received()) == 1


async def test_an_engine_that_does_not_listen_is_left_alone_whoever_asks(
    tmp_path: Path, identity: Identity
) -> None:
    async with bed(tmp_path, identity, Behaviour(fault="no_instance")) as running:
        for _ in range(3):
            assert (await running.client.request(MODEL, chat())).code == "no_instance"
        assert connection(running).breaker.open
        assert (await running.client.request(MODEL, chat(), user="other")).code == "no_instance"
        assert len(running.received()) == 3


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
        await until(lambda: connection(running).open)
        port = running.fronts[0].port
        running.fronts[0].stop()
        await until(lambda: connection(running).breaker.open)
        assert not connection(running).exists
        await running.fronts[0].start(port)
        await until(lambda: connection(running).open)
        await until(lambda: connection(running).breaker.allows(time.monotonic()))
        answer = await running.client.request(MODEL, chat())
        assert not connection(running).breaker.open
    assert answer.code == ""


async def test_what_other_relays_have_there_counts(tmp_path: Path, identity: Identity) -> None:
    hang = Behaviour(fault="hang")
    async with bed(tmp_path, identity, hang, hang) as running:
        running.publish(concurrency=4)
        await until(lambda: connection(running, 0).open and connection(running, 1).open)
        running.fronts[0].report_load(4)
        await until(lambda: connection(running).load == 4)
        for _ in range(4):
            await running.client.begin(MODEL, chat())
        await until(lambda: len(running.received()) == 4)
        # The other instance has fewer requests until both have four.
        assert len(running.fronts[1].received) == 4
        # The front's report includes the requests of this relay.
        running.fronts[1].report_load(4)
        await asyncio.sleep(0.1)
        assert connection(running, 1).load == 4
        for _ in range(2):
            await running.client.begin(MODEL, chat())
        beyond = await running.client.request(MODEL, chat())
    assert beyond.code == "overloaded"


async def test_a_full_front_sends_requests_to_the_next(tmp_path: Path, identity: Identity) -> None:
    async with bed(tmp_path, identity, Behaviour(fault="overloaded"), Behaviour()) as running:
        answers = [await running.client.request(MODEL, chat()) for _ in range(6)]
        assert not connection(running).breaker.open
        running.publish(instances=running.instances[:1])
        alone = await running.client.request(MODEL, chat())
    assert {answer.code for answer in answers} == {""}
    assert alone.code == "overloaded"
    assert alone.error is not None
    assert "canary" not in alone.error.message


def send_away(front: FakeFront, code: str = "shutdown") -> None:
    """Say go-away on every connection."""
    for endpoint in front.endpoints:
        endpoint.connection.go_away(code, "the job ends")
        endpoint.wake()


async def test_a_connection_that_a_front_ends_for_itself_alone_is_made_again(
    tmp_path: Path, identity: Identity
) -> None:
    async with bed(tmp_path, identity, Behaviour(tokens=4, delay=0.1)) as running:
        answer = await running.client.begin(MODEL, chat(stream=True))
        await until(lambda: answer.body)
        send_away(running.fronts[0], "closed")
        endpoint = connection(running).endpoint
        assert endpoint is not None
        await until(lambda: endpoint.connection.peer_going_away)
        refused = await running.client.request(MODEL, chat())
        await running.client.wait(answer)
        await until(lambda: running.fronts[0].accepted == 2)
        after = await running.client.request(MODEL, chat())
    assert answer.ended
    assert (refused.code, after.code) == ("no_instance", "")


async def test_an_instance_that_leaves_gets_no_new_request_and_ends_its_streams(
    tmp_path: Path, identity: Identity
) -> None:
    async with bed(tmp_path, identity, *[Behaviour(tokens=6, delay=0.05)] * 2) as running:
        await until(lambda: connection(running, 0).open and connection(running, 1).open)
        begun = [await running.client.begin(MODEL, chat(stream=True)) for _ in range(4)]
        await until(lambda: all(answer.body for answer in begun))
        old, new = running.fronts
        send_away(old)
        await until(lambda: connection(running).leaving)
        had = len(old.received)
        later = [await running.client.request(MODEL, chat()) for _ in range(6)]
        status = await running.client.verb("models")
        for answer in begun:
            await running.client.wait(answer)
        await until(lambda: not old.endpoints)
        # Long enough to open a connection in advance.
        await asyncio.sleep(1.5)
        assert (len(old.received), old.accepted) == (had, 1)
        assert had + len(new.received) == 10
        assert await running.sample("sluice_relay_breaker_open", model=MODEL) == 0
        assert await running.sample("sluice_relay_instance_losses_total") == 0
    assert status.document()["models"][0]["ready"] == 1
    assert {answer.code for answer in (*begun, *later)} == {""}
    assert all(answer.ended for answer in begun)


async def test_what_a_leaving_instance_refuses_or_drops_goes_elsewhere(
    tmp_path: Path, identity: Identity
) -> None:
    async with bed(tmp_path, identity, *[Behaviour(delay=0.1)] * 2) as running:
        await until(lambda: connection(running, 0).open and connection(running, 1).open)
        begun = [await running.client.begin(MODEL, chat()) for _ in range(4)]
        await until(lambda: len(running.received()) == 4)
        old, new = running.fronts
        had = len(old.received)
        assert had
        # It was on its way when the front sent its go-away: the front's connection refuses it.
        for endpoint in old.endpoints:
            endpoint.connection.go_away("shutdown", "the job ends")
        crossing = [await running.client.begin(MODEL, chat()) for _ in range(4)]
        await until(lambda: connection(running).leaving)
        old.cut()
        for answer in (*begun, *crossing):
            await running.client.wait(answer)
        assert await running.sample("sluice_relay_breaker_open", model=MODEL) == 0
        assert await running.sample("sluice_relay_instance_losses_total", reason="broken off") == 0
    assert {answer.code for answer in (*begun, *crossing)} == {""}
    assert (len(old.received), old.accepted, len(new.received)) == (had, 1, 8)


@pytest.mark.parametrize("key", ["", "x" * 43])
async def test_an_instance_with_another_key_is_left_alone_and_the_log_says_what_it_may_be(
    tmp_path: Path, identity: Identity, caplog: pytest.LogCaptureFixture, key: str
) -> None:
    """A front tells unauthenticated peers nothing: the close counts as a failure and opens the breaker."""
    async with bed(tmp_path, identity, Behaviour(), Behaviour()) as running:
        await until(lambda: connection(running, 0).open and connection(running, 1).open)
        running.fronts[0].identity = replace(identity, key=key)
        running.fronts[0].cut()
        await until(lambda: not connection(running, 0).open)
        answers = [await running.client.request(MODEL, chat()) for _ in range(6)]
        await until(lambda: connection(running, 0).breaker.open)
        assert await running.sample("sluice_relay_instance_losses_total", reason="no hello") >= 1
        assert not running.fronts[0].received
        assert not connection(running, 0).leaving, "it would be tried again"
    assert {answer.code for answer in answers} == {""}
    told = [record for record in caplog.records if "another key" in record.getMessage()]
    assert {vars(record)["instance"] for record in told} == {running.instances[0].id}
    assert identity.key not in caplog.text


async def test_a_model_whose_last_instance_leaves_is_not_called_ready(
    tmp_path: Path, identity: Identity
) -> None:
    async with bed(tmp_path, identity, Behaviour()) as running:
        await until(lambda: connection(running).open)
        running.publish(starting=1)
        send_away(running.fronts[0])
        await until(lambda: connection(running).leaving)
        (model,) = (await running.client.verb("models")).document()["models"]
        refused = await running.client.request(MODEL, chat())
        # The job runs again with the same id, and with a new certificate and port.
        front = FakeFront(running.identity, Behaviour())
        await front.start()
        running.publish(instances=[replace(running.instances[0], port=front.port)])
        served = await running.client.request(MODEL, chat())
        front.stop()
    assert (model["status"], model["ready"], model["starting"]) == ("starting", 0, 1)
    assert refused.error is not None
    assert (refused.code, served.code) == ("no_instance", "")
    assert refused.error.retry_after
    # The table still calls the model ready; the message must not.
    assert refused.error.message == "the model's instances have ended, others are starting"


async def test_requests_are_counted_by_instance(tmp_path: Path, identity: Identity) -> None:
    async with bed(tmp_path, identity, *[Behaviour(tokens=6, delay=0.3)] * 2) as running:
        begun = [await running.client.begin(MODEL, chat(stream=True)) for _ in range(4)]
        await until(lambda: all(answer.body for answer in begun))
        await until(lambda: running.demand()["models"].get(MODEL, {}).get("instances"))
        counted = running.demand()["models"][MODEL]
        for answer in begun:
            await running.client.wait(answer)
        await until(lambda: not running.demand()["models"][MODEL]["instances"])
    assert counted["instances"] == {one.id: 2 for one in running.instances}
    assert counted["running"] == 4


class Pipe(asyncio.Transport):
    """A transport that accepts what is written, and notes whether it is read."""

    def __init__(self) -> None:
        super().__init__()
        self.reading = True

    def write(self, data: object) -> None:
        """Take it."""

    def set_write_buffer_limits(self, high: Optional[int] = None, low: Optional[int] = None) -> None:
        """Return 0: nothing waits to be written."""

    def pause_reading(self) -> None:
        """Note it."""
        self.reading = False

    def resume_reading(self) -> None:
        """Note it."""
        self.reading = True

    def is_closing(self) -> bool:
        """Whether it is closing."""
        return False


async def test_a_front_that_floods_with_tiny_frames_leaves_the_others_their_turns() -> None:
    taken: list[int] = []
    endpoint = handshake.PacedEndpoint(
        Connection(Side.CLIENT, Hello("relay", Limits()), RELAY_FRONT, key="k" * 43),
        {events.LoadReported: lambda event: taken.append(event.running)},
        on_lost=lambda _: None,
    )
    front = Connection(Side.SERVER, Hello("front", Limits()))
    pipe = Pipe()
    endpoint.connection_made(pipe)
    frames = [encode(FrameType.LOAD, 0, number.to_bytes(4, "big")) for number in range(20_000)]
    most = handshake.TURN_BYTES // len(frames[0])
    endpoint.data_received(front.data_to_send() + b"".join(frames[:15_000]))
    # Bytes that TLS had decrypted before the pause.
    endpoint.data_received(b"".join(frames[15_000:]))
    turns = 0
    while len(taken) < len(frames):
        assert not pipe.reading
        before = len(taken)
        await asyncio.sleep(0)
        assert len(taken) - before <= most + 1
        turns += 1
        assert turns < 1000
    assert taken == list(range(20_000))
    assert turns > 10
    assert pipe.reading


async def test_what_came_before_the_end_of_a_connection_is_taken(
    tmp_path: Path, identity: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handshake, "TURN_BYTES", 512)
    async with bed(tmp_path, identity, Behaviour(tokens=8_000)) as running:
        await until(lambda: connection(running).open)
        answer = await running.client.begin(MODEL, chat())
        await until(lambda: running.fronts[0].received and running.fronts[0].received[0].finished)
        for endpoint in tuple(running.fronts[0].endpoints):
            endpoint.close("shutdown", "the job ends")
        await running.client.wait(answer)
    assert answer.code == ""
    assert len(answer.body) > 24_000
