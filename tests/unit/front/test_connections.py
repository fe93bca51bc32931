"""Requests through a front: what reaches the engine, what comes back, what stops the work."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from sluice.front import connections
from sluice.front.config import EngineAddress
from sluice.front.identity import Identity
from sluice.wire.hello import Limits
from tests.fakes.engine import Behaviour, StubEngine
from tests.felt import Stopwatch
from tests.unit.front.bed import CHAT, REQUEST_ID, bed, chat, front, scripted, until


async def test_passes_a_request_on_and_its_answer_back(tmp_path: Path, identity: Identity) -> None:
    async with bed(tmp_path, identity) as (_, relay, engine):
        answer = await relay.ask("POST", CHAT, chat())
    assert answer.outcome == 200
    assert answer.head is not None
    assert answer.head.content_type == "application/json"
    assert json.loads(answer.body)["choices"][0]["message"]["content"] == "ab " * 8
    assert engine.requests()[0].body == chat()


async def test_forwards_only_the_headers_of_the_contract(tmp_path: Path, identity: Identity) -> None:
    async with bed(tmp_path, identity) as (_, relay, engine):
        await relay.ask("POST", CHAT, chat())
    assert engine.requests()[0].headers == {
        "host": "engine",
        "accept": "application/json, text/event-stream",
        "content-type": "application/json",
        "content-length": str(len(chat())),
        "x-request-id": REQUEST_ID,
    }


async def test_streams_events_as_they_come(tmp_path: Path, identity: Identity) -> None:
    async with bed(tmp_path, identity, Behaviour(tokens=5, delay=0.05)) as (_, relay, _engine):
        answer = await relay.ask("POST", CHAT, chat(True))
    assert answer.head is not None
    assert answer.head.content_type == "text/event-stream"
    assert answer.body.endswith(b"data: [DONE]\n\n")
    assert len(answer.times) >= 5
    assert answer.times[-1] - answer.times[0] > 0.1


async def test_many_requests_at_once_on_one_connection(tmp_path: Path, identity: Identity) -> None:
    async with bed(tmp_path, identity, Behaviour(tokens=5, delay=0.02), concurrency=32) as (_, relay, engine):
        answers = [relay.start("POST", CHAT, chat(number % 2 == 0)) for number in range(64)]
        await until(lambda: all(answer.over for answer in answers))
    assert [answer.outcome for answer in answers] == [200] * 64
    assert len(engine.requests()) == 64


async def test_under_load_tokens_leave_together_and_none_waits_long(
    tmp_path: Path, identity: Identity
) -> None:
    async with bed(tmp_path, identity, Behaviour(tokens=20, delay=0.02), concurrency=32) as (
        _,
        relay,
        _engine,
    ):
        answers = [relay.start("POST", CHAT, chat(True)) for _ in range(40)]
        await until(lambda: all(answer.over for answer in answers))
    assert all(answer.body.count(b"data: ") == 22 for answer in answers)


async def test_health_is_the_engines(tmp_path: Path, identity: Identity) -> None:
    async with bed(tmp_path, identity) as (_, relay, engine):
        answer = await relay.ask("GET", "/health")
    assert answer.outcome == 200
    assert json.loads(answer.body) == {"version": 1, "status": "ok"}
    assert [one.path for one in engine.received] == ["/health"]


async def test_health_asks_the_engines_own_path(tmp_path: Path, identity: Identity) -> None:
    async with bed(tmp_path, identity, health_path="/v1/ready") as (_, relay, engine):
        answer = await relay.ask("GET", "/health")
    assert answer.outcome == "no_instance", "the stub has no such path"
    assert [one.path for one in engine.received] == ["/v1/ready"]


async def test_there_is_no_instance_while_the_engine_warms_up(tmp_path: Path, identity: Identity) -> None:
    async with bed(tmp_path, identity, Behaviour(warm_up=60)) as (_, relay, _engine):
        answer = await relay.ask("GET", "/health")
    assert answer.outcome == "no_instance"
    assert answer.error is not None
    assert answer.error.retry_after


async def test_there_is_no_instance_while_no_engine_listens(tmp_path: Path, identity: Identity) -> None:
    async with front(tmp_path, identity) as running:
        relay = await running.connect()
        assert (await relay.ask("GET", "/health")).outcome == "no_instance"
        assert (await relay.ask("POST", CHAT, chat())).outcome == "no_instance"
        await until(lambda: running.listener.running == 0)
        relay.endpoint.abort()


async def test_health_of_an_engine_that_hangs_has_an_end(
    tmp_path: Path, identity: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HEALTH_TIMEOUT", 0.5)

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with scripted(tmp_path, hang), front(tmp_path, identity) as running:
        relay = await running.connect()
        answer = await relay.ask("GET", "/health")
        relay.endpoint.abort()
    assert answer.outcome == "no_instance"


async def test_metrics_are_the_engines(tmp_path: Path, identity: Identity) -> None:
    async with bed(tmp_path, identity) as (_, relay, _engine):
        answer = await relay.ask("GET", "/metrics")
    assert answer.outcome == 200
    assert answer.head is not None
    assert answer.head.content_type == "text/plain"
    assert b"stub_requests" in answer.body


async def test_an_engines_refusal_passes(tmp_path: Path, identity: Identity) -> None:
    async with bed(tmp_path, identity, Behaviour(fault="refuse")) as (_, relay, _engine):
        answer = await relay.ask("POST", CHAT, chat())
    assert answer.outcome == 400
    assert json.loads(answer.body)["error"]["message"] == "refused"


@pytest.mark.parametrize(
    ("fault", "stream"), [("drop", False), ("nonsense", False), ("endless", False), ("head", True)]
)
async def test_an_engine_that_does_not_answer_properly_has_failed(
    tmp_path: Path, identity: Identity, fault: str, stream: bool
) -> None:
    async with bed(tmp_path, identity, Behaviour(fault=fault)) as (running, relay, engine):
        answer = await relay.ask("POST", CHAT, chat(stream))
        assert running.listener.running == 0
    assert answer.outcome == "instance_failed"
    assert not answer.body, "another instance may still be asked"
    assert len(engine.requests()) == 1


async def test_a_broken_stream_never_looks_whole(tmp_path: Path, identity: Identity) -> None:
    async with bed(tmp_path, identity, Behaviour(tokens=10, fault="break")) as (_, relay, _engine):
        answer = await relay.ask("POST", CHAT, chat(True))
    assert answer.outcome == "instance_failed"
    assert answer.body.count(b"data: ") >= 5


@pytest.mark.parametrize("how", ["cancel", "leave", "vanish"])
@pytest.mark.parametrize(("fault", "stream"), [("hang", False), ("stall", True)])
async def test_whoever_does_not_want_the_answer_stops_the_engine_within_a_second(
    tmp_path: Path, identity: Identity, fault: str, stream: bool, how: str
) -> None:
    async with bed(tmp_path, identity, Behaviour(fault=fault)) as (running, relay, engine):
        answer = relay.start("POST", CHAT, chat(stream))
        await until(engine.requests)
        if stream:
            await until(lambda: answer.body)
        if how == "cancel":
            relay.cancel(answer)
        elif how == "leave":
            relay.endpoint.close("shutdown", "the test leaves")
        else:
            relay.endpoint.abort()
        took = await until(lambda: engine.requests()[0].left is not None)
        await until(lambda: running.listener.running == 0)
    assert took < 1.0


async def test_a_cancelled_answer_does_not_disturb_the_others(tmp_path: Path, identity: Identity) -> None:
    async with bed(tmp_path, identity, Behaviour(tokens=20, delay=0.02)) as (_, relay, _engine):
        kept, dropped = (relay.start("POST", CHAT, chat(True)) for _ in range(2))
        await until(lambda: kept.body and dropped.body)
        relay.cancel(dropped)
        await until(lambda: kept.over)
    assert kept.outcome == 200
    assert kept.body.endswith(b"data: [DONE]\n\n")


async def test_a_relay_that_leaves_before_the_body_is_whole_leaves_nothing_behind(
    tmp_path: Path, identity: Identity
) -> None:
    async with bed(tmp_path, identity) as (running, relay, engine):
        answer = relay.open("POST", CHAT, 100)
        relay.send(answer, b"x" * 50)
        await until(lambda: running.listener.running == 1)
        relay.endpoint.abort()
        await until(lambda: running.listener.running == 0)
    assert engine.requests() == []


async def test_beyond_twice_the_concurrency_requests_are_refused(tmp_path: Path, identity: Identity) -> None:
    """The bound counts all relays together; health and metrics are still answered."""
    async with bed(tmp_path, identity, Behaviour(fault="hang"), concurrency=1) as (running, relay, engine):
        other = await running.connect()
        relay.start("POST", CHAT, chat())
        other.start("POST", CHAT, chat())
        await until(lambda: len(engine.requests()) == 2)
        refused = await other.ask("POST", CHAT, chat())
        assert (await relay.ask("GET", "/health")).outcome == 200
        assert (await relay.ask("GET", "/metrics")).outcome == 200
        other.endpoint.abort()
        await until(lambda: running.listener.running == 1)
    assert refused.outcome == "overloaded"
    assert refused.error is not None
    assert refused.error.retry_after
    assert len(engine.requests()) == 2


@pytest.mark.parametrize("size", [1_000, 70_000, 900_000])
async def test_a_body_passes_whole(tmp_path: Path, identity: Identity, size: int) -> None:
    body = json.dumps({"model": "m", "prompt": "x" * size}).encode()
    async with bed(tmp_path, identity) as (_, relay, engine):
        for _ in range(2):
            assert (await relay.ask("POST", "/v1/completions", body)).outcome == 200
    assert [one.body == body for one in engine.requests()] == [True, True]


@pytest.mark.parametrize("sent", [b"", b"x" * 9, b"x" * 11, b"x" * 40_000])
async def test_trying_another_length_than_announced(tmp_path: Path, identity: Identity, sent: bytes) -> None:
    async with bed(tmp_path, identity) as (running, relay, engine):
        answer = relay.open("POST", CHAT, 10)
        relay.send(answer, sent, last=True)
        await until(lambda: answer.over)
        assert running.listener.running == 0
        assert (await relay.ask("POST", CHAT, chat())).outcome == 200
    assert answer.outcome == "invalid_request"
    assert [one.body for one in engine.requests()] == [chat()]


async def test_a_body_that_does_not_come_is_given_up(
    tmp_path: Path, identity: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "BODY_TIMEOUT", 0.3)
    async with bed(tmp_path, identity) as (running, relay, engine):
        answer = relay.open("POST", CHAT, 10)
        relay.send(answer, b"x")
        await until(lambda: answer.over)
        assert running.listener.running == 0
    assert answer.outcome == "invalid_request"
    assert engine.requests() == []


async def test_an_engine_that_does_not_read_holds_back_its_own_body_alone(
    tmp_path: Path, identity: Identity
) -> None:
    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reader._transport.pause_reading()  # type: ignore[attr-defined]

    body = b"x" * (8 << 20)
    async with scripted(tmp_path, deaf), front(tmp_path, identity, max_body=1 << 24) as running:
        relay = await running.connect()
        answer = relay.start("POST", CHAT, body)
        await asyncio.sleep(0.5)
        left = relay.connection.pending(answer.stream)
        assert left > len(body) - (1 << 20), "only window, buffers and kernel take bytes"
        other = relay.start("POST", CHAT, b"{}")
        await until(lambda: relay.connection.pending(other.stream) == 0)
        relay.endpoint.abort()
        await until(lambda: running.listener.running == 0)


async def test_a_relay_that_takes_nothing_slows_the_engine_alone(tmp_path: Path, identity: Identity) -> None:
    many = Behaviour(tokens=3000, token="x" * 10_000)
    async with bed(tmp_path, identity, many) as (running, relay, engine):
        relay.reading = False
        stalled = relay.start("POST", CHAT, chat(True))
        await until(lambda: len(stalled.body) == 32_768)
        await asyncio.sleep(0.3)
        assert not engine.requests()[0].finished
        (served,) = running.listener._relays
        waiting = served.connection.pending(stalled.stream)
        assert waiting <= connections.HIGH_WATER + 65_536
        assert (await relay.ask("GET", "/health")).outcome == 200
        relay.cancel(stalled)
        await until(lambda: engine.requests()[0].left is not None)


async def test_a_relay_that_stops_reading_its_connection_is_bounded_too(
    tmp_path: Path, identity: Identity
) -> None:
    many = Behaviour(tokens=3000, token="x" * 10_000)
    async with bed(tmp_path, identity, many) as (running, _, engine):
        relay = await running.connect(limits=Limits(session_credit=1 << 28, stream_credit=1 << 28))
        assert relay.endpoint.transport is not None
        relay.start("POST", CHAT, chat(True))
        await until(engine.requests)
        relay.endpoint.transport.pause_reading()
        await asyncio.sleep(0.5)
        served = next(one for one in running.listener._relays if one._requests)
        assert served.connection.pending(1) <= connections.HIGH_WATER + 65_536
        assert not engine.requests()[0].finished
        relay.endpoint.transport.resume_reading()
        await until(lambda: engine.requests()[0].finished)
        relay.endpoint.abort()


async def test_a_large_answer_passes_whole_and_at_speed(tmp_path: Path, identity: Identity) -> None:
    many = Behaviour(tokens=1000, token="x" * 20_000)
    async with bed(tmp_path, identity, many) as (_, relay, _engine):
        with Stopwatch() as felt:
            answer = relay.start("POST", CHAT, chat())
            await until(lambda: answer.over)
    assert len(json.loads(answer.body)["choices"][0]["message"]["content"]) == 20_000_000
    assert felt.seconds < 10


async def test_an_engine_on_loopback_works_too(tmp_path: Path, identity: Identity) -> None:
    async with StubEngine(Behaviour()) as engine:
        address = EngineAddress("", engine.port)
        async with front(tmp_path, identity, engine=address) as running:
            relay = await running.connect()
            assert (await relay.ask("POST", CHAT, chat())).outcome == 200
            relay.endpoint.abort()
        async with front(tmp_path, identity, engine=EngineAddress("", 1)) as running:
            relay = await running.connect()
            assert (await relay.ask("POST", CHAT, chat())).outcome == "no_instance"
            relay.endpoint.abort()


async def test_a_streams_head_goes_on_before_its_first_token(tmp_path: Path, identity: Identity) -> None:
    async with bed(tmp_path, identity, Behaviour(reading=60.0)) as (_, relay, engine):
        answer = relay.start("POST", CHAT, chat(stream=True))
        await until(lambda: answer.head)
        assert answer.head is not None
        assert (answer.head.status, answer.head.content_type) == (200, "text/event-stream")
        assert not answer.body
        engine.kill()
        await until(lambda: answer.over)
    assert answer.outcome == "instance_failed"


async def test_any_other_head_waits_for_its_first_byte(tmp_path: Path, identity: Identity) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n")
        await asyncio.sleep(0.3)
        writer.close()

    async with scripted(tmp_path, serve), front(tmp_path, identity) as running:
        relay = await running.connect()
        answer = await relay.ask("POST", CHAT, chat())
        relay.endpoint.abort()
    assert answer.head is None
    assert answer.outcome == "instance_failed"


async def test_an_engine_that_claims_a_stream_for_its_health_breaks_nothing(
    tmp_path: Path, identity: Identity
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        for piece in (head, b"2\r\n{}\r\n", b"0\r\n\r\n"):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.05)

    async with scripted(tmp_path, serve), front(tmp_path, identity) as running:
        relay = await running.connect()
        answer = await relay.ask("GET", "/health")
        assert relay.why is None
        relay.endpoint.abort()
    assert answer.outcome == 200
    assert json.loads(answer.body)["status"] == "ok"


@pytest.mark.parametrize("stream", [True, False])
async def test_an_answer_with_nothing_in_it_is_a_failure(
    tmp_path: Path, identity: Identity, stream: bool
) -> None:
    async with bed(tmp_path, identity, Behaviour(fault="empty")) as (_, relay, _):
        answer = await relay.ask("POST", CHAT, chat(stream=stream))
    assert answer.outcome == "instance_failed"
