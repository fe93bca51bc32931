"""The file that closes the gate."""

from __future__ import annotations

from pathlib import Path

from sluice.relay.closed_file import STALE_SECONDS, ClosedFile


def test_closed_when_the_file_exists_or_nobody_can_tell(tmp_path: Path) -> None:
    file = ClosedFile(str(tmp_path / "closed"))
    assert not file.closed(0.0)
    (tmp_path / "closed").touch()
    assert file.closed(STALE_SECONDS)
    assert ClosedFile(str(tmp_path / "closed" / "below-a-file")).closed(0.0)
    (tmp_path / "closed").unlink()
    assert not file.closed(2 * STALE_SECONDS)
