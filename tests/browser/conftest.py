"""A site to visit, and browsers to visit it with: tests/browser/tab.py says how to use them.

The site is the one that the environment names, else one on this machine. SLUICE_URL, SLUICE_ISSUER, SLUICE_CA
and SLUICE_ACCOUNTS (`login:password …`) name one, as a bed's env file has them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, StorageState

from tests.browser.chromium import Target, launched
from tests.browser.loopback import Site, running_site
from tests.browser.profiles import Profiles
from tests.browser.tab import Tab

KEPT = Path(__file__).parents[2] / "build" / "browser"
FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note whether a test failed, for the fixture that keeps what was to be seen."""
    report = yield
    if report.failed:
        item.stash[FAILED] = True
    return report


@pytest.fixture(scope="session")
def stub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The site on this machine, with the stub behind its /v1."""
    assert "SLUICE_URL" not in os.environ, "these tests need the stub: run them without SLUICE_URL"
    with running_site(tmp_path_factory.mktemp("site")) as site:
        yield site


@pytest.fixture(scope="session")
def target(request: pytest.FixtureRequest) -> Target:
    """The site that tests visit."""
    if "SLUICE_URL" not in os.environ:
        site: Site = request.getfixturevalue("stub")
        return Target(site.url, site.issuer, site.ca_file, site.accounts)
    return Target.named(os.environ)


@pytest.fixture(scope="session")
def chromium(target: Target) -> Iterator[Browser]:
    """One Chromium for all tests: starting and ending it takes longer than most of them."""
    with launched(target.pins()) as browser:
        yield browser


@pytest.fixture(scope="session")
def signed_in() -> dict[str, StorageState]:
    """The cookies of those who have signed in, by login."""
    return {}


@pytest.fixture
def new_profile(
    chromium: Browser, target: Target, signed_in: dict[str, StorageState], request: pytest.FixtureRequest
) -> Iterator[Profiles]:
    """What opens profiles: `new_profile("alice", locale="ja-JP")`."""
    kept = KEPT / re.sub(r"[^\w.-]+", "-", request.node.name)
    profiles = Profiles(chromium, target, kept, signed_in)
    yield profiles
    profiles.end(failed=request.node.stash.get(FAILED, False))


@pytest.fixture
def tab(new_profile: Profiles) -> Tab:
    """A tab of a browser that nobody has used."""
    return new_profile()


@pytest.fixture
def alice(new_profile: Profiles) -> Tab:
    """A tab in which alice has signed in."""
    return new_profile("alice")
