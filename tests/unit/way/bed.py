"""A request's whole path in one event loop: HTTP, the proxy, a relay's session, TLS, fronts and stub engines.

All parts are real, except the engine; a pair of sockets replaces SSH. Each part can be killed, and each
connection can go dark: its bytes vanish, as when a node loses power.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Optional

import aiohttp

from sluice.contracts.files import write_json
from sluice.contracts.paths import CAPABILITIES
from sluice.contracts.routing import RoutedInstance, RoutingTable
from sluice.front.config import EngineAddress, FrontConfig
from sluice.front.identity import Identity
from sluice.front.listener import Listener
from sluice.proxy.clusters.transport import Receiver, TransportError
from sluice.proxy.config import ClusterConfig, ProxyConfig
from sluice.proxy.service import Service
from sluice.relay.config import RelayConfig
from sluice.relay.session import Session
from tests.fakes.authority import FakeAuthority
from tests.fakes.engine import Behaviour, StubEngine
from tests.fakes.routed import routed
from tests.felt import Stopwatch

MODEL = "tiny"
CHAT = "/v1/chat/completions"
GROUP = "staff"
# Tests need much less time than this; a busy machine may need it (seconds).
LONG = 60.0


class Pipe(asyncio.Protocol):
    """A proxy's transport whose far end is a relay's session in this process; `dark` loses every byte."""

    def __init__(self, session: Session) -> None:
        self.dark = False
        self.session = session
        self._receiver: Optional[Receiver] = None
        self._transport: Optional[asyncio.Transport] = None
        self._ran: Optional[asyncio.Future[str]] = None

    async def connect(self, receiver: Receiver) -> None:
        """Connect both ends."""
        ours, theirs = socket.socketpair()
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: self.session.endpoint, sock=theirs)
            self._ran = asyncio.ensure_future(self.session.run())
            self._receiver = receiver
            await loop.create_connection(lambda: self, sock=ours)
        except asyncio.CancelledError:
            # The proxy ends while it connects; on a busy machine that happens.
            ours.close()
            raise

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Pass on what the relay sends."""
        if self._receiver is not None and not self.dark:
            self._receiver.data_received(data)

    def connection_lost(self, exc: Optional[Exception]) -> None:
        """Tell the proxy, unless it has closed the transport."""
        if self._receiver is not None:
            self._receiver.connection_lost(TransportError("the far side closed the connection"))

    def can_write(self) -> bool:
        """Return True: small requests always fit."""
        return True

    def write(self, data: bytes) -> None:
        """Send bytes of the proxy."""
        if self._transport is not None and not self.dark:
            self._transport.write(data)

    def close(self) -> None:
        """Close at once."""
        self._receiver = None
        if self._transport is not None:
            self._transport.abort()

    async def wait_closed(self) -> None:
        """Wait for the relay's end."""
        if self._ran is not None:
            await asyncio.wait({self._ran}, timeout=5)

    def kill(self) -> None:
        """Cut the connection, as the end of relay or sshd does."""
        if self._transport is not None:
            self._transport.abort()


class Cable:
    """A port on loopback between relays and one front; `dark` loses every byte and every connection."""

    def __init__(self, port: int) -> None:
        self.dark = False
        self.port = 0
        self._to = port
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []
        self._server: Optional[asyncio.AbstractServer] = None

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def stop(self) -> None:
        """Stop listening, and cut all connections."""
        if self._server is not None:
            self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        for task in self._tasks:
            task.cancel()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        try:
            to_read, to_write = await asyncio.open_connection("127.0.0.1", self._to)
        except OSError:
            if not self.dark:
                writer.transport.abort()
            return
        self._writers.append(to_write)
        for source, sink in ((reader, to_write), (to_read, writer)):
            task = asyncio.get_running_loop().create_task(self._carry(source, sink))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                if not self.dark:
                    sink.write(data)
        if not self.dark:
            sink.transport.abort()


class Job:
    """One instance: its engine, its front, and the cable to it."""

    def __init__(self, directory: Path, number: int, identity: Identity, behaviour: Behaviour) -> None:
        directory.mkdir()
        self.id = f"{MODEL}-{number:08x}"
        self.number = number
        self.state = "ready"
        self.engine = StubEngine(behaviour, directory / "engine.sock")
        self.listener = Listener(_front_config(directory, self.id), identity)
        self.cable: Cable
        self._identity = identity

    async def start(self, stack: contextlib.AsyncExitStack) -> None:
        """Start all three."""
        await stack.enter_async_context(self.engine)
        port = await self.listener.start()
        stack.callback(self.listener.stop)
        self.cable = Cable(port)
        await self.cable.start()
        stack.callback(self.cable.stop)

    def instance(self) -> RoutedInstance:
        """Return its entry in the routing table."""
        own = self._identity
        return RoutedInstance(
            id=self.id,
            job_id=str(self.number + 1),
            host="127.0.0.1",
            port=self.cable.port,
            certificate=own.certificate,
            key=own.key,
            state=self.state,
        )

    def kill(self) -> None:
        """End engine and front, as the end of the job does."""
        self.engine.kill()
        self.kill_front()

    def kill_front(self) -> None:
        """End the front without a message."""
        for relay in tuple(self.listener._relays):
            relay.endpoint.abort()
        self.listener.stop()


def _front_config(directory: Path, instance: str) -> FrontConfig:
    return FrontConfig(
        engine=EngineAddress(str(directory / "engine.sock")),
        health_path="/health",
        private_dir=directory,
        job_dir=directory,
        instance=instance,
        nonce=instance.rpartition("-")[2],
        job_id="1",
        host="localhost",
        ports=range(30000, 40000),
        concurrency=64,
        max_body=1 << 22,
    )


@dataclass
class Reply:
    """An answer as its client saw it; `head_after` and `took` in seconds as felt; status 0: cut off."""

    status: int
    body: bytes
    head_after: float
    took: float
    headers: dict[str, str]

    @property
    def code(self) -> str:
        """The code of the error that it is, or that ended it; "" for none."""
        for line in self.body.splitlines():
            try:
                error = json.loads(line.removeprefix(b"data: ")).get("error")
            except (ValueError, AttributeError):
                continue  # a comment, an empty line, what broke off
            if error:
                return str(error["code"])
        return ""

    @property
    def whole(self) -> bool:
        """Whether it is a complete and successful answer."""
        ended = b"[DONE]" in self.body or not self.headers.get("Content-Type", "").startswith("text/event")
        return self.status == 200 and not self.code and bool(self.body) and ended


class Way:
    """All parts; `pipes` are the proxy's sessions so far, the newest last."""

    def __init__(self, directory: Path, identity: Identity) -> None:
        self.directory = directory
        self.identity = identity
        self.jobs: list[Job] = []
        self.pipes: list[Pipe] = []
        self.relay = relay_config(directory)
        self.service: Service
        self.http: aiohttp.ClientSession
        self.authority: FakeAuthority
        self.keys: dict[str, str] = {}
        self._stack: contextlib.AsyncExitStack
        self._generation = 0

    async def add(self, behaviour: Behaviour) -> Job:
        """Start another instance; `publish` lets relays know it."""
        job = Job(self.directory / f"job{len(self.jobs)}", len(self.jobs), self.identity, behaviour)
        await job.start(self._stack)
        self.jobs.append(job)
        return job

    def publish(self, *jobs: Job, **changes: Any) -> None:
        """Write the routing table with these instances."""
        self._generation += 1
        status = "ready" if any(job.state == "ready" for job in jobs) else "starting"
        given = {"status": status, "capabilities": CAPABILITIES, "concurrency": 64, **changes}
        models = {MODEL: routed([job.instance() for job in jobs], **given)}
        table = RoutingTable("demo", self._generation, time.time(), models)
        write_json(self.directory / "routing.json", table.dump())

    def transport(self, _: ClusterConfig) -> Pipe:
        """Make the connection that the proxy asks for."""
        self.pipes.append(Pipe(Session(self.relay)))
        return self.pipes[-1]

    async def ask(
        self,
        body: dict[str, Any],
        path: str = CHAT,
        user: str = "u-1",
        timeout: float = LONG,
        seen: Optional[bytearray] = None,
    ) -> Reply:
        """Send a request as `user` and return the reply; `seen` collects the answer as it arrives."""
        key = self.keys.get(user) or self.authority.add_key(groups=(GROUP,))
        self.keys[user] = key
        head_after, status = 0.0, 0
        got, headers = bytearray() if seen is None else seen, {}
        with Stopwatch() as felt:
            try:
                async with (
                    asyncio.timeout(timeout),
                    self.http.post(
                        f"http://proxy{path}",
                        data=json.dumps({"model": MODEL, **body}).encode(),
                        headers={"Authorization": f"Bearer {key}"},
                    ) as response,
                ):
                    head_after, status = felt.seconds, response.status
                    headers = dict(response.headers)
                    async for piece in response.content.iter_any():
                        got += piece
            except aiohttp.ClientError:
                status = 0
        return Reply(status, bytes(got), head_after, felt.seconds, headers)

    def requests(self) -> int:
        """Return how many requests for answers have reached the engines."""
        return sum(len(job.engine.requests()) for job in self.jobs)


def relay_config(directory: Path) -> RelayConfig:
    """Return a relay's configuration with all its files in `directory`."""
    return RelayConfig(
        cluster="demo",
        routing_table=str(directory / "routing.json"),
        demand_dir=str(directory / "demand"),
        figures=str(directory / "figures.json"),
        closed_file=str(directory / "closed"),
        # A node that is dark takes no connection for so long; a busy machine must make its own within it.
        connect_timeout=10.0,
    )


def proxy_config(directory: Path) -> ProxyConfig:
    """Return a proxy's configuration with short times."""
    cluster = ClusterConfig(
        name="demo",
        host="login",
        port=22,
        user="sluice-relay",
        key_file="unused",
        known_hosts="unused",
        ping_interval=0.5,
        ping_timeout=1.0,
        models_interval=0.05,
        backoff_max=0.2,
        sessions=1,
    )
    return ProxyConfig(
        socket=str(directory / "http.sock"),
        authority_socket=str(directory / "authority.sock"),
        spool=str(directory / "usage"),
        clusters=(cluster,),
        status_port=0,
        max_body=1 << 22,
        principal_ttl=0.2,
        usage_batch=0.05,
        queue_wait=20.0,
        quiet_wait=0.5,
    )


def chat(stream: bool = False, **more: Any) -> dict[str, Any]:
    """Return a small chat."""
    return {"messages": [{"role": "user", "content": "hello"}], "stream": stream, **more}


async def until(condition: Any, seconds: float = LONG) -> None:
    """Wait until the condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not come true in time"
        await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def way(
    directory: Path,
    identity: Identity,
    *behaviours: Behaviour,
    relay: Optional[dict[str, Any]] = None,
    **proxy: Any,
) -> AsyncIterator[Way]:
    """Run everything, with one instance for each behaviour; `relay` and `proxy` change their settings."""
    (directory / "demand").mkdir()
    async with contextlib.AsyncExitStack() as stack:
        running = Way(directory, identity)
        running._stack = stack
        running.relay = replace(running.relay, **(relay or {}))
        for behaviour in behaviours:
            await running.add(behaviour)
        running.publish(*running.jobs)
        settings = replace(proxy_config(directory), **proxy)
        running.authority = FakeAuthority(Path(settings.authority_socket))
        await running.authority.start()
        stack.push_async_callback(running.authority.stop)
        running.service = Service(settings, running.transport)
        await running.service.start()
        stack.push_async_callback(running.service.stop, drain=0.1)
        running.http = aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(settings.socket, limit=0), timeout=aiohttp.ClientTimeout(None)
        )
        stack.push_async_callback(running.http.close)
        await until(lambda: running.service.fleet.clusters[0].models_known)
        yield running
