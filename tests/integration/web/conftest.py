"""One site for these modules: the real provider, the real apps under gunicorn."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.browser.loopback import Site, running_site
from tests.integration.web.visitor import Visitor


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A running site on this machine."""
    with running_site(tmp_path_factory.mktemp("site")) as site:
        yield site


@pytest.fixture
def visitor(site: Site) -> Visitor:
    """A visitor who is not signed in."""
    return Visitor(site)


@pytest.fixture
def alice(site: Site, visitor: Visitor) -> Visitor:
    """A visitor who is signed in as alice."""
    assert visitor.sign_in("alice", site.accounts["alice"]).status_code == 200
    return visitor
