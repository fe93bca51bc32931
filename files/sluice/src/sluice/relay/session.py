"""One session with the proxy: the wire on standard input and output, and the requests on it."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, Optional, cast

from sluice.contracts.heads import ErrorHead, RequestHead, ResponseHead
from sluice.contracts.metrics import MetricsSnapshot
from sluice.contracts.routing import RoutedInstance, RoutedModel, RoutingTable
from sluice.contracts.status import ModelsAnswer, ModelStatus
from sluice.endpoint import Endpoint
from sluice.errors import SluiceError
from sluice.gate import session as gate
from sluice.gate.choice import ready
from sluice.gate.limits import BodyMemory, Rate
from sluice.relay.audit import open_audit
from sluice.relay.closed_file import ClosedFile
from sluice.relay.config import RelayConfig
from sluice.relay.connections import InstanceConnections
from sluice.relay.demand import Demand, DemandWriter
from sluice.relay.flow import Outflow
from sluice.relay.metrics import Connections, Counters, scheduler_samples
from sluice.relay.request import Request
from sluice.relay.routing import RoutingFile
from sluice.relay.services import Services
from sluice.relay.watch import WatchedFile
from sluice.version import version
from sluice.wire import events
from sluice.wire.connection import Connection, Side
from sluice.wire.hello import Hello, Limits
from sluice.wire.links import PROXY_RELAY

logger = logging.getLogger(__name__)

TICK_SECONDS = 1.0
LAST_WORDS_SECONDS = 1.0
# After a go-away, every request ends within `total_timeout`. If streams exist this much later (seconds), the
# proxy does not want to leave, and the relay ends the session.
OVERSTAY_SECONDS = 300.0


class Session:
    """Serves one proxy until it leaves, breaks the protocol, stops sending, or the session is too old.

    Give `endpoint` its transport, then call `run`. It must be created inside a running event loop.
    """

    def __init__(self, config: RelayConfig, watched: Sequence[WatchedFile] = ()) -> None:
        now = time.monotonic()
        self._config = config
        self._connection = Connection(Side.SERVER, _hello(config), PROXY_RELAY)
        self.endpoint = _SessionEndpoint(
            self._connection,
            self._handlers(),
            on_lost=self._on_lost,
            ping_interval=config.ping_interval,
        )
        self.endpoint.on_close = self.end
        self._outflow = Outflow(self.endpoint)
        # Its own thread: slow look-ups of names may occupy all others.
        self._demand_thread = ThreadPoolExecutor(1, thread_name_prefix="demand")
        counters = Counters(now)
        self._services = Services(
            config=config,
            endpoint=self.endpoint,
            outflow=self._outflow,
            routing=RoutingFile(config.routing_table),
            connections=InstanceConnections(config, counters),
            demand=Demand(),
            counters=counters,
            memory=BodyMemory(config.max_buffered),
            audit=open_audit(),
        )
        self._demand_writer = DemandWriter(config.demand_dir)
        self._closed_file = ClosedFile(config.closed_file)
        self._rate = Rate(config.requests_per_second, now)
        self._requests: dict[int, Request] = {}
        self._unread: set[int] = set()
        # The heads that were refused since the last tick: one log line counts them.
        self._refusals = 0
        self._refusal = ""
        self._born = now
        self._leave_by: Optional[float] = None
        self._watched = [WatchedFile(sys.argv[0]), *watched]
        loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[str] = loop.create_future()
        self._gone: asyncio.Future[None] = loop.create_future()
        self._writing: asyncio.Future[None] = loop.create_future()
        self._writing.set_result(None)

    def end(self, why: str) -> None:
        """Ask the session to end, with a go-away first. `why` is for the log; the first one counts."""
        if not self._ended.done():
            self._ended.set_result(why)

    async def run(self) -> str:
        """Serve, and return why the session ended."""
        self._demand_writer.sweep(time.time())
        self._tick()
        try:
            return await self._ended
        finally:
            await self._close()

    async def _close(self) -> None:
        self.end("closed")
        for request in tuple(self._requests.values()):
            request.cancel()
        self._services.connections.close()
        # Sent only if the proxy still reads.
        self.endpoint.close("shutdown", "the relay ends")
        await asyncio.wait({self._gone}, timeout=LAST_WORDS_SECONDS)
        self.endpoint.abort()
        self._demand_thread.shutdown(wait=False)
        await asyncio.wait({self._writing}, timeout=LAST_WORDS_SECONDS)
        self._demand_writer.remove()
        self._services.audit.close()

    def _on_lost(self, why: str) -> None:
        self.end(why)
        if not self._gone.done():
            self._gone.set_result(None)

    # --- from the proxy ----------------------------------------------------------------------------------

    def _handlers(self) -> dict[type, Callable[[Any], None]]:
        return {
            events.HelloReceived: self._on_hello,
            events.RequestOpened: self._on_request,
            events.RequestRefused: self._on_refused,
            events.DataReceived: self._on_data,
            events.StreamEnded: self._on_end,
            events.StreamCancelled: self._on_cancel,
            events.CreditGranted: self._on_credit,
            events.ModelsOpened: self._on_models,
            events.DemandOpened: self._on_demand,
            events.MetricsOpened: self._on_metrics,
        }

    def _on_hello(self, event: events.HelloReceived) -> None:
        logger.info("session", extra={"software": event.hello.software})

    def _on_refused(self, event: events.RequestRefused) -> None:
        self._services.counters.count("", "refused")
        self._refusals += 1
        self._refusal = event.problem[:200]

    def _on_request(self, event: events.RequestOpened) -> None:
        head = cast(RequestHead, event.head)
        request = Request(self._services, event.stream, head, self._forget)
        self._requests[event.stream] = request
        request.run(self._admit, request, head)

    def _admit(self, request: Request, head: RequestHead) -> None:
        now = time.monotonic()
        gate.check_open(self._closed_file.closed(now))
        gate.check_rate(self._rate, now)
        request.open()
        self._services.demand.asked(head.model, time.time())

    def _on_data(self, event: events.DataReceived) -> None:
        request = self._requests.get(event.stream)
        if request is None:
            self._connection.consume(event.stream, len(event.data))
        else:
            request.run(request.receive, event.data)

    def _on_end(self, event: events.StreamEnded) -> None:
        request = self._requests.get(event.stream)
        if request is not None:
            request.run(request.body_ended)

    def _on_cancel(self, event: events.StreamCancelled) -> None:
        request = self._requests.get(event.stream)
        if request is not None:
            request.cancel()
        self._outflow.dropped(event.stream)
        self.endpoint.wake()

    def _on_credit(self, event: events.CreditGranted) -> None:
        self._outflow.granted(event)

    def _on_models(self, event: events.ModelsOpened) -> None:
        if self._refused(event.stream, answered=True):
            return
        table = self._services.routing.current(time.monotonic())
        services = self._services
        models = _statuses(table, services.demand, services.connections) if table is not None else ()
        self._answer(event.stream, ModelsAnswer(self._config.cluster, models).dump())

    def _on_demand(self, event: events.DemandOpened) -> None:
        if self._refused(event.stream, answered=False):
            return
        table = self._services.routing.current(time.monotonic())
        known = table.models.keys() if table is not None else ()
        waiting = gate.demand(event.head.models, known, self._config.max_waiting)
        self._services.demand.report(waiting, time.time())
        self._connection.respond(event.stream, ResponseHead(204, "application/json"))
        self._connection.send_end(event.stream)

    def _on_metrics(self, event: events.MetricsOpened) -> None:
        if self._refused(event.stream, answered=True):
            return
        services = self._services
        own = services.counters.samples(
            time.monotonic(), len(self._requests), services.demand.running, self._connection_counts()
        )
        samples = (*own, *scheduler_samples(self._config.figures))
        self._answer(event.stream, MetricsSnapshot(time.time(), samples).dump())

    # --- to the proxy ------------------------------------------------------------------------------------

    def _answer(self, stream: int, document: dict[str, object]) -> None:
        self._connection.respond(stream, ResponseHead(200, "application/json"))
        self._connection.send_data(stream, json.dumps(document, separators=(",", ":")).encode())
        self._connection.send_end(stream)
        self._unread.add(stream)

    def _refused(self, stream: int, *, answered: bool) -> bool:
        """Refuse a question if the gate does; `answered`: the answer is a document. Return whether it did."""
        try:
            gate.check_open(self._closed_file.closed(time.monotonic()))
            if answered:
                self._unread = {one for one in self._unread if self._connection.pending(one)}
                gate.check_unread(len(self._unread))
        except SluiceError as error:
            self._connection.send_error(stream, ErrorHead(error.code, error.message, error.retry_after))
            return True
        return False

    def _forget(self, stream: int) -> None:
        self._requests.pop(stream, None)

    def _connection_counts(self) -> dict[str, Connections]:
        found: dict[str, Connections] = {}
        table = self._services.routing.current(time.monotonic())
        for name, model in table.models.items() if table is not None else ():
            counts = found[name] = Connections()
            for instance in model.instances:
                connection = self._services.connections.of(instance)
                counts.open += connection.open
                counts.broken += connection.breaker.open
        return found

    # --- each second -------------------------------------------------------------------------------------

    def _tick(self) -> None:
        if self._ended.done():
            return
        # First, so that a failure below does not stop the ticks.
        asyncio.get_running_loop().call_later(TICK_SECONDS, self._tick)
        now = time.monotonic()
        self._check_gate()
        self._log_refusals()
        self._services.audit.tick()
        self._services.connections.tick(now, self._instances())
        for request in tuple(self._requests.values()):
            request.run(request.tick, now)
        self._write_demand()
        self.endpoint.tick(now)
        self._outlived(now)

    def _check_gate(self) -> None:
        if not self._requests:
            return
        try:
            gate.check_open(self._closed_file.closed(time.monotonic()))
        except SluiceError as error:
            for request in tuple(self._requests.values()):
                request.fail(error)

    def _log_refusals(self) -> None:
        if self._refusals:
            logger.warning("requests were refused", extra={"count": self._refusals, "problem": self._refusal})
            self._refusals = 0

    def _instances(self) -> list[RoutedInstance]:
        table = self._services.routing.current(time.monotonic())
        if table is None:
            return []
        return [instance for model in table.models.values() for instance in model.instances]

    def _write_demand(self) -> None:
        now = time.time()
        models = self._services.demand.snapshot(now)
        # Not awaited: a disk that hangs must not delay the rest of the tick.
        if self._writing.done() and self._demand_writer.due(models, now):
            loop = asyncio.get_running_loop()
            self._writing = loop.run_in_executor(self._demand_thread, self._demand_writer.write, models, now)

    def _outlived(self, now: float) -> None:
        if now - self._born >= self._config.max_session_age:
            self._connection.go_away("age", "this session is too old: open another one")
        elif any(file.outdated(now) for file in self._watched):
            message = "the relay's program or configuration was replaced: open another session"
            self._connection.go_away("age", message)
        else:
            return
        self.endpoint.wake()
        # Requests end when their answer is queued, streams when it has been written: count the streams.
        self._leave_by = self._leave_by or now + self._config.total_timeout + OVERSTAY_SECONDS
        if not self._connection.open_streams or now > self._leave_by:
            self.end("age")


class _SessionEndpoint(Endpoint):
    """Tells the session at once when it closes: a proxy that does not read must not delay that."""

    on_close: Callable[[str], None]

    def close(self, code: str, message: str) -> None:
        super().close(code, message)
        self.on_close(code)


def _hello(config: RelayConfig) -> Hello:
    return Hello(
        version(),
        Limits(config.stream_credit, config.session_credit, config.max_streams, config.max_body),
        schemas=config.schemas,
    )


def _statuses(table: RoutingTable, demand: Demand, known: InstanceConnections) -> tuple[ModelStatus, ...]:
    found = []
    for name, model in sorted(table.models.items()):
        serving = [one.id for one in ready(model) if not known.leaving(one)]
        running = demand.instances.get(name, {})
        taken = sum(running.get(one, 0) for one in serving)
        status = _status(name, model, len(serving), taken)
        found.append(dataclasses.replace(status, draining=sum(running.values()) - taken))
    return tuple(found)


def _status(name: str, model: RoutedModel, serving: int, running: int) -> ModelStatus:
    """Return a model's status: `serving` instances take new requests; this relay has `running` places there.

    Draining instances do not count, because they take no more requests.
    """
    status = model.status
    if status == "ready" and not serving:
        # Its last instances are about to end; the scheduler will notice that soon.
        status = "starting" if model.starting else "unknown"
    return ModelStatus(
        **model.facts(),
        name=name,
        status=status,
        ready=serving,
        starting=model.starting,
        running=running,
        expected_ready=model.expected_ready,
    )
