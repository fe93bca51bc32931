"""The pages of usage and administration, by keyboard, on the site on this machine."""

from __future__ import annotations

import secrets

from playwright.sync_api import expect

from tests.browser.marks import ON_STUB
from tests.browser.profiles import Profiles
from tests.browser.tab import Tab

pytestmark = ON_STUB


def _has_used(tab: Tab) -> bool:
    """Open the page of usage, and tell whether something is there: it is written after the answer."""
    tab.open("/usage")
    return tab.count("#by-key") > 0


def test_the_page_of_usage_is_read_by_keyboard(alice: Tab) -> None:
    alice.ask("What is the capital of France?")
    alice.finished_answer()
    alice.wait(lambda: _has_used(alice))
    alice.press("Tab")
    expect(alice.focused).to_have_text("Skip to the content")
    alice.press("Enter")
    alice.tab_to("#limits, [role=region]:has(#limits)")
    assert "left of 50,000,000" in alice.find("#limits").inner_text()
    alice.tab_to("summary")
    assert not alice.sees("details[open]")
    alice.press("Enter")
    days = alice.page.locator("#by-day tbody tr")
    expect(days).to_have_count(30)
    # Other tests of this browser's site chat as alice too.
    assert int(days.first.locator("td").nth(1).inner_text().replace(",", "")) >= 1_200
    assert alice.find("svg[role=img]").get_attribute("aria-label")
    assert alice.count("svg g.column") == 30
    expect(alice.find("#by-key th[scope=row]")).to_have_text("the chat page")
    assert alice.complaints() == []


def test_an_administrator_stops_a_model_blocks_a_user_and_finds_it_in_the_log(
    alice: Tab, new_profile: Profiles
) -> None:
    bob = new_profile("bob")
    bob.find('.bar a[href="/admin"]').click()
    expect(bob.find("h1")).to_have_text("Overview")
    _announce(bob, f"Maintenance {secrets.token_hex(4)}")
    _stop_and_resume(bob, f"model-{secrets.token_hex(4)}")
    _block_and_unblock(bob, "Alice")
    assert [line for line in bob.complaints() if "/v1/models" not in line] == []


def _announce(bob: Tab, text: str) -> None:
    bob.open("/admin/announcements")
    bob.find("#text").fill(text)
    bob.press("Enter")
    expect(bob.find(".announcements[role=status]")).to_contain_text(text)
    bob.open()
    expect(bob.find(".announcements")).to_contain_text(text)
    bob.open("/admin/announcements")
    bob.find("#announcements button").click()
    bob.gone(".announcement")


def _stop_and_resume(bob: Tab, model: str) -> None:
    bob.open("/admin/models")
    bob.find("#model").fill(model)
    bob.find("#new-model").check()
    bob.find("#message").fill("Back at noon.")
    bob.press("Enter")
    expect(bob.find(f'tr[data-model="{model}"]')).to_contain_text("Back at noon.")
    # The state of each model comes from /v1/models, asked by the page itself.
    bob.find(f'tr[data-model="{model}"] .live:not([hidden])')
    bob.find(f'tr[data-model="{model}"] button').click()
    bob.gone(f'tr[data-model="{model}"]')
    bob.find(".done")


def _block_and_unblock(bob: Tab, name: str) -> None:
    bob.open("/admin/users")
    bob.find("#search").fill(name)
    bob.press("Enter")
    # The list looks the same before and after the search.
    bob.page.wait_for_url("**?*")
    bob.find("#users tbody a").click()
    bob.wait(lambda: bob.sees(".confirm"))
    bob.run("document.getElementById('main').focus()")
    bob.tab_to('form[action$="/block"], details:has(form[action$="/block"]) summary')
    bob.press("Enter")
    bob.tab_to('form[action$="/block"] button')
    bob.press("Enter")
    expect(bob.find(".done")).to_contain_text(f"{name} is blocked.")
    bob.find("#unblock").click()
    expect(bob.find(".done")).to_contain_text("no longer blocked")
    bob.open("/admin/audit")
    entries = bob.texts("#audit tbody tr")[:6]
    assert "user.unblock" in entries[0]
    assert "Bob" in entries[0]
    assert "user.block" in entries[1]
    assert any("admission.stop" in entry and "Back at noon." in entry for entry in entries)


def test_open_pages_hear_of_an_announcement_and_keep_it_closed(
    new_profile: Profiles,
) -> None:
    """The page asks for nothing more than before: the bearer that it needs anyway brings the news."""
    reader = new_profile()
    reader.page.clock.install()
    reader.sign_in("alice")
    reader.find("#model:enabled")
    words = f"New models {secrets.token_hex(4)}"
    bob = new_profile("bob")
    bob.open("/admin/announcements")
    bob.find("#text").fill(f"[{words}](https://example.org/news), soon")
    bob.press("Enter")
    expect(bob.find(".announcement")).to_contain_text(words)
    assert not reader.sees(".announcement")
    reader.page.clock.fast_forward("10:00")
    shown = reader.page.locator(".announcement", has_text=words)
    expect(shown.locator("a")).to_have_attribute("href", "https://example.org/news")
    shown.locator("button").focus()
    reader.press("Enter")
    expect(shown).to_have_count(0)
    expect(reader.find("#input")).to_be_focused()
    reader.reload()
    reader.find("#model:enabled")
    # It is there for others, and this reader does not see it.
    expect(shown).to_be_hidden()
    bob.open("/admin/announcements")
    bob.find("#announcements button").click()
    expect(bob.page.locator(".announcement", has_text=words)).to_have_count(0)
