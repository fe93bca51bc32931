"""Decides which requests go to a model's instances now, and which wait. Pure: the caller passes the time.

A model's `Queue` knows how many places its instances have in each cluster. A request takes one place, or one
for each answer that it asks for. It is admitted at once if there is room and nobody waits. Otherwise the next
request is chosen by, in this order:

1. Class: interactive before api before batch. A class that has waited for AGEING seconds without an admission
   is next, so that batch continues slowly even if the others are busy.
2. Fairness: the user with the fewest places taken, then the user whose round is next. Each user's n-th place
   competes with the n-th places of others: a user with 500 requests delays the first one of another user by
   at most one service time.
3. Age: the oldest first.

If the next request needs more places than are free, the free ones are kept for it: no later request
overtakes.

A ticket that is put back, because its cluster had no room after all, keeps its age and comes before the other
tickets of its user.
"""

from __future__ import annotations

import collections
import enum
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from sluice.contracts.values import CLASSES

# A class that waits and got nothing for this long is next (seconds).
AGEING = 10.0
# The weight of each new service time in the moving average.
NEWEST = 0.1
# After a cluster had no room, one more request is tried each time this many seconds have passed; the time
# doubles with each failure, up to the longest.
SETBACK = 0.5
LONGEST_SETBACK = 8.0
# A ticket that is put back more often than this is refused.
MOST_RETURNS = 40


class TicketState(enum.Enum):
    """The state of a ticket. The last four are final."""

    WAITING = "waiting"
    ADMITTED = "admitted"
    DONE = "done"
    EXPIRED = "expired"
    REFUSED = "refused"
    WITHDRAWN = "withdrawn"


class Refused(Exception):
    """A ticket was refused; `reason` is `queue_full`, `user_full` or `too_late`.

    `expected`: the seconds that it would have had to wait, None if unknown.
    """

    def __init__(self, reason: str, expected: float | None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.expected = expected


@dataclass(frozen=True)
class QueueBounds:
    """How many places the tickets of a queue may wait for: `length` in all, `per_user` for one user."""

    length: int
    per_user: int


class Ticket:
    """One request. `deadline`: until when it may wait. `cluster`: where it is admitted, "" before that.

    `places`: how many places it takes.
    """

    __slots__ = ("admitted", "cluster", "deadline", "entered", "places", "rank", "returns", "state", "user")

    def __init__(self, user: str, class_: str, now: float, deadline: float, places: int = 1) -> None:
        self.user = user
        self.rank = CLASSES.index(class_)
        self.entered = now
        self.deadline = deadline
        self.admitted = 0.0
        self.cluster = ""
        self.places = places
        self.returns = 0
        self.state = TicketState.WAITING


T = TypeVar("T", bound=Ticket)


class _User(Generic[T]):
    """The places that one user has and waits for, with a lane of tickets for each class, oldest first.

    `turn`: the round in which the user may be admitted next. A new user takes part in the current round.
    After an admission the user waits for a later round, even if they leave for a moment: otherwise users who
    come and go could keep out those who stay.
    """

    __slots__ = ("lanes", "running", "turn", "waiting")

    def __init__(self) -> None:
        self.running = 0
        self.turn = 0
        self.waiting = 0
        self.lanes: tuple[collections.deque[T], ...] = tuple(collections.deque() for _ in CLASSES)

    @property
    def narrow(self) -> bool:
        """Whether each waiting ticket takes one place, as nearly all do: then places need no summing."""
        return self.waiting == sum(map(len, self.lanes))

    def before(self, rank: int) -> tuple[int, int]:
        """Return how many tickets wait in classes before `rank`, and their places."""
        better = self.lanes[:rank]
        tickets = sum(map(len, better))
        if not tickets or self.narrow:
            return tickets, tickets
        return tickets, sum(ticket.places for lane in better for ticket in lane)

    def first(self, rank: int, tickets: int) -> int:
        """Return the places of the first `tickets` tickets of a class."""
        if self.narrow:
            return tickets
        return sum(ticket.places for ticket in itertools.islice(self.lanes[rank], tickets))

    def until(self, rank: int, places: int) -> tuple[int, int]:
        """Return how many tickets of a class are needed for `places` places, and the places they have."""
        lane = self.lanes[rank]
        if self.narrow:
            tickets = min(max(places, 0), len(lane))
            return tickets, tickets
        tickets = taken = 0
        while taken < places and tickets < len(lane):
            taken += lane[tickets].places
            tickets += 1
        return tickets, taken


class _Cluster:
    """One cluster's places for the model.

    After a setback it counts as full, and one more request is tried after each `step` seconds: others
    may use the cluster, and nothing tells how much.
    """

    __slots__ = ("base", "capacity", "running", "since", "step")

    def __init__(self) -> None:
        self.capacity = 0
        self.running = 0
        self.base: int | None = None
        self.since = 0.0
        self.step = SETBACK

    def has_room(self, now: float, places: int) -> bool:
        """Whether `places` more are free; a request that needs more than all of them needs all."""
        needed = max(1, min(places, self.capacity))
        if self.running + needed > self.capacity:
            return False
        if self.base is None:
            return True
        allowed = self.base + int((now - self.since) / self.step)
        if allowed >= self.capacity:
            self.base, self.step = None, SETBACK
        return self.running + needed <= allowed

    def set_back(self, admitted: float, now: float) -> None:
        """Note that a request admitted at `admitted` found no room."""
        # Requests that were sent together and come back together count as one setback.
        if self.base is not None and admitted >= self.since:
            self.step = min(self.step * 2, LONGEST_SETBACK)
        self.base, self.since = self.running, now


class Queue(Generic[T]):
    """One model's requests. Methods that may admit or end tickets return the tickets that they changed.

    After each call, either nobody waits or there is no room.
    """

    def __init__(self, bounds: QueueBounds) -> None:
        self._bounds = bounds
        self._clusters: dict[str, _Cluster] = {}
        self._users: dict[str, _User[T]] = {}
        self._gone: dict[str, int] = {}
        self._coming = 1
        self._ready_at: float | None = None
        self._round = 0
        # Since when each class has been waiting for its next admission.
        self._since = [0.0] * len(CLASSES)
        self.waiting = [0] * len(CLASSES)
        self.length = 0
        self.service: float | None = None

    # --- capacity of the clusters ---------------------------------------------------------------------------

    @property
    def capacity(self) -> int:
        """The number of places in all clusters."""
        return sum(cluster.capacity for cluster in self._clusters.values())

    @property
    def running(self) -> int:
        """The number of places that are taken."""
        return sum(cluster.running for cluster in self._clusters.values())

    def offer(
        self,
        capacities: Sequence[tuple[str, int]],
        now: float,
        ready_at: float | None = None,
        coming: int = 1,
    ) -> list[T]:
        """Set the places of each cluster by name, the preferred cluster first.

        `ready_at`: when the next instance is expected, None if none is; it will have `coming` places.
        """
        before, self._clusters = self._clusters, {}
        for name, capacity in capacities:
            cluster = before.pop(name) if name in before else _Cluster()
            cluster.capacity = capacity
            self._clusters[name] = cluster
        for name, cluster in before.items():
            if cluster.running:
                cluster.capacity = 0
                self._clusters[name] = cluster
        self._ready_at, self._coming = ready_at, max(1, coming)
        return self._fill(now) if self.length else []

    # --- a ticket's life ------------------------------------------------------------------------------------

    def enter(self, ticket: T, now: float) -> None:
        """Admit a new ticket or let it wait. Raises Refused."""
        if not self.length:
            cluster = self._free_cluster(now, ticket.places)
            if cluster is not None:
                self._admit(ticket, self._user(ticket.user), cluster, now)
                return
        user = self._user(ticket.user)
        reason = self._reason_against(ticket, user, now)
        if reason:
            expected = self._expected(self._ahead(ticket, user)[1] + ticket.places, now)
            self._forget(ticket.user, user)
            ticket.state = TicketState.REFUSED
            raise Refused(reason, expected)
        self._hold(ticket, user, now)
        self._pass(ticket, now)

    def _pass(self, ticket: T, now: float) -> None:
        """Admit a new ticket if it is the next one and enough places are free."""
        cluster = self._free_cluster(now, ticket.places)
        if cluster is not None and ticket is self._first(self._class(now)):
            self._admit(ticket, self._remove(ticket, TicketState.ADMITTED), cluster, now)
            self._since[ticket.rank] = now

    def leave(self, ticket: T, now: float) -> list[T]:
        """End a ticket: a waiting one is withdrawn, an admitted one is done; others are left as they are."""
        if ticket.state is TicketState.WAITING:
            self._remove(ticket, TicketState.WITHDRAWN)
            # Free places may have been kept for it.
            return self._fill(now) if self.length else []
        if ticket.state is not TicketState.ADMITTED:
            return []
        self._vacate(ticket)
        ticket.state = TicketState.DONE
        self._forget(ticket.user, self._users[ticket.user])
        took = now - ticket.admitted
        self.service = took if self.service is None else self.service + NEWEST * (took - self.service)
        return self._fill(now) if self.length else []

    def put_back(self, ticket: T, now: float, *, full: bool = True) -> list[T]:
        """Let an admitted ticket wait again, before the other tickets of its user.

        `full`: its cluster had no room for it, so fewer requests are sent there for a while. A ticket that
        was put back MOST_RETURNS times is refused.
        """
        cluster = self._vacate(ticket)
        user = self._users[ticket.user]
        if full:
            cluster.set_back(ticket.admitted, now)
        ticket.returns += 1
        if ticket.returns > MOST_RETURNS:
            ticket.state = TicketState.REFUSED
            self._forget(ticket.user, user)
            return [ticket, *self._fill(now)]
        self._hold(ticket, user, now, first=True)
        return self._fill(now)

    def tick(self, now: float) -> list[T]:
        """End tickets whose deadline has passed or cannot be met, and admit others if there is room."""
        earliest = now
        if self._ready_at is not None and not self.capacity:
            earliest = max(now, self._ready_at)
        late = [ticket for ticket in self.tickets() if ticket.deadline <= earliest]
        for ticket in late:
            self._remove(ticket, TicketState.EXPIRED)
        return late + self._fill(now)

    def dismiss(self) -> list[T]:
        """Refuse all waiting tickets: they would wait in vain."""
        changed = self.tickets()
        for ticket in changed:
            self._remove(ticket, TicketState.REFUSED)
        return changed

    # --- positions and times --------------------------------------------------------------------------------

    def tickets(self) -> list[T]:
        """Return all waiting tickets, grouped by user."""
        return [ticket for user in self._users.values() for lane in user.lanes for ticket in lane]

    def outlook(self, ticket: T, now: float) -> tuple[int, float | None]:
        """Return a waiting ticket's position, from 1, and the expected wait in seconds, None if unknown.

        The position counts tickets; the wait counts their places. Both are estimates: they assume that nobody
        comes or leaves, and that no class is preferred because of its age.
        """
        tickets, places = self._ahead(ticket, self._users[ticket.user])
        return 1 + tickets, self._expected(places + ticket.places, now)

    def newcomer(self, now: float, places: int = 1) -> float | None:
        """Return the seconds that a new last ticket would wait, None if unknown."""
        return self._expected(self.length + places, now)

    def _expected(self, position: int, now: float) -> float | None:
        """Return the seconds until `position` places have become free, None if unknown.

        `position`: the places of all tickets before a ticket, plus its own.
        """
        capacity = self.capacity
        until = None if self._ready_at is None else max(0.0, self._ready_at - now)
        if capacity:
            return self._with_next(position, capacity, until)
        if until is None:
            return None
        rounds = (position - 1) // self._coming
        return until + rounds * (self.service or 0.0)

    def _with_next(self, position: int, capacity: int, until: float | None) -> float | None:
        """Return the wait if the next instance adds its places in `until` seconds; None if unknown."""
        if self.service is None:
            return None
        alone = position * self.service / capacity
        if until is None or until >= alone:
            return alone
        served = until * capacity / self.service
        left = max(0.0, position - served - self._coming)
        return until + left * self.service / (capacity + self._coming)

    def _ahead(self, ticket: T, own: _User[T]) -> tuple[int, int]:
        """Return how many tickets go before `ticket`, and their places, as if no running request ended."""
        rank = ticket.rank
        lane = own.lanes[rank]
        index = lane.index(ticket) if ticket in lane else len(lane)
        better, places = own.before(rank)
        before, more = better + index, own.first(rank, index)
        places += more
        mark = (max(own.turn, self._round) + places, ticket.entered)
        overtaking = self._overtaking(own, rank, own.running + places, mark)
        return before + overtaking[0], places + overtaking[1]

    def _overtaking(self, own: _User[T], rank: int, running: int, mark: tuple[int, float]) -> tuple[int, int]:
        """Return how many tickets of other users go before one of `own` with this rank, and their places.

        That ticket goes when its user has `running` places. If another user has as many, `mark` (turn, age)
        decides, then the order of arrival.
        """
        ahead = ahead_places = 0
        higher = any(self.waiting[:rank])
        earlier = True
        for user in self._users.values():
            if user is own or not user.waiting:
                earlier = earlier and user is not own
                continue
            better, places = user.before(rank) if higher else (0, 0)
            fewer, more = user.until(rank, running - user.running - places)
            ahead, places = ahead + better + fewer, places + more
            lane = user.lanes[rank]
            if fewer < len(lane) and user.running + places == running:
                theirs = (max(user.turn, self._round) + places, lane[fewer].entered)
                if theirs < mark or (earlier and theirs == mark):
                    ahead, places = ahead + 1, places + lane[fewer].places
            ahead_places += places
        return ahead, ahead_places

    # --- internals ------------------------------------------------------------------------------------------

    def _user(self, name: str) -> _User[T]:
        user = self._users.get(name)
        if user is None:
            user = self._users[name] = _User()
            if self._gone:
                user.turn = self._gone.pop(name, 0)
        return user

    def _forget(self, name: str, user: _User[T]) -> None:
        """Forget a user without tickets; while others wait, remember the round that the user waits for."""
        if user.running or user.waiting:
            return
        del self._users[name]
        if not self.length or len(self._gone) >= self._bounds.length:
            self._gone.clear()
        if self.length and user.turn > self._round:
            self._gone[name] = user.turn

    def _reason_against(self, ticket: T, user: _User[T], now: float) -> str:
        # The first ticket counts as one place here: alone it may wait for any number of places.
        if self.length + (ticket.places if self.length else 1) > self._bounds.length:
            return "queue_full"
        if user.waiting + (ticket.places if user.waiting else 1) > self._bounds.per_user:
            return "user_full"
        if now + (self.newcomer(now, ticket.places) or 0.0) <= ticket.deadline:
            return ""  # in time even as the last one: no need to compute its position
        expected = self._expected(self._ahead(ticket, user)[1] + ticket.places, now)
        return "too_late" if now + (expected or 0.0) > ticket.deadline else ""

    def _free_cluster(self, now: float, places: int) -> str | None:
        """Return the name of the first cluster with `places` free places, None if there is none."""
        for name, cluster in self._clusters.items():
            if cluster.has_room(now, places):
                return name
        return None

    def _admit(self, ticket: T, user: _User[T], cluster: str, now: float) -> None:
        self._clusters[cluster].running += ticket.places
        user.running += ticket.places
        self._round = max(self._round, user.turn)
        user.turn = self._round + ticket.places
        ticket.state, ticket.cluster, ticket.admitted = TicketState.ADMITTED, cluster, now

    def _vacate(self, ticket: T) -> _Cluster:
        cluster = self._clusters[ticket.cluster]
        cluster.running -= ticket.places
        self._users[ticket.user].running -= ticket.places
        return cluster

    def _hold(self, ticket: T, user: _User[T], now: float, *, first: bool = False) -> None:
        lane = user.lanes[ticket.rank]
        if first:
            lane.appendleft(ticket)
        else:
            lane.append(ticket)
        ticket.state = TicketState.WAITING
        if not self.waiting[ticket.rank]:
            self._since[ticket.rank] = now
        user.waiting += ticket.places
        self.waiting[ticket.rank] += ticket.places
        self.length += ticket.places

    def _remove(self, ticket: T, state: TicketState) -> _User[T]:
        """Remove a waiting ticket from the queue and set its state."""
        user = self._users[ticket.user]
        user.lanes[ticket.rank].remove(ticket)
        ticket.state = state
        user.waiting -= ticket.places
        self.waiting[ticket.rank] -= ticket.places
        self.length -= ticket.places
        if state is not TicketState.ADMITTED:
            self._forget(ticket.user, user)
        return user

    def _fill(self, now: float) -> list[T]:
        """Admit tickets while there is room and somebody waits."""
        changed = []
        while self.length and self._free_cluster(now, 1) is not None:
            rank = self._class(now)
            ticket = self._first(rank)
            cluster = self._free_cluster(now, ticket.places)
            if cluster is None and ticket.deadline > now:
                break
            user = self._remove(ticket, TicketState.ADMITTED)
            if cluster is None or ticket.deadline <= now:
                ticket.state = TicketState.EXPIRED
                self._forget(ticket.user, user)
            else:
                self._admit(ticket, user, cluster, now)
                self._since[rank] = now
            changed.append(ticket)
        return changed

    def _class(self, now: float) -> int:
        """Return the rank of the next class: the first that waits, or one that has waited too long."""
        waiting = [rank for rank, count in enumerate(self.waiting) if count]
        aged = [rank for rank in waiting if now - self._since[rank] >= AGEING]
        return min(aged, key=self._since.__getitem__) if aged else waiting[0]

    def _first(self, rank: int) -> T:
        """Return the next ticket of a class."""
        users = [user for user in self._users.values() if user.lanes[rank]]
        first = min(
            users, key=lambda one: (one.running, max(one.turn, self._round), one.lanes[rank][0].entered)
        )
        return first.lanes[rank][0]
