"""Requests that break engines: the request is blamed, and other users do not notice."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from sluice.contracts.heads import MOST_BREAKS
from sluice.front.identity import Identity
from tests.fakes.engine import Behaviour
from tests.unit.way.bed import CHAT, Way, chat, until, way

POISON = "poison"
RESPONSES = "/v1/responses"
# How long another user's chat may take meanwhile: enough for a busy machine, too short for a second attempt.
QUICK = 8.0
FAULTS = ("drop", "reset", "nonsense", "half", "empty", "short", "error", "head")
BODIES: dict[str, tuple[str, dict[str, Any]]] = {
    "a response's stream": (RESPONSES, {"input": POISON, "stream": True, "background": None}),
    "a chat": (CHAT, chat(user=POISON)),
    "a chat's stream": (CHAT, chat(stream=True, user=POISON)),
    "completions": ("/v1/completions", {"prompt": POISON, "truncation": None}),
    "embeddings": ("/v1/embeddings", {"input": POISON}),
    "messages": ("/v1/messages", {"max_tokens": 9, **chat(stream=True, system=POISON)}),
    "a large chat": (CHAT, chat(user=POISON, padding="x" * 300_000)),
}


async def others(running: Way, stop: asyncio.Event) -> list[Any]:
    """Chat as three other users until `stop`, each at least a few times."""
    replies = []

    async def one(number: int) -> None:
        rounds = 0
        while not stop.is_set() or rounds < 5:
            rounds += 1
            replies.append(await running.ask(chat(stream=bool(rounds % 2)), user=f"other-{number}"))

    await asyncio.gather(*(one(number) for number in range(3)))
    return replies


def check_others(replies: list[Any]) -> None:
    """Check that the other users noticed nothing."""
    assert replies
    assert all(reply.whole for reply in replies), [reply for reply in replies if not reply.whole][:3]
    assert max(reply.took for reply in replies) < QUICK


def poisoned(running: Way) -> int:
    """Return how often the poison has reached an engine."""
    return sum(POISON.encode() in one.body for job in running.jobs for one in job.engine.requests())


# Each fault with a stream and with a whole answer, and each body with one of the faults.
PAIRS = [(fault, name) for fault in FAULTS for name in ("a chat", "a chat's stream")]
PAIRS += [(FAULTS[number % len(FAULTS)], name) for number, name in enumerate(BODIES) if "chat" not in name]
PAIRS += [("head", "a large chat"), ("head", "a response's stream")]


@pytest.mark.parametrize(("fault", "name"), PAIRS)
async def test_a_body_that_breaks_engines_is_tried_twice_and_told(
    tmp_path: Path, identity: Identity, fault: str, name: str
) -> None:
    path, body = BODIES[name]
    async with way(tmp_path, identity, Behaviour(fault=fault, only=POISON)) as running:
        reply = await running.ask(body, path)
        assert poisoned(running) <= MOST_BREAKS
        after = await running.ask(chat(), user="other")
    assert reply.code == "instance_failed"
    # If the stream has begun, the error is its last event.
    assert reply.status == 502 or (reply.status == 200 and body.get("stream"))
    assert after.whole and after.took < QUICK


@pytest.mark.parametrize("instances", [1, 2])
async def test_one_users_broken_requests_delay_nobody_else(
    tmp_path: Path, identity: Identity, instances: int
) -> None:
    poison = Behaviour(fault="head", only=POISON, delay=0.01)
    async with way(tmp_path, identity, *[poison] * instances) as running:
        stop = asyncio.Event()
        beside = asyncio.create_task(others(running, stop))
        path, body = BODIES["a response's stream"]
        bad = []
        for number in range(12):
            # Slightly different each time, as an attacker would send them.
            bad += await asyncio.gather(
                *(running.ask({**body, "seed": 10 * number + k}, path, user="bad") for k in range(4))
            )
        stop.set()
        check_others(await beside)
    assert {reply.code for reply in bad} == {"instance_failed"}
    assert poisoned(running) <= MOST_BREAKS * len(bad)


async def test_many_users_with_the_same_broken_client_delay_nobody_else(
    tmp_path: Path, identity: Identity
) -> None:
    async with way(tmp_path, identity, Behaviour(fault="head", only=POISON, delay=0.01)) as running:
        await running.ask(chat(), user="first")
        stop = asyncio.Event()
        beside = asyncio.create_task(others(running, stop))
        path, body = BODIES["a response's stream"]
        for number in range(10):
            bad = await asyncio.gather(*(running.ask(body, path, user=f"bad-{k}") for k in range(6)))
            assert {reply.code for reply in bad} == {"instance_failed"}, number
        stop.set()
        check_others(await beside)


async def test_a_body_on_which_engines_hang_waits_once(tmp_path: Path, identity: Identity) -> None:
    hang = Behaviour(fault="hang", only=POISON)
    async with way(tmp_path, identity, hang, hang, hang, relay={"first_byte_timeout": 1.0}) as running:
        stop = asyncio.Event()
        beside = asyncio.create_task(others(running, stop))
        bad = await asyncio.gather(*(running.ask(chat(user=POISON), user="bad") for _ in range(8)))
        stop.set()
        check_others(await beside)
        assert poisoned(running) == len(bad)
    assert {(reply.status, reply.code) for reply in bad} == {(504, "instance_timeout")}


async def test_another_instance_answers_what_breaks_at_a_broken_one(
    tmp_path: Path, identity: Identity
) -> None:
    async with way(tmp_path, identity, Behaviour(fault="head"), Behaviour()) as running:
        replies = [await running.ask(chat(stream=True, seed=n), user=f"u-{n % 4}") for n in range(16)]
    assert all(reply.whole for reply in replies)
    broken, sound = running.jobs
    assert len(broken.engine.requests()) <= 6
    assert len(sound.engine.requests()) == 16


async def test_a_broken_instance_is_left_alone_by_its_only_user(tmp_path: Path, identity: Identity) -> None:
    async with way(tmp_path, identity, Behaviour(fault="head"), Behaviour()) as running:
        replies = [await running.ask(chat(stream=True, seed=n)) for n in range(12)]
    assert all(reply.whole for reply in replies)
    assert len(running.jobs[0].engine.requests()) <= 4


async def test_a_request_that_broke_is_answered_by_the_successor(tmp_path: Path, identity: Identity) -> None:
    async with way(tmp_path, identity, Behaviour(fault="hang")) as running:
        asked = asyncio.create_task(running.ask(chat(stream=True)))
        await until(lambda: running.requests() == 1)
        successor = await running.add(Behaviour())
        running.jobs[0].kill()
        running.publish(successor)
        reply = await asked
    assert reply.whole
