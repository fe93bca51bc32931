"""An instance whose front reports a stalled engine: other instances are preferred while there are any."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from sluice.front.identity import Identity
from tests.unit.relay.bed import MODEL, Behaviour, bed, chat


async def test_nobody_is_sent_to_an_engine_that_gives_nothing_while_another_serves(
    tmp_path: Path, identity: Identity
) -> None:
    async with bed(tmp_path, identity, Behaviour(fault="hang"), Behaviour()) as running:
        silent, serving = running.instances
        running.publish(instances=[replace(silent, stalled=True), serving])
        for number in range(8):
            answer = await running.client.request(MODEL, chat(pad=str(number)), affinity=f"{number:064x}")
            assert answer.code == ""
        assert not running.fronts[0].received
        assert (await running.client.verb("models")).document()["models"][0]["ready"] == 1


async def test_the_only_instance_is_asked_although_it_is_silent(tmp_path: Path, identity: Identity) -> None:
    async with bed(tmp_path, identity, Behaviour()) as running:
        running.publish(instances=[replace(running.instances[0], stalled=True)])
        assert (await running.client.request(MODEL, chat())).code == ""
