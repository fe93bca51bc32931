"""The queue of a model: who goes, who waits, and what is promised to those who wait."""

from __future__ import annotations

import collections
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sluice.contracts.values import CLASSES
from sluice.proxy.queue.admission import (
    AGEING,
    LONGEST_SETBACK,
    MOST_RETURNS,
    SETBACK,
    Queue,
    QueueBounds,
    Refused,
    Ticket,
    TicketState,
)
from tests.trials import examples

WAIT = 300.0


def queue(capacity: int = 0, length: int = 1000, per_user: int = 200) -> Queue[Ticket]:
    """Return an empty queue before one cluster."""
    made: Queue[Ticket] = Queue(QueueBounds(length, per_user))
    made.offer([("demo", capacity)], 0.0)
    return made


def enter(
    into: Queue[Ticket],
    user: str,
    now: float = 0.0,
    class_: str = "api",
    wait: float = WAIT,
    places: int = 1,
) -> Ticket:
    """Let one request in."""
    ticket = Ticket(user, class_, now, now + wait, places)
    into.enter(ticket, now)
    return ticket


def served(from_: Queue[Ticket], running: Ticket, now: float, most: int = 1000) -> list[Ticket]:
    """End what runs, one after the other a second apart, in a queue for one at a time; return the order."""
    order: list[Ticket] = []
    while len(order) < most:
        now += 1.0
        changed = from_.leave(running, now)
        if not changed:
            break
        (running,) = changed
        assert running.state is TicketState.ADMITTED
        order.append(running)
    return order


# --- fairness, classes, order ----------------------------------------------------------------------------


def test_with_room_a_request_goes_at_once() -> None:
    line = queue(2)
    assert enter(line, "a").state is TicketState.ADMITTED
    assert enter(line, "a").state is TicketState.ADMITTED
    assert enter(line, "a").state is TicketState.WAITING


def test_a_request_for_many_answers_takes_as_many_places() -> None:
    line = queue(capacity=8)
    many = enter(line, "greedy", places=8)
    other = enter(line, "other")
    assert (many.state, other.state, line.running) == (TicketState.ADMITTED, TicketState.WAITING, 8)
    assert line.leave(many, 1.0) == [other]
    assert (line.running, line.length) == (1, 0)


def test_places_gather_for_whom_it_is_the_turn_and_nobody_goes_before() -> None:
    line = queue(capacity=4)
    running = [enter(line, f"user{number}") for number in range(4)]
    many = enter(line, "many", 1.0, places=3)
    late = enter(line, "late", 2.0)
    for number, ticket in enumerate(running[:2]):
        assert line.leave(ticket, 3.0 + number) == []
    assert line.leave(running[2], 5.0) == [many]
    assert line.leave(running[3], 6.0) == [late]


def test_many_answers_at_once_are_as_many_turns() -> None:
    """Who took four places by one request stands behind whoever took fewer, as by four requests."""
    line = queue(capacity=5)
    enter(line, "many", places=4)
    last = enter(line, "other")
    again = enter(line, "many", 1.0)
    others = [enter(line, "other", 2.0) for _ in range(2)]
    assert line.leave(last, 3.0) == [others[0]]
    assert line.leave(others[0], 4.0) == [others[1]]
    assert line.leave(others[1], 5.0) == [again]


def test_who_needs_more_places_than_a_queue_may_have_still_waits_alone() -> None:
    line = queue(capacity=1, length=4, per_user=2)
    enter(line, "a")
    waiting = enter(line, "b", places=8)
    assert waiting.state is TicketState.WAITING
    assert refusal(line, "c").reason == "queue_full"


def test_the_next_free_slot_goes_to_the_user_who_has_none() -> None:
    line = queue(8, per_user=500)
    crowd = [enter(line, "many") for _ in range(500)]
    one = enter(line, "one", 1.0)
    assert line.leave(crowd[0], 2.0) == [one]


def test_users_take_turns_whatever_the_number_of_their_requests() -> None:
    line = queue(1)
    first = enter(line, "a")
    for user in "aaaabbc":
        enter(line, user)
    assert "".join(ticket.user for ticket in served(line, first, 0.0)) == "bcabaaa"


def test_two_users_share_the_slots_evenly() -> None:
    line = queue(6)
    crowd = [enter(line, "a") for _ in range(50)]
    for _ in range(50):
        enter(line, "b")
    running = [ticket for ticket in crowd if ticket.state is TicketState.ADMITTED]
    for now in range(1, 30):
        running += line.leave(running.pop(0), float(now))
    assert collections.Counter(ticket.user for ticket in running) == {"a": 3, "b": 3}


def test_interactive_goes_before_api_before_batch() -> None:
    line = queue(1)
    first = enter(line, "x")
    for class_ in ("batch", "api", "interactive", "batch", "api", "interactive"):
        enter(line, f"user-{class_}", class_=class_)
    order = [CLASSES[ticket.rank] for ticket in served(line, first, 0.0)]
    assert order == ["interactive", "interactive", "api", "api", "batch", "batch"]


def test_batch_comes_to_its_turn_though_interactive_requests_never_stop() -> None:
    line = queue(1)
    running = enter(line, "first")
    for number in range(20):
        enter(line, f"night{number % 2}", class_="batch")
    classes = []
    for now in range(1, 101):
        enter(line, f"user{now}", float(now), "interactive")
        enter(line, f"user{now}", float(now), "interactive")
        (running,) = line.leave(running, float(now))
        classes.append(CLASSES[running.rank])
    assert collections.Counter(classes) == {"interactive": 100 - 100 // AGEING, "batch": 100 // AGEING}


def test_users_who_come_and_go_do_not_keep_out_one_who_stays() -> None:
    line = queue(1)
    running = enter(line, "stays")
    for _ in range(100):
        enter(line, "stays")
    for user in "xyz":
        enter(line, user)
    order = []
    for now in range(1, 41):
        (running,) = changed = line.leave(running, float(now))
        order += changed
        if running.user != "stays":
            enter(line, running.user, float(now))  # the next question follows the answer
    assert collections.Counter(ticket.user for ticket in order) == {"stays": 10, "x": 10, "y": 10, "z": 10}


def test_a_ticket_that_is_put_back_goes_before_its_users_others() -> None:
    line = queue(1)
    first = enter(line, "a")
    second = enter(line, "a")
    assert line.put_back(first, 1.0) == []
    assert (first.state, second.state) == (TicketState.WAITING, TicketState.WAITING)
    assert line.tick(1.0 + SETBACK) == [first]


# --- several clusters, and clusters that are full after all ------------------------------------------------


def test_clusters_are_filled_in_order_of_preference() -> None:
    line = queue()
    line.offer([("near", 2), ("far", 1)], 0.0)
    tickets = [enter(line, "a") for _ in range(4)]
    assert [ticket.cluster for ticket in tickets] == ["near", "near", "far", ""]
    assert line.leave(tickets[0], 1.0) == [tickets[3]]
    assert tickets[3].cluster == "near"


def test_a_ticket_put_back_by_one_cluster_goes_to_another_at_once() -> None:
    line = queue()
    line.offer([("near", 2), ("far", 1)], 0.0)
    ticket = enter(line, "a")
    assert line.put_back(ticket, 1.0) == [ticket]
    assert (ticket.state, ticket.cluster) == (TicketState.ADMITTED, "far")
    assert line.running == 1


def test_a_cluster_that_was_full_gets_one_more_at_a_time() -> None:
    line = queue(8)
    tickets = [enter(line, f"user{number}") for number in range(8)]
    for ticket in tickets[4:]:
        assert line.put_back(ticket, 1.0) == []
    assert line.running == 4
    assert line.leave(tickets[0], 1.1) == [tickets[4]], "a place that this gateway freed can be used again"
    assert line.tick(1.0 + SETBACK - 0.01) == []
    assert len(line.tick(1.0 + SETBACK)) == 1
    assert len(line.tick(1.0 + 2 * SETBACK)) == 1
    assert len(line.tick(60.0)) == 1


def test_setbacks_are_spaced_out_while_they_go_on_and_come_to_an_end() -> None:
    line = queue(4)
    ticket = enter(line, "a", wait=100_000.0)
    now, tries = 0.0, []
    while ticket.state is not TicketState.REFUSED:
        now += 0.1
        if line.put_back(ticket, now) == [ticket]:
            break
        while ticket.state is TicketState.WAITING:
            now += 0.1
            line.tick(now)
        tries.append(now)
    assert ticket.state is TicketState.REFUSED
    assert len(tries) == MOST_RETURNS
    assert tries[0] <= 1.0
    assert tries[-1] - tries[-2] == pytest.approx(LONGEST_SETBACK, abs=0.3)
    assert line.running == line.length == 0


def test_a_cluster_that_goes_keeps_what_runs_there_and_takes_nothing_new() -> None:
    line = queue(2)
    ticket = enter(line, "a")
    line.offer([], 1.0)
    assert (line.capacity, line.running) == (0, 1)
    assert enter(line, "b", 1.0).state is TicketState.WAITING
    line.leave(ticket, 2.0)
    assert line.running == 0
    assert [changed.user for changed in line.offer([("demo", 1)], 3.0)] == ["b"]


# --- bounds and deadlines --------------------------------------------------------------------------------


def refusal(of: Queue[Ticket], user: str, **more: Any) -> Refused:
    """Return why a request is refused."""
    with pytest.raises(Refused) as caught:
        enter(of, user, **more)
    return caught.value


def test_the_queue_is_bounded_as_a_whole_and_for_each_user() -> None:
    line = queue(0, length=5, per_user=3)
    for _ in range(3):
        enter(line, "a")
    assert refusal(line, "a").reason == "user_full"
    enter(line, "b")
    enter(line, "c")
    assert refusal(line, "d").reason == "queue_full"
    assert line.length == 5


def test_who_leaves_while_waiting_is_forgotten() -> None:
    line = queue(0)
    tickets = [enter(line, f"user{number}") for number in range(10)]
    for ticket in tickets:
        assert line.leave(ticket, 1.0) == []
        assert ticket.state is TicketState.WITHDRAWN
    assert line.length == 0
    assert not line._users


def test_a_deadline_ends_the_wait() -> None:
    line = queue(0)
    ticket = enter(line, "a", wait=10.0)
    assert line.tick(9.9) == []
    assert line.tick(10.0) == [ticket]
    assert ticket.state is TicketState.EXPIRED


def test_a_slot_that_comes_too_late_goes_to_the_next() -> None:
    line = queue(1)
    first = enter(line, "a")
    late = enter(line, "b", wait=5.0)
    patient = enter(line, "c")
    assert line.leave(first, 6.0) == [late, patient]
    assert (late.state, patient.state) == (TicketState.EXPIRED, TicketState.ADMITTED)


def test_a_deadline_that_cannot_be_met_is_told_at_once() -> None:
    line = queue(1)
    line.leave(enter(line, "a", 0.0), 40.0)  # the service time is now known: 40 s
    enter(line, "a", 40.0)
    enter(line, "a", 40.0)
    too_late = refusal(line, "a", now=40.0, wait=79.0)
    assert (too_late.reason, too_late.expected) == ("too_late", 80.0)
    # Another user would go before the first user's second request, and is accepted.
    assert enter(line, "b", 40.0, wait=79.0).state is TicketState.WAITING


def test_an_instance_that_is_expected_too_late_is_told_as_soon_as_that_is_known() -> None:
    line = queue(0)
    hasty = enter(line, "a", wait=50.0)
    patient = enter(line, "a", wait=300.0)
    assert line.offer([("demo", 0)], 1.0, ready_at=120.0) == []
    assert line.tick(1.0) == [hasty]
    assert patient.state is TicketState.WAITING
    assert refusal(line, "b", now=2.0, wait=50.0).expected == pytest.approx(118.0)


def test_position_and_wait_are_those_of_the_fair_order() -> None:
    line = queue(2)
    for _ in range(2):
        line.leave(enter(line, "x"), 10.0)
    for _ in range(2):
        enter(line, "a", 10.0)
    tickets = [enter(line, user, 10.0) for user in "aaabbc"]
    assert [line.outlook(ticket, 10.0)[0] for ticket in tickets] == [4, 5, 6, 1, 3, 2]
    assert line.outlook(tickets[3], 10.0) == (1, 5.0)
    assert line.newcomer(10.0) == 35.0


def test_the_position_counts_requests_and_the_wait_all_their_places() -> None:
    line = queue(2)
    for _ in range(2):
        enter(line, "x")
    line.service = 10.0
    wide, own, narrow = enter(line, "a", places=2), enter(line, "a"), enter(line, "b")
    # b's goes before a's second request, because a has two places by then.
    assert [line.outlook(ticket, 0.0) for ticket in (wide, narrow, own)] == [(1, 10.0), (2, 15.0), (3, 20.0)]
    assert (line.newcomer(0.0), line.newcomer(0.0, 2)) == (25.0, 30.0)
    assert refusal(line, "c", wait=24.0, places=2).expected == 25.0
    assert enter(line, "c", wait=24.0).state is TicketState.WAITING


def test_the_wait_for_a_full_model_counts_on_its_next_instance() -> None:
    line = queue(2)
    for _ in range(2):
        enter(line, "x")
    tickets = [enter(line, f"user{number}") for number in range(6)]
    line.offer([("demo", 2)], 0.0, ready_at=30.0, coming=2)
    # Nothing was measured: no wait is told, and no request is refused for it.
    assert {line.outlook(ticket, 0.0)[1] for ticket in tickets} == {None}
    line.service = 20.0
    waits = [line.outlook(ticket, 0.0)[1] for ticket in tickets]
    # One every 10 s until the instance comes, then two at once, then one every 5 s.
    assert waits == [10.0, 20.0, 30.0, 30.0, 30.0, 35.0]
    line.offer([("demo", 2)], 0.0)
    assert line.outlook(tickets[5], 0.0)[1] == 60.0


def test_the_wait_for_a_model_that_sleeps_is_until_it_is_ready_and_then_in_rounds() -> None:
    line = queue(0)
    tickets = [enter(line, f"user{number}") for number in range(5)]
    assert line.outlook(tickets[0], 0.0) == (1, None)
    line.offer([("demo", 0)], 0.0, ready_at=30.0, coming=2)
    line.service = 4.0
    assert [line.outlook(ticket, 10.0) for ticket in tickets] == [
        (1, 20.0),
        (2, 20.0),
        (3, 24.0),
        (4, 24.0),
        (5, 28.0),
    ]


def test_the_mean_service_time_follows_what_is_measured() -> None:
    line = queue(1)
    line.leave(enter(line, "a", 0.0), 2.0)
    assert line.service == 2.0
    for _ in range(60):
        line.leave(enter(line, "a", 0.0), 8.0)
    assert line.service == pytest.approx(8.0, abs=0.1)


# --- properties ------------------------------------------------------------------------------------------

USERS = st.sampled_from(["a", "b", "c", "d"])
ENDED = (TicketState.DONE, TicketState.EXPIRED, TicketState.REFUSED, TicketState.WITHDRAWN)


def taken(tickets: Iterable[Ticket]) -> int:
    """Return the places of these tickets."""
    return sum(ticket.places for ticket in tickets)


class Life(RuleBasedStateMachine):
    """Events in any order: nothing is lost or counted twice, and all bounds hold."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.length, self.per_user = 12, 5
        self.line: Queue[Ticket] = Queue(QueueBounds(self.length, self.per_user))
        self.places: dict[str, int] = {}
        self.tickets: list[Ticket] = []
        self.ends: collections.Counter[int] = collections.Counter()

    def in_state(self, state: TicketState) -> list[Ticket]:
        """Return all tickets in this state."""
        return [ticket for ticket in self.tickets if ticket.state is state]

    def learn(self, changed: list[Ticket]) -> None:
        """Check the tickets that a method returned as changed."""
        assert len(set(map(id, changed))) == len(changed)
        for ticket in changed:
            assert ticket.state in (TicketState.ADMITTED, TicketState.EXPIRED, TicketState.REFUSED)
            if ticket.state is TicketState.ADMITTED:
                assert ticket.deadline > self.now
            else:
                self.ends[id(ticket)] += 1

    @rule(
        user=USERS,
        class_=st.sampled_from(CLASSES),
        wait=st.floats(0.1, 200.0),
        places=st.sampled_from((1, 1, 1, 2, 4)),
    )
    def enter(self, user: str, class_: str, wait: float, places: int) -> None:
        """A request comes."""
        waiting = self.in_state(TicketState.WAITING)
        ticket = Ticket(user, class_, self.now, self.now + wait, places)
        self.tickets.append(ticket)
        try:
            self.line.enter(ticket, self.now)
        except Refused as refused:
            self.ends[id(ticket)] += 1
            assert ticket.state is TicketState.REFUSED
            own = [other for other in waiting if other.user == user]
            full = {
                "queue_full": taken(waiting) + (places if waiting else 1) > self.length,
                "user_full": taken(own) + (places if own else 1) > self.per_user,
            }
            assert full.get(refused.reason, refused.expected is not None and refused.expected > wait)
        else:
            assert taken(waiting) + (1 if ticket.state is TicketState.WAITING else 0) <= self.length
            if ticket.state is TicketState.ADMITTED:
                gathers = any(one.places > 1 for one in waiting)
                assert gathers or not waiting, "a new request must not overtake those that wait"

    @rule(seconds=st.floats(0.0, 40.0))
    def tick(self, seconds: float) -> None:
        """Time passes."""
        self.now += seconds
        self.learn(self.line.tick(self.now))
        assert all(ticket.deadline > self.now for ticket in self.in_state(TicketState.WAITING))

    @rule(sizes=st.lists(st.integers(0, 4), max_size=3), ready=st.none() | st.floats(0.0, 200.0))
    def offer(self, sizes: list[int], ready: float | None) -> None:
        """Clusters come, go, grow and shrink."""
        self.places = {f"cluster{number}": size for number, size in enumerate(sizes)}
        ready_at = None if ready is None else self.now + ready
        before = {name: self.running(name) for name in self.places}
        self.learn(self.line.offer(list(self.places.items()), self.now, ready_at, 2))
        for name, size in self.places.items():
            alone = sum(ticket.cluster == name for ticket in self.in_state(TicketState.ADMITTED)) == 1
            assert self.running(name) <= max(size, before[name]) or alone

    @precondition(lambda self: self.in_state(TicketState.ADMITTED))
    @rule(data=st.data(), full=st.booleans())
    def put_back(self, data: st.DataObject, full: bool) -> None:
        """A cluster has no room after all, or was lost."""
        self.learn(
            self.line.put_back(
                data.draw(st.sampled_from(self.in_state(TicketState.ADMITTED))), self.now, full=full
            )
        )

    @precondition(lambda self: self.tickets)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        """A request ends, or a client leaves, possibly twice."""
        ticket = data.draw(st.sampled_from(self.tickets))
        before = ticket.state
        changed = self.line.leave(ticket, self.now)
        if before in ENDED:
            assert (ticket.state, changed) == (before, [])
            return
        self.ends[id(ticket)] += 1
        assert ticket.state is (TicketState.DONE if before is TicketState.ADMITTED else TicketState.WITHDRAWN)
        self.learn(changed)

    @rule()
    def dismiss(self) -> None:
        """All waiting requests are refused."""
        self.learn(self.line.dismiss())
        assert self.line.length == 0

    def running(self, cluster: str) -> int:
        """Return the places that are taken on one cluster."""
        return taken(ticket for ticket in self.in_state(TicketState.ADMITTED) if ticket.cluster == cluster)

    @invariant()
    def every_ticket_is_somewhere_once(self) -> None:
        waiting = self.in_state(TicketState.WAITING)
        assert sorted(map(id, self.line.tickets())) == sorted(map(id, waiting))
        assert self.line.length == taken(waiting) == sum(self.line.waiting)
        assert self.line.running == taken(self.in_state(TicketState.ADMITTED))
        assert all(self.ends[id(ticket)] == (1 if ticket.state in ENDED else 0) for ticket in self.tickets)
        users = {ticket.user for ticket in self.tickets if ticket.state not in ENDED}
        assert set(self.line._users) == users, "users without requests must be forgotten"

    @invariant()
    def positions_are_places_in_the_line(self) -> None:
        for ticket in self.in_state(TicketState.WAITING):
            position, expected = self.line.outlook(ticket, self.now)
            assert 1 <= position <= self.line.length
            assert expected is None or expected >= 0

    @invariant()
    def nobody_waits_beside_a_free_slot(self) -> None:
        if self.in_state(TicketState.WAITING):
            # Time may have freed a place after a setback; only a tick notices that.
            needed = self.line._first(self.line._class(self.now)).places
            assert not any(
                cluster.base is None and cluster.running + min(needed, cluster.capacity) <= cluster.capacity
                for cluster in self.line._clusters.values()
                if cluster.capacity
            )


TestLife = Life.TestCase
TestLife.settings = examples(150, stateful_step_count=40)


@given(
    capacity=st.integers(1, 6),
    crowd=st.integers(1, 60),
    others=st.integers(1, 5),
    data=st.data(),
)
@examples(100)
def test_a_crowd_delays_another_users_first_request_by_one_service_time_at_most(
    capacity: int, crowd: int, others: int, data: st.DataObject
) -> None:
    """However many requests one user has, the next free places all go to new users."""
    line = queue(capacity)
    made = [enter(line, "crowd") for _ in range(crowd)]
    running = [ticket for ticket in made if ticket.state is TicketState.ADMITTED]
    newcomers = [enter(line, f"user{number}") for number in range(others)]
    while any(ticket.state is TicketState.WAITING for ticket in newcomers):
        ended = data.draw(st.sampled_from(running))
        running.remove(ended)
        changed = line.leave(ended, 1.0)
        assert [ticket.user for ticket in changed] != ["crowd"]
        running += changed


@given(
    tickets=st.lists(st.tuples(USERS, st.sampled_from(CLASSES), st.floats(0.0, 50.0)), max_size=30),
    running=st.lists(USERS, min_size=1, max_size=4),
)
@examples(200)
def test_whoever_is_chosen_is_first_by_class_then_by_what_runs_then_by_own_age(
    tickets: list[tuple[str, str, float]], running: list[str]
) -> None:
    line = queue(len(running))
    on = [enter(line, user) for user in running]
    now = 0.0
    for user, class_, pause in tickets:
        now += pause / 500.0
        enter(line, user, now, class_)
    ended = on.pop()
    now += 1.0
    counts = collections.Counter(ticket.user for ticket in on)
    waiting = line.tickets()
    changed = line.leave(ended, now)
    assert bool(changed) == bool(waiting)
    for chosen in changed:
        best = min(waiting, key=lambda one: (one.rank, counts[one.user]))
        assert (chosen.rank, counts[chosen.user]) == (best.rank, counts[best.user])
        own = [one for one in waiting if (one.user, one.rank) == (chosen.user, chosen.rank)]
        assert chosen.entered == min(one.entered for one in own)


@given(st.lists(st.tuples(USERS, st.sampled_from(CLASSES)), min_size=1, max_size=25))
@examples(200)
def test_the_position_told_is_the_order_in_which_slots_come(tickets: list[tuple[str, str]]) -> None:
    """With places that become free and stay taken, as by long answers; exact for the first waiting class."""
    line = queue(0)
    waiting = [enter(line, user, number / 1000, class_) for number, (user, class_) in enumerate(tickets)]
    told = {id(ticket): line.outlook(ticket, 1.0)[0] for ticket in waiting}
    order: list[Ticket] = []
    for capacity in range(1, len(waiting) + 1):
        order += line.offer([("demo", capacity)], 1.0)
    assert sorted(order, key=lambda one: one.rank) == order
    best = [ticket for ticket in order if ticket.rank == order[0].rank]
    assert [told[id(ticket)] for ticket in best] == list(range(1, len(best) + 1))
    for place, ticket in enumerate(order, start=1):
        same = sum(other.rank == ticket.rank for other in order)
        assert abs(told[id(ticket)] - place) < same


@given(
    st.lists(st.tuples(USERS, st.sampled_from(CLASSES), st.integers(1, 5)), min_size=1, max_size=20),
)
@examples(200)
def test_the_wait_told_is_by_the_places_of_all_who_go_before(tickets: list[tuple[str, str, int]]) -> None:
    """For requests of any number of places, which then stay taken; exact for the first class."""
    line = queue(0)
    waiting = [
        enter(line, user, number / 1000, class_, places=places)
        for number, (user, class_, places) in enumerate(tickets)
    ]
    told = {id(ticket): line._ahead(ticket, line._users[ticket.user]) for ticket in waiting}
    order: list[Ticket] = []
    for capacity in range(1, taken(waiting) + 1):
        order += line.offer([("demo", capacity)], 1.0)
    best = [ticket for ticket in order if ticket.rank == order[0].rank]
    assert [told[id(ticket)] for ticket in best] == [
        (number, taken(best[:number])) for number in range(len(best))
    ]
