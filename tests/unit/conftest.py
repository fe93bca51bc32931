"""What the tests of several parts share."""

from __future__ import annotations

import pytest

from sluice.front.identity import Identity, make


@pytest.fixture(scope="session")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    """Return one job's certificate and key."""
    return make(tmp_path_factory.mktemp("identity") / "private")


@pytest.fixture(scope="session")
def other_identity(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    """Return another job's certificate and key: an impostor's."""
    return make(tmp_path_factory.mktemp("identity") / "private")
