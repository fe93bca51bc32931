"""When an instance that keeps failing is left alone, and when it is tried again."""

from __future__ import annotations

from sluice.relay.breaker import FIRST_WAIT, LIMIT, LONGEST_WAIT, Breaker


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
    assert breaker.begin()
    breaker.settle()
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
