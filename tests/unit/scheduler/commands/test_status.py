"""What `sluice status` and `sluice models show` tell of states that pass by quickly on a real cluster."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sluice.contracts.jobs import JobRecord
from sluice.contracts.models import Burst, ModelEntry
from sluice.scheduler.commands.overview import Overview
from sluice.scheduler.commands.status import print_overview
from sluice.scheduler.instances.instance import BURST, Instance
from sluice.scheduler.instances.node_failures import Node
from sluice.scheduler.models.catalogue import Catalogue, Listed
from sluice.scheduler.policy.ledger import Ledger
from sluice.scheduler.policy.memory import Backoff, Memory
from sluice.scheduler.publish import metrics
from sluice.scheduler.state import State
from tests.unit.scheduler.test_config import GOOD

GOLDEN = Path(__file__).parents[3] / "golden" / "contracts"
ENTRY = replace(ModelEntry.parse(json.loads((GOLDEN / "model-entry.json").read_text())), name="m")
RECORD = JobRecord.parse(json.loads((GOLDEN / "job-record.json").read_text()))
NOW = 1_795_000_000.0


def instance(number: int = 1, **changes: Any) -> Instance:
    """Return a ready instance of model `m`, with some fields changed."""
    name = f"m-{number:08x}"
    fields: dict[str, Any] = {
        "job_id": str(number),
        "job_state": "RUNNING",
        "started": NOW - 900,
        "ready_at": NOW - 800,
        "record": RECORD,
        **changes,
    }
    return Instance(name, "m", name[-8:], "d", NOW - 1000 + number, **fields)


def overview(*instances: Instance, catalogue: Catalogue | None = None, **state: Any) -> Overview:
    """Return an overview of these instances."""
    listed = Catalogue({"m": Listed(replace(ENTRY, burst=Burst(2)), "#!", "d")})
    settings = replace(GOOD, max_gpus=4, gpu_hours_per_day=10.0, cold_starts_per_hour=5, node_failures=2)
    return Overview(
        catalogue or listed,
        State(instances={one.id: one for one in instances}, **state),
        None,
        {},
        {"m": 2},
        NOW,
        settings,
    )


@pytest.mark.parametrize(
    ("changes", "state", "reason"),
    [
        ({}, "ready", ""),
        ({"leaving": "warned"}, "leaving", "leaving: warned"),
        ({"draining_since": NOW, "drain_reason": "idle"}, "draining", "idle"),
        ({"job_state": "SUSPENDED"}, "suspended", "its job is SUSPENDED"),
        ({"sick": True}, "sick", ""),
        (
            {"stalled": 420},
            "stalled",
            "no output of its engine for 420 s, not even for the front's own question",
        ),
        ({"stalled": 420, "draining_since": NOW, "drain_reason": "idle"}, "draining", "idle"),
        (
            {"job_state": "PENDING", "reason": "launch failed requeued held"},
            "held",
            "held by Slurm: launch failed requeued held",
        ),
        ({"job_state": "PENDING", "reason": "JobHeldAdmin"}, "held", "JobHeldAdmin"),
        ({"job_state": "PENDING", "reason": "Priority"}, "pending", "Priority"),
    ],
)
def test_an_instance_is_told_by_one_word_and_why(changes: dict[str, Any], state: str, reason: str) -> None:
    (told,) = overview(instance(**changes)).document()["models"]["m"]["instances"]
    assert (told["state"], told["reason"]) == (state, reason)
    assert state in metrics.STATES


def test_what_the_service_takes_is_told_beside_what_it_may() -> None:
    taken = [instance(1, gpus=2), instance(2, gpus=1, asked_nodes=2, kind=BURST)]
    ledger = Ledger(int(NOW // 86_400), 7_200.0, NOW, (NOW - 30,))
    bounds = overview(*taken, ledger=ledger).document()["bounds"]
    assert bounds == {
        "max_instances": {"used": 2.0, "bound": 8, "left": 6.0},
        "max_gpus": {"used": 3.0, "bound": 4, "left": 1.0},
        "max_nodes": {"used": 3.0, "bound": None, "left": None},
        "gpu_hours_per_day": {"used": 2.0, "bound": 10.0, "left": 8.0},
        "cold_starts_per_hour": {"used": 1.0, "bound": 5, "left": 4.0},
    }


def test_people_read_limits_nodes_bounds_kinds_and_obstacles(capsys: pytest.CaptureFixture[str]) -> None:
    state: dict[str, Any] = {
        "backoff": Backoff(3, NOW - 5, NOW + 60, "Slurm temporarily unable to accept job"),
        "scope_backoffs": {
            "account=chat partition=gpu qos=low": Backoff(2, NOW - 5, NOW + 20, "AssocMaxSubmitJobLimit"),
            "account=lab partition=gpu qos=low": Backoff(0, NOW - 500, 0.0),
        },
        "nodes": {"c7": Node(NOW, ("d1", "d2"), NOW - 10), "c8": Node(NOW, ready=("d1", "d2"))},
        "memory": {"m": Memory(obstacle="max_gpus is reached", message="job 3 ended (FAILED)")},
    }
    print_overview(overview(instance(1, gpus=1), instance(2, kind=BURST), **state).document())
    text = capsys.readouterr().out
    assert "account=lab" not in text
    for words in (
        "Taken: 2 of 8 instances, 1 of 4 GPUs, 2 nodes, 0 of 10 GPU-hours today",
        "Slurm accepts no jobs, next attempt at",
        "temporarily unable to accept",
        "Slurm accepts no jobs of account=chat partition=gpu qos=low, next attempt at",
        "AssocMaxSubmitJobLimit",
        "Excluded nodes, because starts failed there: c7 (until",
        "m: job 3 ended (FAILED)",
        "m: max_gpus is reached",
        f"{ENTRY.max}+2",
        "burst",
    ):
        assert words in text


def test_a_limit_that_is_over_is_told_no_more() -> None:
    assert overview(backoff=Backoff(1, NOW - 90, NOW - 30, "busy")).document()["limits"] is None


def test_a_held_model_is_told_with_the_reason(capsys: pytest.CaptureFixture[str]) -> None:
    document = overview(catalogue=Catalogue({}, {"m": "slurm.partition: fat is not among"})).document()
    assert document["models"]["m"]["held"] == "slurm.partition: fat is not among"
    print_overview(document)
    assert "m: the entry is not used: slurm.partition: fat is not among" in capsys.readouterr().out


def test_the_figures_count_each_models_instances_and_the_whole_service() -> None:
    other = replace(instance(3, gpus=4), model="other")
    state = State(
        instances={one.id: one for one in (instance(1, gpus=1), instance(2, leaving="warned"), other)}
    )
    samples = metrics.build(state, {}, {}, NOW, 0.1).samples
    assert {one.name: one.value for one in samples}["sluice_scheduler_gpus"] == 5.0
    assert {one.name: one.value for one in samples}["sluice_scheduler_limited"] == 0.0
