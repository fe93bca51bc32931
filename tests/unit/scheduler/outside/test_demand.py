"""Demand files: summed over relays, old and broken ones passed over."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sluice.scheduler.outside import demand
from sluice.scheduler.outside.demand import DemandFolder, read_demand
from sluice.scheduler.policy.policy import TotalDemand
from tests.unit.scheduler.outside.test_untrusted_files import KINDS

NOW = 1_795_000_000.0


def report(directory: Path, relay: str, written: float = NOW, **model: float) -> None:
    """Write one relay's file for model m."""
    fields = {"running": 1, "waiting": 2, "last": NOW - 5, **model}
    document = {"version": 1, "relay": relay * 16, "written": written, "models": {"m": fields}}
    (directory / f"{relay * 16}.json").write_text(json.dumps(document))


def test_relays_are_summed(tmp_path: Path) -> None:
    report(tmp_path, "a")
    report(tmp_path, "b", last=NOW - 3)
    assert read_demand(str(tmp_path), NOW) == {"m": TotalDemand(2, 4, NOW - 3)}


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
    assert read_demand(str(tmp_path), NOW) == {"m": TotalDemand(1, 2, NOW - 5)}


def test_broken_files_and_half_written_ones_are_passed_over(tmp_path: Path) -> None:
    report(tmp_path, "a")
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / ".b.json").write_text("{")
    (tmp_path / "lies.json").write_text('{"version": 1, "relay": "x", "written": 1, "models": {}}')
    (tmp_path / "folder.json").mkdir()
    assert read_demand(str(tmp_path), NOW) == {"m": TotalDemand(1, 2, NOW - 5)}


GOOD = {"version": 1, "relay": "b" * 16, "written": NOW, "models": {}}
EDITED = {
    "no JSON": ('{"version": 1,', "JSON"),
    "an empty file": ("", "JSON"),
    "another version": (json.dumps({**GOOD, "version": 2}), "version"),
    "an unknown field": (json.dumps({**GOOD, "comment": "more, please"}), "comment"),
    "a text for a number": (json.dumps({**GOOD, "written": "now"}), "written"),
    "a count below nothing": (
        json.dumps({**GOOD, "models": {"m": {"running": -1, "waiting": 0, "last": NOW}}}),
        "running",
    ),
    "no model's name": (
        json.dumps({**GOOD, "models": {"../m": {"running": 1, "waiting": 0, "last": NOW}}}),
        "models",
    ),
    "a time to come": (json.dumps({**GOOD, "written": NOW + 60}), "ahead of this host's clock"),
}


@pytest.mark.parametrize(("text", "words"), EDITED.values(), ids=EDITED)
def test_a_file_edited_by_hand_is_told_once_in_words_and_nothing_of_it_counts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str, words: str
) -> None:
    report(tmp_path, "a")
    folder, path = DemandFolder(str(tmp_path)), tmp_path / f"{'b' * 16}.json"
    # Just written, a while ago, and written anew with the same fault.
    for age in (0, 60, 30):
        path.write_text(text)
        os.utime(path, (time.time() - age,) * 2)
        for _ in range(3):
            assert folder.read(NOW) == {"m": TotalDemand(1, 2, NOW - 5)}
    (record,) = [one for one in caplog.records if one.getMessage() == "demand file refused"]
    assert words in vars(record)["problem"]
    assert vars(record)["path"] == str(path)
    report(tmp_path, "b")
    assert folder.read(NOW) == {"m": TotalDemand(2, 4, NOW - 5)}


@pytest.mark.parametrize("lay", KINDS.values(), ids=KINDS)
def test_what_is_no_file_concerns_itself(tmp_path: Path, lay: Callable[[Path], None]) -> None:
    report(tmp_path, "a")
    lay(tmp_path / "it.json")
    (tmp_path / os.fsdecode(b"\xff.json")).write_text("{")
    assert read_demand(str(tmp_path), NOW) == {"m": TotalDemand(1, 2, NOW - 5)}


def heavy(directory: Path, name: str, size: int) -> None:
    """Write a report that is right, and large."""
    models = {f"model-{number}": {"running": 1, "waiting": 1, "last": NOW} for number in range(size // 55)}
    document = {"version": 1, "relay": "f" * 16, "written": NOW, "models": models}
    (directory / f"{name}.json").write_text(json.dumps(document))


def test_a_flood_of_large_files_costs_one_bounded_reading_and_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    heavy(tmp_path, "x0", 800_000)
    for number in range(1, 200):
        os.link(tmp_path / "x0.json", tmp_path / f"x{number}.json")
    for number in range(30):
        heavy(tmp_path, f"y{number}", 200_000)
    folder = DemandFolder(str(tmp_path))
    sizes: list[int] = []
    pread = os.pread

    def counted(descriptor: int, size: int, place: int) -> bytes:
        found = pread(descriptor, size, place)
        sizes.append(len(found))
        return found

    monkeypatch.setattr(os, "pread", counted)
    for _ in range(2):
        folder.read(NOW)
        assert sum(sizes) <= demand.MAX_TOTAL
        sizes.clear()
    assert [record.message for record in caplog.records].count(
        "the demand files have more data than one tick reads: some wait"
    ) == 1


def test_relays_that_were_heard_of_are_read_whatever_comes_beside_them(tmp_path: Path) -> None:
    report(tmp_path, "a")
    folder = DemandFolder(str(tmp_path))
    assert folder.read(NOW) == {"m": TotalDemand(1, 2, NOW - 5)}
    for number in range(30):
        heavy(tmp_path, f"0{number}", 200_000)
    for _ in range(2):
        report(tmp_path, "a", running=3)
        assert folder.read(NOW)["m"] == TotalDemand(3, 2, NOW - 5)


def test_more_names_than_are_looked_at_hide_no_relay_that_was_heard_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demand, "MAX_NAMES", 5)
    report(tmp_path, "a")
    folder = DemandFolder(str(tmp_path))
    folder.read(NOW)
    for number in range(50):
        (tmp_path / f"{number}.json").write_text("{")
    assert folder.read(NOW) == {"m": TotalDemand(1, 2, NOW - 5)}


def test_a_file_that_lies_still_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report(tmp_path, "a")
    (tmp_path / "broken.json").write_text("{")
    for name in ("a" * 16 + ".json", "broken.json"):
        os.utime(tmp_path / name, (NOW, NOW))
    folder = DemandFolder(str(tmp_path))
    first = folder.read(NOW)
    reads: list[str] = []

    def read(name: str, *_: object) -> bytes:
        reads.append(name)
        return b""

    monkeypatch.setattr("sluice.scheduler.outside.untrusted_files.read", read)
    assert folder.read(NOW) == first
    assert reads == []


def test_no_directory_means_no_demand(tmp_path: Path) -> None:
    assert read_demand(str(tmp_path / "none"), NOW) == {}
