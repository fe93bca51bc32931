"""The first visit to a site below a path of its host."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser

from tests.browser.chromium import Target, started
from tests.browser.loopback import running_site
from tests.browser.marks import ON_STUB
from tests.browser.profiles import Profiles
from tests.browser.tab import Tab

pytestmark = ON_STUB

PREFIX = "/ai.x/chat"
DATABASES = "async () => (await indexedDB.databases()).map((one) => one.name)"
COOKIES = {"__Secure-sluice", "__Secure-sluice-language"}


@pytest.fixture(scope="module")
def alice(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    """A tab in which alice has signed in below the path."""
    with running_site(tmp_path_factory.mktemp("below"), PREFIX) as site:
        target = Target(site.url, site.issuer, site.ca_file, site.accounts)
        # Another one than the other tests': it trusts this site's certificates.
        with closing(started(chromium.browser_type, target.pins())) as browser:
            profiles = Profiles(browser, target, None, {})
            tab = profiles()
            tab.open()
            tab.find('[name=language][value="en"]').click()
            tab.sign_in("alice")
            yield tab
            profiles.end(failed=False)


def test_the_first_visit_stays_below_the_path(alice: Tab) -> None:
    alice.ask("What is the capital of France?")
    assert "Paris" in alice.finished_answer()
    address = alice.path
    assert address.startswith(f"{PREFIX}/c/")
    alice.reload()
    alice.wait(lambda: "Paris" in alice.answer())
    assert alice.path == address
    assert alice.make_key("below").startswith("sk-sluice-")
    assert f"{alice.target.url}/v1" in alice.find("main").inner_text()
    alice.open("/usage")
    assert alice.find("#days")
    asked = [url for url in alice.profile.asked() if url.startswith(alice.target.url.removesuffix(PREFIX))]
    assert len(asked) > 10
    assert [url for url in asked if not urlsplit(url).path.startswith(f"{PREFIX}/")] == []
    assert alice.complaints() == []


def test_what_the_browser_keeps_is_named_after_the_path(alice: Tab) -> None:
    alice.open()
    alice.find("#input")
    names = alice.page.evaluate(DATABASES)
    assert names
    assert [name for name in names if not name.endswith(f"@{PREFIX}")] == []
    kept = alice.profile.context.cookies(alice.target.url + "/")
    ours = {cookie["name"]: cookie["path"] for cookie in kept if "sluice" in cookie["name"]}
    assert ours == dict.fromkeys(COOKIES, PREFIX)


def test_a_session_that_is_over_leads_to_sign_in_below_the_path(alice: Tab) -> None:
    alice.open()
    alice.find("#model:enabled")
    alice.profile.context.clear_cookies(name="__Secure-sluice")
    # A bearer that the page still has would be asked no more.
    alice.reload()
    assert alice.find("#sign-in").get_attribute("href") == f"{PREFIX}/auth/login?next={PREFIX}/"
    # The provider still knows her, and asks for no password.
    alice.find("#sign-in").click()
    alice.find("#sign-out")
    assert alice.path == f"{PREFIX}/"


def test_signing_out_ends_below_the_path(alice: Tab) -> None:
    alice.sign_out()
    assert alice.path == f"{PREFIX}/auth/signed-out"
