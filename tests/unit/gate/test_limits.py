"""The cluster's own limits on a session."""

from __future__ import annotations

from sluice.gate.limits import BodyMemory, Rate


def test_a_rate_allows_a_seconds_worth_at_once() -> None:
    rate = Rate(2.0, 0.0)
    assert [rate.take(0.0) for _ in range(3)] == [True, True, False]
    assert rate.take(0.5)
    assert not rate.take(0.5)
    assert all(Rate(0, 0.0).take(0.0) for _ in range(1000))


def test_a_budget_is_never_overdrawn() -> None:
    memory = BodyMemory(10)
    assert memory.reserve(6)
    assert not memory.reserve(5)
    memory.release(6)
    assert memory.reserve(10)
