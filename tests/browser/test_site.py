"""What people do with the pages, on any site: signing in, chatting, stopping, keys, signing out."""

from __future__ import annotations

import secrets
import ssl
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from playwright.sync_api import Error, expect

from tests.browser import attaching
from tests.browser.chromium import Target
from tests.browser.profiles import Profiles
from tests.browser.tab import RAMBLING, Tab

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]


def status_with_key(target: Target, key: str) -> int:
    """Return how /v1/models answers to a key."""
    request = urllib.request.Request(f"{target.url}/v1/models", headers={"Authorization": f"Bearer {key}"})
    context = ssl.create_default_context(cafile=str(target.ca_file))
    try:
        with urllib.request.urlopen(request, timeout=60, context=context) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refusal:
        return refusal.code


def test_the_first_visit_from_sign_in_to_sign_out(tab: Tab, new_profile: Profiles) -> None:
    tab.sign_in("alice")
    tab.ask("What is the capital of France?")
    # A small model is not always right the first time; the page offers to ask again.
    for _ in range(4):
        if "Paris" in tab.finished_answer():
            break
        tab.ask_again()
    answer = tab.finished_answer()
    assert "Paris" in answer
    tab.ask("And of Spain?")
    tab.finished_answer()
    assert tab.turns("user") == ["What is the capital of France?", "And of Spain?"]
    tab.press_last("Edit and send again")
    expect(tab.find("#input")).to_have_value("And of Spain?")
    tab.type("And of Italy?")
    tab.press("Enter")
    tab.wait(lambda: tab.turns("user")[-1] == "And of Italy?" and len(tab.turns("assistant")) == 2)
    tab.wait(lambda: not tab.is_writing(), RAMBLING)
    expect(tab.find(".message.user .branches")).to_have_text("2/2")
    tab.press_last("Delete this message and what follows it")
    tab.find("#undo .button").click()
    # What is shown as put back is stored: the other tab reads it.
    tab.wait(lambda: len(tab.turns("assistant")) == 2)
    second = tab.another_tab()
    second.open(tab.path)
    second.wait(lambda: len(second.turns("assistant")) == 2)
    assert second.turns("assistant")[0] == answer
    attaching.choose(tab, {"notes.txt": b"The capital of Norway is Oslo."})
    attaching.ready(tab, 1)
    tab.ask("And what do my notes say?")
    tab.finished_answer()
    tab.find("#data-open").click()
    with tab.page.expect_download() as saved:
        tab.find("#export-all").click()
    tab.find("#data-close").click()
    tab.sign_out()
    tab.open("/keys")
    assert tab.find("#login"), "the provider asks for the password again"
    _comes_back(new_profile(), Path(saved.value.path()), answer)


def _comes_back(tab: Tab, exported: Path, answer: str) -> None:
    """See that what was exported is whole in an empty browser."""
    tab.sign_in("alice")
    tab.find("#data-open").click()
    tab.find("#import").set_input_files(exported)
    expect(tab.page.locator("#import-report li").first).to_be_visible()
    tab.find("#data-close").click()
    tab.find(".conversation").click()
    tab.wait(lambda: len(tab.turns("assistant")) == 3)
    assert tab.turns("assistant")[0] == answer
    tab.sign_out()


def test_a_wrong_password_is_refused_by_the_provider(tab: Tab) -> None:
    tab.open()
    tab.find("#sign-in").click()
    tab.find("#login").fill("alice")
    tab.find("#password").fill("wrong")
    tab.find("#submit").click()
    assert "wrong" in tab.find(".problem").inner_text()


def test_a_key_is_shown_once_works_and_is_revoked(alice: Tab, target: Target) -> None:
    name = f"browser test {secrets.token_hex(4)}"
    key = alice.make_key(name)
    assert status_with_key(target, key) == 200
    alice.open("/keys")
    assert name in alice.key_names()
    assert key not in alice.page.content()
    alice.revoke_key(name)
    # The proxy may believe what it knows of a key for a few seconds.
    alice.wait(lambda: status_with_key(target, key) == 401)


def test_the_conversation_stays_in_the_browser_and_goes_when_deleted(alice: Tab) -> None:
    alice.ask("What is the capital of France?")
    answer = alice.finished_answer()
    alice.open()
    alice.find(".conversation").click()
    assert alice.wait(alice.answer) == answer
    alice.find('#conversations button[aria-label^="Delete"]').click()
    alice.wait(lambda: not alice.sees(".conversation"))
    alice.open()
    alice.wait_for_models()
    assert not alice.sees(".conversation")


def test_the_page_breaks_none_of_its_own_rules(alice: Tab) -> None:
    alice.ask("What is the capital of France?")
    alice.finished_answer()
    alice.open("/keys")
    alice.find("#key-name")
    assert [line for line in alice.complaints() if "Content Security Policy" in line] == []
    with pytest.raises(Error, match="TrustedHTML"):
        alice.run("document.body.innerHTML = '<b>x</b>';")


def test_what_a_person_needs_has_a_name_for_screen_readers(alice: Tab) -> None:
    alice.wait_for_models()
    unnamed = alice.run(
        """
        const named = (one) => one.ariaLabel || one.textContent.trim() || one.labels?.length || one.title;
        return [...document.querySelectorAll("button, a, input, select, textarea")]
          .filter((one) => one.type !== "hidden" && !named(one)).map((one) => one.outerHTML);
        """
    )
    assert unnamed == []
    announcer = alice.page.locator("#announcer")
    assert announcer.get_attribute("aria-live") == "polite"
    alice.ask("What is the capital of France?")
    answer = alice.finished_answer()
    alice.wait(lambda: answer.split()[0] in (announcer.text_content() or ""))
