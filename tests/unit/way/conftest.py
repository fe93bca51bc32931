"""What the tests of a request's whole way share."""

from __future__ import annotations

import pytest

from sluice.proxy.requests import forwarding


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try what broke again sooner."""
    monkeypatch.setattr(forwarding, "BREAK_PAUSE", 0.05)
