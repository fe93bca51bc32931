"""When an engine counts as stalled: it answers its health check but generates nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from pathlib import Path
from typing import Any

import pytest

from sluice.front import listener, stall
from sluice.front.identity import Identity
from sluice.front.stall import TRIAL_ID, StallDetector
from tests.fakes.engine import Behaviour, StubEngine
from tests.unit.front.bed import CHAT, Bed, bed, chat, front, scripted, until

GOLDEN = Path(__file__).parents[2] / "golden" / "contracts" / "front-health-stalled.json"
POISON = b'{"model": "m", "messages": [], "poison": true}'
SOON: dict[str, Any] = {"trial_after": 0.1}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a front check its engine often, so that tests do not wait."""
    monkeypatch.setattr(listener, "TICK", 0.02)
    monkeypatch.setattr(stall, "TRIAL_PAUSE", 0.02)


def trials(engine: StubEngine) -> list[bytes]:
    """Return the bodies of the front's trials."""
    return [one.body for one in engine.requests() if one.headers["x-request-id"] == TRIAL_ID]


async def health(running: Bed) -> dict[str, Any]:
    """Return the front's health, asked on a new connection."""
    relay = await running.connect()
    answer = await relay.ask("GET", "/health")
    relay.endpoint.abort()
    found: dict[str, Any] = json.loads(answer.body)
    return found


def stalled(running: Bed) -> bool:
    """Whether a trial waits."""
    return running.listener.stall_detector.trying is not None


# --- the detector -------------------------------------------------------------------------------------------


def test_a_trial_is_due_once_nothing_came_for_long_enough() -> None:
    account = StallDetector(60)
    assert not account.due(1e9)
    account.request_began(100)
    account.request_began(150)
    assert [account.due(now) for now in (159, 160)] == [False, True]
    account.generated(170)
    assert [account.due(now) for now in (229, 230)] == [False, True]


def test_who_left_unserved_leaves_the_doubt_and_who_was_served_does_not() -> None:
    account = StallDetector(60)
    account.request_began(100)
    account.request_ended(served=False)
    assert account.due(160)
    account.generated(161)
    assert not account.due(1e9)
    account.request_began(200)
    account.generated(201)
    account.request_ended(served=True)
    assert not account.due(1e9)


def test_what_is_open_beside_one_that_is_served_stays_in_the_account() -> None:
    account = StallDetector(60)
    account.request_began(100)
    account.request_began(100)
    account.generated(130)
    account.request_ended(served=True)
    assert [account.due(now) for now in (189, 190)] == [False, True]


def test_a_stall_is_counted_from_its_trial_until_something_comes() -> None:
    account = StallDetector(60)
    account.request_began(100)
    account.trying = 160.0
    account.request_ended(served=True)
    assert account.stalled(580) == 420
    account.request_began(590)
    account.generated(600)
    assert account.stalled(601) == 0


# --- the front ----------------------------------------------------------------------------------------------


async def test_an_engine_that_answers_health_alone_is_stalled(tmp_path: Path, identity: Identity) -> None:
    async with bed(tmp_path, identity, Behaviour(fault="hang"), **SOON) as (running, relay, engine):
        answer = relay.start("POST", CHAT, chat())
        await until(lambda: trials(engine))
        # The trial is the proof: it continues when the user's request is cancelled.
        relay.cancel(answer)
        running.listener.stall_detector.trying = (running.listener.stall_detector.trying or 0.0) - 420
        assert await health(running) == json.loads(GOLDEN.read_text())
        assert len(trials(engine)) == 1
    (asked,) = (json.loads(body) for body in trials(engine))
    assert (asked["model"], asked["max_tokens"]) == ("model", 1)


@pytest.mark.parametrize("fault", ["drop", "error", "empty", "nonsense"])
async def test_breaks_and_errors_are_no_sign_of_life(tmp_path: Path, identity: Identity, fault: str) -> None:
    async with bed(tmp_path, identity, Behaviour(fault=fault), **SOON) as (running, relay, engine):
        await relay.ask("POST", CHAT, chat())
        await until(lambda: len(trials(engine)) >= 3)
        assert stalled(running)


async def test_the_head_of_a_stream_is_no_sign_of_life(tmp_path: Path, identity: Identity) -> None:
    async with bed(tmp_path, identity, Behaviour(fault="accept"), trial_after=0.5) as (
        running,
        relay,
        engine,
    ):
        answer = relay.start("POST", CHAT, chat(True))
        await until(lambda: answer.head is not None)
        engine.behaviour = Behaviour(fault="hang")
        await until(lambda: stalled(running))


async def test_one_users_request_that_hangs_alone_stalls_nothing(tmp_path: Path, identity: Identity) -> None:
    behaviour = Behaviour(fault="hang", only="poison")
    async with bed(tmp_path, identity, behaviour, **SOON) as (running, relay, engine):
        slow = relay.start("POST", CHAT, POISON)
        await until(lambda: len(trials(engine)) >= 3)
        await until(lambda: not stalled(running))
        assert "stalled" not in await health(running)
        assert not slow.over


async def test_a_long_prompt_is_no_stall_once_anybody_is_served(tmp_path: Path, identity: Identity) -> None:
    async with bed(tmp_path, identity, Behaviour(fault="hang"), **SOON) as (running, relay, engine):
        relay.start("POST", CHAT, POISON)
        # The engine has got it and hangs.
        await until(lambda: trials(engine))
        engine.behaviour = Behaviour()
        assert (await relay.ask("POST", CHAT, chat())).outcome == 200
        assert not stalled(running)
        # The waiting trial is aborted: an engine must not work without a client.
        await until(lambda: any(one.left for one in engine.requests()))


async def test_a_stream_that_goes_on_is_never_asked_about(tmp_path: Path, identity: Identity) -> None:
    behaviour = Behaviour(tokens=20, delay=0.02)
    async with bed(tmp_path, identity, behaviour, trial_after=30.0) as (running, relay, _engine):
        began = time.monotonic()
        answer = relay.start("POST", CHAT, chat(True))
        await until(lambda: answer.body)
        assert not running.listener.stall_detector.due(began + 30.0)
        assert running.listener.stall_detector.due(time.monotonic() + 30.0)
        await until(lambda: answer.over)
        assert not running.listener.stall_detector.due(time.monotonic() + 1e6)


async def test_what_is_counted_without_generating_proves_nothing(tmp_path: Path, identity: Identity) -> None:
    behaviour = Behaviour(fault="hang", only="messages")
    async with bed(tmp_path, identity, behaviour, **SOON) as (running, relay, _engine):
        relay.start("POST", CHAT, chat())
        await until(lambda: stalled(running))
        await relay.ask("POST", "/tokenize", b'{"model": "m", "prompt": "x"}')
        assert stalled(running)


async def test_the_first_events_of_a_response_prove_nothing(tmp_path: Path, identity: Identity) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    begun = b"event: response.created\ndata: {}\n\nevent: response.in_progress\ndata: {}\n\n"
    more = b"event: response.output_item.added\ndata: {}\n\n"
    go_on = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await reader.readuntil(b"\r\n\r\n")
        if b"/v1/responses" in asked:
            writer.write(head + b"%x\r\n%s\r\n" % (len(begun), begun))
            await go_on.wait()
            writer.write(b"%x\r\n%s\r\n" % (len(more), more))
        await asyncio.sleep(60)

    async with scripted(tmp_path, serve), front(tmp_path, identity, **SOON) as running:
        relay = await running.connect()
        answer = relay.start("POST", "/v1/responses", b"{}")
        await until(lambda: answer.body and stalled(running))
        go_on.set()
        await until(lambda: not stalled(running))
        relay.endpoint.abort()


@pytest.mark.parametrize(
    "refusal",
    [
        b'data: {"error": {"message": "no such token", "code": 400}}\n\n',
        b"event: error\ndata: {}\n\n",
    ],
)
async def test_a_stream_that_is_a_refusal_proves_nothing(
    refusal: bytes, tmp_path: Path, identity: Identity
) -> None:
    """Engines check some fields after a stream's head, without the part that hangs."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    parts = [refusal, b"more of the reason\n\n", b"data: [DONE]\n\n"]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await reader.readuntil(b"\r\n\r\n")
        if b"/v1/completions" in asked:
            writer.write(head)
            for part in parts:
                writer.write(b"%x\r\n%s\r\n" % (len(part), part))
                await asyncio.sleep(0.02)
            writer.write(b"0\r\n\r\n")
        await asyncio.sleep(60)

    async with scripted(tmp_path, serve), front(tmp_path, identity, **SOON) as running:
        relay = await running.connect()
        relay.start("POST", CHAT, chat())
        await until(lambda: stalled(running), 5)
        since = running.listener.stall_detector.trying
        refused = await relay.ask("POST", "/v1/completions", chat(True))
        assert refused.body.endswith(b"[DONE]\n\n")
        assert running.listener.stall_detector.trying == since
        relay.endpoint.abort()


async def test_a_stream_that_was_refused_leaves_no_doubt_behind(tmp_path: Path, identity: Identity) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    refusal = b'data: {"error": {}}\n\n'

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head + b"%x\r\n%s\r\n0\r\n\r\n" % (len(refusal), refusal))
        await asyncio.sleep(60)

    async with scripted(tmp_path, serve), front(tmp_path, identity, trial_after=60.0) as running:
        relay = await running.connect()
        await relay.ask("POST", CHAT, chat(True))
        await until(lambda: not running.listener.running, 5)
        assert not running.listener.stall_detector.due(time.monotonic() + 1e6)
        relay.endpoint.abort()


async def test_the_trial_is_of_a_kind_that_the_engine_serves(tmp_path: Path, identity: Identity) -> None:
    behaviour = Behaviour(fault="refuse", only="messages")
    async with bed(tmp_path, identity, behaviour, **SOON) as (running, relay, engine):
        waiting = relay.open("POST", "/v1/completions", 100)
        await until(lambda: len(trials(engine)) >= 2)
        await until(lambda: not stalled(running))
        relay.cancel(waiting)
    kinds = ["messages" in json.loads(body) for body in trials(engine)]
    assert kinds[0]
    assert not any(kinds[1:])


async def test_an_engine_that_refuses_every_trial_is_never_called_stalled(
    tmp_path: Path, identity: Identity
) -> None:
    async with bed(tmp_path, identity, Behaviour(fault="refuse"), **SOON) as (running, relay, engine):
        waiting = relay.open("POST", CHAT, 100)
        await until(lambda: len(trials(engine)) == len(stall.KINDS))
        await asyncio.sleep(0.2)
        assert not stalled(running)
        assert len(trials(engine)) == len(stall.KINDS)
        relay.cancel(waiting)


async def test_requests_on_a_stalled_engine_that_is_ended_have_broken(
    tmp_path: Path, identity: Identity
) -> None:
    async with bed(tmp_path, identity, Behaviour(fault="hang"), **SOON) as (running, relay, _engine):
        answer = relay.start("POST", CHAT, chat())
        await until(lambda: running.listener.stall_detector.hangs(time.monotonic()))
        running.listener.drain("terminated")
        await until(lambda: answer.over)
    assert answer.outcome == "instance_failed"


async def test_a_trial_that_has_just_begun_breaks_nobodys_request(tmp_path: Path, identity: Identity) -> None:
    behaviour = Behaviour(fault="hang")
    async with bed(tmp_path, identity, behaviour, trial_after=0.1) as (running, relay, _engine):
        answer = relay.start("POST", CHAT, chat())
        await until(lambda: stalled(running))
        # On any machine, however slow: the trial began at this moment.
        running.listener.stall_detector.trying = time.monotonic()
        running.listener.drain("terminated")
        await asyncio.sleep(0.1)
        assert not answer.over


async def test_a_front_that_must_leave_counts_no_stall_any_more(
    tmp_path: Path, identity: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bed(tmp_path, identity, Behaviour(fault="hang"), **SOON) as (running, relay, _engine):
        relay.start("POST", CHAT, chat())
        await until(lambda: stalled(running))
        # A tick sends away who is connected. On a busy machine one of 20 ms comes before the question.
        quick_tick = running.listener._timer
        monkeypatch.setattr(listener, "TICK", 60.0)
        await until(lambda: running.listener._timer is not quick_tick)
        assert stalled(running)
        running.listener.drain("warned")
        assert not stalled(running)
        assert "stalled" not in await health(running)


@pytest.mark.parametrize("status", [401, 403, 408, 409, 429, 500, 502, 503])
async def test_a_trial_that_is_put_off_is_made_again_of_the_same_kind(
    tmp_path: Path, identity: Identity, status: int
) -> None:
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                if TRIAL_ID.encode() in head:
                    await reader.readuntil(b"}")
                    asked.append(head.split(b" ")[1])
                    writer.write(b"HTTP/1.1 %d No\r\ncontent-length: 2\r\n\r\n{}" % status)

    async with scripted(tmp_path, serve), front(tmp_path, identity, **SOON) as running:
        relay = await running.connect()
        relay.start("POST", CHAT, chat())
        await until(lambda: len(asked) > len(stall.KINDS))
        assert set(asked) == {CHAT.encode()}
        relay.endpoint.abort()


async def test_a_front_that_leaves_asks_nothing(tmp_path: Path, identity: Identity) -> None:
    async with bed(tmp_path, identity, Behaviour(fault="hang"), **SOON) as (running, relay, engine):
        relay.start("POST", CHAT, chat())
        running.listener.drain("warned")
        await asyncio.sleep(0.3)
        assert not trials(engine)
