"""One SSH session: the wire on standard input and output, and what it asks for."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable

from sluice.errors import SluiceError
from sluice.records import ErrorHead, Figures, ModelsAnswer, ModelStatus, ResponseHead, RoutingTable
from sluice.relay import limits
from sluice.relay.config import RelayConfig
from sluice.relay.demand import Demand, DemandWriter
from sluice.relay.exchange import Exchange, Services
from sluice.relay.figures import Counters, scheduler_samples
from sluice.relay.instances import InstancePool
from sluice.relay.outlet import Outlet
from sluice.relay.routing import RoutingFile, ready
from sluice.version import version
from sluice.wire import events
from sluice.wire.connection import Connection, Role
from sluice.wire.frames import ProtocolError
from sluice.wire.hello import Hello, Limits

logger = logging.getLogger(__name__)

READ_SIZE = 65_536
TICK_SECONDS = 1.0
# Of pings sent and nothing heard, how many until the proxy counts as gone.
SILENT_PINGS = 3
PARSER_THREADS = 2
LAST_WORDS_SECONDS = 1.0


class Session:
    """Serves one proxy until it leaves, breaks the protocol, falls silent, or the session is too old."""

    def __init__(
        self, config: RelayConfig, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        now = time.monotonic()
        self._config = config
        self._reader = reader
        self._writer = writer
        self._connection = Connection(Role.SERVER, _hello(config))
        self._outlet = Outlet(self._connection, writer)
        self._parser = ThreadPoolExecutor(PARSER_THREADS, thread_name_prefix="parse")
        # A thread of its own: whatever look-ups or bodies occupy the others, demand is told.
        self._scribe = ThreadPoolExecutor(1, thread_name_prefix="demand")
        self._services = Services(
            config=config,
            connection=self._connection,
            outlet=self._outlet,
            routing=RoutingFile(config.routing_table),
            pool=InstancePool(config.connect_timeout),
            demand=Demand(config.max_waiting),
            counters=Counters(now),
            budget=limits.Budget(config.max_buffered),
            parser=self._parser,
        )
        self._demand_writer = DemandWriter(config.demand_dir)
        self._rate = limits.Rate(config.requests_per_second, now)
        self._exchanges: dict[int, Exchange] = {}
        self._born = now
        self._heard = now
        self._pinged = now
        self._ended = asyncio.Event()
        self._why = ""
        self._writing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._writing.set_result(None)
        self._handlers: dict[type, Callable[..., None]] = {
            events.HelloReceived: self._on_hello,
            events.RequestOpened: self._on_request,
            events.RequestRefused: self._on_refused,
            events.DataReceived: self._on_data,
            events.StreamEnded: self._on_end,
            events.StreamCancelled: self._on_cancel,
            events.ModelsOpened: self._on_models,
            events.DemandOpened: self._on_demand,
            events.MetricsOpened: self._on_metrics,
        }

    def end(self, why: str) -> None:
        """Ask the session to end, with a go-away first. `why` is for the log."""
        if not self._why:
            self._why = why
        self._ended.set()

    async def run(self) -> str:
        """Serve, and return why the session ended."""
        self._demand_writer.sweep(time.time())
        writing = asyncio.ensure_future(self._outlet.run())
        others = [asyncio.ensure_future(part) for part in (self._receive(), self._tick(), self._ended.wait())]
        self._outlet.wake()
        try:
            await asyncio.wait([writing, *others], return_when=asyncio.FIRST_COMPLETED)
            # One writer at a time: Python 3.9 allows no second one to wait for the transport.
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)
            await self._say_goodbye()
        finally:
            await self._close([writing, *others])
        return self._why or "the proxy is gone"

    async def _say_goodbye(self) -> None:
        """Send the last words, if somebody still reads them."""
        self._connection.go_away("shutdown", "the relay ends")
        # From now on "drained" means that nothing is left here: what follows is an abort.
        self._writer.transport.set_write_buffer_limits(high=0)
        try:
            await asyncio.wait_for(self._outlet.flush(), LAST_WORDS_SECONDS)
        except (OSError, asyncio.TimeoutError):
            logger.debug("nobody took the last words")

    async def _close(self, tasks: Sequence[asyncio.Future[Any]]) -> None:
        for exchange in tuple(self._exchanges.values()):
            exchange.cancel()
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Exception) and not isinstance(result, OSError):
                logger.error("unexpected fault", exc_info=result)
        self._services.pool.close()
        self._parser.shutdown(wait=False)
        self._scribe.shutdown(wait=False)
        await asyncio.wait({self._writing}, timeout=LAST_WORDS_SECONDS)
        self._demand_writer.remove()
        self._writer.transport.abort()

    # --- what comes in -----------------------------------------------------------------------------------

    async def _receive(self) -> None:
        while True:
            try:
                data = await self._reader.read(READ_SIZE)
            except OSError:
                return
            if not data:
                return
            self._heard = time.monotonic()
            try:
                for event in self._connection.receive(data):
                    self._dispatch(event)
            except ProtocolError as error:
                self._why = "protocol"
                logger.warning("the proxy broke the protocol", extra={"problem": str(error)[:200]})
                return
            finally:
                self._outlet.wake()

    def _dispatch(self, event: events.Event) -> None:
        handler = self._handlers.get(type(event))
        if handler is not None:
            handler(event)

    def _on_hello(self, event: events.HelloReceived) -> None:
        logger.info("session", extra={"software": event.hello.software})

    def _on_refused(self, event: events.RequestRefused) -> None:
        self._services.counters.count("", "refused")
        logger.warning("a request was refused", extra={"problem": event.problem[:200]})

    def _on_request(self, event: events.RequestOpened) -> None:
        exchange = Exchange(self._services, event.stream, event.head, self._forget)
        try:
            self._check_open()
            self._check_rate()
            exchange.open()
        except SluiceError as error:
            exchange.fail(error)
            return
        self._services.demand.asked(event.head.model, time.time())
        self._exchanges[event.stream] = exchange

    def _on_data(self, event: events.DataReceived) -> None:
        exchange = self._exchanges.get(event.stream)
        if exchange is None:
            self._connection.consume(event.stream, len(event.data))
            return
        try:
            exchange.receive(event.data)
        except SluiceError as error:
            exchange.fail(error)

    def _on_end(self, event: events.StreamEnded) -> None:
        exchange = self._exchanges.get(event.stream)
        if exchange is None:
            return
        try:
            exchange.start()
        except SluiceError as error:
            exchange.fail(error)

    def _on_cancel(self, event: events.StreamCancelled) -> None:
        exchange = self._exchanges.get(event.stream)
        if exchange is not None:
            exchange.cancel()

    def _on_models(self, event: events.ModelsOpened) -> None:
        if self._refused_while_closed(event.stream):
            return
        table = self._services.routing.current()
        models = _statuses(table, self._services.demand.running) if table is not None else ()
        self._answer(event.stream, ModelsAnswer(self._config.cluster, models).dump())

    def _on_demand(self, event: events.DemandOpened) -> None:
        if self._refused_while_closed(event.stream):
            return
        table = self._services.routing.current()
        known = table.models.keys() if table is not None else ()
        self._services.demand.report(event.head.models, known, time.time())
        self._connection.respond(event.stream, ResponseHead(204, "application/json"))
        self._connection.send_end(event.stream)

    def _on_metrics(self, event: events.MetricsOpened) -> None:
        if self._refused_while_closed(event.stream):
            return
        services = self._services
        own = services.counters.samples(time.monotonic(), len(self._exchanges), services.demand.running)
        samples = (*own, *scheduler_samples(self._config.figures))
        self._answer(event.stream, Figures(time.time(), samples).dump())

    # --- what goes out -----------------------------------------------------------------------------------

    def _answer(self, stream: int, document: dict[str, object]) -> None:
        self._connection.respond(stream, ResponseHead(200, "application/json"))
        self._connection.send_data(stream, json.dumps(document, separators=(",", ":")).encode())
        self._connection.send_end(stream)

    def _check_open(self) -> None:
        if limits.closed(self._config.closed_file):
            raise _closed()

    def _check_rate(self) -> None:
        if not self._rate.take(time.monotonic()):
            raise SluiceError("rate_limited", "more requests than this cluster takes", retry_after=1)

    def _refused_while_closed(self, stream: int) -> bool:
        try:
            self._check_open()
        except SluiceError as error:
            self._connection.send_error(stream, ErrorHead(error.code, error.message, error.retry_after))
            return True
        return False

    def _forget(self, stream: int) -> None:
        self._exchanges.pop(stream, None)

    # --- what time brings --------------------------------------------------------------------------------

    async def _tick(self) -> None:
        while True:
            now = time.monotonic()
            self._break_circuit()
            self._refresh_routing()
            self._give_up_on_bodies(now)
            self._write_demand()
            if self._silent(now) or self._outlived(now):
                return
            await asyncio.sleep(TICK_SECONDS)

    def _break_circuit(self) -> None:
        if self._exchanges and limits.closed(self._config.closed_file):
            for exchange in tuple(self._exchanges.values()):
                exchange.fail(_closed())

    def _refresh_routing(self) -> None:
        table = self._services.routing.current()
        if table is not None:
            models = table.models.values()
            self._services.pool.keep_only(one for model in models for one in model.instances)

    def _give_up_on_bodies(self, now: float) -> None:
        for exchange in tuple(self._exchanges.values()):
            if exchange.collecting and now - exchange.last_heard > self._config.idle_timeout:
                exchange.fail(SluiceError("invalid_request", "the body did not come in time"))

    def _write_demand(self) -> None:
        now = time.time()
        models = self._services.demand.snapshot(now)
        # Not awaited: a disk that hangs must not hold up what else a tick brings.
        if self._writing.done() and self._demand_writer.due(models, now):
            loop = asyncio.get_running_loop()
            self._writing = loop.run_in_executor(self._scribe, self._demand_writer.write, models, now)

    def _silent(self, now: float) -> bool:
        if now - self._heard > SILENT_PINGS * self._config.ping_interval:
            self._why = "the proxy fell silent"
            return True
        if now - self._pinged >= self._config.ping_interval:
            self._pinged = now
            self._connection.ping(b"sluice")
            self._outlet.wake()
        return False

    def _outlived(self, now: float) -> bool:
        if now - self._born < self._config.max_session_age:
            return False
        self._connection.go_away("age", "this session is old: open another")
        self._outlet.wake()
        self._why = "age"
        # Not the exchanges: those end when their answer is queued, the streams when it has been written.
        return not self._connection.open_streams


def _hello(config: RelayConfig) -> Hello:
    return Hello(
        version(),
        Limits(config.stream_credit, config.session_credit, config.max_streams, config.max_body),
    )


def _closed() -> SluiceError:
    return SluiceError("closed", "this cluster is closed for the time being", retry_after=60)


def _statuses(table: RoutingTable, running: Mapping[str, int]) -> tuple[ModelStatus, ...]:
    return tuple(
        ModelStatus(
            name=name,
            status=model.status,
            ready=len(ready(model)),
            starting=model.starting,
            running=running.get(name, 0),
            concurrency=model.concurrency,
            expected_ready=model.expected_ready,
            context_length=model.context_length,
            capabilities=model.capabilities,
            groups=model.groups,
            description=model.description,
        )
        for name, model in sorted(table.models.items())
    )
