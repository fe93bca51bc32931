"""When a model's next instance should be ready: from Slurm's estimate and what was measured."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sluice.contracts.jobs import JobRecord
from sluice.contracts.models import ModelEntry
from sluice.scheduler.instances.instance import Instance
from sluice.scheduler.policy.memory import Memory
from sluice.scheduler.publish import estimates
from sluice.scheduler.publish.routing import ModelOutcome, routed_models

GOLDEN = Path(__file__).parents[3] / "golden" / "contracts"
ENTRY = ModelEntry.parse(json.loads((GOLDEN / "model-entry.json").read_text()))
RECORD = JobRecord.parse(json.loads((GOLDEN / "job-record.json").read_text()))
NOW = 1_000_000.0
MEASURED = Memory(load_times=(40.0, 50.0, 60.0, 100.0), queue_times=(10.0, 20.0, 600.0))


def instance(number: int = 1, **changes: Any) -> Instance:
    """Return an instance whose job was submitted just now and waits."""
    name = f"m-{number:08x}"
    return Instance(name, "m", name[-8:], "d", NOW, job_id=str(number), job_state="PENDING", **changes)


def running(number: int, started: float, **changes: Any) -> Instance:
    """Return an instance whose job runs since `started`."""
    return replace(instance(number), job_state="RUNNING", started=started, **changes)


def ready(number: int, **changes: Any) -> Instance:
    """Return one that takes requests."""
    return running(number, NOW - 900, ready_at=NOW - 800, record=RECORD, **changes)


@pytest.mark.parametrize(
    ("times", "passed", "left"),
    [
        ((), 30.0, 0.0),
        ((40.0,), 0.0, 40.0),
        ((40.0,), 30.0, 10.0),
        ((40.0,), 100.0, 25.0),
        ((40.0, 50.0, 60.0, 100.0), 0.0, 60.0),
        ((40.0, 50.0, 60.0, 100.0), 59.0, 1.0),
        ((40.0, 50.0, 60.0, 100.0), 60.0, 40.0),
        ((40.0, 50.0, 60.0, 100.0), 70.0, 30.0),
        ((40.0, 50.0), -5.0, 50.0),
    ],
)
def test_what_is_left_is_told_by_those_that_took_longer(
    times: tuple[float, ...], passed: float, left: float
) -> None:
    assert estimates.remaining(times, passed, 0.75) == left


@pytest.mark.parametrize(
    ("coming", "seconds"),
    [
        ([], None),
        ([instance()], 20 + 60),
        ([instance(expected_start=NOW + 300)], 300 + 60),
        ([instance(expected_start=NOW - 300)], 60),
        ([replace(instance(), created=NOW - 15)], 5 + 60),
        ([replace(instance(), created=NOW - 100)], 500 + 60),
        ([running(1, NOW - 10)], 50),
        ([running(1, NOW - 80)], 20),
        ([running(1, NOW - 200)], 50),
        ([instance(expected_start=NOW + 300), running(2, NOW - 10)], 50),
    ],
)
def test_the_first_of_those_that_come_is_told(coming: list[Instance], seconds: float | None) -> None:
    expected = estimates.coming(coming, MEASURED, NOW)
    assert expected == (None if seconds is None else NOW + seconds)


def test_without_a_measured_load_nothing_is_promised() -> None:
    assert estimates.coming([instance(expected_start=NOW + 5)], Memory(), NOW) is None
    assert estimates.asleep(Memory(queue_times=(5.0,)), NOW) is None


def test_a_sleeping_model_takes_a_median_queue_and_a_load() -> None:
    assert estimates.asleep(MEASURED, NOW) == NOW + 20 + 60
    assert estimates.asleep(Memory(load_times=(40.0,)), NOW) == NOW + 40


def published(
    instances: list[Instance], wanted: int, *, failed: bool = False, drained: bool = False
) -> tuple[str, float | None]:
    """Return status and seconds until the expected readiness, as the routing table has them."""
    outcome = ModelOutcome(wanted, failed, MEASURED, drained)
    entry = replace(ENTRY, name="m")
    model = routed_models({"m": entry}, instances, {"m": outcome}, known=True, now=NOW)["m"]
    return model.status, None if model.expected_ready is None else model.expected_ready - NOW


@pytest.mark.parametrize(
    ("instances", "wanted", "told"),
    [
        ([], 0, ("sleeping", 80.0)),
        ([], 1, ("starting", None)),
        ([instance()], 1, ("starting", 80.0)),
        ([ready(1)], 1, ("ready", None)),
        ([ready(1), running(2, NOW - 10)], 2, ("ready", 50.0)),
        ([ready(1), running(2, NOW - 10)], 1, ("ready", None)),
        ([ready(1, draining_since=NOW - 1), running(2, NOW - 10)], 1, ("starting", 50.0)),
        ([ready(1, leaving="warned"), running(2, NOW - 10)], 1, ("starting", 50.0)),
        ([ready(1), ready(2, leaving="warned"), running(3, NOW - 10)], 2, ("ready", 50.0)),
    ],
)
def test_the_table_tells_of_sleeping_starting_and_full_models(
    instances: list[Instance], wanted: int, told: tuple[str, float | None]
) -> None:
    assert published(instances, wanted) == told


def test_a_failed_and_a_drained_model_promise_nothing() -> None:
    assert published([instance()], 1, failed=True) == ("failed", None)
    assert published([], 0, drained=True) == ("drained", None)


def test_relays_are_told_not_to_use_an_instance_that_leaves() -> None:
    outcome = ModelOutcome(1, False, MEASURED)
    instances = [ready(1, leaving="terminated"), ready(2)]
    table = routed_models({"m": replace(ENTRY, name="m")}, instances, {"m": outcome}, known=True, now=NOW)
    assert {one.id: one.state for one in table["m"].instances} == {
        "m-00000001": "draining",
        "m-00000002": "ready",
    }
