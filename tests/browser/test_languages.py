"""The pages in the languages that they have: the browser's, and the one that the reader chooses."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser.accessible import faults
from tests.browser.marks import ON_STUB
from tests.browser.profiles import Profiles

pytestmark = ON_STUB

SIGN_IN = {"en-GB": "Sign in", "de-AT": "Anmelden", "ja-JP": "サインイン", "fr-FR": "Sign in"}


@pytest.mark.parametrize("locale", SIGN_IN)
def test_the_browser_chooses_first(new_profile: Profiles, locale: str) -> None:
    tab = new_profile(locale=locale)
    tab.open()
    expect(tab.find("#sign-in")).to_have_text(SIGN_IN[locale])
    language = locale[:2] if locale != "fr-FR" else "en"
    assert tab.page.evaluate("document.documentElement.lang") == language
    assert faults(tab) == []


def test_a_choice_holds_before_and_after_sign_in_by_keyboard(new_profile: Profiles) -> None:
    tab = new_profile(locale="ja-JP")
    tab.open()
    tab.tab_to('[name=language][value="de"]')
    tab.press("Enter")
    expect(tab.find("#sign-in")).to_have_text("Anmelden")
    expect(tab.find("[name=language][aria-current]")).to_have_text("Deutsch")
    tab.sign_in("alice")
    expect(tab.find("#input")).to_have_attribute("placeholder", "Fragen Sie etwas …")
    tab.ask("What is the capital of France?")
    assert "Paris" in tab.finished_answer()
    assert faults(tab) == []
    tab.open("/auth/account")
    tab.find('[name=language][value="ja"]').click()
    expect(tab.find("h1")).to_have_text("アカウント")
    assert faults(tab) == []
    tab.sign_out()
    expect(tab.find("h1")).to_have_text("サインアウトしました")
    assert tab.complaints() == []
