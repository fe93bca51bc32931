"""What buckets admit, hold and forget: properties over random histories, and messages to users."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.contracts.authority import Limit, Spent
from sluice.proxy.accounts.limits import DAY, Buckets, LimitExceeded, Need, Reservation, merged, need
from sluice.proxy.requests.limiter import headers, span
from tests.trials import examples

START = 1_795_000_030.25
MIDNIGHT = (int(START) // DAY + 1) * DAY
SMALL = Need(10, 5)


def empty(limit: Limit) -> Spent:
    """Return an unused bucket for a limit."""
    return Spent(limit.scope, limit.model, (), (), 0)


def buckets_for(*limits: Limit, **changes: Any) -> Buckets:
    """Return unused buckets for these limits."""
    buckets = Buckets(**changes)
    for limit in limits:
        buckets.learn(empty(limit), START)
    return buckets


def admitted(buckets: Buckets, limits: list[Limit], tokens: Need, now: float) -> Reservation | None:
    """Return the reservation, None if there is no room."""
    try:
        return buckets.reserve(limits, tokens, now)
    except LimitExceeded:
        return None


# --- properties over histories --------------------------------------------------------------------------


@dataclass
class Admission:
    """One admitted request in the model."""

    limits: list[Limit]
    at: float
    held: Reservation
    given_back: bool = False
    ended: bool = False
    used: list[tuple[float, int]] = field(default_factory=list)

    def amount(self, number: int) -> int:
        """What it holds in the bucket of its `number`-th limit."""
        return self.held.taken[number][1]


bounds = st.one_of(st.none(), st.integers(0, 12))
many = st.one_of(st.none(), st.integers(0, 400))
numbers = st.fixed_dictionaries(
    {"requests_per_minute": bounds, "tokens_per_minute": many, "tokens_per_day": many, "concurrent": bounds}
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.integers(1, 7), st.integers(0, 60), st.integers(0, 60)),
        st.tuples(st.just("settle"), st.integers(0, 30), st.integers(0, 90)),
        st.tuples(st.just("give back"), st.integers(0, 30)),
        st.tuples(st.just("wait"), st.floats(0, 45)),
        st.tuples(st.just("tidy")),
    ),
    max_size=60,
)


class Life:
    """Buckets, and a plain list of all admitted requests to compare with."""

    def __init__(self, rules: list[dict[str, int | None]]) -> None:
        self.limits = [Limit(f"group:g{number}", "", **rule) for number, rule in enumerate(rules)]
        self.buckets = Buckets()
        self.now = START
        self.all: list[Admission] = []

    def open(self) -> list[Admission]:
        return [one for one in self.all if not one.ended]

    def of(self, limit: Limit) -> list[Admission]:
        return [one for one in self.all if limit in one.limits]

    def step(self, what: str, *values: Any) -> None:
        """Take one step."""
        open_now = self.open()
        if what == "wait":
            self.now += values[0]
        elif what == "tidy":
            self.buckets.tidy(self.buckets.keys(), self.now)
        elif what == "ask":
            self.ask(*values)
        elif open_now:
            self.end(open_now[values[0] % len(open_now)], *values[1:])

    def ask(self, which: int, likely: int, more: int) -> None:
        limits = [limit for number, limit in enumerate(self.limits) if which >> number & 1]
        for scope, model in self.buckets.missing(limits):
            # Forgotten or new: the authority knows what was settled.
            self.buckets.learn(self.spent(scope, model), self.now)
        tokens = Need(likely + more, likely)
        held = admitted(self.buckets, limits, tokens, self.now)
        if held is None:
            assert any(self.is_full(limit, tokens) for limit in limits)
            return
        self.all.append(Admission(limits, self.now, held))
        for limit in limits:
            self.check(limit)

    def end(self, one: Admission, tokens: int | None = None) -> None:
        one.ended = True
        one.held = Reservation(one.held.second, one.held.taken)
        if tokens is None:
            one.given_back = True
            self.buckets.give_back(one.held)
        else:
            one.used = [(self.now, tokens)]
            self.buckets.settle(one.held, tokens, self.now)

    def spent(self, scope: str, model: str) -> Spent:
        of = [one for one in self.all if any(limit.bucket == (scope, model) for limit in one.limits)]
        recent = int(self.now) - 60
        requests = [(int(one.at), 1) for one in of if not one.given_back and int(one.at) >= recent]
        used = [(int(at), count) for one in of for at, count in one.used]
        today = sum(count for at, count in used if at // DAY == int(self.now) // DAY)
        return Spent(scope, model, tuple(requests), tuple(u for u in used if u[0] >= recent), today)

    def minute(self, limit: Limit, seconds: float) -> tuple[int, int]:
        """Return requests and tokens of the last `seconds`."""
        of = self.of(limit)
        since = self.now - seconds
        used = sum(count for one in of for at, count in one.used if at > since)
        return sum(not one.given_back and one.at > since for one in of), used

    def held(self, limit: Limit) -> int:
        return sum(one.amount(one.limits.index(limit)) for one in self.of(limit) if not one.ended)

    def today(self, limit: Limit) -> int:
        day = int(self.now) // DAY
        return sum(count for one in self.of(limit) for at, count in one.used if int(at) // DAY == day)

    def check(self, limit: Limit) -> None:
        """Check with the plain list that the last admission keeps to the limit."""
        requests, used = self.minute(limit, 60)
        held = self.held(limit)
        if limit.requests_per_minute is not None:
            assert requests <= limit.requests_per_minute
        if limit.concurrent is not None:
            assert sum(not one.ended for one in self.of(limit)) <= limit.concurrent
        if limit.tokens_per_minute is not None:
            assert used + held <= limit.tokens_per_minute
        if limit.tokens_per_day is not None:
            assert self.today(limit) + held <= limit.tokens_per_day

    def is_full(self, limit: Limit, tokens: Need) -> bool:
        """Whether the limit has a reason to refuse; a minute ends with a whole second."""
        requests, used = self.minute(limit, 61.001)
        held = self.held(limit)
        wanted = tokens.most if held else tokens.likely
        return (
            (limit.requests_per_minute is not None and requests >= limit.requests_per_minute)
            or (
                limit.concurrent is not None
                and len([o for o in self.of(limit) if not o.ended]) >= limit.concurrent
            )
            or (limit.tokens_per_minute is not None and used + held + wanted > limit.tokens_per_minute)
            or (limit.tokens_per_day is not None and self.today(limit) + held + wanted > limit.tokens_per_day)
        )


@examples(100)
@given(st.lists(numbers, min_size=1, max_size=3), steps)
def test_no_limit_is_ever_exceeded_and_none_refuses_without_a_reason(
    rules: list[dict[str, int | None]], life: list[tuple[Any, ...]]
) -> None:
    lived = Life(rules)
    for step in life:
        lived.step(*step)


@examples(40)
@given(numbers, st.lists(st.tuples(st.integers(0, 60), st.integers(0, 40)), min_size=1, max_size=30))
def test_what_is_given_back_is_given_back_whole(
    rule: dict[str, int | None], asked: list[tuple[int, int]]
) -> None:
    limit = Limit("site", "", **rule)
    buckets = buckets_for(limit)
    before = buckets.remaining([limit], START)
    held = [admitted(buckets, [limit], Need(likely + more, likely), START) for likely, more in asked]
    for one in held:
        if one is not None:
            buckets.give_back(one)
    after = buckets.remaining([limit], START)
    assert [room and room.remaining for room in after] == [room and room.remaining for room in before]


@examples(40)
@given(
    numbers.filter(lambda rule: rule["concurrent"] != 0),
    st.lists(st.tuples(st.floats(0, 20), st.integers(0, 60)), min_size=1, max_size=25),
)
def test_who_comes_again_when_told_to_is_admitted(
    rule: dict[str, int | None], asked: list[tuple[float, int]]
) -> None:
    limit = Limit("site", "", **rule)
    buckets = buckets_for(limit)
    now = START
    for pause, tokens in asked:
        now += pause
        wanted = Need(tokens, tokens)
        try:
            held = buckets.reserve([limit], wanted, now)
        except LimitExceeded as excess:
            if excess.retry_after is None:
                later = now + 10 * DAY
                assert admitted(buckets, [limit], wanted, later) is None
                continue
            now += excess.retry_after
            held = buckets.reserve([limit], wanted, now)
        buckets.settle(held, tokens, now)


@examples(30)
@given(st.lists(numbers, min_size=1, max_size=3), steps)
def test_nothing_is_remembered_once_it_counts_no_more(
    rules: list[dict[str, int | None]], life: list[tuple[Any, ...]]
) -> None:
    lived = Life(rules)
    for step in life:
        lived.step(*step)
    for one in lived.open():
        lived.end(one, 7)
    later = lived.now + 2 * DAY
    lived.buckets.tidy(lived.buckets.keys(), later)
    assert len(lived.buckets) == 0
    assert not lived.buckets.forgotten


# --- single rules ---------------------------------------------------------------------------------------


def test_a_burst_gets_exactly_what_the_limit_allows() -> None:
    limit = Limit("user:u-1", requests_per_minute=50)
    buckets = buckets_for(limit)
    held = [admitted(buckets, [limit], SMALL, START) for _ in range(200)]
    assert sum(one is not None for one in held) == 50


def test_a_request_that_one_limit_refuses_takes_nothing_of_the_others() -> None:
    wide, tight = Limit("site", requests_per_minute=5), Limit("user:u-1", requests_per_minute=1)
    buckets = buckets_for(wide, tight)
    for _ in range(4):
        admitted(buckets, [wide, tight], SMALL, START)
    figures = buckets.remaining([wide], START)
    assert figures.requests is not None
    assert figures.requests.remaining == 4


def test_one_request_by_itself_may_reserve_what_is_left() -> None:
    limit = Limit("site", tokens_per_minute=100)
    buckets = buckets_for(limit)
    first = buckets.reserve([limit], Need(5000, 90), START)
    assert [amount for _, amount in first.taken] == [100]
    with pytest.raises(LimitExceeded):
        buckets.reserve([limit], Need(1, 1), START)
    buckets.settle(first, 40, START)
    assert buckets.reserve([limit], Need(5000, 60), START).taken[0][1] == 60


def test_beside_another_a_request_reserves_all_that_it_may_need() -> None:
    limit = Limit("site", tokens_per_minute=100)
    buckets = buckets_for(limit)
    buckets.reserve([limit], Need(50, 20), START)
    assert admitted(buckets, [limit], Need(80, 40), START) is None
    assert admitted(buckets, [limit], Need(50, 40), START) is not None


def test_no_sixty_seconds_have_more_than_a_minute_may() -> None:
    limit = Limit("site", requests_per_minute=1)
    buckets = buckets_for(limit)
    whole = float(int(START))
    assert admitted(buckets, [limit], SMALL, whole + 0.99) is not None
    assert admitted(buckets, [limit], SMALL, whole + 60.98) is None
    assert admitted(buckets, [limit], SMALL, whole + 61) is not None


def test_what_was_used_beyond_the_reservation_is_charged() -> None:
    limit = Limit("site", tokens_per_day=100)
    buckets = buckets_for(limit)
    buckets.settle(buckets.reserve([limit], SMALL, START), 150, START)
    figures = buckets.remaining([limit], START)
    assert figures.tokens is not None
    assert (figures.tokens.remaining, figures.tokens.reset) == (0, MIDNIGHT - int(START))
    assert admitted(buckets, [limit], Need(1, 1), MIDNIGHT - 1) is None
    assert admitted(buckets, [limit], Need(1, 1), MIDNIGHT) is not None


def test_a_bucket_begins_with_what_was_spent_before() -> None:
    limit = Limit("project:genomics", "smol", requests_per_minute=3, tokens_per_day=1000)
    buckets = Buckets()
    second = int(START)
    spent = Spent("project:genomics", "smol", ((second - 50, 2),), ((second - 50, 30),), 700)
    buckets.learn(spent, START)
    buckets.learn(empty(limit), START)  # the existing bucket is newer
    assert admitted(buckets, [limit], SMALL, START) is not None
    with pytest.raises(LimitExceeded) as refused:
        buckets.reserve([limit], SMALL, START)
    assert (refused.value.what, refused.value.retry_after) == ("requests_per_minute", 11.0)
    with pytest.raises(LimitExceeded) as refused:
        buckets.reserve([limit], Need(400, 400), START + 30)
    assert (refused.value.what, refused.value.retry_after) == ("tokens_per_day", MIDNIGHT - second - 30)


def test_the_longest_wait_is_told() -> None:
    short = Limit("site", concurrent=1)
    long = Limit("user:u-1", requests_per_minute=1)
    buckets = buckets_for(short, long)
    buckets.reserve([short, long], SMALL, START)
    with pytest.raises(LimitExceeded) as refused:
        buckets.reserve([short, long], SMALL, START)
    assert (refused.value.limit, refused.value.retry_after) == (long, 61.0)


def test_a_clock_that_is_put_back_frees_nothing_and_blocks_for_a_minute_at_most() -> None:
    limit = Limit("site", requests_per_minute=1, tokens_per_day=10)
    buckets = buckets_for(limit)
    buckets.settle(buckets.reserve([limit], SMALL, START), 6, START)
    back = START - 3 * DAY
    assert admitted(buckets, [limit], Need(1, 1), back) is None
    assert admitted(buckets, [limit], Need(5, 5), back + 61) is None
    assert admitted(buckets, [limit], Need(4, 4), back + 61) is not None


def test_beyond_its_room_the_least_used_bucket_is_forgotten_but_none_that_is_held() -> None:
    limits = [Limit(f"user:u-{number}", tokens_per_day=50) for number in range(4)]
    buckets = buckets_for(*limits[:3], most=3)
    held = buckets.reserve(limits[:1], SMALL, START)
    buckets.settle(buckets.reserve(limits[1:2], SMALL, START), 7, START)
    buckets.settle(buckets.reserve(limits[2:3], SMALL, START), 7, START)
    buckets.learn(empty(limits[3]), START)
    assert buckets.missing(limits) == [("user:u-1", "")]
    assert buckets.forgotten
    buckets.settle(held, 3, START)


def test_of_several_limits_of_one_bucket_the_smallest_numbers_hold() -> None:
    one = Limit("user:u-1", "", requests_per_minute=10, concurrent=3)
    other = Limit("user:u-1", "", requests_per_minute=20, tokens_per_day=5)
    third = Limit("user:u-1", "smol", requests_per_minute=1)
    expected = Limit("user:u-1", "", requests_per_minute=10, tokens_per_day=5, concurrent=3)
    assert merged([one, third, other]) == (expected, third)


@pytest.mark.parametrize(
    ("size", "output", "choices", "expected"),
    [
        (400, 100, 1, Need(500, 200)),
        (400, None, 1, Need(2448, 2148)),
        (400, 100, 3, Need(700, 400)),
        (1_000_000, 100, 1, Need(4096, 4096)),
        (10, 1_000_000, 2, Need(8192, 8192)),
        (400, 0, 10, Need(400, 100)),
    ],
)
def test_a_need_is_bounded_by_the_body_by_what_it_asks_for_and_by_the_context(
    size: int, output: int | None, choices: int, expected: Need
) -> None:
    assert need(size, output, choices, context_length=4096, reserve_output=2048) == expected


def test_headers_are_of_the_tightest_limit() -> None:
    limits = [
        Limit("site", requests_per_minute=100, tokens_per_minute=10_000),
        Limit("user:u-1", requests_per_minute=10, tokens_per_day=100_000),
    ]
    buckets = buckets_for(*limits)
    buckets.reserve(limits, Need(400, 200), START)
    assert headers(buckets.remaining(limits, START)) == {
        "x-ratelimit-limit-requests": "10",
        "x-ratelimit-remaining-requests": "9",
        "x-ratelimit-reset-requests": "1m1s",
        "x-ratelimit-limit-tokens": "10000",
        "x-ratelimit-remaining-tokens": "9600",
        "x-ratelimit-reset-tokens": "0s",
    }


def test_times_are_written_as_people_read_them() -> None:
    assert [span(12), span(90), span(25_205)] == ["12s", "1m30s", "7h0m5s"]


def test_a_request_that_takes_many_places_counts_as_many_in_each_limit() -> None:
    limit = Limit("user:u", "", requests_per_minute=10, concurrent=4)
    buckets = buckets_for(limit)
    held = buckets.reserve([limit], SMALL, START, 3)
    with pytest.raises(LimitExceeded) as refused:
        buckets.reserve([limit], SMALL, START, 2)
    assert (refused.value.what, refused.value.retry_after) == ("concurrent", 2.0)
    buckets.settle(held, 5, START)
    second = buckets.reserve([limit], SMALL, START, 4)
    buckets.settle(second, 5, START)
    with pytest.raises(LimitExceeded) as refused:
        buckets.reserve([limit], SMALL, START, 4)
    assert refused.value.what == "requests_per_minute"
    buckets.give_back(buckets.reserve([limit], SMALL, START, 3))
    assert buckets.reserve([limit], SMALL, START, 3).places == 3
    with pytest.raises(LimitExceeded) as alone:
        buckets.reserve([limit], SMALL, START + 100, 5)
    assert (alone.value.what, alone.value.retry_after) == ("concurrent", None)
