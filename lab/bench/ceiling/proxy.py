"""The proxy of the bare ceiling: the proxy's service, without keys, limits, waiting, figures and accounts.

It listens on a loopback port, without nginx and TLS before it. Composed out of the proxy's parts and, in
place of those named, some that let everything pass and keep nothing; for the benchmark alone.

    python -m lab.bench.ceiling.proxy PROXY_JSON PORT_FILE
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, cast

from aiohttp import web

from sluice.bodies.costs import Bounds
from sluice.bodies.scan import BodyScanner
from sluice.config import load
from sluice.contracts.authority import Principal
from sluice.proxy.accounts.authority import Authenticator
from sluice.proxy.accounts.stops import Stops
from sluice.proxy.accounts.usage import UsageQueue
from sluice.proxy.api.handler import ApiHandler
from sluice.proxy.bodies.isolation import Isolation
from sluice.proxy.bodies.reader import Body, BodyReader
from sluice.proxy.clusters.cluster import Cluster, Fleet
from sluice.proxy.config import ProxyConfig
from sluice.proxy.http.cors import Cors
from sluice.proxy.http.server import ApiServer
from sluice.proxy.queue.waiting import RequestQueues, RequestTicket
from sluice.proxy.requests.context import RequestContext
from sluice.proxy.requests.limiter import Limiter
from sluice.proxy.service import Service

CALLER = Principal(
    user="u-bench", key_id="k-bench", kind="api_key", class_="api", groups=("users",), expires=None
)


class KnownCaller:
    """Stands for the authenticator: everybody is the same user, and nobody is asked."""

    async def principal(self, authorization: str | None, forwarded: str | None = None) -> Principal:
        """Return the one user."""
        return CALLER


class NoStops:
    """Stands for the models that an administrator has stopped."""

    known = True
    models: tuple[str, ...] = ()

    def check(self, model: str) -> None:
        """Let every model be asked."""


class NoLimits:
    """Stands for the limiter."""

    async def hold(self, *_: object) -> None:
        """Hold a request to nothing."""


class NoBooks:
    """Stands for the usage queue."""

    def __len__(self) -> int:
        return 0

    def begin(self, request_id: str, record: object) -> None:
        """Write nothing ahead."""

    def add(self, request_id: str, record: object) -> None:
        """Drop a record."""

    def close(self) -> None:
        """Have nothing to let go of."""

    async def run(self) -> None:
        """Deliver nothing."""
        await asyncio.Event().wait()

    async def flush(self) -> bool:
        """Have nothing to deliver."""
        return True


class AlwaysAdmitted:
    """A ticket that never waits."""

    admitted_now = True

    def __init__(self, cluster: str) -> None:
        self.cluster = cluster


class OpenDoor:
    """Stands for the queues: nobody waits, nobody is counted."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._ticket = AlwaysAdmitted(fleet.clusters[0].name)

    def enter(self, model: str, user: str, class_: str, *, stream: bool) -> AlwaysAdmitted:
        """Let a request through."""
        return self._ticket

    def cluster(self, name: str) -> Cluster:
        """Return the one cluster."""
        return self._fleet.clusters[0]

    def leave(self, ticket: RequestTicket) -> None:
        """Note nothing."""

    def put_back(self, ticket: RequestTicket, fault: Exception | None) -> None:
        """Give up: the ceiling is measured without losses."""
        raise fault or ConnectionError("a session was lost")


class AnySize(BodyReader):
    """Takes bodies without reserving room for them."""

    async def read(
        self, request: web.BaseRequest, length: int | None, user: str, capability: str, bounds: Bounds
    ) -> Body:
        """Read a whole body."""
        body = Body(self, user, lambda: BodyScanner(capability, bounds))
        body.chunks = [await request.content.read()]
        body.size = len(body.chunks[0])
        return body


class BareGateway(ApiHandler):
    """A gateway that settles nothing: no figures, no access line, no usage record."""

    def _begin(self, context: RequestContext, cluster: str) -> None:
        pass

    def _settle(self, context: RequestContext) -> None:
        pass


class BareService(Service):
    """The service with a bare gateway on a loopback port; `port` once it has started."""

    def __init__(self, config: ProxyConfig) -> None:
        super().__init__(config)
        self.usage = cast(UsageQueue, NoBooks())
        self.handler = BareGateway(
            self.fleet,
            cast(Authenticator, KnownCaller()),
            cast(Stops, NoStops()),
            cast(Limiter, NoLimits()),
            self.usage,
            AnySize(config.max_body, config.max_buffered, self.metrics),
            cast(RequestQueues, OpenDoor(self.fleet)),
            self.metrics,
            self.access,
            Cors(()),
            Isolation(config.cache_salt),
        )

    async def listen_bare(self) -> int:
        """Listen on a loopback port as well, past what counts the open requests; return the port."""
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.bind(("127.0.0.1", 0))
        listener.setblocking(False)
        await self._listen(ApiServer(self._bare, self.handler.refuse), listener)
        port: int = listener.getsockname()[1]
        return port

    def _bare(self, request: web.BaseRequest) -> Awaitable[web.StreamResponse]:
        return self.handler.handle(request)


async def _serve(config: ProxyConfig, port_file: Path) -> None:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    service = BareService(config)
    await service.start()
    _tell(port_file, await service.listen_bare())
    await ended.wait()
    await service.stop(0.0)


def _tell(port_file: Path, port: int) -> None:
    before = port_file.with_suffix(".new")
    before.write_text(str(port))
    before.rename(port_file)


def main(arguments: list[str]) -> Any:
    """Serve until SIGTERM."""
    logging.basicConfig(level=logging.WARNING)
    asyncio.run(_serve(load(ProxyConfig, arguments[0]), Path(arguments[1])))


if __name__ == "__main__":
    main(sys.argv[1:])
