"""Demand files: summed over relays, old and broken ones passed over."""

from __future__ import annotations

import json
from pathlib import Path

from sluice.scheduler.demand import read_demand
from sluice.scheduler.policy import Demand

NOW = 1_795_000_000.0


def report(directory: Path, relay: str, written: float = NOW, **model: float) -> None:
    """Write one relay's file for model m."""
    fields = {"running": 1, "waiting": 2, "last": NOW - 5, **model}
    document = {"version": 1, "relay": relay * 16, "written": written, "models": {"m": fields}}
    (directory / f"{relay * 16}.json").write_text(json.dumps(document))


def test_relays_are_summed(tmp_path: Path) -> None:
    report(tmp_path, "a")
    report(tmp_path, "b", last=NOW - 3)
    assert read_demand(str(tmp_path), NOW) == {"m": Demand(2, 4, NOW - 3)}


def test_instances_are_summed_over_relays(tmp_path: Path) -> None:
    for relay, instances in (("a", {"m-00000001": 1, "m-00000002": 2}), ("b", {"m-00000002": 3})):
        fields = {"running": 3, "waiting": 0, "last": NOW, "instances": instances}
        document = {"version": 1, "relay": relay * 16, "written": NOW, "models": {"m": fields}}
        (tmp_path / f"{relay * 16}.json").write_text(json.dumps(document))
    assert read_demand(str(tmp_path), NOW)["m"].instances == {"m-00000001": 1, "m-00000002": 5}


def test_the_latest_answer_that_any_relay_had_counts(tmp_path: Path) -> None:
    for relay, answered in (("a", {"m-00000001": 100, "m-00000002": 300}), ("b", {"m-00000002": 200})):
        fields = {"running": 0, "waiting": 0, "last": NOW, "answered": answered}
        document = {"version": 1, "relay": relay * 16, "written": NOW, "models": {"m": fields}}
        (tmp_path / f"{relay * 16}.json").write_text(json.dumps(document))
    assert read_demand(str(tmp_path), NOW)["m"].answered == {"m-00000001": 100, "m-00000002": 300}


def test_a_relay_that_fell_silent_is_ignored(tmp_path: Path) -> None:
    report(tmp_path, "a", written=NOW - 16)
    report(tmp_path, "b", written=NOW - 14)
    assert read_demand(str(tmp_path), NOW) == {"m": Demand(1, 2, NOW - 5)}


def test_broken_files_and_half_written_ones_are_passed_over(tmp_path: Path) -> None:
    report(tmp_path, "a")
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / ".b.json").write_text("{")
    (tmp_path / "lies.json").write_text('{"version": 1, "relay": "x", "written": 1, "models": {}}')
    (tmp_path / "folder.json").mkdir()
    assert read_demand(str(tmp_path), NOW) == {"m": Demand(1, 2, NOW - 5)}


def test_no_directory_means_no_demand(tmp_path: Path) -> None:
    assert read_demand(str(tmp_path / "none"), NOW) == {}
