"""The queues in which requests wait for an instance: those of `admission` with a clock and an event loop.

Requests come here checked and authorised. Waiting requests are reported to the clusters as demand, so that a
request for a sleeping model starts an instance.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from sluice.errors import SluiceError
from sluice.proxy.clusters.cluster import Cluster, Fleet
from sluice.proxy.metrics import Metrics
from sluice.proxy.queue.admission import Queue, QueueBounds, Refused, Ticket, TicketState

# The clusters' capacity is read this often while somebody waits; otherwise when it is older than this
# (seconds).
LOOK_EVERY = 0.1
# A waiting stream is told its position at this interval (seconds).
TELL_EVERY = 5.0
# A request without a stream is told nothing while it waits, and network devices close connections that are
# silent for a minute (seconds).
SILENT_WAIT = 50.0
# A request whose attempt failed may wait at least this long for another place (seconds).
AGAIN_WAIT = 10.0
MIN_RETRY, MAX_RETRY = 1.0, 600.0

# Statuses of a model for which no instance will come.
HOPELESS = frozenset({"failed", "drained"})
# Error codes after which no instance has worked on the request and one may become free.
WAITING_HELPS = frozenset({"no_instance", "overloaded"})

Tell = Callable[[int, float | None], Awaitable[None]]


@dataclass(frozen=True)
class QueueSettings:
    """How many requests may wait, and times in seconds.

    `wait`: the longest wait. `quiet`: the part of it without a comment to the client. `whole`: the longest
    time of a request from its arrival to the end of its answer. `comments`: the interval of the comments that
    a stream gets between its acceptance by an instance and its first token.
    """

    bounds: QueueBounds
    wait: float
    quiet: float
    whole: float = math.inf
    comments: float = 15.0


class RequestTicket(Ticket):
    """One request in its model's queue; `fault`: the error of a cluster that had no room for it."""

    __slots__ = ("ends_by", "fault", "queue", "tell_at", "waiter")

    def __init__(
        self,
        queue: ModelQueue,
        user: str,
        class_: str,
        now: float,
        deadline: float,
        ends_by: float,
        places: int = 1,
    ) -> None:
        super().__init__(user, class_, now, min(deadline, ends_by), places)
        self.queue = queue
        self.ends_by = ends_by
        self.fault: SluiceError | None = None
        self.waiter: asyncio.Future[None] | None = None
        self.tell_at = now

    @property
    def admitted_now(self) -> bool:
        """Whether the request may be sent to `cluster`."""
        return self.state is TicketState.ADMITTED


class ModelQueue(Queue[RequestTicket]):
    """One model's queue; `looked` is when the clusters' capacity was last read (monotonic clock)."""

    def __init__(self, model: str, bounds: QueueBounds) -> None:
        super().__init__(bounds)
        self.model = model
        self.looked = -LOOK_EVERY


class RequestQueues:
    """Admits requests to the clusters while these have room, and lets the others wait."""

    def __init__(self, fleet: Fleet, metrics: Metrics, settings: QueueSettings) -> None:
        self._fleet = fleet
        self._metrics = metrics
        self._settings = settings
        self._queues: dict[str, ModelQueue] = {}
        self._looking = False
        self._closed = False
        metrics.watch_queues(self._waiting)

    @property
    def settings(self) -> QueueSettings:
        """The bounds and times of all queues."""
        return self._settings

    # --- life of a request ----------------------------------------------------------------------------------

    def enter(
        self,
        model: str,
        user: str,
        class_: str,
        *,
        stream: bool,
        ends_by: float = math.inf,
        places: int = 1,
    ) -> RequestTicket:
        """Admit a request or let it wait, until `ends_by` (monotonic clock) at most; return its ticket.

        `places`: how many places it takes. Raises SluiceError if waiting does not help.
        """
        now = time.monotonic()
        queue = self._queues.get(model)
        if queue is None:
            queue = self._queues[model] = ModelQueue(model, self._settings.bounds)
        if now - queue.looked > LOOK_EVERY:
            self._look(queue, now)
        wait = self._settings.wait if stream else min(self._settings.wait, SILENT_WAIT)
        ticket = RequestTicket(queue, user, class_, now, now + wait, ends_by, places)
        try:
            queue.enter(ticket, now)
        except Refused as refused:
            raise self._refusal(ticket, refused) from None
        if ticket.state is TicketState.WAITING:
            ticket.tell_at = now + self._settings.quiet
            self._check_worth(ticket)
            self._keep_looking()
        return ticket

    async def wait(self, ticket: RequestTicket, tell: Tell | None) -> None:
        """Wait until the request is admitted; from time to time `tell` its position and the expected seconds.

        Raises SluiceError if it is not admitted in time.
        """
        routes = self._fleet.routes(ticket.queue.model)
        began = time.monotonic()
        for cluster in routes[:1]:
            cluster.hold(ticket.queue.model, ticket.places)
        try:
            while ticket.state is TicketState.WAITING:
                await self._sleep(ticket, tell is not None)
                now = time.monotonic()
                if tell is not None and ticket.state is TicketState.WAITING and now >= ticket.tell_at:
                    ticket.tell_at = now + TELL_EVERY
                    await tell(*ticket.queue.outlook(ticket, now))
        finally:
            for cluster in routes[:1]:
                cluster.release(ticket.queue.model, ticket.places)
            self._metrics.waited(ticket.queue.model, time.monotonic() - began)
        if ticket.state is not TicketState.ADMITTED:
            fault = ticket.fault
            if ticket.state is TicketState.EXPIRED and not ticket.queue.capacity:
                # The error with which the request was put back is no longer the reason.
                fault = None
            raise self._sent_away(ticket, fault or self._too_late(ticket.queue), "too_late")

    def put_back(self, ticket: RequestTicket, fault: SluiceError, *, full: bool = True) -> None:
        """Let a request wait again: its cluster had no room (`full`) or the attempt failed, as `fault` says.

        Raises `fault` if waiting does not help.
        """
        queue, now = ticket.queue, time.monotonic()
        if full:
            ticket.fault = fault
        else:
            # The failed attempt may have taken longer than the request was allowed to wait.
            ticket.deadline = min(max(ticket.deadline, now + AGAIN_WAIT), ticket.ends_by)
        self._look(queue, now)
        self._wake(queue.put_back(ticket, now, full=full))
        if ticket.state is TicketState.ADMITTED:
            return
        if ticket.state is not TicketState.WAITING or (full and not _worth_waiting(ticket, fault, now)):
            self.leave(ticket)
            raise self._sent_away(ticket, fault, "no_room") if full else fault
        self._check_worth(ticket)
        self._keep_looking()

    def leave(self, ticket: RequestTicket) -> None:
        """Remove a request, waiting or admitted. May be called twice."""
        self._wake(ticket.queue.leave(ticket, time.monotonic()))

    def close(self) -> None:
        """Refuse all waiting requests, and new ones that would have to wait: the process stops."""
        self._closed = True
        for queue in self._queues.values():
            self._dismiss(queue, _closing())

    def cluster(self, name: str) -> Cluster:
        """Return the cluster that a request was admitted to."""
        return next(cluster for cluster in self._fleet.clusters if cluster.name == name)

    # --- capacity of the clusters ---------------------------------------------------------------------------

    def _look(self, queue: ModelQueue, now: float) -> None:
        """Set the queue's capacity to what the clusters have for its model now."""
        queue.looked = now
        places, ready_at, coming = [], None, 1
        for cluster in self._fleet.routes(queue.model):
            model = cluster.models[queue.model]
            up = cluster.up
            # `running` includes requests on draining instances, so their places are added to the capacity.
            capacity = model.ready * model.concurrency + model.draining if model.ready else 0
            places.append((cluster.name, capacity if up else 0))
            if up and model.expected_ready is not None:
                expected = now + max(0.0, model.expected_ready - time.time())
                if ready_at is None or expected < ready_at:
                    ready_at, coming = expected, model.concurrency
        self._wake(queue.offer(places, now, ready_at, coming))

    def _keep_looking(self) -> None:
        if not self._looking:
            self._looking = True
            asyncio.get_running_loop().call_later(LOOK_EVERY, self._look_again)

    def _look_again(self) -> None:
        """Update all queues in which requests wait."""
        self._looking = False
        now = time.monotonic()
        for queue in self._queues.values():
            if not queue.length:
                continue
            self._look(queue, now)
            vain = self._vain(queue.model)
            if vain is not None:
                self._dismiss(queue, vain)
            else:
                self._wake(queue.tick(now))
            if queue.length:
                self._keep_looking()

    def _dismiss(self, queue: ModelQueue, fault: SluiceError) -> None:
        changed = queue.dismiss()
        for ticket in changed:
            # A copy for each: an exception raised in many tasks would collect all their tracebacks.
            ticket.fault = SluiceError(
                fault.code, fault.message, param=fault.param, retry_after=fault.retry_after
            )
        self._wake(changed)

    def _vain(self, model: str) -> SluiceError | None:
        """Return the error that says why waiting is in vain, None if an instance may come."""
        if self._closed:
            return _closing()
        routes = self._fleet.routes(model)
        if not routes:
            return SluiceError("model_not_found", "The model no longer exists.", param="model")
        hopeful = [cluster for cluster in routes if cluster.up or cluster.returning]
        if not hopeful:
            return routes[0].unreachable()
        found = [cluster.models[model] for cluster in hopeful]
        if any(one.status not in HOPELESS or one.starting or one.ready for one in found):
            return None
        if any(one.status == "drained" for one in found):
            return SluiceError("no_instance", "Administrators took the model out of service.")
        return SluiceError("no_instance", "The model fails to start. Its administrators can see the reason.")

    def _check_worth(self, ticket: RequestTicket) -> None:
        """Remove a request that would wait in vain, and raise SluiceError for it."""
        vain = self._vain(ticket.queue.model)
        if vain is not None:
            self.leave(ticket)
            raise self._sent_away(ticket, vain, "vain")

    # --- waking and telling ---------------------------------------------------------------------------------

    async def _sleep(self, ticket: RequestTicket, telling: bool) -> None:
        """Wait until the ticket's state changes or its client is due to be told something."""
        loop = asyncio.get_running_loop()
        ticket.waiter = waiter = loop.create_future()
        timer = None
        if telling:
            timer = loop.call_later(max(0.0, ticket.tell_at - time.monotonic()), _wake, waiter)
        try:
            await waiter
        finally:
            ticket.waiter = None
            if timer is not None:
                timer.cancel()

    def _wake(self, changed: Iterable[RequestTicket]) -> None:
        for ticket in changed:
            if ticket.waiter is not None:
                _wake(ticket.waiter)

    def _waiting(self) -> dict[str, list[int]]:
        return {queue.model: queue.waiting for queue in self._queues.values()}

    def _refusal(self, ticket: RequestTicket, refused: Refused) -> SluiceError:
        messages = {
            "user_full": "Too many of your requests already wait for this model.",
            "queue_full": "Too many requests already wait for this model.",
        }
        message = messages.get(refused.reason)
        fault = SluiceError("overloaded", message) if message else self._too_late(ticket.queue)
        fault.retry_after = refused.expected
        return self._sent_away(ticket, fault, refused.reason)

    def _too_late(self, queue: ModelQueue) -> SluiceError:
        if queue.capacity:
            return SluiceError(
                "overloaded", "All instances of the model are busy for longer than a request may wait."
            )
        return SluiceError("no_instance", "No instance of the model is ready. The cluster was asked for one.")

    def _sent_away(self, ticket: RequestTicket, fault: SluiceError, reason: str) -> SluiceError:
        """Count a refused request with all its places, set when to retry, and return its error."""
        queue = ticket.queue
        self._metrics.turned_away(queue.model, reason)
        routes = self._fleet.routes(queue.model)
        if routes and fault.code != "model_not_found":
            expected = fault.retry_after
            if expected is None:
                expected = queue.newcomer(time.monotonic(), ticket.places)
            if expected is None:
                expected = routes[0].retry_after(queue.model)
            fault.retry_after = min(max(expected, MIN_RETRY), MAX_RETRY)
            if fault.code in WAITING_HELPS:
                routes[0].sent_away(queue.model, fault.retry_after, ticket.places)
        return fault


def _worth_waiting(ticket: RequestTicket, fault: SluiceError, now: float) -> bool:
    """Whether a place may become free before the request's deadline, as far as its cluster says."""
    return fault.code in WAITING_HELPS and now + (fault.retry_after or 0.0) <= ticket.deadline


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _closing() -> SluiceError:
    return SluiceError("overloaded", "The service is restarting. Try again soon.", retry_after=5.0)
