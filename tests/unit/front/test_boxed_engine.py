"""How the front reaches an engine in a box: through a folder that the engine can write, or a door."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sluice.box.inside import hand_out
from sluice.front.config import EngineAddress
from sluice.front.identity import Identity
from tests.fakes.engine import Behaviour, StubEngine
from tests.unit.front.bed import CHAT, chat, front, until


@contextmanager
def listening(path: Path) -> Iterator[socket.socket]:
    """Yield a listening unix socket."""
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))
        made.listen()
        yield made


async def test_a_link_in_the_engines_place_leads_the_front_to_no_other_socket(
    tmp_path: Path, identity: Identity
) -> None:
    async with (
        StubEngine(Behaviour(), tmp_path / "of-another-job.sock") as other,
        front(tmp_path, identity) as running,
    ):
        (tmp_path / "engine.sock").symlink_to(tmp_path / "of-another-job.sock")
        relay = await running.connect()
        assert (await relay.ask("POST", CHAT, chat())).outcome == "no_instance"
        assert other.requests() == []
        relay.endpoint.abort()


async def test_an_engine_on_the_boxs_loopback_is_reached_by_its_door(
    tmp_path: Path, identity: Identity
) -> None:
    door = tmp_path / "door.sock"
    async with StubEngine(Behaviour()) as engine:
        with listening(door) as listener:
            threading.Thread(target=hand_out, args=(listener, engine.port), daemon=True).start()
            address = EngineAddress("", 9, str(door))
            async with front(tmp_path, identity, engine=address) as running:
                relay = await running.connect()
                answers = [relay.start("POST", CHAT, chat()) for _ in range(5)]
                await until(lambda: all(answer.over for answer in answers))
                assert [answer.outcome for answer in answers] == [200] * 5
                assert (await relay.ask("GET", "/health")).outcome == 200
                relay.endpoint.abort()


def nothing(caller: socket.socket) -> None:
    """Pass no descriptor."""


def a_file(caller: socket.socket) -> None:
    """Pass a file."""
    with Path("/dev/null").open("rb") as stream:
        socket.send_fds(caller, [b"x"], [stream.fileno()])


def a_unix_socket(caller: socket.socket) -> None:
    """Pass a connection to another server."""
    one, other = socket.socketpair()
    socket.send_fds(caller, [b"x"], [one.fileno()])
    one.close()
    other.close()


@pytest.mark.parametrize("handed", [nothing, a_file, a_unix_socket])
async def test_a_door_that_an_engine_forged_breaks_that_request_alone(
    tmp_path: Path, identity: Identity, handed: object
) -> None:
    door = tmp_path / "door.sock"

    def forge(listener: socket.socket) -> None:
        for _ in range(2):
            caller, _ = listener.accept()
            with caller:
                handed(caller)  # type: ignore[operator]

    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names alone, at once
    with listening(door) as listener:
        forger = threading.Thread(target=forge, args=(listener,), daemon=True)
        forger.start()
        async with front(tmp_path, identity, engine=EngineAddress("", 9, str(door))) as running:
            relay = await running.connect()
            for _ in range(2):
                assert (await relay.ask("POST", CHAT, chat())).outcome == "no_instance"
            relay.endpoint.abort()
        forger.join(10)
    await until(lambda: len(os.listdir("/proc/self/fd")) <= before)  # noqa: PTH208
