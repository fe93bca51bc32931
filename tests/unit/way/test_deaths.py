"""Whichever part dies during a request, at whatever point: the request ends with its answer or an error."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sluice.front.identity import Identity
from sluice.front.listener import TERMINATED
from sluice.relay import connections
from tests.fakes.engine import Behaviour
from tests.unit.way.bed import Reply, Way, chat, until, way

# How far the request is when the part dies (the engine's behaviour keeps it there), and whether it streams.
PHASES: dict[str, tuple[str, bool]] = {
    "before a head": ("hang", True),
    "before a whole answer": ("hang", False),
    "behind a head": ("accept", True),
    "within a stream": ("stall", True),
}
# The longest time of a request in these tests, and what a busy machine may need in addition (seconds).
BOUND, MARGIN = 3.0, 40.0


def front_dies(running: Way) -> None:
    """The front ends; its engine continues."""
    running.jobs[0].kill_front()


def node_goes_dark(running: Way) -> None:
    """The node sends nothing more, not even the end of a connection."""
    running.jobs[0].cable.dark = True


def session_goes_dark(running: Way) -> None:
    """Nothing more arrives over the session."""
    running.pipes[-1].dark = True


def is_replaced(running: Way) -> None:
    """The scheduler takes the instance out and ends its job."""
    job = running.jobs[0]
    job.state = "draining"
    running.publish(*running.jobs)
    job.listener.drain(TERMINATED)
    asyncio.get_running_loop().call_later(0.5, job.kill)


DEATHS: dict[str, Callable[[Way], None]] = {
    "the engine": lambda running: running.jobs[0].engine.kill(),
    "the front": front_dies,
    "the job": lambda running: running.jobs[0].kill(),
    "the relay": lambda running: running.pipes[-1].kill(),
    "the session, without a word": session_goes_dark,
    "the node, without a word": node_goes_dark,
    "replaced": is_replaced,
}
# After these the instance still exists.
SURVIVED = ("the relay", "the session, without a word")


@pytest.fixture(autouse=True)
def quick_pings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Notice a dark node within seconds."""
    monkeypatch.setattr(connections, "PING_INTERVAL", 0.5)


async def die_under(running: Way, phase: str, death: str, *, successor: bool) -> Reply:
    """Send a request, kill the part at the given point, and return the reply."""
    fault, stream = PHASES[phase]
    first = running.jobs[0].engine
    first.behaviour = Behaviour(fault=fault)
    seen = bytearray()
    asked = asyncio.create_task(running.ask(chat(stream=stream), timeout=BOUND + MARGIN, seen=seen))
    await until(first.requests)
    if fault == "stall":
        await until(lambda: b"data: " in seen)
    else:
        # The head may be on its way.
        await asyncio.sleep(0.3)
    if death in SURVIVED:
        first.behaviour = replace(first.behaviour, fault="none" if successor else fault)
    elif successor:
        await running.add(Behaviour())
    DEATHS[death](running)
    if successor and death not in SURVIVED:
        # As the scheduler does when it notices.
        await asyncio.sleep(0.2)
        running.publish(running.jobs[1])
    return await asked


async def each_death(
    directory: Path, identity: Identity, phase: str, *, successor: bool, **settings: Any
) -> dict[str, Reply]:
    """Try every death, each with its own parts, and return the replies."""

    async def one(number: int, death: str) -> Reply:
        own = directory / str(number)
        own.mkdir()
        async with way(own, identity, Behaviour(), **settings) as running:
            return await die_under(running, phase, death, successor=successor)

    replies = await asyncio.gather(*(one(number, death) for number, death in enumerate(DEATHS)))
    return dict(zip(DEATHS, replies, strict=True))


@pytest.mark.parametrize("phase", PHASES)
async def test_what_nobody_has_seen_is_answered_by_the_next_whatever_dies(
    tmp_path: Path, identity: Identity, phase: str
) -> None:
    replies = await each_death(tmp_path, identity, phase, successor=True, request_timeout=BOUND + MARGIN)
    for death, reply in replies.items():
        if phase == "within a stream":
            assert reply.status == 200, death
            assert reply.code in ("instance_failed", "cluster_unreachable"), death
        else:
            assert reply.whole, (death, reply.status, reply.body)


@pytest.mark.parametrize("phase", PHASES)
async def test_a_request_ends_within_its_bound_whatever_dies(
    tmp_path: Path, identity: Identity, phase: str
) -> None:
    replies = await each_death(
        tmp_path, identity, phase, successor=False, request_timeout=BOUND, queue_wait=300.0
    )
    for death, reply in replies.items():
        assert reply.code in (
            "instance_failed",
            "cluster_unreachable",
            "no_instance",
            "instance_timeout",
            # On a slow machine its time is over while it waits for the next instance.
            "overloaded",
        ), (death, reply.status, reply.body)
        assert reply.took < BOUND + MARGIN, death
        # The message must not contradict itself.
        assert b"ready" not in reply.body or b"No instance of the model is ready" in reply.body, death
