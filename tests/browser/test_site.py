"""What people do with the pages, on any site: signing in, chatting, stopping, keys, signing out."""

from __future__ import annotations

import secrets
import ssl
import urllib.error
import urllib.request

import pytest
from playwright.sync_api import Error

from tests.browser.chromium import Target
from tests.browser.tab import Tab

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


def test_a_person_signs_in_chats_and_signs_out(tab: Tab) -> None:
    tab.sign_in("alice")
    tab.ask("What is the capital of France?")
    # A small model is not always right the first time; the page offers to ask again.
    for _ in range(4):
        if "Paris" in tab.finished_answer():
            break
        tab.ask_again()
    assert "Paris" in tab.finished_answer()
    tab.sign_out()
    tab.open("/keys")
    assert tab.find("#login"), "the provider asks for the password again"


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
