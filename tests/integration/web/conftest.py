"""One site for the module: the real provider, the real apps under gunicorn."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.browser.loopback import Site, running_site


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A running site on this machine."""
    with running_site(tmp_path_factory.mktemp("site")) as site:
        yield site
