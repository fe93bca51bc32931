"""The file that closes the gate."""

from __future__ import annotations

from pathlib import Path

from sluice.relay.closed_file import STALE_SECONDS, Switch


def test_closed_when_the_file_exists_or_nobody_can_tell(tmp_path: Path) -> None:
    switch = Switch(str(tmp_path / "closed"))
    assert not switch.closed(0.0)
    (tmp_path / "closed").touch()
    assert switch.closed(STALE_SECONDS)
    assert Switch(str(tmp_path / "closed" / "below-a-file")).closed(0.0)
    (tmp_path / "closed").unlink()
    assert not switch.closed(2 * STALE_SECONDS)
