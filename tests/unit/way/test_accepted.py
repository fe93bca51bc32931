"""Prompts that take long to read: the client is told, and another instance can take over."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sluice.front.identity import Identity
from tests.fakes.engine import Behaviour
from tests.unit.way.bed import chat, until, way

WORKING = b": working\n"
COMMENTS: dict[str, Any] = {"comment_interval": 0.2}


async def test_the_head_comes_while_the_prompt_is_read(tmp_path: Path, identity: Identity) -> None:
    """It takes longer than an instance may take to accept a request."""
    relay = {"first_byte_timeout": 0.5}
    async with way(tmp_path, identity, Behaviour(reading=3.0), relay=relay, **COMMENTS) as running:
        reply = await running.ask(chat(stream=True))
    assert reply.whole
    # First comments, then tokens.
    assert reply.body.startswith(2 * WORKING)
    assert reply.head_after < reply.took


async def test_a_stream_that_is_accepted_and_no_more_ends(tmp_path: Path, identity: Identity) -> None:
    relay = {"first_token_timeout": 1.0}
    async with way(tmp_path, identity, *[Behaviour(fault="accept")] * 2, relay=relay) as running:
        reply = await running.ask(chat(stream=True))
        assert running.requests() == 1
    assert (reply.status, reply.code) == (200, "instance_timeout")


@pytest.mark.parametrize("death", ["engine", "front", "job"])
async def test_another_instance_takes_over_while_the_prompt_is_read(
    tmp_path: Path, identity: Identity, death: str
) -> None:
    async with way(tmp_path, identity, *[Behaviour(fault="accept")] * 2, **COMMENTS) as running:
        asked = asyncio.create_task(running.ask(chat(stream=True)))
        await until(lambda: running.requests() == 1)
        await asyncio.sleep(0.5)
        first, second = sorted(running.jobs, key=lambda job: -len(job.engine.requests()))
        second.engine.behaviour = replace(second.engine.behaviour, fault="none")
        {"engine": first.engine.kill, "front": first.kill_front, "job": first.kill}[death]()
        reply = await asked
        assert len(second.engine.requests()) == 1
    assert reply.whole
    assert reply.body.startswith(WORKING)


async def test_what_an_engine_refuses_keeps_its_status(tmp_path: Path, identity: Identity) -> None:
    async with way(tmp_path, identity, Behaviour(fault="refuse"), **COMMENTS) as running:
        reply = await running.ask(chat(stream=True))
    assert (reply.status, reply.code) == (400, "invalid_request")
