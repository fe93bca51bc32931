"""What the scheduler's unit tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.scheduler.site import Site


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """Give a site with one model that is always up; entries count as settled at once."""
    monkeypatch.setattr("sluice.scheduler.models.catalogue.STILL_CHANGING", 0.0)
    made = Site(tmp_path)
    made.apply(min=1, max=1)
    yield made
