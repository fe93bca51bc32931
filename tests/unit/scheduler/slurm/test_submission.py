"""sbatch's options and comments: base and burst instances of one script, told apart and found again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sluice.contracts.models import ModelEntry
from sluice.scheduler.instances.instance import BASE, BURST
from sluice.scheduler.slurm.submission import comment, options, read_comment

GOLDEN = Path(__file__).parents[3] / "golden" / "contracts"
DIGEST = "cd" * 32
PLAIN = {"partition": "normal", "time": 60, "cpus": 1, "memory_mb": 100}


def entry(burst: object = None, **slurm: Any) -> ModelEntry:
    """Return a model's entry that asks for this."""
    document = json.loads((GOLDEN / "model-entry.json").read_text())
    return ModelEntry.parse({**document, "slurm": {**PLAIN, **slurm}, "burst": burst})


def test_a_plain_base_instance_adds_only_that_it_is_not_requeued() -> None:
    assert options(entry(), BASE) == ("--no-requeue",)


def test_what_the_entry_asks_for_holds_whatever_the_script_says() -> None:
    asked = entry(time_min=20, nice=50, reservation="llm", requeue=True)
    assert options(asked, BASE) == ("--reservation=llm", "--nice=50", "--time-min=20", "--requeue")


def test_a_burst_instance_overrides_partition_limits_and_requeueing() -> None:
    burst = {"max": 2, "partition": "scavenge", "qos": "low", "account": "spare", "time": 30, "requeue": True}
    assert options(entry(burst, nice=5), BURST) == (
        "--partition=scavenge",
        "--account=spare",
        "--qos=low",
        "--time=30",
        "--nice=5",
        "--requeue",
    )


def test_what_a_burst_leaves_out_is_as_in_the_base_but_for_requeueing() -> None:
    asked = entry({"max": 1}, time_min=20, reservation="llm", nice=7, requeue=True)
    assert options(asked, BURST) == ("--reservation=llm", "--nice=7", "--time-min=20", "--no-requeue")


@pytest.mark.parametrize(("burst_time", "least"), [(0, "40"), (30, "30"), (50, "40")])
def test_the_least_time_of_a_burst_never_exceeds_its_time(burst_time: int, least: str) -> None:
    asked = entry({"max": 1, "time": burst_time}, time_min=40)
    assert f"--time-min={least}" in options(asked, BURST)


def test_a_base_instance_takes_nothing_of_the_burst() -> None:
    burst = {"max": 1, "partition": "scavenge", "nice": 9, "time": 30, "requeue": True}
    assert options(entry(burst), BASE) == ("--no-requeue",)


def test_nodes_are_left_out_by_name() -> None:
    assert options(entry(), BASE, ["c1", "c7"]) == ("--exclude=c1,c7", "--no-requeue")


@pytest.mark.parametrize("kind", [BASE, BURST])
def test_a_comment_tells_model_digest_and_kind(kind: str) -> None:
    said = comment("small-chat", DIGEST, kind)
    assert said.startswith(f"sluice model=small-chat digest={DIGEST}")
    assert read_comment(said) == (DIGEST, kind)


def test_a_comment_of_an_earlier_version_is_a_bare_digest() -> None:
    assert read_comment(DIGEST) == (DIGEST, BASE)


@pytest.mark.parametrize("text", ["", "(null)", "sluice model=m", f"x sluice model=m digest={DIGEST}"])
def test_any_other_comment_says_nothing(text: str) -> None:
    assert read_comment(text) == ("", BASE)
