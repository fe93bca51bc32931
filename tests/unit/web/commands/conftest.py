"""Who gives the commands: nothing here depends on who runs the tests."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def sudo_of_ada(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every command come from ada, by sudo."""
    monkeypatch.setenv("SUDO_USER", "ada")
