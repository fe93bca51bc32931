"""Passes an instance's answer on to the client: whole, in chunks, as events, or as a refusal."""

from __future__ import annotations

from typing import NoReturn

from aiohttp import web

from sluice.contracts.heads import ResponseHead
from sluice.contracts.paths import PATHS
from sluice.errors import SluiceError
from sluice.proxy.api import answers
from sluice.proxy.api.notice import Notice
from sluice.proxy.clusters.stream import Stream
from sluice.proxy.http.events import BOUNDARY
from sluice.proxy.requests.context import Visit
from sluice.proxy.requests.forwarding import next_bytes
from sluice.proxy.requests.metering import Passage
from sluice.proxy.requests.pump import Outlet, Pump, pass_on, without_gaps
from sluice.proxy.requests.tokens import TokenMeter

# An answer up to this size goes out with its length; a larger one in chunks, as it comes.
WHOLE = 256 * 1024


async def give(
    outlet: Outlet,
    request: web.BaseRequest,
    visit: Visit,
    stream: Stream,
    head: ResponseHead,
    passage: Passage,
    notice: Notice | None,
) -> web.StreamResponse:
    """Pass an instance's answer on to the client, and count its tokens into the visit.

    `notice`: the response that has begun already, if the client was told to wait. Raises SluiceError while
    the answer may still have a status of its own; ConnectionError where the client has left, or where an
    answer that has begun must be broken off.
    """
    begun = notice.response if notice is not None else None
    if head.status >= 400:
        return await _engine_refusal(visit, stream, head, notice)
    if head.status != 200:
        raise SluiceError("instance_failed", "The instance answered with an invalid status.")
    try:
        if head.content_type == "text/event-stream":
            return await _pass_events(outlet, request, visit, stream, passage, begun)
        if begun is not None:
            raise SluiceError("instance_failed", "The instance did not answer with a stream.")
        return await _pass_whole(request, visit, stream, head, passage.meter)
    finally:
        visit.tokens = passage.meter.count()


async def _pass_events(
    outlet: Outlet,
    request: web.BaseRequest,
    visit: Visit,
    stream: Stream,
    passage: Passage,
    begun: web.StreamResponse | None,
) -> web.StreamResponse:
    """Pass an event stream on, as fast as its reader reads; one that breaks ends with an event."""
    response, last = await _pass_first(request, visit, stream, passage, begun)
    pump = Pump(outlet, request, visit, stream, passage, last)
    try:
        await pump.run()
    except SluiceError as fault:
        visit.code = fault.code
        if passage.torn:
            break_off(request)
        await pass_on(request, visit, response, answers.error_event(visit, fault, pump.last))
    return response


async def _pass_first(
    request: web.BaseRequest,
    visit: Visit,
    stream: Stream,
    passage: Passage,
    response: web.StreamResponse | None,
) -> tuple[web.StreamResponse, bytes]:
    """Pass the first events on, in `response` if it has begun; return the response and how they end.

    A function of its own: the locals of one that waits for the stream's end would keep them until then.
    """
    seen = b""
    # Before an event has gone out, an error still has a status of its own.
    while not seen and (data := await next_bytes(stream)):
        seen = passage.feed(data)
        stream.consume(len(data))
    seen = seen or passage.rest()
    if response is None:
        response = answers.stream(visit)
        await response.prepare(request)
    if seen:
        await pass_on(request, visit, response, without_gaps(seen, BOUNDARY))
    return response, seen[-visit.dialect.remembered :]


async def _pass_whole(
    request: web.BaseRequest, visit: Visit, stream: Stream, head: ResponseHead, meter: TokenMeter
) -> web.StreamResponse:
    """Return an answer that is no stream: with its length if it is small, in chunks if not."""
    parts: list[bytes] = []
    size = 0
    while size <= WHOLE:
        data = await next_bytes(stream)
        if not data:
            visit.sending(size)
            return answers.Whole(visit, b"".join(parts), head.content_type)
        meter.feed(data)
        stream.consume(len(data))
        parts.append(data)
        size += len(data)
    return await _pass_chunks(request, visit, stream, head, meter, b"".join(parts))


async def _pass_chunks(
    request: web.BaseRequest,
    visit: Visit,
    stream: Stream,
    head: ResponseHead,
    meter: TokenMeter,
    first: bytes,
) -> web.StreamResponse:
    response = web.StreamResponse(
        status=200, headers={**answers.headers(visit), "Content-Type": head.content_type}
    )
    await response.prepare(request)
    await pass_on(request, visit, response, first)
    try:
        while data := await next_bytes(stream):
            await pass_on(request, visit, response, data)
            meter.feed(data)
            stream.consume(len(data))
    except SluiceError as fault:
        visit.code = fault.code
        break_off(request)
    return response


async def _engine_refusal(
    visit: Visit, stream: Stream, head: ResponseHead, notice: Notice | None
) -> web.StreamResponse:
    raw = bytearray()
    while len(raw) <= WHOLE and (data := await next_bytes(stream)):
        stream.consume(len(data))
        raw += data
    error, status, visit.code = answers.refusal(visit.request_id, head.status, bytes(raw), PATHS[visit.route])
    if notice is not None and notice.response is not None:
        return await notice.end(error, status)
    return answers.document(visit, visit.dialect.document(error, status), status)


def break_off(request: web.BaseRequest) -> NoReturn:
    """End an answer within a document or an event: that has no place for an error, its missing end tells it.

    Raises ConnectionResetError.
    """
    if request.transport is not None:
        request.transport.close()
    raise ConnectionResetError
