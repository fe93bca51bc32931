"""When an instance that keeps failing is not used, and when it is tried again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sluice.relay.breaker import FIRST_WAIT, LIMIT, LONGEST_WAIT, MOST_SUSPECTS, Breaker


def opened(now: float = 0.0) -> Breaker:
    """Return a breaker that has just opened; its waits have no jitter."""
    breaker = Breaker(lambda: 0.5)
    for _ in range(LIMIT):
        breaker.fail(now)
    return breaker


def test_stays_closed_while_answers_come_between_failures() -> None:
    breaker = Breaker()
    for _ in range(20):
        for _ in range(LIMIT - 1):
            breaker.fail(0.0)
        breaker.succeed()
    assert breaker.allows(0.0)


def test_opens_after_failures_in_a_row_and_lets_one_trial_through() -> None:
    breaker = opened()
    assert not breaker.allows(0.9)
    assert 0 < breaker.wait(0.5) <= FIRST_WAIT
    assert breaker.allows(1.0)
    assert breaker.begin()
    assert not breaker.allows(1.0)
    breaker.succeed()
    assert breaker.allows(1.0)
    assert not breaker.begin()


def test_a_trial_without_a_verdict_makes_room_for_the_next() -> None:
    breaker = opened()
    trial = breaker.begin()
    assert trial is not None
    trial.end_trial()
    assert breaker.allows(1.0)
    assert breaker.open


def test_waits_double_up_to_the_longest() -> None:
    breaker = opened()
    now, waits = 0.0, []
    for _ in range(8):
        waits.append(breaker.wait(now))
        now += waits[-1]
        breaker.begin()
        breaker.fail(now)
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0, LONGEST_WAIT, LONGEST_WAIT, LONGEST_WAIT]


def test_many_failures_at_once_are_one() -> None:
    breaker = opened()
    for _ in range(100):
        breaker.fail(0.1)
    assert breaker.wait(0.0) == FIRST_WAIT


def test_waits_differ_from_relay_to_relay() -> None:
    waits = set()
    for _ in range(20):
        breaker = Breaker()
        for _ in range(LIMIT):
            breaker.fail(0.0)
        waits.add(breaker.wait(0.0))
    assert len(waits) > 10
    assert all(0.8 * FIRST_WAIT <= wait <= 1.2 * FIRST_WAIT for wait in waits)


def repeat(breaker: Breaker, user: str, times: int, now: float = 0.0, *, alone: bool = True) -> None:
    """Break attempts of a user."""
    for _ in range(times):
        breaker.suspect(user, now, alone=alone)


def test_one_user_shuts_out_nobody_but_himself_however_often_he_fails() -> None:
    breaker = Breaker(lambda: 0.5)
    for second in range(100):
        repeat(breaker, "loops", LIMIT, float(second))
    assert not breaker.open
    assert breaker.allows(100.0, "other")
    assert not breaker.allows(99.5, "loops")


def test_a_broken_instance_is_left_alone_by_its_only_user_and_tried_again() -> None:
    breaker = Breaker(lambda: 0.5)
    repeat(breaker, "only", LIMIT)
    assert not breaker.allows(0.9, "only")
    assert breaker.wait(0.5, "only") == FIRST_WAIT - 0.5
    assert breaker.allows(1.0, "only")
    trial = breaker.begin("only")
    assert trial is not None
    assert not breaker.allows(1.0, "only")
    breaker.succeed()
    assert breaker.allows(1.0, "only")


def test_different_users_open_it_for_everybody() -> None:
    breaker = Breaker(lambda: 0.5)
    for number in range(LIMIT):
        assert breaker.allows(0.0, "other")
        repeat(breaker, f"u-{number}", 1)
    assert breaker.open
    assert not breaker.allows(0.9, "other")
    assert breaker.allows(1.0, "other")


def test_what_is_known_to_break_cannot_open_it_again() -> None:
    breaker = Breaker(lambda: 0.5)
    for number in range(LIMIT):
        repeat(breaker, f"u-{number}", 1)
    for number in range(LIMIT):
        repeat(breaker, f"u-{number}", 20, 1.0)
    # The wait is still the first one: a user without failures may try.
    assert breaker.allows(1.0, "stranger")


def test_a_suspects_trial_does_not_take_a_strangers_place() -> None:
    breaker = Breaker(lambda: 0.5)
    for number in range(LIMIT):
        repeat(breaker, f"u-{number}", LIMIT)
    assert breaker.begin("u-0") is not None
    assert breaker.allows(1.0, "stranger")


def test_who_breaks_while_others_are_answered_is_no_witness() -> None:
    breaker = Breaker(lambda: 0.5)
    for number in range(20):
        repeat(breaker, f"u-{number}", LIMIT, alone=False)
    assert not breaker.open
    # If no others get answers meanwhile, the same users count.
    for number in range(LIMIT):
        repeat(breaker, f"u-{number}", 1)
    assert breaker.open


def test_one_whole_answer_clears_everybody() -> None:
    breaker = Breaker(lambda: 0.5)
    for number in range(LIMIT):
        repeat(breaker, f"u-{number}", LIMIT)
    breaker.succeed()
    assert all(breaker.allows(0.0, f"u-{number}") for number in range(LIMIT))
    assert breaker.allows(0.0, "other")


def test_the_record_is_bounded() -> None:
    breaker = Breaker()
    for number in range(3 * MOST_SUSPECTS):
        repeat(breaker, f"u-{number}", 1)
    assert len(breaker._suspects) <= MOST_SUSPECTS
    assert len(breaker._witnesses) <= MOST_SUSPECTS


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b"]),
        st.booleans(),
        st.floats(0, 40),
    ),
    max_size=60,
)


@given(STEPS)
def test_whatever_fewer_users_than_the_limit_do_a_stranger_may_always_go(
    steps: list[tuple[str, bool, float]],
) -> None:
    breaker, now = Breaker(), 0.0
    for user, good, pause in steps:
        now += pause
        if breaker.allows(now, user):
            breaker.begin(user)
            if good:
                breaker.succeed()
            else:
                breaker.suspect(user, now, alone=True)
        assert breaker.allows(now, "stranger")
