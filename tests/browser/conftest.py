"""A site to look at: the one that the environment names, else one on this machine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.browser.loopback import Site, running_site


@pytest.fixture(scope="session")
def loopback(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site on this machine."""
    with running_site(tmp_path_factory.mktemp("site")) as site:
        yield site
