"""The pages of usage and administration, by keyboard, on the site on this machine."""

from __future__ import annotations

import os
import secrets

import pytest
from selenium.webdriver import Keys
from selenium.webdriver.remote.webelement import WebElement

from tests.browser.accessible import faults
from tests.browser.browser import Browser

pytestmark = [
    pytest.mark.browser,
    pytest.mark.integration,
]

MOST_TABS = 60


@pytest.fixture(autouse=True)
def _on_this_machine() -> None:
    assert "SLUICE_URL" not in os.environ, "these tests need the stub: run them without SLUICE_URL"


def press(browser: Browser, *keys: str) -> None:
    """Press keys where the focus is."""
    focused(browser).send_keys(*keys)


def focused(browser: Browser) -> WebElement:
    """Return what has the focus."""
    return browser.driver.switch_to.active_element


def tab_to(browser: Browser, selector: str) -> None:
    """Press Tab until what `selector` names has the focus, and see that it shows where it is."""
    for _ in range(MOST_TABS):
        press(browser, Keys.TAB)
        if browser.run("return document.activeElement.matches(arguments_[0])", selector):
            outline = focused(browser).value_of_css_property("outline-style")
            assert outline != "none", f"nobody sees that {selector} has the focus"
            return
    raise AssertionError(f"{MOST_TABS} tabs did not lead to {selector}")


def test_the_page_of_usage_is_read_by_keyboard(alice: Browser) -> None:
    alice.ask("What is the capital of France?")
    alice.finished_answer()
    alice.open("/usage")
    press(alice, Keys.TAB)
    assert focused(alice).text == "Skip to the content"
    press(alice, Keys.ENTER)
    tab_to(alice, "#limits, [role=region]:has(#limits)")
    assert "left of 50,000,000" in alice.find("#limits").text
    tab_to(alice, "summary")
    assert not alice.find("details").get_attribute("open")
    press(alice, Keys.ENTER)
    days = alice.all("#by-day tbody tr")
    assert len(days) == 30
    # Other tests of this browser's site chat as alice too.
    assert alice.wait(
        lambda: int(days[0].find_elements("css selector", "td")[1].text.replace(",", "")) >= 1_200
    )
    assert alice.find("svg[role=img]").get_attribute("aria-label")
    assert len(alice.all("svg g.column")) == 30
    assert alice.find("#by-key th[scope=row]").text == "the chat page"
    assert faults(alice) == []
    assert alice.complaints() == []


def test_an_administrator_stops_a_model_blocks_a_user_and_finds_it_in_the_log(alice: Browser) -> None:
    browser = alice
    browser.forget_everything()
    browser.sign_in("bob")
    browser.find('.bar a[href="/admin"]').click()
    assert browser.find("h1").text == "Overview"
    assert faults(browser) == []
    _announce(browser, f"Maintenance {secrets.token_hex(4)}")
    _stop_and_resume(browser, f"model-{secrets.token_hex(4)}")
    _block_and_unblock(browser, "Alice")
    for path in ("/admin/limits", "/admin/projects/climate"):
        browser.open(path)
        assert faults(browser) == [], path
    assert [line for line in browser.complaints() if "/v1/models" not in line] == []


def _announce(browser: Browser, text: str) -> None:
    browser.open("/admin/announcements")
    browser.find("#text").send_keys(text, Keys.ENTER)
    assert text in browser.find(".announcements [role=status]").text
    assert faults(browser) == []
    browser.open()
    assert text in browser.find(".announcements").text
    browser.open("/admin/announcements")
    browser.find("#announcements button").click()
    browser.wait(lambda: not browser.all(".announcements"))


def _stop_and_resume(browser: Browser, model: str) -> None:
    browser.open("/admin/models")
    browser.find("#model").send_keys(model)
    browser.find("#message").send_keys("Back at noon.", Keys.ENTER)
    row = browser.find(f'tr[data-model="{model}"]')
    assert "Back at noon." in row.text
    # The state of each model comes from /v1/models, asked by the page itself.
    browser.wait(lambda: browser.all(f'tr[data-model="{model}"] .live:not([hidden])'))
    assert faults(browser) == []
    browser.find(f'tr[data-model="{model}"] button').click()
    browser.wait(lambda: browser.all(".done") and not browser.all(f'tr[data-model="{model}"]'))


def _block_and_unblock(browser: Browser, name: str) -> None:
    browser.open("/admin/users")
    browser.find("#search").send_keys(name, Keys.ENTER)
    # The list looks the same before and after the search.
    browser.wait(lambda: "?" in browser.driver.current_url)
    browser.find("#users tbody a").click()
    browser.wait(lambda: browser.all(".confirm"))
    browser.run("document.getElementById('main').focus()")
    tab_to(browser, 'form[action$="/block"], details:has(form[action$="/block"]) summary')
    press(browser, Keys.ENTER)
    tab_to(browser, 'form[action$="/block"] button')
    assert faults(browser) == []
    press(browser, Keys.ENTER)
    browser.wait(lambda: browser.all(".done") and f"{name} is blocked." in browser.find(".done").text)
    browser.find("#unblock").click()
    browser.wait(lambda: "no longer blocked" in browser.find(".done").text)
    browser.open("/admin/audit")
    entries = [row.text for row in browser.all("#audit tbody tr")][:6]
    assert "user.unblock" in entries[0]
    assert "Bob" in entries[0]
    assert "user.block" in entries[1]
    assert any("admission.stop" in entry and "Back at noon." in entry for entry in entries)
    assert faults(browser) == []
