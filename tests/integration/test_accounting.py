"""Usage under load while proxy and authority are killed: a record for every answer, none twice, none lost.

The deployed programs over a real sshd; the number of kills is KILLS, or that of the soak.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.bench.stack import Authority, Build, Engine, Front, Login, Options, Proxy

KILLS = int(os.environ.get("SLUICE_SOAK_KILLS", "5"))
CLIENTS = 8
BETWEEN = (0.4, 1.2)
SETTLED_SECONDS = 60.0
REQUEST = {"model": "bench", "max_tokens": 4, "messages": [{"role": "user", "content": "?"}]}


class Gateway:
    """Proxy and authority before a login node with one instance; either can be killed and started again."""

    def __init__(self, place: Path, build: Build, ending: contextlib.ExitStack) -> None:
        self._build = build
        engine = Engine(place / "engine")
        ending.callback(engine.stop)
        engine.start()
        front = Front(place / "job")
        ending.callback(front.stop)
        front.start(engine.socket, build.zipapp, 64)
        (place / "login").mkdir(mode=0o755)
        self._login = Login(place / "login", build.zipapp, {})
        ending.callback(self._login.stop)
        self._login.route(front.instance(), concurrency=64)
        self._login.start()
        self.authority = Authority(place / "authority")
        ending.callback(self.authority.stop)
        self.authority.start(build.site)
        self.key = self.authority.make_key()
        self.proxy = Proxy(place / "proxy")
        ending.callback(self.proxy.stop)
        self.start_proxy()

    def start_proxy(self) -> None:
        """Start the proxy, as systemd does after a kill."""
        self.proxy.start(self._build.site, self._login, self.authority.socket, Options(sessions=1))

    def kill(self, part: str) -> None:
        """Kill -9 the proxy or the authority, and start it again at once."""
        running = self.proxy if part == "proxy" else self.authority
        assert running.process is not None
        running.process.kill()
        running.process.wait()
        if part == "proxy":
            self.proxy.socket.unlink()
            self.start_proxy()
        else:
            self.authority.socket.unlink()
            self.authority.restart()

    def records(self) -> list[tuple[str, int]]:
        """Return id and status of every record in the database."""
        with contextlib.closing(sqlite3.connect(self.authority.directory / "sluice.db")) as database:
            return database.execute("SELECT id, status FROM usage").fetchall()


@pytest.fixture
def gateway(tmp_path_factory: pytest.TempPathFactory, login_tools: None) -> Iterator[Gateway]:
    """Run everything."""
    place = tmp_path_factory.mktemp("gateway")
    for folder in (place, *place.parents):
        if folder.is_relative_to("/tmp") and folder != Path("/tmp"):
            folder.chmod(0o755)
    with contextlib.ExitStack() as ending:
        yield Gateway(place, Build.make(place / "build"), ending)


class Clients:
    """Asks without end until told to stop; `answered` holds the ids of whole answers."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self.answered: set[str] = set()
        self.stopped = False

    async def run(self) -> None:
        """Ask, several at once, every second one for a stream."""
        connector = aiohttp.UnixConnector(str(self._gateway.proxy.socket), limit=0)
        async with aiohttp.ClientSession(
            connector=connector, headers={"Authorization": f"Bearer {self._gateway.key}"}
        ) as http:
            await asyncio.gather(*(self._ask_on(http, stream=bool(one % 2)) for one in range(CLIENTS)))

    async def _ask_on(self, http: aiohttp.ClientSession, *, stream: bool) -> None:
        while not self.stopped:
            try:
                async with http.post(
                    "http://proxy/v1/chat/completions",
                    json={**REQUEST, "stream": stream},
                    timeout=aiohttp.ClientTimeout(total=20),
                ) as answer:
                    body = await answer.read()
            except (aiohttp.ClientError, TimeoutError, OSError):
                await asyncio.sleep(0.05)
                continue
            if answer.status == 200 and (not stream or body.endswith(b"data: [DONE]\n\n")):
                self.answered.add(answer.headers["X-Request-Id"])


async def test_every_answer_has_one_record_whoever_is_killed(gateway: Gateway) -> None:
    chance = random.Random(7)
    clients = Clients(gateway)
    asking = asyncio.create_task(clients.run())
    for number in range(KILLS):
        await asyncio.sleep(chance.uniform(*BETWEEN))
        await asyncio.to_thread(gateway.kill, ("proxy", "authority")[number % 2])
    await asyncio.sleep(1.0)
    clients.stopped = True
    await asking
    records = await settled(gateway, clients.answered)
    ids = [one for one, _ in records]
    assert len(ids) == len(set(ids))
    assert clients.answered <= set(ids)
    assert len(clients.answered) > 50 * KILLS
    # What nobody answered whole was cut off: by the client that lost its proxy, or with the proxy itself.
    print(f"{KILLS} kills: {len(clients.answered)} answers, {len(records)} records")
    unanswered = {status for one, status in records if one not in clients.answered}
    assert unanswered <= {200, 499, 500, 503}


async def settled(gateway: Gateway, answered: set[str]) -> list[tuple[str, int]]:
    """Return the records once those of all answers are there."""
    loop = asyncio.get_running_loop()
    end = loop.time() + SETTLED_SECONDS
    while True:
        records = gateway.records()
        if answered <= {one for one, _ in records} or loop.time() > end:
            return records
        await asyncio.sleep(0.2)
