"""Limits and stops against bursts, kills and clients that leave: the deployed programs, over a real sshd.

The authority runs under gunicorn on its database; keys and their limits are made by `sluice keys`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sqlite3
import ssl
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from lab.bench.stack import GROUP, MODEL, Authority, Build, Engine, Front, Login, Nginx, Options, Proxy
from tests.fakes.authority import make_key

CHAT = "http://proxy/v1/chat/completions"
BURST = 200
# A revoked key has stopped working within this (seconds).
REVOKED_SECONDS = 10.0
# And so soon a stopped model takes no new request, or a resumed one does.
STOPPED_SECONDS = 10.0
# The default of proxy_guesses_per_minute.
GUESSES = 30
# How long the authority is away; above 5, the seconds for which an answer of it is fresh.
AWAY = float(os.environ.get("SLUICE_SOAK_AWAY", "7"))


class Gateway:
    """Proxy and authority before a login node with one instance."""

    def __init__(self, place: Path, build: Build, ending: contextlib.ExitStack) -> None:
        self._build = build
        self.engine = Engine(place / "engine")
        ending.callback(self.engine.stop)
        self.engine.start()
        front = Front(place / "job")
        ending.callback(front.stop)
        front.start(self.engine.socket, build.zipapp, 2048)
        (place / "login").mkdir(mode=0o755)
        self._login = Login(place / "login", build.zipapp, {})
        ending.callback(self._login.stop)
        self._login.route(front.instance())
        self._login.start()
        self.authority = Authority(place / "authority")
        ending.callback(self.authority.stop)
        self.authority.start(build.site)
        self.proxy = Proxy(place / "proxy")
        ending.callback(self.proxy.stop)
        self.start_proxy()
        self.nginx = Nginx(place / "nginx")
        ending.callback(self.nginx.stop)
        self.nginx.start(self.proxy.socket, self._login.directory / "log" / "socket", {})

    def start_proxy(self) -> None:
        """Start the proxy, as systemd does after a kill."""
        self.proxy.start(self._build.site, self._login, self.authority.socket, Options(sessions=1))

    def kill_proxy(self) -> None:
        """Kill -9 the proxy, and start it again at once.

        Not from another thread: what is started dies with the thread that started it.
        """
        assert self.proxy.process is not None
        self.proxy.process.kill()
        self.proxy.process.wait()
        self.proxy.socket.unlink()
        self.start_proxy()

    def key(self, **limits: int) -> str:
        """Make a key with limits of its own; `key_id` is its id."""
        numbers = [f"--{name.replace('_', '-')}={number}" for name, number in limits.items()]
        owner = ("--user=bench", f"--groups={GROUP}", "--name=limited")
        made = json.loads(self.command("keys", "create", "--json", *owner, *numbers))
        self.key_id: str = made["key_id"]
        key: str = made["key"]
        return key

    def command(self, *arguments: str) -> str:
        """Run `sluice` beside web's configuration."""
        return self.authority._sluice(*arguments)

    def charged(self) -> list[tuple[int, int]]:
        """Return status and tokens of the records of the key made last, in the order of its requests."""
        query = "SELECT status, input_tokens + output_tokens FROM usage WHERE key_id = ? ORDER BY time"
        with contextlib.closing(sqlite3.connect(self.authority.directory / "sluice.db")) as database:
            return database.execute(query, (self.key_id,)).fetchall()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, login_tools: None) -> Iterator[Gateway]:
    """Run everything."""
    place = tmp_path_factory.mktemp("limits")
    for folder in (place, *place.parents):
        if folder.is_relative_to("/tmp") and folder != Path("/tmp"):
            folder.chmod(0o755)
    with contextlib.ExitStack() as ending:
        yield Gateway(place, Build.make(place / "build"), ending)


class Client:
    """Asks with one key, any number at once."""

    def __init__(self, gateway: Gateway, key: str) -> None:
        self._gateway = gateway
        self._headers = {"Authorization": f"Bearer {key}"}

    async def __aenter__(self) -> Client:
        connector = aiohttp.UnixConnector(str(self._gateway.proxy.socket), limit=0)
        self._http = aiohttp.ClientSession(connector=connector, headers=self._headers)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.close()

    def post(self, **changes: Any) -> Any:
        """Begin a request."""
        return self._http.post(CHAT, data=body(**changes))

    async def ask(self, **changes: Any) -> tuple[int, str, Any]:
        """Return status, error code ("" for none) and headers of one answer."""
        async with self.post(**changes) as answer:
            found = await answer.read()
            code = json.loads(found)["error"]["code"] if answer.status >= 400 else ""
            return answer.status, code, answer.headers.copy()

    async def burst(self, count: int = BURST, **changes: Any) -> list[tuple[int, str]]:
        """Return status and error code of many requests at once."""
        answers = await asyncio.gather(*(self.ask(**changes) for _ in range(count)))
        return sorted((status, code) for status, code, _ in answers)


def body(max_tokens: int = 1, **changes: Any) -> bytes:
    """Return a request; of `max_tokens` the engine writes all, and takes a byte of the body for a token."""
    message = {"role": "user", "content": "How much may I?"}
    return json.dumps({"model": MODEL, "max_tokens": max_tokens, **changes, "messages": [message]}).encode()


async def until(true: Any, seconds: float = 60.0) -> None:
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not await asyncio.to_thread(true):
        assert time.monotonic() < end, "it never became so"
        await asyncio.sleep(0.05)


async def test_a_burst_gets_the_requests_of_its_limit_and_a_killed_proxy_forgets_none(
    gateway: Gateway,
) -> None:
    key = gateway.key(requests_per_minute=50)
    begun = time.monotonic()
    async with Client(gateway, key) as client:
        assert await client.burst() == [(200, "")] * 50 + [(429, "requests_limited")] * 150
    assert gateway.engine.journal()["requests"] == 50
    gateway.kill_proxy()
    async with Client(gateway, key) as client:
        status, code, headers = await client.ask()
    assert (status, code) == (429, "requests_limited")
    assert int(headers["Retry-After"]) <= 61 - int(time.monotonic() - begun) + 1
    assert headers["x-ratelimit-remaining-requests"] == "0"
    assert gateway.engine.journal()["requests"] == 50


async def test_what_was_running_when_the_proxy_was_killed_counts_too(gateway: Gateway) -> None:
    key = gateway.key(requests_per_minute=50)
    before = gateway.engine.journal()["requests"]
    async with Client(gateway, key) as client:
        running = [asyncio.create_task(client.ask(bench_delay=20)) for _ in range(BURST)]
        await until(lambda: gateway.engine.journal()["requests"] == before + 50)
        gateway.kill_proxy()
        ended = await asyncio.gather(*running, return_exceptions=True)
    assert sum(not isinstance(one, BaseException) for one in ended) == 150
    async with Client(gateway, key) as client:
        assert await client.burst(20) == [(429, "requests_limited")] * 20
    assert gateway.engine.journal()["requests"] == before + 50


async def test_a_burst_gets_the_tokens_of_its_limit(gateway: Gateway) -> None:
    request: dict[str, Any] = {"max_tokens": 100, "user": "f" * 40}
    fit = 37
    most = fit * (len(body(**request)) + 100) + 50
    async with Client(gateway, gateway.key(tokens_per_minute=most)) as client:
        assert await client.burst(**request) == [(200, "")] * fit + [(429, "tokens_limited")] * (BURST - fit)
        _, code, headers = await client.ask(max_tokens=1000)
    assert code == "tokens_limited"
    assert headers["x-ratelimit-limit-tokens"] == str(most)
    assert headers["x-ratelimit-remaining-tokens"] == "50"


async def test_no_more_run_at_once_than_may_and_the_next_go_when_they_end(gateway: Gateway) -> None:
    async with Client(gateway, gateway.key(concurrent=4)) as client:
        found = await client.burst(40, bench_delay=0.5)
        assert found == [(200, "")] * 4 + [(429, "concurrency_limited")] * 36
        assert await client.burst(4) == [(200, "")] * 4


async def test_who_leaves_gets_back_just_what_was_not_used(gateway: Gateway) -> None:
    day = 100_000
    async with Client(gateway, gateway.key(tokens_per_day=day)) as client:
        for stay in (0.0, 0.15, 0.4):
            async with client.post(max_tokens=1000, stream=True, bench_interval=0.02) as answer:
                end = time.monotonic() + stay
                while time.monotonic() < end:
                    await answer.content.readany()
        await until(lambda: len(gateway.charged()) == 3)
        left = gateway.charged()
        _, _, headers = await client.ask()
    assert [status for status, _ in left] == [499] * 3
    assert all(0 < tokens < 400 for _, tokens in left)
    own = len(body()) + 1
    assert int(headers["x-ratelimit-remaining-tokens"]) == day - sum(tokens for _, tokens in left) - own


async def test_a_revoked_key_has_stopped_working_within_ten_seconds(gateway: Gateway) -> None:
    key = gateway.key()
    async with Client(gateway, key) as client:
        assert (await client.ask())[0] == 200
        gateway.command("keys", "revoke", "--key-id", gateway.key_id)
        begun = time.monotonic()
        while (await client.ask())[0] == 200:
            assert time.monotonic() - begun < REVOKED_SECONDS
            await asyncio.sleep(0.1)
        assert (await client.ask())[1] == "invalid_api_key"


async def test_a_stopped_model_refuses_what_is_new_and_lets_run_what_runs(gateway: Gateway) -> None:
    async with Client(gateway, gateway.key()) as client:

        async def becomes(status: int, code: str) -> None:
            end = time.monotonic() + STOPPED_SECONDS
            while (await client.ask())[:2] != (status, code):
                assert time.monotonic() < end
                await asyncio.sleep(0.1)

        async with client.post(max_tokens=400, stream=True, bench_interval=0.02) as running:
            assert running.status == 200
            gateway.command("admission", "stop", "--new", "--message", "Back at noon.", MODEL)
            await becomes(503, "model_stopped")
            async with client.post() as refused:
                assert "Back at noon." in (await refused.json())["error"]["message"]
            assert (await running.read()).endswith(b"data: [DONE]\n\n")
        gateway.command("admission", "resume", MODEL)
        await becomes(200, "")


@pytest.mark.timeout(AWAY + 120)
async def test_while_the_authority_is_away_known_keys_go_on_and_unknown_ones_are_not_called_wrong(
    gateway: Gateway,
) -> None:
    async with Client(gateway, gateway.key(requests_per_minute=100_000)) as known:
        found = Counter([(*(await known.ask())[:2], "known")])
        gateway.authority.stop()
        gateway.authority.socket.unlink(missing_ok=True)
        end = time.monotonic() + AWAY
        while time.monotonic() < end:
            async with Client(gateway, make_key()) as unknown:
                found[(*(await unknown.ask())[:2], "unknown")] += 1
            found[(*(await known.ask())[:2], "known")] += 1
            await asyncio.sleep(0.2)
        gateway.authority.restart()
        # The proxy comes back to an authority that was away for long after 30 s at most.
        await until(lambda: len(gateway.charged()) == found[200, "", "known"], 45)
        async with Client(gateway, make_key()) as unknown:
            assert (await unknown.ask())[:2] == (401, "invalid_api_key")
    print(f"away for {AWAY:.0f} s: {dict(found)}")
    assert found.keys() == {(200, "", "known"), (503, "authority_unreachable", "unknown")}
    assert min(found.values()) >= 2 * AWAY


async def test_an_address_that_guesses_keys_is_slowed_whatever_it_says_that_it_is(gateway: Gateway) -> None:
    trust = ssl.create_default_context(cafile=str(gateway.nginx.certificate))
    known = gateway.key()
    url = f"https://localhost:{gateway.nginx.port}/v1/models"

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trust)) as http:

        async def present(key: str, address: str) -> int:
            headers = {"Authorization": f"Bearer {key}", "X-Forwarded-For": address}
            async with http.get(url, headers=headers) as answer:
                return answer.status

        # nginx answers 502 until the proxy, which has bound its socket, listens on it.
        statuses = [await present(known, "192.0.2.1")]
        while statuses[-1] == 502 and len(statuses) < 100:
            await asyncio.sleep(0.1)
            statuses.append(await present(known, "192.0.2.1"))
        assert statuses[-1] == 200
        found = [await present(make_key(), f"198.51.100.{number}") for number in range(GUESSES + 10)]
        assert found == [401] * GUESSES + [429] * 10
        assert await present(known, "192.0.2.1") == 200
