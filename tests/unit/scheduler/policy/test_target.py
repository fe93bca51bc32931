"""How many instances a model's requests call for, and for how long after they are gone."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice import config
from sluice.scheduler.policy.target import CLASSES, MOST_LEVELS, Trend, level, observe

NOW = 1_795_000_000.0
IDLE = 900.0


def wanted(trend: Trend, now: float, *, idle_stop: float = IDLE, load_time: float = 120.0) -> int:
    return level(trend, concurrency=4, load_time=load_time, idle_stop=idle_stop, now=now)


def after_pauses(*pauses: float, asked: int = 1, between: int = 0) -> tuple[Trend, float]:
    """Return the trend of `asked` requests again and again, with these pauses, and its last moment."""
    trend, now = observe(Trend(), asked, NOW, concurrency=4), NOW
    for pause in pauses:
        if between:
            trend = observe(trend, between, now + pause / 2, concurrency=4)
        now += pause
        trend = observe(trend, asked, now, concurrency=4)
    return trend, now


def test_nothing_is_called_for_before_the_first_request() -> None:
    assert wanted(Trend(), NOW) == 0
    assert observe(Trend(), 0, NOW, concurrency=4) == Trend()


@pytest.mark.parametrize(("asked", "instances"), [(1, 1), (4, 1), (5, 2), (8, 2), (9, 3)])
def test_the_target_rises_at_once(asked: int, instances: int) -> None:
    assert wanted(observe(Trend(), asked, NOW, concurrency=4), NOW) == instances
    assert wanted(observe(Trend(), asked, NOW, concurrency=4), NOW, idle_stop=0.0) == instances


@pytest.mark.parametrize(("idle_stop", "instances"), [(900.0, 4), (2250.0, 5), (3600.0, 5), (90_000.0, 5)])
def test_where_waits_are_worth_much_there_is_room_for_more(idle_stop: float, instances: int) -> None:
    trend = observe(Trend(), 16, NOW, concurrency=4, idle_stop=idle_stop)
    assert wanted(trend, NOW) == instances


def test_a_model_with_few_requests_needs_no_second_instance_for_room() -> None:
    assert wanted(observe(Trend(), 2, NOW, concurrency=4, idle_stop=9000.0), NOW) == 1


def test_where_nothing_is_known_an_instance_stays_for_idle_stop() -> None:
    trend = observe(Trend(), 5, NOW, concurrency=4)
    assert wanted(trend, NOW + IDLE - 1) == 2
    assert wanted(trend, NOW + IDLE) == 0


def test_a_request_that_came_and_went_between_two_looks_counts() -> None:
    trend = observe(Trend(), 0, NOW, concurrency=4, last=NOW - 10)
    assert wanted(trend, NOW) == 1
    assert wanted(trend, NOW - 10 + IDLE) == 0
    assert observe(trend, 0, NOW + 5, concurrency=4, last=NOW - 10) == trend


def test_a_last_request_in_the_future_is_not_believed() -> None:
    assert observe(Trend(), 0, NOW, concurrency=4, last=NOW + 100) == Trend()


def test_a_model_whose_pauses_outlast_idle_stop_by_little_is_kept_longer() -> None:
    trend, now = after_pauses(*[950.0] * 8)
    assert wanted(trend, now + IDLE + 50) == 1
    assert wanted(trend, now + 4 * IDLE) == 0


def test_a_model_that_comes_back_soon_or_not_for_hours_is_not_kept_for_hours() -> None:
    trend, now = after_pauses(*[50.0] * 8, *[40_000.0] * 8)
    assert wanted(trend, now + 59) == 1
    assert wanted(trend, now + IDLE / 2) == 0


def test_a_model_that_never_comes_back_soon_is_not_kept_at_all() -> None:
    trend, now = after_pauses(*[40_000.0] * 8)
    assert wanted(trend, now) == 1
    assert wanted(trend, now + 30) == 0


def test_the_longer_a_start_takes_the_longer_an_instance_is_kept() -> None:
    trend, now = after_pauses(*[1500.0] * 8)
    assert wanted(trend, now + 1400, load_time=30.0) == 0
    assert wanted(trend, now + 1400, load_time=600.0) == 1


def test_further_instances_are_judged_by_their_own_pauses() -> None:
    trend, now = after_pauses(*[40_000.0] * 8, asked=5, between=1)
    assert sum(trend.further) == 8
    assert wanted(trend, now) == 2
    # The second is not worth keeping; the first is judged by the pauses of 20,000 s that it had.
    assert wanted(observe(trend, 1, now + 30, concurrency=4), now + 30) == 1


def test_old_habits_fade() -> None:
    trend, _ = after_pauses(*[40_000.0] * 64, *[100.0] * 200)
    long = trend.pauses[-2] + trend.pauses[-1]
    assert long < sum(trend.pauses) / 8
    assert sum(trend.pauses) <= 65


def test_what_was_needed_long_ago_is_forgotten() -> None:
    trend = observe(observe(Trend(), 40, NOW, concurrency=4), 1, NOW + 70_000, concurrency=4)
    assert trend.needed == (NOW + 70_000,)


def test_the_trend_outlives_a_restart() -> None:
    trend, _ = after_pauses(60.0, 3000.0, asked=9)
    document = json.loads(json.dumps(dataclasses.asdict(trend)))
    assert config.parse(Trend, document, "state") == trend


@given(
    st.lists(st.tuples(st.integers(0, 10_000), st.floats(0.0, 200_000.0)), max_size=60),
    st.integers(1, 64),
    st.floats(0.0, 20_000.0),
    st.floats(1.0, 2_000.0),
)
def test_never_fewer_than_the_requests_need_and_never_kept_for_ever(
    looks: list[tuple[int, float]], concurrency: int, idle_stop: float, load_time: float
) -> None:
    trend, now, most = Trend(), NOW, 0
    for asked, pause in looks:
        now += pause
        trend = observe(trend, asked, now, concurrency=concurrency)
        needs = min(MOST_LEVELS, -(-asked // concurrency))
        most = max(most, needs)
        found = level(trend, concurrency=concurrency, load_time=load_time, idle_stop=idle_stop, now=now)
        assert needs <= found <= most
    later = now + 4 * idle_stop + 1
    assert level(trend, concurrency=concurrency, load_time=load_time, idle_stop=idle_stop, now=later) == 0
    assert len(trend.needed) <= MOST_LEVELS
    assert len(trend.pauses) == len(trend.further) == CLASSES
    assert list(trend.needed) == sorted(trend.needed, reverse=True)
