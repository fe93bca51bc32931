"""A site to visit: the one that the environment names, else one on this machine.

SLUICE_URL, SLUICE_ISSUER, SLUICE_CA and SLUICE_ACCOUNTS (`login:password …`) name one, as a bed's env file
has them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser.browser import Browser, Target, opened
from tests.browser.loopback import running_site


@pytest.fixture(scope="session")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """The site."""
    if "SLUICE_URL" in os.environ:
        accounts = (pair.partition(":") for pair in os.environ["SLUICE_ACCOUNTS"].split())
        yield Target(
            url=os.environ["SLUICE_URL"],
            issuer=os.environ["SLUICE_ISSUER"],
            ca_file=Path(os.environ["SLUICE_CA"]),
            accounts={login: password for login, _, password in accounts},
        )
        return
    with running_site(tmp_path_factory.mktemp("site")) as site:
        yield Target(site.url, site.issuer, site.ca_file, site.accounts)


@pytest.fixture(scope="session")
def chromium(target: Target, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One Chromium for all tests: starting and ending it takes longer than most of them."""
    with opened(target, tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def browser(chromium: Browser, tmp_path: Path) -> Iterator[Browser]:
    """A browser that nobody has used; what was last to be seen is kept as `last.png`."""
    chromium.forget_everything()
    yield chromium
    chromium.screenshot(tmp_path / "last.png")


@pytest.fixture
def alice(browser: Browser) -> Browser:
    """A browser in which alice has signed in."""
    browser.sign_in("alice")
    return browser
