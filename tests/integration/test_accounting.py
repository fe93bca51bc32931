"""Usage under load while everything is killed, and of streams that are left: as often as answered, once each.

The deployed programs over a real sshd; the number of kills is KILLS, or that of the soak, which runs them on
PostgreSQL too.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from lab.bench import processes
from lab.bench.stack import Authority, Build, Engine, Front, Login, Options, Proxy, Running
from sluice.proxy.requests.metering import MOST_ADDED
from tests.integration.pages import Pages
from tests.integration.postgres import PostgreSQL

SOAK = "SLUICE_SOAK_KILLS" in os.environ
KILLS = int(os.environ.get("SLUICE_SOAK_KILLS", "5"))
PARTS = ("proxy", "authority", "web", "database")
CLIENTS = 8
BETWEEN = (0.4, 1.2)
SETTLED_SECONDS = 60.0
CHAT = "http://proxy/v1/chat/completions"
REQUEST = {"model": "bench", "max_tokens": 4, "messages": [{"role": "user", "content": "?"}]}
# Of the key with a limit, so many requests a minute.
LIMIT = 40
# Requests count by whole seconds, and a moment after they came.
MINUTE = 58.5


class Record(NamedTuple):
    """What the database says of one request."""

    id: str
    time: float
    key_id: str
    status: int
    input: int
    output: int
    measured: bool


class Gateway:
    """Proxy, authority and pages before a login node with one instance; each can be killed and comes back."""

    def __init__(
        self, place: Path, build: Build, ending: contextlib.ExitStack, postgres: PostgreSQL | None
    ) -> None:
        self._build = build
        self._postgres = postgres
        engine = self._started(Engine(place / "engine"), ending)
        engine.start()
        self._front = self._started(Front(place / "job"), ending)
        self._front.start(engine.socket, build.zipapp, 64)
        (place / "login").mkdir(mode=0o755)
        self.login = Login(place / "login", build.zipapp, {})
        ending.callback(self.login.stop)
        self.route("continuous", 1)
        self.login.start()
        self.authority = self._started(Authority(place / "authority"), ending)
        self.authority.start(build.site, "" if postgres is None else postgres.fresh())
        self._tables = create_engine(self.authority.database, poolclass=NullPool)
        self.key = self.authority.make_key()
        self.limited = self.authority.make_key("limited", f"--requests-per-minute={LIMIT}")
        self._pages = self._started(Pages(place / "pages"), ending)
        self._pages.start(self.authority)
        self.proxy = self._started(Proxy(place / "proxy"), ending)
        self.start_proxy()

    @staticmethod
    def _started(part: Any, ending: contextlib.ExitStack) -> Any:
        ending.callback(part.stop)
        return part

    def route(self, usage: str, generation: int) -> None:
        """Say what the model's engine tells of tokens."""
        self.login.route(self._front.instance(), concurrency=64, usage=usage, generation=generation)

    def start_proxy(self) -> None:
        """Start the proxy, as systemd does after a kill."""
        self.proxy.start(self._build.site, self.login, self.authority.socket, Options(sessions=1))

    def kill(self, part: str) -> None:
        """Kill -9 a part, and start it again at once where nobody else does."""
        if part == "proxy":
            _killed(self.proxy)
            self.start_proxy()
        elif part == "authority":
            _killed(self.authority)
            self.authority.restart()
        elif part == "web":
            _killed(self._pages)
            self._pages.start(self.authority)
        elif self._postgres is not None:
            self._postgres.kill()
            self._postgres.start()
        else:
            self._kill_writers()

    def _kill_writers(self) -> None:
        """Kill what writes into SQLite's file: the workers, which gunicorn starts again."""
        for root in (self.authority, self._pages):
            for one in processes.below(root.pid, processes.table()):
                if one.pid != root.pid:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(one.pid, signal.SIGKILL)

    def records(self) -> list[Record]:
        """Return every record, in the order of the requests; none while the database is away."""
        query = (
            "SELECT id, time, key_id, status, input_tokens, output_tokens, measured FROM usage ORDER BY time"
        )
        try:
            with self._tables.connect() as connection:
                return [Record(*row) for row in connection.execute(text(query))]
        except OperationalError:
            return []


def _killed(part: Running) -> None:
    assert part.process is not None
    part.process.kill()
    part.process.wait()
    part.directory.joinpath("http.sock").unlink()


@pytest.fixture(scope="module", params=["sqlite", "postgresql"] if SOAK else ["sqlite"])
def gateway(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, login_tools: None
) -> Iterator[Gateway]:
    """Run everything."""
    place = tmp_path_factory.mktemp("gateway")
    for folder in (place, *place.parents):
        if folder.is_relative_to("/tmp") and folder != Path("/tmp"):
            folder.chmod(0o755)
    postgres = request.getfixturevalue("postgres") if request.param == "postgresql" else None
    with contextlib.ExitStack() as ending:
        yield Gateway(place, Build.make(place / "build"), ending, postgres)


# --- streams that are left ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("usage", "told"), [("continuous", (1, 7, 40)), ("none", (7,))])
async def test_a_stream_that_is_left_is_accounted(
    gateway: Gateway, usage: str, told: tuple[int, ...]
) -> None:
    """To the token where the engine tells them; elsewhere within a chunk, and marked as an estimate."""
    gateway.route(usage, 2 if usage == "none" else 1)
    async with _http(gateway, gateway.key) as http:
        await _until_told(http, gateway, usage)
        for tokens in told:
            request_id, size = await _leave(http, tokens)
            (record,) = await _settled(gateway, {request_id})
            if usage == "continuous":
                # The engine tells the size of the body as its input's tokens, what was put into it included.
                assert record[3:] == (499, size + MOST_ADDED, tokens, True)
            else:
                assert record[3:] == (499, size // 4, tokens, False)
    gateway.route("continuous", 3)


async def _leave(http: aiohttp.ClientSession, tokens: int) -> tuple[str, int]:
    """Read so many tokens of a stream, and go; return the request's id and the size of its body."""
    body = json.dumps({**REQUEST, "stream": True, "max_tokens": 100, "bench_stall": tokens}).encode()
    async with http.post(CHAT, data=body) as answer:
        assert answer.status == 200
        seen = b""
        while seen.count(b'"content":"t=') < tokens:
            seen += await answer.content.readany()
        assert b'"usage"' not in seen
        answer.close()
        return answer.headers["X-Request-Id"], len(body)


async def _until_told(http: aiohttp.ClientSession, gateway: Gateway, usage: str) -> None:
    """Wait until the proxy knows what the engine tells: then a whole stream ends with figures, or without."""
    for _ in range(100):
        async with http.post(CHAT, json={**REQUEST, "stream": True}) as answer:
            body = await answer.read()
        # The bench's engine tells its tokens at the end unasked too; then nobody takes them out.
        if answer.status == 200 and (b'"usage"' in body) == (usage == "none"):
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"the proxy never learned that the engine tells {usage}")


# --- kills --------------------------------------------------------------------------------------------------


def _http(gateway: Gateway, key: str) -> aiohttp.ClientSession:
    connector = aiohttp.UnixConnector(str(gateway.proxy.socket), limit=0)
    return aiohttp.ClientSession(connector=connector, headers={"Authorization": f"Bearer {key}"})


class Clients:
    """Ask without end until told to stop; `answered` holds the ids of whole answers."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self.answered: set[str] = set()
        self.limited: set[str] = set()
        self.refused = 0
        self.stopped = False

    async def run(self) -> None:
        """Ask, several at once, every second one for a stream; one of them has a limit."""
        async with (
            _http(self._gateway, self._gateway.key) as http,
            _http(self._gateway, self._gateway.limited) as limited,
        ):
            asking = [self._ask_on(http, self.answered, stream=bool(one % 2)) for one in range(CLIENTS)]
            await asyncio.gather(*asking, self._ask_on(limited, self.limited, stream=True, pause=0.02))

    async def _ask_on(
        self, http: aiohttp.ClientSession, answered: set[str], *, stream: bool, pause: float = 0.0
    ) -> None:
        while not self.stopped:
            await asyncio.sleep(pause)
            try:
                async with http.post(
                    CHAT, json={**REQUEST, "stream": stream}, timeout=aiohttp.ClientTimeout(total=20)
                ) as answer:
                    body = await answer.read()
            except (aiohttp.ClientError, TimeoutError, OSError):
                await asyncio.sleep(0.05)
                continue
            self.refused += answer.status == 429
            if answer.status == 200 and (not stream or body.endswith(b"data: [DONE]\n\n")):
                answered.add(answer.headers["X-Request-Id"])


@pytest.mark.timeout(120 + 8 * KILLS)
async def test_every_answer_has_one_record_and_limits_hold_whatever_is_killed(gateway: Gateway) -> None:
    chance = random.Random(7)
    clients = Clients(gateway)
    asking = asyncio.create_task(clients.run())
    parts: list[str] = []
    for _ in range(KILLS):
        parts = parts or chance.sample(PARTS, len(PARTS))
        await asyncio.sleep(chance.uniform(*BETWEEN))
        await asyncio.to_thread(gateway.kill, parts.pop())
    await asyncio.sleep(1.0)
    clients.stopped = True
    await asking
    whole = clients.answered | clients.limited
    await _settled(gateway, whole)
    records = gateway.records()
    ids = [one.id for one in records]
    assert len(ids) == len(set(ids))
    assert whole <= set(ids)
    assert len(clients.answered) > 50 * KILLS
    print(
        f"{KILLS} kills: {len(clients.answered)} answers, {len(records)} records, {clients.refused} refused"
    )
    answered = [one for one in records if one.id in whole]
    assert {(one.status, one.output, one.measured) for one in answered} == {(200, 4, True)}
    # What nobody answered whole was cut off: by the client that lost its proxy, or with the proxy itself.
    cut = {one.status for one in records if one.id not in whole}
    assert cut <= {200, 499, 500, 503}
    _check_limit(records, clients.limited)


def _check_limit(records: list[Record], answered: set[str]) -> None:
    """Whatever was killed: in no minute more than the limit, and all that it allows was had."""
    key = next(one.key_id for one in records if one.id in answered)
    times = [one.time for one in records if one.key_id == key]
    assert len(times) >= LIMIT
    assert all(later - earlier >= MINUTE for earlier, later in zip(times, times[LIMIT:], strict=False))


async def _settled(gateway: Gateway, answered: set[str]) -> list[Record]:
    """Return the records of these answers, once all are there."""
    loop = asyncio.get_running_loop()
    end = loop.time() + SETTLED_SECONDS
    while True:
        records = [one for one in gateway.records() if one.id in answered]
        if len(records) >= len(answered) or loop.time() > end:
            return records
        await asyncio.sleep(0.2)
