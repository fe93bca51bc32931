"""The OpenAI API: routes, checks and answers each request."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
import time
from collections.abc import Awaitable, Callable

from aiohttp import web

from sluice.bodies.costs import Bounds
from sluice.contracts.authority import Principal
from sluice.contracts.heads import RequestHead, ResponseHead
from sluice.contracts.paths import COUNTING, PATHS, most_counted
from sluice.contracts.status import ModelStatus
from sluice.contracts.values import MODEL_NAME, REQUEST_ID
from sluice.errors import SluiceError
from sluice.proxy.access_log import AccessLog
from sluice.proxy.accounts.authority import Authenticator
from sluice.proxy.accounts.stops import Stops
from sluice.proxy.accounts.usage import UsageQueue
from sluice.proxy.api import answers, replies
from sluice.proxy.api.notice import Notice
from sluice.proxy.api.openapi import OPENAPI_PATH, Description, describe
from sluice.proxy.bodies.body import BodySummary, check_places, summary_of, summary_of_scanned
from sluice.proxy.bodies.isolation import Isolation, check_room
from sluice.proxy.bodies.reader import Body, BodyReader
from sluice.proxy.clusters.cluster import Fleet
from sluice.proxy.clusters.stream import RequestStream
from sluice.proxy.http import dialect, paths
from sluice.proxy.http.cors import Cors
from sluice.proxy.metrics import Metrics
from sluice.proxy.queue.waiting import RequestQueues
from sluice.proxy.requests.context import CLIENT_LEFT, RequestContext
from sluice.proxy.requests.forwarding import RECONNECT_WAIT, Forwarder
from sluice.proxy.requests.limiter import Limiter
from sluice.proxy.requests.metering import MOST_ADDED, StreamFilter, UsageFilter, spliced, with_usage_options
from sluice.proxy.requests.pump import Pumps
from sluice.proxy.requests.tokens import TokenMeter

log = logging.getLogger("sluice.proxy.api.handler")

# For the estimate of input tokens if the engine reports none: bytes for each token.
BYTES_A_TOKEN = 4
EVERYBODY = "all"

RouteHandler = Callable[[web.BaseRequest, RequestContext], Awaitable[web.StreamResponse]]


class ApiHandler:
    """Answers every request on the proxy's socket."""

    def __init__(
        self,
        fleet: Fleet,
        authenticator: Authenticator,
        stops: Stops,
        limiter: Limiter,
        usage: UsageQueue,
        body_reader: BodyReader,
        queues: RequestQueues,
        metrics: Metrics,
        access: AccessLog,
        cors: Cors,
        isolation: Isolation,
    ) -> None:
        self._fleet = fleet
        self._authenticator = authenticator
        self._stops = stops
        self._limiter = limiter
        self._usage = usage
        self._body_reader = body_reader
        self._queues = queues
        self._metrics = metrics
        self._access = access
        self._cors = cors
        self._isolation = isolation
        self._pumps = Pumps()
        self._described: tuple[Bounds, Description] | None = None
        # Once True it stays True, even if the models are no longer current.
        self._models_known = False
        # For the hash that chooses an instance. A new key with each process is enough; it must stay secret.
        self._affinity_key = secrets.token_bytes(32)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request; in every case it is counted, logged and settled."""
        context = RequestContext(request_id=_request_id(request), method=request.method)
        self._metrics.open_requests += 1
        try:
            response = await self._answer(request, context)
            context.status = response.status
        except (asyncio.CancelledError, ConnectionError):
            context.status = CLIENT_LEFT
            raise
        finally:
            self._metrics.open_requests -= 1
            self._settle(context)
        # The usage record is written at the end of this turn of the loop, before the caller sends the
        # answer's end: if the process is killed, nobody has a complete answer without a record.
        await asyncio.sleep(0)
        return response

    def refuse(self, fault: SluiceError) -> web.Response:
        """Return the answer to an invalid HTTP request, which is counted and logged like any other."""
        context = RequestContext(request_id=_new_id())
        context.status, context.code = fault.status, fault.code
        self._settle(context)
        return answers.error(context, fault)

    async def _answer(self, request: web.BaseRequest, context: RequestContext) -> web.StreamResponse:
        try:
            return await self._dispatch(request, context)
        except SluiceError as fault:
            return _refused(context, fault, request)
        except ConnectionError:
            raise
        except Exception:
            # A fault of the proxy itself: the client gets no details, and the log has no text of the
            # exception.
            log.exception("fault in a request", extra={"request_id": context.request_id})
            if request.writer.output_size > 0:
                # The answer has begun: the client would read anything after it as the next answer.
                replies.break_off(request)
            return _refused(
                context, SluiceError("internal_error", "The service has a fault, which it logged."), request
            )

    def _settle(self, context: RequestContext) -> None:
        duration = context.elapsed()
        self._metrics.answered(context.model, context.status, context.code, context.first_byte, duration)
        self._access.info("request", context.log_fields(duration))
        if context.held is not None:
            self._limiter.settle(context.held, context.cluster, context.tokens)
        record = context.usage(duration)
        if record is not None:
            self._usage.add(context.request_id, record)

    def _begin(self, context: RequestContext, cluster: str) -> None:
        """Write the usage record that counts if this process is killed before the request is settled."""
        record = context.interrupted(cluster)
        if record is not None:
            self._usage.begin(context.request_id, record)

    async def _dispatch(self, request: web.BaseRequest, context: RequestContext) -> web.StreamResponse:
        context.headers.update(self._cors.headers(request.headers.get("Origin")))
        path = paths.read(request)
        context.dialect = dialect.of(paths.meant(path) or path)
        if context.dialect.id_header:
            context.headers[context.dialect.id_header] = context.request_id
        context.route, allowed, handler = self._route(path)
        if request.method == allowed:
            return await handler(request, context)
        let_in = self._cors.preflight(request.headers, allowed) if request.method == "OPTIONS" else None
        if let_in is None:
            raise SluiceError("method_not_allowed", f"This path accepts only {allowed}.")
        context.headers.update(let_in)
        return answers.preflight(context)

    def _route(self, path: str) -> tuple[str, str, RouteHandler]:
        """Return the route's name, its method and its handler. Raises SluiceError `path_not_found`."""
        if path in PATHS:
            return path, "POST", self._complete
        if path == paths.MODELS_PATH:
            return path, "GET", self._list_models
        if paths.model_name(path):
            return paths.MODEL_ROUTE, "GET", self._show_model
        if path == OPENAPI_PATH:
            return path, "GET", self._describe
        raise paths.not_found(path)

    async def _describe(self, request: web.BaseRequest, context: RequestContext) -> web.StreamResponse:
        bounds = self._fleet.schemas
        if self._described is None or self._described[0] != bounds:
            self._described = (bounds, describe(bounds))
        return answers.description(context, self._described[1], request.headers.get("If-None-Match"))

    # --- models ---------------------------------------------------------------------------------------------

    async def _list_models(self, request: web.BaseRequest, context: RequestContext) -> web.StreamResponse:
        principal = await self._authenticate(request, context)
        models = self._fleet.models()
        stopped = self._stops.models
        shown = [
            answers.model(models[name], stopped=name in stopped)
            for name in sorted(models)
            if _may_use(principal, models[name]) and _key_may_use(principal, name)
        ]
        return answers.document(context, {"object": "list", "data": shown})

    async def _show_model(self, request: web.BaseRequest, context: RequestContext) -> web.StreamResponse:
        principal = await self._authenticate(request, context)
        model = self._find(paths.model_name(paths.read(request)), principal, context)
        # Only after the check that the model exists and is allowed: an unreachable cluster has no live state.
        live = self._fleet.models().get(model.name, model)
        stopped = model.name in self._stops.models
        return answers.document(context, answers.model(live, stopped=stopped))

    async def _authenticate(self, request: web.BaseRequest, context: RequestContext) -> Principal:
        context.principal = await self._authenticator.principal(
            _authorization(request), request.headers.get("X-Forwarded-For")
        )
        if not self._stops.known:
            await self._stops.ask_first()
        if not self._models_known:
            await self._fleet.wait_models(RECONNECT_WAIT)
            self._models_known = any(cluster.models_known for cluster in self._fleet.clusters)
        return context.principal

    def _find(self, name: str, principal: Principal, context: RequestContext) -> ModelStatus:
        """Return the model if it exists and the principal may use it. Raises SluiceError."""
        if not MODEL_NAME.fullmatch(name):
            raise SluiceError("model_not_found", "The model does not exist. GET /v1/models lists the models.")
        model = self._fleet.model(name)
        context.model = model.name
        if not _may_use(principal, model):
            raise SluiceError("model_not_allowed", "Your groups may not use this model.", param="model")
        if not _key_may_use(principal, model.name):
            raise SluiceError("key_not_allowed", "This API key may not use this model.", param="model")
        return model

    # --- completions ----------------------------------------------------------------------------------------

    async def _complete(self, request: web.BaseRequest, context: RequestContext) -> web.StreamResponse:
        capability = PATHS[context.route]
        length = self._body_reader.announce(request)
        principal = await self._authenticate(request, context)
        bounds = self._fleet.schemas
        body = await self._body_reader.read(request, length, principal.user, capability, bounds)
        try:
            context.bytes_in = body.size
            summary = _summary(body, capability, bounds)
            model = self._find(summary.model, principal, context)
            self._stops.check(model.name)
            if capability not in model.capabilities:
                raise _not_served(context.route, model)
            check_places(summary, model.concurrency)
            self._isolate(body, summary, model, principal)
            _check_length(body.size, summary, model)
            await self._limiter.hold(context, principal.limits, model, summary, body.size)
            stream_filter = self._stream_filter(body, summary, model)
            forwarder = self._forwarder(context, principal, summary, body)
            notice = Notice(request, context) if summary.stream else None
            return await self._converse(request, context, forwarder, body, stream_filter, notice)
        finally:
            body.release()

    def _isolate(self, body: Body, summary: BodySummary, model: ModelStatus, principal: Principal) -> None:
        member = self._isolation.member(model.cache_isolation, principal, summary)
        if member:
            check_room(body.size, member, self._body_reader.max_body)
            body.replace(spliced(body.chunks, member))

    def _stream_filter(self, body: Body, summary: BodySummary, model: ModelStatus) -> StreamFilter:
        """Return the filter for the answer; have the engine report tokens if the client did not ask."""
        counts = summary.capability in COUNTING
        guess = 0 if counts else min(body.size // BYTES_A_TOKEN, model.context_length)
        meter = TokenMeter(summary.capability, guess, summary.n)
        asks = None
        if body.size + MOST_ADDED <= self._body_reader.max_body:
            asks = with_usage_options(body.chunks, summary, model.usage, small=body.scanner is None)
        if asks is None:
            return StreamFilter(meter)
        chunks, wanted = asks
        body.replace(chunks)
        return UsageFilter(meter, wanted)

    def _forwarder(
        self, context: RequestContext, principal: Principal, summary: BodySummary, body: Body
    ) -> Forwarder:
        head = RequestHead(
            id=context.request_id,
            model=summary.model,
            method="POST",
            path=context.route,
            user=principal.user,
            class_=principal.class_,
            length=body.size,
            affinity=self._affinity(self._isolation.subject(principal), summary) if summary.prefix else "",
            places=summary.places,
        )
        return Forwarder(
            self._queues,
            self._metrics,
            head,
            body.chunks,
            context.started,
            lambda cluster: self._begin(context, cluster),
        )

    async def _converse(
        self,
        request: web.BaseRequest,
        context: RequestContext,
        forwarder: Forwarder,
        body: Body,
        stream_filter: StreamFilter,
        notice: Notice | None,
    ) -> web.StreamResponse:
        """Send a checked request when the queue admits it, and return its answer."""
        try:
            stream, head = await _send(context, forwarder, notice)
            body.release()  # not needed any more: the answer has begun
            return await replies.send_answer(
                self._pumps, request, context, stream, head, stream_filter, notice
            )
        except SluiceError as fault:
            if notice is None or notice.response is None:
                raise
            context.code = fault.code
            return await notice.fail(fault)
        finally:
            forwarder.close()

    def _affinity(self, subject: str, summary: BodySummary) -> str:
        text = f"{subject}\0{summary.model}\0".encode() + summary.prefix
        return hashlib.blake2b(text, key=self._affinity_key, digest_size=32).hexdigest()


def _summary(body: Body, capability: str, bounds: Bounds) -> BodySummary:
    """Return the summary of a body. A small one is read now; a large one was scanned as it arrived."""
    if body.scanner is not None:
        return summary_of_scanned(body.scanner, capability)
    return summary_of(body.bytes(), capability, bounds)


async def _send(
    context: RequestContext, forwarder: Forwarder, notice: Notice | None
) -> tuple[RequestStream, ResponseHead]:
    context.sent_on = context.elapsed()
    try:
        return await forwarder.open(notice)
    finally:
        at = forwarder.sent_at
        if at is None:
            at = time.monotonic()
        else:
            context.cluster, context.instance = forwarder.cluster, forwarder.instance
        context.sent_on = at - context.started


def _may_use(principal: Principal, model: ModelStatus) -> bool:
    return EVERYBODY in model.groups or not set(model.groups).isdisjoint(principal.groups)


def _authorization(request: web.BaseRequest) -> str | None:
    """Return the Authorization header, or the same made from Anthropic's x-api-key, on every path."""
    shown = request.headers.get("Authorization")
    if shown is None:
        key = request.headers.get("x-api-key")
        return None if key is None else f"Bearer {key}"
    return shown


def _check_length(size: int, summary: BodySummary, model: ModelStatus) -> None:
    """Raise SluiceError if a body is too large to count its tokens, or its prompt has too many token ids."""
    context, most = model.context_length, most_counted(model.context_length)
    if summary.capability in COUNTING and size > most:
        raise SluiceError("body_too_large", f"For this model, at most {most} bytes can be counted.")
    if summary.token_ids > context:
        raise SluiceError(
            "context_length_exceeded",
            f"This model's maximum context length is {context} tokens; the prompt has {summary.token_ids}.",
            param=answers.TEXT_FIELDS[summary.capability],
        )


def _not_served(path: str, model: ModelStatus) -> SluiceError:
    served = [known for known, capability in PATHS.items() if capability in model.capabilities]
    return SluiceError(
        "capability_missing",
        f"This model does not serve {path}; it serves {', '.join(served) or 'nothing'}.",
        param="model",
    )


def _key_may_use(principal: Principal, model: str) -> bool:
    return principal.models is None or model in principal.models


def _refused(context: RequestContext, fault: SluiceError, request: web.BaseRequest) -> web.Response:
    context.code = fault.code
    allow = ""
    if fault.code == "method_not_allowed":
        allow = "POST" if context.route in PATHS else "GET"
    response = answers.error(context, fault, allow)
    if not request.content.is_eof():
        response.force_close()  # the rest of the body must not be read as a request
    return response


def _request_id(request: web.BaseRequest) -> str:
    given = request.headers.get("X-Request-Id")
    return given if given is not None and REQUEST_ID.fullmatch(given) else _new_id()


def _new_id() -> str:
    return f"req-{time.time_ns() // 1_000_000:013d}{secrets.token_hex(10)[:19]}"
