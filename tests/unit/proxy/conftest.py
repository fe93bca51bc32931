"""A whole proxy in the test's process: real HTTP on a unix socket, a fake relay, a fake authority."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from sluice.proxy.config import ClusterConfig, ProxyConfig
from sluice.proxy.service import Service
from tests.fakes.authority import FakeAuthority
from tests.fakes.wire_relay import EVENTS, Answer, Call, FakeRelay

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


def chat(**changes: Any) -> dict[str, Any]:
    """Return a body for a chat."""
    return {"model": "smol", "messages": [{"role": "user", "content": "Hello?"}], **changes}


def event(text: str) -> bytes:
    """Return one chunk of a stream, as an engine writes it."""
    chunk = {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": text}}]}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


async def answer_well(call: Call) -> None:
    """Answer as an engine does: a stream if asked for one, a document if not."""
    asked = json.loads(call.body)
    if not asked.get("stream"):
        await call.answer({"object": "chat.completion", "model": asked["model"], "usage": USAGE})
        return
    call.start(content_type=EVENTS)
    for word in ("Good ", "day", "!"):
        await call.send(event(word))
    await call.send(b"data: [DONE]\n\n")
    call.end()


class TwoParts:
    """An answer in two parts; the second comes once `go_on` is set."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()

    async def __call__(self, call: Call) -> None:
        """Answer one request."""
        call.start(content_type=EVENTS)
        await call.send(event("first"))
        await self.go_on.wait()
        await call.send(event("second"))
        call.end()


async def eventually(true: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait until something holds; fail after `seconds`, by turns: none counts more on a busy machine."""
    took = 0.0
    while not true():
        assert took < seconds, "it never became so"
        await asyncio.sleep(0.005)
        took += 0.005


@dataclass
class Bed:
    """The proxy under test with everything around it."""

    service: Service
    relay: FakeRelay
    authority: FakeAuthority
    http: aiohttp.ClientSession
    key: str
    config: ProxyConfig

    def headers(self, **more: str) -> dict[str, str]:
        """Return the headers of a well-behaved client."""
        return {"Authorization": f"Bearer {self.key}", **more}

    async def post(
        self, document: Any, path: str = CHAT, **headers: str
    ) -> tuple[int, Mapping[str, str], Any]:
        """Post a document; return status, headers and the answer as JSON."""
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        async with self.http.post(
            f"http://proxy{path}", data=body, headers=self.headers(**headers)
        ) as response:
            return response.status, response.headers.copy(), json.loads(await response.read())

    async def get(self, path: str, **headers: str) -> tuple[int, Mapping[str, str], Any]:
        """Get a path; return status, headers and the answer as JSON."""
        async with self.http.get(f"http://proxy{path}", headers=self.headers(**headers)) as response:
            return response.status, response.headers.copy(), json.loads(await response.read())

    def metric(self, name: str, **labels: str) -> float | None:
        """Return one of the proxy's figures."""
        return self.service.metrics.registry.get_sample_value(name, labels)

    async def settled(self) -> list[Any]:
        """Return the usage records, once the authority has those of all requests."""
        await eventually(lambda: not len(self.service.usage))
        return list(self.authority.usage.values())


def config(tmp_path: Path, clusters: int = 1) -> ProxyConfig:
    """Return a configuration with short times."""
    cluster = ClusterConfig(
        name="demo",
        host="login",
        port=22,
        user="sluice-relay",
        key_file="unused",
        known_hosts="unused",
        connect_timeout=2.0,
        ping_interval=5.0,
        ping_timeout=1.0,
        models_interval=0.05,
        backoff_max=0.2,
        sessions=1,
    )
    return ProxyConfig(
        socket=str(tmp_path / "http.sock"),
        authority_socket=str(tmp_path / "authority.sock"),
        spool=str(tmp_path / "usage"),
        clusters=tuple(replace(cluster, host=f"login{index}") for index in range(clusters)),
        status_port=0,
        max_body=1 << 20,
        principal_ttl=0.2,
        principal_stale=60.0,
        usage_batch=0.05,
        queue_wait=0.6,
        quiet_wait=0.1,
    )


@asynccontextmanager
async def open_bed(
    settings: ProxyConfig, relay: FakeRelay, *, wait: bool = True, authority: bool = True
) -> AsyncIterator[Bed]:
    """Start everything, and stop it at the end."""
    fake = FakeAuthority(Path(settings.authority_socket))
    if authority:
        await fake.start()
    service = Service(settings, relay.transport)
    await service.start()
    http = aiohttp.ClientSession(connector=aiohttp.UnixConnector(settings.socket, limit=0))
    try:
        if wait:
            await eventually(lambda: service.fleet.clusters[0].models_known)
        yield Bed(service, relay, fake, http, fake.add_key(groups=("staff",)), settings)
    finally:
        await http.close()
        await service.stop(drain=1.0)
        await fake.stop()


@pytest.fixture
def answer() -> Answer:
    """What the relay does with a request; a test module overrides it."""
    return answer_well


@pytest_asyncio.fixture
async def bed(tmp_path: Path, answer: Answer) -> AsyncIterator[Bed]:
    """A proxy with one session that is up and one model, `smol`."""
    async with open_bed(config(tmp_path), FakeRelay(answer)) as opened:
        yield opened
