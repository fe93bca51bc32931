"""Forwards one request to an instance: when, to which cluster and session, and when to try again.

It is tried again only before the first byte of an answer: the client never sees a part of an answer twice.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from sluice.contracts.heads import MOST_BREAKS, RequestHead, ResponseHead
from sluice.errors import SluiceError
from sluice.proxy.clusters.cluster import Cluster
from sluice.proxy.clusters.session import Session
from sluice.proxy.clusters.stream import RelayError, RequestStream, SessionLost
from sluice.proxy.metrics import Metrics
from sluice.proxy.queue.waiting import RequestQueues, RequestTicket
from sluice.proxy.requests.pump import broken_off

# A second bound: the relay's own timeout is shorter (seconds).
IDLE_TIMEOUT = 180.0
# The pause after a broken attempt (seconds): an engine that is ending may still answer for a moment.
BREAK_PAUSE = 0.5
# How long after an instance has accepted a stream its client gets the head (seconds).
HEAD_PAUSE = 0.1
# How long requests wait for the models after the start of the process (seconds).
RECONNECT_WAIT = 5.0
# A request that lost this many sessions may be their cause. Two sessions are lost together when a login node
# fails.
MOST_LOST = 3

# With these codes, no instance has worked on the request, and another cluster may accept it.
ELSEWHERE = frozenset({"no_instance", "overloaded", "cluster_unreachable", "closed"})


class Client(Protocol):
    """The client of a stream, which is told the progress; `begun`: whether its answer has begun."""

    @property
    def begun(self) -> bool: ...

    async def tell(self, position: int, expected: float | None) -> None:
        """The request waits at this position; `expected`: seconds, None if unknown."""

    async def working(self) -> None:
        """An instance works on the request; nothing of its answer has come yet."""


class Forwarder:
    """Sends one request when the queue admits it, and returns the start of its answer.

    `body`: the chunks of the body. `began` (monotonic clock): when the request arrived; the bound on its
    whole time, with all attempts, counts from then. `on_sent` is called once with the cluster's name, before
    anything is sent. `cluster` and `instance`: where it was sent; `sent_at` (monotonic clock): when. The
    caller of `open` must call `close` in every case.
    """

    def __init__(
        self,
        queues: RequestQueues,
        metrics: Metrics,
        head: RequestHead,
        body: Sequence[bytes | bytearray],
        began: float,
        on_sent: Callable[[str], None],
    ) -> None:
        self._queues = queues
        self._metrics = metrics
        self._head = head
        self._body = body
        self._ends_by = began + queues.settings.whole
        self._on_sent = on_sent
        self._ticket: RequestTicket | None = None
        self._stream: RequestStream | None = None
        self._lost = 0
        self.cluster = ""
        self.instance = ""
        self.sent_at: float | None = None

    async def open(self, client: Client | None = None) -> tuple[RequestStream, ResponseHead]:
        """Return the stream and the answer's head. Raises SluiceError.

        `client`: told about the progress if it asked for a stream, else None.
        """
        head = self._head
        ticket = self._ticket = self._queues.enter(
            head.model,
            head.user,
            head.class_,
            stream=client is not None,
            ends_by=self._ends_by,
            places=head.places,
        )
        while True:
            if not ticket.admitted_now:
                await self._queues.wait(ticket, client.tell if client is not None else None)
            self.cluster = ticket.cluster
            cluster = self._queues.cluster(ticket.cluster)
            try:
                return await self._attempt(_session(cluster), client)
            except SessionLost:
                self._session_lost(ticket)
            except SluiceError as fault:
                self._count_breaks(fault)
                if fault.code == "instance_failed" and self._head.breaks < MOST_BREAKS:
                    await asyncio.sleep(BREAK_PAUSE)
                    self._again(ticket, fault)
                elif fault.code in ELSEWHERE:
                    self._queues.put_back(ticket, fault)
                else:
                    raise

    def _count_breaks(self, fault: SluiceError) -> None:
        """Note how many attempts of the request have broken; the next relay is told the number."""
        before = self._head.breaks
        told = fault.breaks if isinstance(fault, RelayError) else 0
        # An older relay does not report the number.
        breaks = max(told, before + (fault.code == "instance_failed"))
        if breaks > before:
            self._head = self._head._replace(breaks=breaks)

    def _session_lost(self, ticket: RequestTicket) -> None:
        """Queue a request whose session was lost again. Raises SluiceError after MOST_LOST losses."""
        fault = SluiceError(
            "cluster_unreachable", "The connection to the cluster was lost again.", retry_after=1.0
        )
        if self._lost >= MOST_LOST:
            raise fault
        self._again(ticket, fault)

    def _again(self, ticket: RequestTicket, fault: SluiceError) -> None:
        """Queue a request whose attempt failed again. Raises SluiceError if waiting does not help."""
        self._metrics.retried()
        self._queues.put_back(ticket, fault, full=False)

    def close(self) -> None:
        """End the stream if there is one, and free the request's places."""
        if self._stream is not None:
            self._stream.close()
        if self._ticket is not None:
            self._queues.leave(self._ticket)

    async def _attempt(self, session: Session, client: Client | None) -> tuple[RequestStream, ResponseHead]:
        if self._head.length > session.max_body:
            raise SluiceError(
                "body_too_large", f"The cluster accepts bodies of at most {session.max_body} bytes."
            )
        if self.sent_at is None:
            self._on_sent(self.cluster)
        self.sent_at = time.monotonic()
        stream = session.request(self._head, self._body, self._ends_by)
        try:
            if client is not None:
                await self._watch(stream, client)
            head = await stream.response(math.inf)
            await stream.begun(math.inf)
        except SessionLost:
            self._lost += 1
            stream.close()
            raise
        except BaseException:
            stream.close()
            raise
        self._stream, self.instance = stream, head.instance
        # The caller frees the body's memory now: this reference would keep it until the answer's end.
        self._body = ()
        return stream, head

    async def _watch(self, stream: RequestStream, client: Client) -> None:
        """Wait for the answer's first bytes; tell the client meanwhile that an instance works on the request.

        The client's answer begins a moment after an instance has accepted the request: if the attempt fails
        before that, the answer can have its own status; if the first token comes before that, it is sent with
        the head.
        """
        due = math.inf
        while not stream.has_begun():
            if due == math.inf and (stream.accepted or client.begun):
                due = time.monotonic() + (self._queues.settings.comments if client.begun else HEAD_PAUSE)
            await stream.stirred(due)
            if time.monotonic() >= due and not stream.has_begun():
                await client.working()
                due = time.monotonic() + self._queues.settings.comments


def _session(cluster: Cluster) -> Session:
    """Return a session that accepts a request. Raises SessionLost, SluiceError `overloaded`."""
    session = cluster.session()
    if session is None and cluster.up:
        raise cluster.unreachable()
    if session is None:
        raise SessionLost("there is no session")
    return session


async def next_bytes(stream: RequestStream) -> bytes:
    """Return the next bytes of an answer, b"" at its end. Raises SluiceError if it fails."""
    try:
        return await stream.read(IDLE_TIMEOUT)
    except TimeoutError:
        raise SluiceError("instance_timeout", "The instance stopped in the middle of its answer.") from None
    except SessionLost:
        raise broken_off() from None
