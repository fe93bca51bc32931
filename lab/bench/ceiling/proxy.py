"""The proxy of the bare ceiling: the proxy's service without keys, limits, queues, metrics and usage records.

It listens on a loopback port, without nginx and TLS. It consists of the proxy's own parts; stand-ins that
allow everything and keep nothing replace those named above. Only the benchmark uses it.

A stand-in is a subclass of what it replaces, so mypy compares their methods.

    python -m lab.bench.ceiling.proxy PROXY_JSON PORT_FILE
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
from collections.abc import Awaitable, Container
from pathlib import Path
from typing import Any

from aiohttp import web

from sluice.bodies.costs import Bounds
from sluice.bodies.scan import BodyScanner
from sluice.config import load
from sluice.contracts.authority import Principal
from sluice.errors import SluiceError
from sluice.proxy.accounts.authority import Authenticator
from sluice.proxy.accounts.stops import Stops
from sluice.proxy.accounts.usage import UsageQueue
from sluice.proxy.api.handler import ApiHandler
from sluice.proxy.bodies.isolation import Isolation
from sluice.proxy.bodies.reader import Body, BodyReader
from sluice.proxy.clusters.cluster import Cluster, Fleet
from sluice.proxy.clusters.ssh import SshTransport
from sluice.proxy.config import ProxyConfig
from sluice.proxy.http.cors import Cors
from sluice.proxy.http.server import ApiServer
from sluice.proxy.queue.waiting import QueueSettings, RequestQueues, RequestTicket
from sluice.proxy.requests.context import RequestContext
from sluice.proxy.requests.limiter import Limiter
from sluice.proxy.service import MakeTransport, Service

CALLER = Principal(
    user="u-bench", key_id="k-bench", kind="api_key", class_="api", groups=("users",), expires=None
)


class OneUser(Authenticator):
    """In place of the authenticator: everybody is the same user, and the authority is not asked."""

    def __init__(self) -> None:
        pass

    async def principal(self, authorization: str | None, forwarded: str | None = None) -> Principal:
        """Return the one user."""
        return CALLER


class NoStops(Stops):
    """In place of the list of stopped models: no model is stopped."""

    known = True
    models: Container[str] = ()

    def __init__(self) -> None:
        pass

    def check(self, model: str) -> None:
        """Allow every model."""


class NoLimits(Limiter):
    """In place of the limiter: nobody has a limit."""

    def __init__(self) -> None:
        pass

    async def hold(self, *_: object, **__: object) -> None:
        """Reserve nothing."""


class NoUsage(UsageQueue):
    """In place of the usage queue: no record is kept."""

    def __init__(self) -> None:
        pass

    def __len__(self) -> int:
        return 0

    def begin(self, request_id: str, record: object) -> None:
        """Write nothing."""

    def add(self, request_id: str, record: object) -> None:
        """Drop the record."""

    def close(self) -> None:
        """Close nothing."""

    async def run(self) -> None:
        """Deliver nothing."""
        await asyncio.Event().wait()

    async def flush(self) -> bool:
        """Deliver nothing."""
        return True


class AlwaysAdmitted(RequestTicket):
    """A ticket that never waits."""

    admitted_now = True

    def __init__(self, cluster: str) -> None:
        self.cluster = cluster


class NoQueues(RequestQueues):
    """In place of the queues: nobody waits, and requests are not counted."""

    def __init__(self, fleet: Fleet, settings: QueueSettings) -> None:
        self._fleet = fleet
        self._settings = settings
        self._ticket = AlwaysAdmitted(fleet.clusters[0].name)

    def enter(self, *_: object, **__: object) -> RequestTicket:
        """Admit the request."""
        return self._ticket

    def cluster(self, name: str) -> Cluster:
        """Return the only cluster."""
        return self._fleet.clusters[0]

    def leave(self, ticket: RequestTicket) -> None:
        """Do nothing: the request was not counted."""

    def put_back(self, ticket: RequestTicket, fault: SluiceError, *, full: bool = True) -> None:
        """Raise the error: the ceiling is measured without failed attempts."""
        raise fault


class AnySize(BodyReader):
    """Reads bodies without reserving memory for them."""

    async def read(
        self, request: web.BaseRequest, length: int | None, user: str, capability: str, bounds: Bounds
    ) -> Body:
        """Read the whole body."""
        body = Body(self, user, lambda: BodyScanner(capability, bounds))
        body.chunks = [await request.content.read()]
        body.size = len(body.chunks[0])
        return body


class BareHandler(ApiHandler):
    """A handler that settles nothing: no metrics, no access line, no usage record."""

    def _begin(self, context: RequestContext, cluster: str) -> None:
        pass

    def _settle(self, context: RequestContext) -> None:
        pass


class BareService(Service):
    """The proxy's service with a bare handler."""

    def __init__(self, config: ProxyConfig, make_transport: MakeTransport = SshTransport) -> None:
        super().__init__(config, make_transport)
        self.usage = NoUsage()
        self.handler = BareHandler(
            self.fleet,
            OneUser(),
            NoStops(),
            NoLimits(),
            self.usage,
            AnySize(config.max_body, config.max_buffered, self.metrics),
            NoQueues(self.fleet, self.queues.settings),
            self.metrics,
            self.access,
            Cors(()),
            Isolation(config.cache_salt),
        )

    async def listen_bare(self) -> int:
        """Listen on a loopback port too, without the count of open requests; return the port."""
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
    _publish(port_file, await service.listen_bare())
    await ended.wait()
    await service.stop(0.0)


def _publish(port_file: Path, port: int) -> None:
    before = port_file.with_suffix(".new")
    before.write_text(str(port))
    before.rename(port_file)


def main(arguments: list[str]) -> Any:
    """Serve until SIGTERM."""
    logging.basicConfig(level=logging.WARNING)
    asyncio.run(_serve(load(ProxyConfig, arguments[0]), Path(arguments[1])))


if __name__ == "__main__":
    main(sys.argv[1:])
