"""Sends an instance's answer to the client: complete, in chunks, as events, or as an error."""

from __future__ import annotations

from typing import NoReturn

from aiohttp import web

from sluice.contracts.heads import ResponseHead
from sluice.contracts.paths import PATHS
from sluice.errors import SluiceError
from sluice.proxy.api import answers
from sluice.proxy.api.notice import Notice
from sluice.proxy.clusters.stream import RequestStream
from sluice.proxy.http.events import BOUNDARY
from sluice.proxy.requests.context import RequestContext
from sluice.proxy.requests.forwarding import next_bytes
from sluice.proxy.requests.metering import StreamFilter
from sluice.proxy.requests.pump import Pump, Pumps, pass_on, without_gaps
from sluice.proxy.requests.tokens import TokenMeter

# An answer of up to this many bytes is sent with its length, a larger one in chunks as it arrives.
MAX_WHOLE = 256 * 1024


async def send_answer(
    pumps: Pumps,
    request: web.BaseRequest,
    context: RequestContext,
    stream: RequestStream,
    head: ResponseHead,
    stream_filter: StreamFilter,
    notice: Notice | None,
) -> web.StreamResponse:
    """Send an instance's answer to the client, and count its tokens in `context.tokens`.

    `notice`: holds the response if it has begun already. Raises SluiceError as long as the answer can still
    get an error status; ConnectionError if the client has left, or if an answer that has begun must be
    aborted.
    """
    begun = notice.response if notice is not None else None
    if head.status >= 400:
        return await _engine_refusal(context, stream, head, notice)
    if head.status != 200:
        raise SluiceError("instance_failed", "The instance answered with an invalid status.")
    try:
        if head.content_type == "text/event-stream":
            return await _pass_events(pumps, request, context, stream, stream_filter, begun)
        if begun is not None:
            raise SluiceError("instance_failed", "The instance did not answer with a stream.")
        return await _pass_whole(request, context, stream, head, stream_filter.meter)
    finally:
        context.tokens = stream_filter.meter.count()


async def _pass_events(
    pumps: Pumps,
    request: web.BaseRequest,
    context: RequestContext,
    stream: RequestStream,
    stream_filter: StreamFilter,
    begun: web.StreamResponse | None,
) -> web.StreamResponse:
    """Send an event stream as fast as the client reads; end a broken one with an error event."""
    response, last = await _pass_first(request, context, stream, stream_filter, begun)
    pump = Pump(pumps, request, context, stream, stream_filter, last)
    try:
        await pump.run()
    except SluiceError as fault:
        context.code = fault.code
        if stream_filter.torn:
            break_off(request)
        await pass_on(request, context, response, answers.error_event(context, fault, pump.last))
    return response


async def _pass_first(
    request: web.BaseRequest,
    context: RequestContext,
    stream: RequestStream,
    stream_filter: StreamFilter,
    response: web.StreamResponse | None,
) -> tuple[web.StreamResponse, bytes]:
    """Send the first events, in `response` if it has begun; return the response and their last bytes.

    A separate function, so that its local variables are freed before the rest of the stream is sent.
    """
    seen = b""
    # Before the first event is sent, an error can still have its own status.
    while not seen and (data := await next_bytes(stream)):
        seen = stream_filter.feed(data)
        stream.consume(len(data))
    seen = seen or stream_filter.rest()
    if response is None:
        response = answers.stream(context)
        await response.prepare(request)
    if seen:
        await pass_on(request, context, response, without_gaps(seen, BOUNDARY))
    return response, seen[-context.dialect.remembered :]


async def _pass_whole(
    request: web.BaseRequest,
    context: RequestContext,
    stream: RequestStream,
    head: ResponseHead,
    meter: TokenMeter,
) -> web.StreamResponse:
    """Send an answer that is not a stream: with its length if it is small, in chunks otherwise."""
    parts: list[bytes] = []
    size = 0
    while size <= MAX_WHOLE:
        data = await next_bytes(stream)
        if not data:
            context.sending(size)
            return answers.SmallAnswer(context, b"".join(parts), head.content_type)
        meter.feed(data)
        stream.consume(len(data))
        parts.append(data)
        size += len(data)
    return await _pass_chunks(request, context, stream, head, meter, b"".join(parts))


async def _pass_chunks(
    request: web.BaseRequest,
    context: RequestContext,
    stream: RequestStream,
    head: ResponseHead,
    meter: TokenMeter,
    first: bytes,
) -> web.StreamResponse:
    response = web.StreamResponse(
        status=200, headers={**answers.headers(context), "Content-Type": head.content_type}
    )
    await response.prepare(request)
    await pass_on(request, context, response, first)
    try:
        while data := await next_bytes(stream):
            await pass_on(request, context, response, data)
            meter.feed(data)
            stream.consume(len(data))
    except SluiceError as fault:
        context.code = fault.code
        break_off(request)
    return response


async def _engine_refusal(
    context: RequestContext, stream: RequestStream, head: ResponseHead, notice: Notice | None
) -> web.StreamResponse:
    raw = bytearray()
    while len(raw) <= MAX_WHOLE and (data := await next_bytes(stream)):
        stream.consume(len(data))
        raw += data
    error, status, context.code = answers.refusal(
        context.request_id, head.status, bytes(raw), PATHS[context.route]
    )
    if notice is not None and notice.response is not None:
        return await notice.end(error, status)
    return answers.document(context, context.dialect.document(error, status), status)


def break_off(request: web.BaseRequest) -> NoReturn:
    """Abort an answer in the middle of a document or an event: the client sees that its end is missing.

    Always raises ConnectionResetError.
    """
    if request.transport is not None:
        request.transport.close()
    raise ConnectionResetError
