"""One request, from its head to its outcome."""

from __future__ import annotations

import asyncio
import logging
import time
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Callable, Optional

from sluice import http1
from sluice.errors import CODES, SluiceError
from sluice.records import CONTENT_TYPES, ErrorHead, Instance, RequestHead, ResponseHead, RoutedModel
from sluice.relay import body, routing
from sluice.relay.config import RelayConfig
from sluice.relay.demand import Demand
from sluice.relay.figures import Counters
from sluice.relay.instances import InstancePool, Unreachable
from sluice.relay.limits import Budget
from sluice.relay.outlet import Outlet
from sluice.relay.routing import RoutingFile
from sluice.wire.connection import Connection

logger = logging.getLogger(__name__)
audit = logging.getLogger("sluice.relay.audit")

# Parsing more than this in the event loop would be felt by every stream.
INLINE_PARSE_BYTES = 65_536
MAX_ATTEMPTS = 3
# A request that breaks an instance is not tried on all of them.
MAX_BREAKS = 2
OVERLOADED_RETRY_AFTER = 1.0
FRONT_ERROR_HEADER = "x-sluice-error"
# An engine's word on credentials would be about the job's, never about the user's.
WITHHELD_STATUSES = frozenset({401, 403, 407})

OK, CANCELLED = "ok", "cancelled"


@dataclass(frozen=True)
class Services:
    """What the exchanges of one session share."""

    config: RelayConfig
    connection: Connection
    outlet: Outlet
    routing: RoutingFile
    pool: InstancePool
    demand: Demand
    counters: Counters
    budget: Budget
    parser: Executor


class AttemptFailed(Exception):
    """An instance did not answer, and nothing of an answer has been passed on.

    `sent`: it may have worked on the request. `final`: another instance would not help.
    """

    def __init__(self, code: str, reason: str, *, sent: bool, final: bool = False) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.sent = sent
        self.final = final


class Exchange:
    """A request of the proxy. Its body is collected first: nothing goes to an instance unchecked."""

    def __init__(
        self, services: Services, stream: int, head: RequestHead, on_over: Callable[[int], None]
    ) -> None:
        self.last_heard = time.monotonic()
        self.collecting = True
        self._services = services
        self._stream = stream
        self._head = head
        self._on_over = on_over
        self._raw = b""
        self._began = time.monotonic()
        self._body = bytearray()
        self._reserved = 0
        self._task: Optional[asyncio.Task[None]] = None
        self._peer: Optional[http1.ClientConnection] = None
        self._instance = ""
        self._status = 0
        self._bytes_in = 0
        self._bytes_out = 0
        self._over = False
        self._known = False

    def open(self) -> None:
        """Check the head against the routing table and the session's budget. Raises SluiceError."""
        self._model()
        self._known = True
        if not self._services.budget.reserve(self._head.length):
            raise SluiceError(
                "overloaded", "this session holds as much as it may", retry_after=OVERLOADED_RETRY_AFTER
            )
        self._reserved = self._head.length

    def receive(self, data: bytes) -> None:
        """Take a part of the body. Raises SluiceError when it is longer than announced."""
        self.last_heard = time.monotonic()
        self._bytes_in += len(data)
        self._services.counters.bytes_in += len(data)
        if self._bytes_in > self._head.length:
            raise SluiceError("invalid_request", "the body is longer than announced")
        self._body += data
        self._services.connection.consume(self._stream, len(data))

    def start(self) -> None:
        """The body is complete: go on in a task. Raises SluiceError when it is too short."""
        self.collecting = False
        if self._bytes_in != self._head.length:
            raise SluiceError("invalid_request", "the body is shorter than announced")
        self._task = asyncio.get_running_loop().create_task(self._run())

    def fail(self, error: SluiceError) -> None:
        """End with an error; the instance's connection, if any, is closed."""
        if self._over:
            return
        message = error.message
        self._services.connection.send_error(self._stream, ErrorHead(error.code, message, error.retry_after))
        self._services.outlet.wake()
        self._finish(error.code)

    def cancel(self) -> None:
        """End because the proxy wants nothing more, or is gone."""
        self._finish(CANCELLED)

    async def _run(self) -> None:
        try:
            await self._check_body()
            await self._answer()
        except SluiceError as error:
            self.fail(error)
        except Exception:
            # The last stop of a request: whatever went wrong, it ends in an error, and the others go on.
            # The log keeps type and place, never the exception's text.
            logger.exception("unexpected fault", extra={"request_id": self._head.id})
            self.fail(SluiceError("internal_error", "a fault of the relay"))
        else:
            self._finish(OK)

    async def _check_body(self) -> None:
        raw = bytes(self._body)
        self._body = bytearray()
        if len(raw) <= INLINE_PARSE_BYTES:
            body.check(raw, self._head.model)
        else:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._services.parser, body.check, raw, self._head.model)
        self._raw = raw

    async def _answer(self) -> None:
        tried: set[str] = set()
        breaks = 0
        failure: Optional[AttemptFailed] = None
        while True:
            instance = self._choose(tried, failure)
            try:
                await self._attempt(instance)
            except AttemptFailed as failed:
                failure = failed
            else:
                return
            self._log_failure(instance, failure)
            tried.add(instance.id)
            breaks += failure.sent
            if failure.final or breaks >= MAX_BREAKS or len(tried) >= MAX_ATTEMPTS:
                raise self._translated(failure)
            self._services.counters.retries += 1

    def _model(self) -> RoutedModel:
        table = self._services.routing.current()
        if table is None:
            raise SluiceError("no_instance", "the cluster has no routing table yet", retry_after=15)
        model = table.models.get(self._head.model)
        if model is None:
            raise SluiceError("model_not_found", "this cluster has no such model", param="model")
        return model

    def _choose(self, tried: set[str], failure: Optional[AttemptFailed]) -> Instance:
        model = self._model()
        ranked = routing.rank(self._head.affinity, routing.ready(model))
        instance = routing.choose(ranked, self._services.demand.load, model.concurrency, tried)
        if instance is not None:
            return instance
        if failure is not None:
            raise self._translated(failure)
        if ranked:
            raise SluiceError("overloaded", "all instances are full", retry_after=OVERLOADED_RETRY_AFTER)
        after = routing.retry_after(model, time.time())
        raise SluiceError("no_instance", f"the model has no instance now: {model.status}", retry_after=after)

    def _translated(self, failure: AttemptFailed) -> SluiceError:
        if CODES[failure.code] == 503:
            after = routing.retry_after(self._model(), time.time())
            if failure.code == "overloaded":
                after = OVERLOADED_RETRY_AFTER
            return SluiceError(failure.code, failure.reason, retry_after=after)
        return SluiceError(failure.code, failure.reason)

    def _log_failure(self, instance: Instance, failed: AttemptFailed) -> None:
        cause = failed.__cause__
        logger.warning(
            "attempt failed",
            extra={
                "request_id": self._head.id,
                "instance": instance.id,
                "code": failed.code,
                "reason": failed.reason,
                "cause": cause.reason if isinstance(cause, Unreachable) else "",
            },
        )

    async def _attempt(self, instance: Instance) -> None:
        self._services.demand.began(self._head.model, instance.id)
        self._instance = instance.id
        try:
            await self._try(instance)
        finally:
            self._services.demand.ended(self._head.model, instance.id)
            self._hang_up()

    async def _try(self, instance: Instance) -> None:
        pooled = self._services.pool.take_idle(instance)
        if pooled is not None:
            try:
                head = await self._ask(instance, pooled)
            except http1.PeerTimeout:
                raise _too_slow() from None
            except http1.PeerError:
                # The front closed it just now, as it may: that says nothing about the instance.
                self._hang_up()
            else:
                await self._take(instance, pooled, head)
                return
        try:
            fresh = await self._services.pool.connect(instance)
        except Unreachable as error:
            raise AttemptFailed("no_instance", "the instance cannot be reached", sent=False) from error
        try:
            head = await self._ask(instance, fresh)
        except http1.PeerTimeout:
            raise _too_slow() from None
        except http1.PeerError as error:
            code = "instance_failed" if error.nonsense else "no_instance"
            raise AttemptFailed(code, "the instance broke off before it answered", sent=True) from None
        await self._take(instance, fresh, head)

    async def _ask(self, instance: Instance, peer: http1.ClientConnection) -> http1.Head:
        self._peer = peer
        config = self._services.config
        head = self._head
        peer.start(
            head.method,
            head.path,
            [
                ("Host", "front"),
                ("Authorization", f"Bearer {instance.key}"),
                ("Content-Type", "application/json"),
                ("Content-Length", str(head.length)),
                ("X-Request-Id", head.id),
            ],
        )
        await peer.send(self._raw, timeout=config.idle_timeout)
        await peer.finish()
        return await peer.head(timeout=config.first_byte_timeout)

    async def _take(self, instance: Instance, peer: http1.ClientConnection, head: http1.Head) -> None:
        code = head.headers.get(FRONT_ERROR_HEADER)
        if code is not None:
            raise _refused_by_front(code)
        if (
            not 200 <= head.status < 600
            or 300 <= head.status < 400
            or head.status in WITHHELD_STATUSES
            or head.media_type not in CONTENT_TYPES
        ):
            raise AttemptFailed("instance_failed", "the instance's answer cannot be passed on", sent=True)
        first = await self._first(peer)
        # From here on an answer has begun: no other instance can take over, and the body is not needed.
        self._let_body_go()
        self._status = head.status
        services = self._services
        services.connection.respond(self._stream, ResponseHead(head.status, head.media_type, instance.id))
        await self._copy(peer, first)
        services.connection.send_end(self._stream)
        services.outlet.wake()
        self._peer = None
        services.pool.give_back(instance, peer)

    async def _first(self, peer: http1.ClientConnection) -> bytes:
        """Wait for the first bytes: an engine may send its head at once and break on the prompt."""
        try:
            return await peer.data(timeout=self._services.config.first_byte_timeout)
        except http1.PeerTimeout:
            raise _too_slow() from None
        except http1.PeerError:
            raise AttemptFailed(
                "no_instance", "the instance broke off before it answered", sent=True
            ) from None

    async def _copy(self, peer: http1.ClientConnection, data: bytes) -> None:
        services = self._services
        while data:
            self._bytes_out += len(data)
            services.counters.bytes_out += len(data)
            services.connection.send_data(self._stream, data)
            services.outlet.wake()
            await services.outlet.room(self._stream)
            try:
                data = await peer.data(timeout=services.config.idle_timeout)
            except http1.PeerTimeout:
                raise SluiceError("instance_timeout", "the instance fell silent within its answer") from None
            except http1.PeerError:
                raise SluiceError("instance_failed", "the instance broke off within its answer") from None

    def _let_body_go(self) -> None:
        self._raw = b""
        self._body = bytearray()
        self._services.budget.release(self._reserved)
        self._reserved = 0

    def _hang_up(self) -> None:
        if self._peer is not None:
            self._peer.abort()
            self._peer = None

    def _finish(self, outcome: str) -> None:
        if self._over:
            return
        self._over = True
        self._on_over(self._stream)
        self._hang_up()
        self._let_body_go()
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()
        # Names that the table does not know would let the other side fill the counters at will.
        self._services.counters.count(self._head.model if self._known else "", outcome)
        audit.info(
            "request",
            extra={
                "request_id": self._head.id,
                "user": self._head.user,
                "class": self._head.class_,
                "model": self._head.model,
                "path": self._head.path,
                "instance": self._instance,
                "status": self._status or CODES.get(outcome, 0),
                "outcome": outcome,
                "bytes_in": self._bytes_in,
                "bytes_out": self._bytes_out,
                "duration": round(time.monotonic() - self._began, 4),
            },
        )


def _too_slow() -> AttemptFailed:
    # Whoever waited this long is not helped by waiting again elsewhere.
    return AttemptFailed("instance_timeout", "the instance did not answer in time", sent=True, final=True)


def _refused_by_front(code: str) -> AttemptFailed:
    if code in ("overloaded", "no_instance"):
        return AttemptFailed(code, "the instance takes no request now", sent=False)
    if code == "instance_failed":
        return AttemptFailed("no_instance", "the engine broke off before it answered", sent=True)
    # Anything else (a wrong key, say) means that this is not the front that the table speaks of.
    return AttemptFailed("no_instance", "the instance does not take this relay's requests", sent=False)
