"""The process: connects the parts, listens, and stops in order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import stat
from collections.abc import Callable
from pathlib import Path

from aiohttp import web

from sluice import garbage
from sluice.errors import ConfigError
from sluice.logs import log_loop_fault
from sluice.proxy.access_log import AccessLog
from sluice.proxy.accounts.authority import Authenticator, AuthorityClient
from sluice.proxy.accounts.guesses import Guesses
from sluice.proxy.accounts.principals import PrincipalCache
from sluice.proxy.accounts.spool import Spool
from sluice.proxy.accounts.stops import Stops
from sluice.proxy.accounts.usage import UsageQueue
from sluice.proxy.api.handler import ApiHandler
from sluice.proxy.bodies.isolation import Isolation
from sluice.proxy.bodies.reader import BodyReader
from sluice.proxy.clusters.cluster import Cluster, Fleet
from sluice.proxy.clusters.keeper import SessionKeeper
from sluice.proxy.clusters.ssh import SshTransport
from sluice.proxy.clusters.transport import Transport
from sluice.proxy.config import ClusterConfig, ProxyConfig
from sluice.proxy.http.cors import Cors
from sluice.proxy.http.server import ApiServer
from sluice.proxy.metrics import Metrics
from sluice.proxy.queue.admission import QueueBounds
from sluice.proxy.queue.waiting import QueueSettings, RequestQueues
from sluice.proxy.requests.limiter import Limiter
from sluice.proxy.status import Status

log = logging.getLogger("sluice.proxy")

SOCKET_MODE = 0o660
BACKLOG = 1024
# After SIGTERM, open requests have this long to end (seconds); systemd kills after 90 s.
DRAIN_SECONDS = 30.0

MakeTransport = Callable[[ClusterConfig], Transport]


class Service:
    """The whole proxy. `make_transport` makes the connection for a cluster's entry of the configuration."""

    def __init__(self, config: ProxyConfig, make_transport: MakeTransport = SshTransport) -> None:
        self._config = config
        self.metrics = Metrics()
        self.fleet = _fleet(config, make_transport)
        self.metrics.watch(self.fleet.keepers)
        self.authority = AuthorityClient(config.authority_socket)
        self.usage = UsageQueue(self.authority, Spool(config.spool), config.usage_batch, self.metrics)
        self.limiter = Limiter(self.authority, self.usage, config.reserve_output)
        self.stops = Stops(self.authority, config.principal_ttl)
        authenticator = Authenticator(
            self.authority,
            PrincipalCache(config.principal_ttl, config.principal_stale),
            Guesses(config.guesses_per_minute),
            self.metrics,
            lambda: self.stops.gateway_state,
        )
        body_reader = BodyReader(config.max_body, config.max_buffered, self.metrics)
        self.access = AccessLog("proxy", level=config.log_level)
        bounds = QueueBounds(config.queue_length, config.queue_per_user)
        self.queues = RequestQueues(
            self.fleet,
            self.metrics,
            QueueSettings(
                bounds, config.queue_wait, config.quiet_wait, config.request_timeout, config.comment_interval
            ),
        )
        self.handler = ApiHandler(
            self.fleet,
            authenticator,
            self.stops,
            self.limiter,
            self.usage,
            body_reader,
            self.queues,
            self.metrics,
            self.access,
            Cors(config.cors_origins),
            Isolation(config.cache_salt),
        )
        self.status = Status(self.fleet, self.authority, self.usage, self.metrics)
        self._open = 0
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._tasks: list[asyncio.Task[None]] = []
        self._runners: list[web.ServerRunner] = []
        self._api: web.BaseSite | None = None

    async def start(self) -> None:
        """Listen, and start the tasks. Raises ConfigError if an address cannot be bound."""
        api = ApiServer(self._counted, self.handler.refuse)
        self._api = await self._listen(api, _unix_socket(self._config.socket))
        status = web.Server(self.status.handle, access_log=None)
        await self._listen(status, _loopback(self._config.status_port))
        loop = asyncio.get_running_loop()
        parts = (self.fleet, self.usage, self.stops, self.limiter)
        self._tasks = [loop.create_task(part.run()) for part in parts]

    async def _listen(self, server: web.Server, listener: socket.socket) -> web.BaseSite:
        runner = web.ServerRunner(server, shutdown_timeout=1.0)
        await runner.setup()
        site = web.SockSite(runner, listener, backlog=BACKLOG)
        await site.start()
        self._runners.append(runner)
        return site

    async def _counted(self, request: web.BaseRequest) -> web.StreamResponse:
        self._open += 1
        self._quiet.clear()
        try:
            return await self.handler.handle(request)
        finally:
            self._open -= 1
            if not self._open:
                self._quiet.set()

    async def watch(self) -> None:
        """Wait until one of the tasks ends, which none should, and raise its exception."""
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()

    async def stop(self, drain: float = DRAIN_SECONDS) -> None:
        """Stop listening, give open requests `drain` seconds to end, deliver usage records, close."""
        if self._api is None:
            return
        site, self._api = self._api, None
        await site.stop()
        if self._runners[0].server is not None:
            self._runners[0].server.pre_shutdown()  # idle connections close, busy ones after their answer
        self.queues.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(drain):
                await self._quiet.wait()
        for runner in self._runners:
            await runner.cleanup()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.usage.flush()
        if len(self.usage):
            log.info("usage records are left for the next process", extra={"count": len(self.usage)})
        self.usage.close()
        await self.authority.close()
        self.access.flush()


def _fleet(config: ProxyConfig, make_transport: MakeTransport) -> Fleet:
    """Build the clusters; entries with the same name are login nodes of one cluster."""
    clusters: dict[str, list[list[SessionKeeper]]] = {}
    for entry in config.clusters:
        login_nodes = clusters.setdefault(entry.name, [])
        first = sum(map(len, login_nodes))
        login_nodes.append(
            [
                SessionKeeper(entry, first + number, _factory(entry, make_transport))
                for number in range(entry.sessions)
            ]
        )
    return Fleet([Cluster(name, login_nodes) for name, login_nodes in clusters.items()])


def _factory(entry: ClusterConfig, make_transport: MakeTransport) -> Callable[[], Transport]:
    return lambda: make_transport(entry)


def _unix_socket(path: str) -> socket.socket:
    """Bind the socket for nginx; from the start only owner and group can open it. Raises ConfigError."""
    place = Path(path)
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(place.lstat().st_mode):
            place.unlink()  # left by a process that was killed
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o777 & ~SOCKET_MODE)
    try:
        listener.bind(path)
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"socket: {path} cannot be bound ({error.strerror}); does its directory exist?"
        ) from None
    finally:
        os.umask(before)
    listener.setblocking(False)
    return listener


def _loopback(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
    except OSError as error:
        listener.close()
        raise ConfigError(f"status_port: {port} cannot be bound ({error.strerror})") from None
    listener.setblocking(False)
    return listener


async def serve(config: ProxyConfig) -> None:
    """Run until SIGTERM or SIGINT. Raises the exception of a task that ended before."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(log_loop_fault)
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    service = Service(config)
    await service.start()
    garbage.collect_rarely()
    log.info("listening", extra={"socket": config.socket, "status_port": config.status_port})
    watching = loop.create_task(service.watch())
    waiting = loop.create_task(stopping.wait())
    try:
        await asyncio.wait([watching, waiting], return_when=asyncio.FIRST_COMPLETED)
    finally:
        log.info("stopping")
        for task in (watching, waiting):
            task.cancel()
        ended = await asyncio.gather(watching, waiting, return_exceptions=True)
        await service.stop()
    for result in ended:
        if isinstance(result, Exception):
            raise result
