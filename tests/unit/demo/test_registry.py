"""What is written of a bed is what is found of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from demo.bed import registry
from demo.bed.registry import Entry


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the register a folder of its own."""
    monkeypatch.setattr(registry, "FOLDER", tmp_path)
    return tmp_path


def test_a_bed_is_found_as_it_was_written() -> None:
    entry = Entry("new", "10.77.0", "/x", "fast", complete=True, hosts=("login", "c1"), suite="trixie")
    registry.write(entry)

    assert registry.find("new") == entry


def test_a_bed_from_before_the_machines_last_start_is_not_counted(folder: Path) -> None:
    registry.write(Entry("old", "10.77.0", "/x"))
    path = folder / "old.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"boot": "another"}))

    assert registry.entries() == []
