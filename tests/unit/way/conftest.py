"""What the tests of a request's whole way share."""

from __future__ import annotations

import pytest

from sluice.front.identity import Identity, make


@pytest.fixture(scope="session")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    """Return one job's certificate and key."""
    return make(tmp_path_factory.mktemp("identity") / "private")
