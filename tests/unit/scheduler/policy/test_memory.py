"""What is remembered of a model: measured times, failures."""

from __future__ import annotations

import dataclasses
import json

import pytest

from sluice import config
from sluice.scheduler.policy import successors
from sluice.scheduler.policy.memory import (
    KEPT,
    Backoff,
    Memory,
    doubled,
    measured_load,
    measured_queue,
    percentile,
)
from sluice.scheduler.policy.target import Trend, observe


@pytest.mark.parametrize(
    ("values", "fraction", "expected"),
    [
        ((), 0.5, None),
        ((7.0,), 0.9, 7.0),
        ((1.0, 9.0), 0.5, 1.0),
        (tuple(float(n) for n in range(10, 0, -1)), 0.9, 9.0),
        ((3.0, 1.0, 2.0), 0.0, 1.0),
        ((3.0, 1.0, 2.0), 1.0, 3.0),
    ],
)
def test_a_percentile_is_one_of_the_values(
    values: tuple[float, ...], fraction: float, expected: object
) -> None:
    assert percentile(values, fraction) == expected


def test_measured_times_are_bounded_and_follow_a_change() -> None:
    memory = Memory()
    for seconds in range(100):
        memory = measured_queue(measured_load(memory, float(seconds)), 2.0 * seconds)
    assert memory.load_times == tuple(float(n) for n in range(100 - KEPT, 100))
    assert memory.queue_times[-1] == 198.0
    assert memory.load_time == 91.0


def test_a_start_takes_what_few_starts_exceed() -> None:
    assert successors.start_time(Memory()) == successors.DEFAULT_START
    assert successors.start_time(Memory(load_times=(50.0, 90.0))) == 90.0
    assert successors.start_time(Memory(load_times=(50.0,), queue_times=(1.0, 7.0))) == 57.0


def test_back_offs_double_up_to_their_bound() -> None:
    assert [doubled(10.0, times) for times in (0, 1, 2, 5, 7, 10_000)] == [10, 10, 20, 160, 600, 600]


def test_the_memory_outlives_a_restart() -> None:
    memory = Memory(
        "d", observe(Trend(), 3, 5.0), load_times=(1.0,), refused=Backoff(2, 1.0, 3.0, "full"), obstacle="x"
    )
    document = json.loads(json.dumps(dataclasses.asdict(memory)))
    assert config.parse(Memory, document, "state") == memory
