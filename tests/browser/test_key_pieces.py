"""The pieces of a new key, copied from the page and run as they are."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from playwright.sync_api import expect

from tests.browser.chromium import Target
from tests.browser.marks import ON_STUB
from tests.browser.profiles import Profiles
from tests.browser.tab import Tab

pytestmark = ON_STUB

COPYING = ["clipboard-read", "clipboard-write"]


def run(target: Target, *command: str) -> str:
    """Run a program that trusts the site's certificate; return what it prints."""
    trusted = {"CURL_CA_BUNDLE": str(target.ca_file), "SSL_CERT_FILE": str(target.ca_file)}
    done = subprocess.run(
        command, env={**os.environ, **trusted}, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def maker(new_profile: Profiles) -> Tab:
    """A tab on the page of a key that was just created."""
    tab = new_profile("alice", permissions=COPYING)
    tab.make_key("pieces")
    expect(tab.page.locator(".of-model").first).to_have_text("smollm2-135m")
    return tab


def copied(tab: Tab, piece: str) -> str:
    """Open a piece, press its button and return what the clipboard has."""
    button = tab.page.locator(f'[data-copy="piece-{piece}"]')
    if not button.is_visible():
        tab.page.locator(f"details:has(#piece-{piece}) summary").click()
    button.click()
    expect(button).to_contain_text("Copied")
    found: str = tab.run("return navigator.clipboard.readText()")
    return found


def test_the_piece_for_curl_gets_an_answer(maker: Tab, target: Target) -> None:
    printed = run(target, "bash", "-c", copied(maker, "curl"))
    assert "You said 'Hello!'" in printed
    expect(maker.page.locator("#copied")).to_have_text("Copied: curl")


def test_the_piece_for_python_gets_an_answer(maker: Tab, target: Target) -> None:
    printed = run(target, sys.executable, "-c", copied(maker, "python"))
    assert printed.strip() == "You said 'Hello!' in message 1."


def test_the_model_is_chosen_once_for_all_pieces(maker: Tab) -> None:
    maker.find("#piece-model").select_option("smollm2-light")
    for piece in ("curl", "python", "javascript", "powershell", "open_webui"):
        assert '"smollm2-light"' in copied(maker, piece)


def test_a_reload_shows_no_key_and_asks_nothing(maker: Tab) -> None:
    key = maker.find("#new-key").inner_text()
    before = maker.key_names()
    maker.reload()
    maker.find("#live-keys")
    assert key not in maker.page.content()
    assert maker.key_names() == before
    maker.page.go_back()
    maker.page.go_forward()
    maker.find("#live-keys")
    assert key not in maker.page.content()
    assert maker.complaints() == []
