"""The profiles of one test: opened empty, looked at when it ends, kept as traces if it failed."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, StorageState

from tests.browser.chromium import Target
from tests.browser.tab import DESKTOP, Profile, Tab


class Profiles:
    """Opens profiles: `new_profile()` gives a tab on no page, `new_profile("alice")` one on the chat page.

    Who has signed in once stays signed in: later profiles of the same person begin with those cookies, and
    with nothing else. Where a test has signed them out, they sign in anew. `kept` is the folder for what a
    failed test showed; without one nothing is recorded.
    """

    def __init__(
        self, browser: Browser, target: Target, kept: Path | None, signed_in: dict[str, StorageState]
    ) -> None:
        self._browser = browser
        self._target = target
        self._kept = kept
        self._signed_in = signed_in
        self._opened: list[Profile] = []

    def __call__(self, login: str | None = None, **options: Any) -> Tab:
        """Open a profile with one tab; `options` are those of Playwright's `new_context`."""
        given = {"locale": "en-GB", "viewport": DESKTOP, **options}
        if login is not None:
            given["storage_state"] = self._signed_in.get(login)
        profile = Profile(self._browser.new_context(**given), self._target)
        self._opened.append(profile)
        if self._kept is not None:
            # Without snapshots: each is work of the page, which tests of its tasks would find in them.
            profile.context.tracing.start()
        tab = profile.open_tab()
        if login is not None:
            self._enter(tab, login)
        return tab

    def end(self, *, failed: bool) -> None:
        """Close all; keep what they showed if the test failed. Raises AssertionError for strangers asked."""
        strangers = [url for profile in self._opened for url in profile.strangers()]
        if self._kept is not None:
            shutil.rmtree(self._kept, ignore_errors=True)
        for number, profile in enumerate(self._opened):
            if self._kept is not None and (failed or strangers):
                self._keep(profile, self._kept, number)
            profile.context.close()
        self._opened.clear()
        assert strangers == [], "other hosts were asked"

    def _enter(self, tab: Tab, login: str) -> None:
        tab.open()
        # On a phone the way out is in a list that is closed.
        tab.page.locator("#sign-in, #sign-out").first.wait_for(state="attached")
        if tab.sees("#sign-in"):
            tab.find("#sign-in").click()
            # Who was blocked here, or whose session ended here, is still known to the provider.
            tab.page.locator("#login, #sign-out").first.wait_for(state="attached")
            if tab.sees("#login"):
                tab.fill_in(login)
            cookies = tab.profile.context.storage_state()["cookies"]
            self._signed_in[login] = {"cookies": cookies, "origins": []}

    @staticmethod
    def _keep(profile: Profile, folder: Path, number: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for at, page in enumerate(profile.context.pages):
            page.screenshot(path=folder / f"profile-{number}-tab-{at}.png")
        profile.context.tracing.stop(path=folder / f"trace-{number}.zip")
