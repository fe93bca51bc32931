"""The late file system must be late: otherwise the tests that use it prove nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sluice.contracts.files import write_json
from tests.fakes.late_fs import LateFileSystem

DELAY = 0.3


@pytest.fixture
def late(tmp_path: Path) -> Iterator[LateFileSystem]:
    """Return a running late file system over `source` and `view`."""
    (tmp_path / "source").mkdir()
    with LateFileSystem(tmp_path / "source", tmp_path / "view", DELAY) as running:
        yield running


def appears(path: Path, seconds: float = 60.0) -> float:
    """Wait until the path exists; return the seconds it took."""
    began = time.monotonic()
    while not path.exists():
        assert time.monotonic() - began < seconds
        time.sleep(0.005)
    return time.monotonic() - began


def test_a_file_appears_late(tmp_path: Path, late: LateFileSystem) -> None:
    (tmp_path / "source" / "job").mkdir()
    write_json(tmp_path / "source" / "job" / "record.json", {"a": 1})
    assert appears(tmp_path / "view" / "job" / "record.json") >= DELAY * 0.9
    assert json.loads((tmp_path / "view" / "job" / "record.json").read_text()) == {"a": 1}
    assert (tmp_path / "view" / "job" / "record.json").stat().st_mode & 0o777 == 0o600


def test_until_then_the_old_content_is_seen_whole(tmp_path: Path, late: LateFileSystem) -> None:
    path = tmp_path / "source" / "record.json"
    write_json(path, {"generation": 0})
    late.settle()
    seen = set()
    for generation in range(1, 20):
        write_json(path, {"generation": generation})
        seen.add(json.loads((tmp_path / "view" / "record.json").read_text())["generation"])
        time.sleep(0.02)
    assert 0 in seen
    assert 19 not in seen
    late.settle()
    assert json.loads((tmp_path / "view" / "record.json").read_text()) == {"generation": 19}


def test_a_removed_file_stays_visible_for_the_delay(tmp_path: Path, late: LateFileSystem) -> None:
    path = tmp_path / "source" / "record.json"
    write_json(path, {})
    late.settle()
    path.unlink()
    time.sleep(DELAY / 3)
    assert (tmp_path / "view" / "record.json").exists()
    late.settle()
    assert not (tmp_path / "view" / "record.json").exists()


def test_a_directory_goes_with_what_is_in_it(tmp_path: Path, late: LateFileSystem) -> None:
    (tmp_path / "source" / "job").mkdir()
    (tmp_path / "source" / "job" / "record.json").write_text("{}")
    late.settle()
    (tmp_path / "source" / "job" / "record.json").unlink()
    (tmp_path / "source" / "job").rmdir()
    late.settle()
    assert not any((tmp_path / "view").iterdir())


def test_no_name_is_seen_that_the_source_never_had(tmp_path: Path, late: LateFileSystem) -> None:
    seen = set()
    for number in range(10):
        (tmp_path / "source" / "one").write_text(str(number))
        seen |= {path.name for path in (tmp_path / "view").iterdir()}
        time.sleep(0.05)
    late.settle()
    assert seen | {path.name for path in (tmp_path / "view").iterdir()} == {"one"}
