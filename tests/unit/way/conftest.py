"""What the tests of a request's whole path share."""

from __future__ import annotations

import pytest

from sluice.proxy.requests import forwarding


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the pause after a broken attempt."""
    monkeypatch.setattr(forwarding, "BREAK_PAUSE", 0.05)
