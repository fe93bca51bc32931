"""The geometry of charts."""

from __future__ import annotations

import pytest

from sluice.web.usage import charts


@pytest.mark.parametrize(
    ("most", "top"),
    [
        (0, 2),
        (1, 2),
        (2, 2),
        (3, 4),
        (5, 6),
        (9, 10),
        (10, 10),
        (11, 20),
        (41, 60),
        (999, 1000),
        (1001, 2000),
    ],
)
def test_the_top_is_a_round_even_number(most: int, top: int) -> None:
    assert charts.nice_top(most) == top
    assert top % 2 == 0


def test_series_are_stacked_and_the_highest_column_fills_the_box() -> None:
    chart = charts.stacked([("a", (4, 6)), ("b", (0, 5)), ("c", (0, 0))])
    assert chart.ticks == (10, 5, 0)
    low, high = chart.columns[0].bars
    assert (low.y + low.height, high.y) == (charts.HEIGHT, 0.0)
    assert high.y + high.height == pytest.approx(low.y)
    assert [bar.series for bar in chart.columns[1].bars] == [1]
    assert chart.columns[2].bars == ()


def test_bars_keep_within_their_own_column() -> None:
    chart = charts.stacked([(str(at), (at,)) for at in range(30)])
    for at, column in enumerate(chart.columns):
        for bar in column.bars:
            assert at * chart.step < bar.x
            assert bar.x + bar.width < (at + 1) * chart.step <= chart.width


def test_an_empty_chart_says_so() -> None:
    assert charts.stacked([]).empty
    assert charts.stacked([("a", (0, 0))]).empty
    assert not charts.stacked([("a", (0, 1))]).empty


@pytest.mark.parametrize(
    ("part", "whole", "percent"), [(0, 10, 0.0), (5, 10, 50.0), (20, 10, 100.0), (0, 0, 100.0)]
)
def test_percentages_stay_between_0_and_100(part: int, whole: int, percent: float) -> None:
    assert charts.percent(part, whole) == percent
