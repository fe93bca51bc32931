"""What the tests of a request's whole way share."""

from __future__ import annotations

import pytest

from sluice.front.identity import Identity, make
from sluice.proxy.requests import forwarding


@pytest.fixture(scope="session")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    """Return one job's certificate and key."""
    return make(tmp_path_factory.mktemp("identity") / "private")


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try what broke again sooner."""
    monkeypatch.setattr(forwarding, "BREAK_PAUSE", 0.05)
