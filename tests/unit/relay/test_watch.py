"""A relay notices that its program was replaced, and ends within a few seconds."""

from __future__ import annotations

from pathlib import Path

import pytest

from sluice.relay.watch import SPREAD, WatchedFile


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "sluice.pyz"
    path.write_bytes(b"one")
    return path


def replace(path: Path, content: bytes) -> None:
    """Replace the file by a new one, as an installation does."""
    fresh = path.with_suffix(".new")
    fresh.write_bytes(content)
    fresh.rename(path)


def test_a_program_that_is_the_same_is_not_outdated(path: Path) -> None:
    watched = WatchedFile(str(path))
    assert not watched.outdated(0.0)
    assert not watched.outdated(1e6)


def test_a_replaced_program_is_outdated_within_the_spread(path: Path) -> None:
    watched = WatchedFile(str(path))
    replace(path, b"two")
    watched.outdated(100.0)
    assert watched.outdated(100.0 + SPREAD)


def test_sessions_do_not_leave_together(path: Path) -> None:
    several = [WatchedFile(str(path)) for _ in range(50)]
    replace(path, b"two")
    for watched in several:
        watched.outdated(0.0)
    early = sum(watched.outdated(SPREAD / 2) for watched in several)
    assert 5 < early < 45


def test_a_program_that_is_gone_is_not_outdated_until_another_is_there(path: Path) -> None:
    watched = WatchedFile(str(path))
    path.unlink()
    assert not watched.outdated(0.0)
    assert not watched.outdated(1e6)
    replace(path, b"two")
    watched.outdated(2e6)
    assert watched.outdated(2e6 + SPREAD)


def test_what_cannot_be_used_moves_nobody_until_it_is_mended(path: Path) -> None:
    good = [False]
    watched = WatchedFile(str(path), lambda: good[0])
    replace(path, b"broken")
    assert not watched.outdated(0.0)
    assert not watched.outdated(1e6)
    good[0] = True
    assert not watched.outdated(1e6)
    replace(path, b"corrected")
    watched.outdated(2e6)
    assert watched.outdated(2e6 + SPREAD)
