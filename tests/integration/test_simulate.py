"""A simulated day: the policy's curve lies below the moving average's. Deterministic: nothing is timed.

Every second setting of the quick sweep; `make soak` runs all of them.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from lab.simulate import parameters, sweep
from lab.simulate.simulation import Result, pareto
from tests.trials import SOAK

pytestmark = pytest.mark.integration


STEP = 1 if SOAK else 2
SWEEP = replace(sweep.QUICK, ours=sweep.QUICK.ours[::STEP], average=sweep.QUICK.average[::STEP], fixed=())


@pytest.fixture(scope="module")
def results() -> list[Result]:
    """All runs of the quick simulation."""
    return list(sweep.run(parameters.QUICK, SWEEP, 2))


def of(results: list[Result], name: str) -> list[Result]:
    return [result for result in results if result.contestant == name]


@pytest.mark.timeout(600)
def test_no_setting_of_the_moving_average_is_better_than_ours(results: list[Result]) -> None:
    beside = sweep.against(of(results, sweep.OURS), of(results, sweep.AVERAGE))
    assert beside.gpu_hours < 1.0
    assert beside.p99 < 1.0


def test_the_curve_is_one_of_choices(results: list[Result]) -> None:
    front = pareto(of(results, sweep.OURS))
    assert len(front) >= 5
    assert front[-1].p99 < front[0].p99 / 2


def test_a_seed_gives_one_result() -> None:
    small = replace(parameters.QUICK, models=8, span=4 * parameters.HOUR)
    one = replace(sweep.QUICK, ours=(240.0,), average=((0, 1.0, 300.0),), fixed=())
    assert list(sweep.run(small, one, 1)) == list(sweep.run(small, one, 1))
