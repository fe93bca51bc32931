"""Decides which requests go to a model's instances now, and which wait. Pure: the caller passes the time.

A model's `Queue` knows how many places its instances have, by cluster; a request takes one, or as many as it
asks for answers. Whoever comes while there is room and nobody waits goes at once.
Of those who wait the next one is chosen by, in this order:

1. class: interactive before api before batch. A class that waits and got nothing for AGEING seconds gets the
   next slot, so that batch goes on, slowly, however busy the others are.
2. fairness: the user with the fewest places taken; of equals, the one whose turn it is. Each user's n-th
   place stands with the others' n-th, so one who has 500 on their way, running or waiting, delays the first
   of another by one service time at most.
3. age: who came first.

Who is next and needs more places than are free lets them gather: nobody behind goes before.

A ticket that is put back (its cluster had no room after all) keeps its age and stands before its user's
others.
"""

from __future__ import annotations

import collections
import enum
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from sluice.contracts.words import CLASSES

# A class that waits and was passed over for this long gets the next slot (seconds).
AGEING = 10.0
# Of each new service time, this much goes into the mean.
NEWEST = 0.1
# A cluster that had no room for a request is tried with one more after this many seconds; the time doubles,
# up to the longest, while that fails.
SETBACK = 0.5
LONGEST_SETBACK = 8.0
# A ticket put back this often is not put back again.
MOST_RETURNS = 40


class TicketState(enum.Enum):
    """Where a ticket stands. From the last four it does not come back."""

    WAITING = "waiting"
    ADMITTED = "admitted"
    DONE = "done"
    EXPIRED = "expired"
    REFUSED = "refused"
    WITHDRAWN = "withdrawn"


class Refused(Exception):
    """A ticket cannot be taken; `reason` is `queue_full`, `user_full` or `too_late`.

    `expected`: the seconds that it would have to wait, None where that is not known.
    """

    def __init__(self, reason: str, expected: float | None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.expected = expected


@dataclass(frozen=True)
class QueueBounds:
    """How many places tickets may wait for: `length` in all, `per_user` of one user."""

    length: int
    per_user: int


class Ticket:
    """One request. `deadline`: until when it may wait. `cluster`: the cluster that it is admitted to.

    `places`: how many places it takes there.
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
    """The places that one user has, and waits for; a lane of tickets for each class, oldest first.

    `turn`: the round in which the user may go next. Whoever is new takes part in the present round, and who
    has gone in it waits for the next, even after going away for a moment: else some who come and go could
    keep out those who stay.
    """

    __slots__ = ("lanes", "running", "turn", "waiting")

    def __init__(self) -> None:
        self.running = 0
        self.turn = 0
        self.waiting = 0
        self.lanes: tuple[collections.deque[T], ...] = tuple(collections.deque() for _ in CLASSES)

    @property
    def narrow(self) -> bool:
        """Whether each ticket that waits takes one place, as nearly all do: then nothing need be summed."""
        return self.waiting == sum(map(len, self.lanes))

    def before(self, rank: int) -> tuple[int, int]:
        """Return how many tickets wait in better classes than `rank`, and their places."""
        better = self.lanes[:rank]
        tickets = sum(map(len, better))
        if not tickets or self.narrow:
            return tickets, tickets
        return tickets, sum(ticket.places for lane in better for ticket in lane)

    def first(self, rank: int, tickets: int) -> int:
        """Return the places of the first so many tickets of a class."""
        if self.narrow:
            return tickets
        return sum(ticket.places for ticket in itertools.islice(self.lanes[rank], tickets))

    def until(self, rank: int, places: int) -> tuple[int, int]:
        """Return how many tickets of a class go until they have so many places or more, and how many then."""
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
    """One cluster's room for the model.

    After a setback it counts as full, with one more request tried as each `step` passes: others may be using
    the cluster, and how much of it they use nobody tells.
    """

    __slots__ = ("base", "capacity", "running", "since", "step")

    def __init__(self) -> None:
        self.capacity = 0
        self.running = 0
        self.base: int | None = None
        self.since = 0.0
        self.step = SETBACK

    def has_room(self, now: float, places: int) -> bool:
        """Whether so many more places are free there; who needs more than all of them takes all."""
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
        """Learn that a request admitted at `admitted` found no room."""
        # Several that were sent together and come back together are one setback.
        if self.base is not None and admitted >= self.since:
            self.step = min(self.step * 2, LONGEST_SETBACK)
        self.base, self.since = self.running, now


class Queue(Generic[T]):
    """One model's requests. Methods that may admit or end tickets return those whose state they changed.

    After each of them, either nobody waits or there is no room.
    """

    def __init__(self, bounds: QueueBounds) -> None:
        self._bounds = bounds
        self._clusters: dict[str, _Cluster] = {}
        self._users: dict[str, _User[T]] = {}
        self._gone: dict[str, int] = {}
        self._coming = 1
        self._ready_at: float | None = None
        self._round = 0
        # Since when each class has been waiting for its next slot.
        self._since = [0.0] * len(CLASSES)
        self.waiting = [0] * len(CLASSES)
        self.length = 0
        self.service: float | None = None

    # --- what the clusters have -----------------------------------------------------------------------------

    @property
    def capacity(self) -> int:
        """How many places the clusters have."""
        return sum(cluster.capacity for cluster in self._clusters.values())

    @property
    def running(self) -> int:
        """How many places are taken."""
        return sum(cluster.running for cluster in self._clusters.values())

    def offer(
        self,
        capacities: Sequence[tuple[str, int]],
        now: float,
        ready_at: float | None = None,
        coming: int = 1,
    ) -> list[T]:
        """Learn the clusters' capacity, the preferred cluster first.

        `ready_at`: when the next instance is expected, None where none is; it will take `coming` at once.
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
        """Admit a new ticket, or let it wait. Raises Refused."""
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
        """Admit a ticket that has just come if it is its turn, and only the one before it lacks places."""
        cluster = self._free_cluster(now, ticket.places)
        if cluster is not None and ticket is self._first(self._class(now)):
            self._admit(ticket, self._remove(ticket, TicketState.ADMITTED), cluster, now)
            self._since[ticket.rank] = now

    def leave(self, ticket: T, now: float) -> list[T]:
        """End a ticket: one that waits is withdrawn, one that runs is done, any other has ended before."""
        if ticket.state is TicketState.WAITING:
            self._remove(ticket, TicketState.WITHDRAWN)
            # Places may have gathered for it.
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
        """Let an admitted ticket wait again, before its user's others.

        `full`: its cluster had no room for it, so fewer are sent there for a while. A ticket that was put
        back MOST_RETURNS times is refused.
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
        """Let time pass: end tickets whose deadline has come or cannot be met, admit where there is room."""
        earliest = now
        if self._ready_at is not None and not self.capacity:
            earliest = max(now, self._ready_at)
        late = [ticket for ticket in self.tickets() if ticket.deadline <= earliest]
        for ticket in late:
            self._remove(ticket, TicketState.EXPIRED)
        return late + self._fill(now)

    def dismiss(self) -> list[T]:
        """Refuse all that wait: there is nothing left to wait for."""
        changed = self.tickets()
        for ticket in changed:
            self._remove(ticket, TicketState.REFUSED)
        return changed

    # --- what is told of it ---------------------------------------------------------------------------------

    def tickets(self) -> list[T]:
        """Return all that wait, by user."""
        return [ticket for user in self._users.values() for lane in user.lanes for ticket in lane]

    def outlook(self, ticket: T, now: float) -> tuple[int, float | None]:
        """Return a waiting ticket's position, from 1, and the seconds it may still wait, None if not known.

        The position counts tickets, the seconds all their places. Both are estimates: they hold if nobody
        comes or leaves, and no class is passed over, meanwhile.
        """
        tickets, places = self._ahead(ticket, self._users[ticket.user])
        return 1 + tickets, self._expected(places + ticket.places, now)

    def newcomer(self, now: float, places: int = 1) -> float | None:
        """Return the seconds that a ticket behind all others would wait, None if not known."""
        return self._expected(self.length + places, now)

    def _expected(self, position: int, now: float) -> float | None:
        """Return when so many places will have come free, those included that a ticket needs itself."""
        capacity = self.capacity
        until = None if self._ready_at is None else max(0.0, self._ready_at - now)
        if capacity:
            return self._with_next(position, capacity, until)
        if until is None:
            return None
        rounds = (position - 1) // self._coming
        return until + rounds * (self.service or 0.0)

    def _with_next(self, position: int, capacity: int, until: float | None) -> float | None:
        """Return the wait behind those that run, where `coming` places more are there in `until` seconds."""
        if self.service is None:
            return None
        alone = position * self.service / capacity
        if until is None or until >= alone:
            return alone
        served = until * capacity / self.service
        left = max(0.0, position - served - self._coming)
        return until + left * self.service / (capacity + self._coming)

    def _ahead(self, ticket: T, own: _User[T]) -> tuple[int, int]:
        """Return how many tickets go before `ticket`, and their places, if all that run went on running."""
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
        """Return how many tickets of others go before one of `own`'s of this rank, and their places.

        That one goes when its user has `running` places; `mark` (turn, age), and who came first, decide
        where another has as many.
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

    # --- inner workings -------------------------------------------------------------------------------------

    def _user(self, name: str) -> _User[T]:
        user = self._users.get(name)
        if user is None:
            user = self._users[name] = _User()
            if self._gone:
                user.turn = self._gone.pop(name, 0)
        return user

    def _forget(self, name: str, user: _User[T]) -> None:
        """Let go of a user who has nothing here; while others wait, remember whose turn it is not."""
        if user.running or user.waiting:
            return
        del self._users[name]
        if not self.length or len(self._gone) >= self._bounds.length:
            self._gone.clear()
        if self.length and user.turn > self._round:
            self._gone[name] = user.turn

    def _reason_against(self, ticket: T, user: _User[T], now: float) -> str:
        # Whoever finds nobody before it is a queue by itself, however many places it needs.
        if self.length + (ticket.places if self.length else 1) > self._bounds.length:
            return "queue_full"
        if user.waiting + (ticket.places if user.waiting else 1) > self._bounds.per_user:
            return "user_full"
        if now + (self.newcomer(now, ticket.places) or 0.0) <= ticket.deadline:
            return ""  # in time even behind all others: no need to look where it would stand
        expected = self._expected(self._ahead(ticket, user)[1] + ticket.places, now)
        return "too_late" if now + (expected or 0.0) > ticket.deadline else ""

    def _free_cluster(self, now: float, places: int) -> str | None:
        """Return the first cluster with so many places free."""
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
        """Take a waiting ticket out."""
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
        """Admit while there is room and somebody waits."""
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
        """Return the class whose turn it is: the highest that waits, or one that was passed over too long."""
        waiting = [rank for rank, count in enumerate(self.waiting) if count]
        aged = [rank for rank in waiting if now - self._since[rank] >= AGEING]
        return min(aged, key=self._since.__getitem__) if aged else waiting[0]

    def _first(self, rank: int) -> T:
        """Return the first ticket of a class."""
        users = [user for user in self._users.values() if user.lanes[rank]]
        first = min(
            users, key=lambda one: (one.running, max(one.turn, self._round), one.lanes[rank][0].entered)
        )
        return first.lanes[rank][0]
