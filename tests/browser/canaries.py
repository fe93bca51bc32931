"""Leaves a word that occurs nowhere else wherever the page takes words, for a search of what hosts keep."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import expect

from tests.browser import attaching, samples
from tests.browser.tab import Tab


def leave(tab: Tab, new: Callable[[], str]) -> None:
    """Use the page as people do, each time with a new word. The tab is alice's, on the chat page."""
    tab.find("#model:enabled")
    _settings(tab, new())
    _attachments(tab, new)
    tab.ask(f"Repeat this word: {new()}")
    tab.finished_answer()
    tab.press_last("Edit and send again")
    tab.type(f"Repeat that word: {new()}")
    tab.press("Enter")
    expect(tab.find(".message.user .branches")).to_have_text("2/2")
    tab.finished_answer()
    _title(tab, new())
    tab.find("#search").fill(new())
    expect(tab.page.locator("#search-status")).to_have_text("Conversations found: 0.")
    tab.find("#search").fill("")
    tab.type(f"a draft with {new()}")
    attaching.choose(tab, {f"{new()}.txt": new().encode()})
    attaching.ready(tab, 1)
    tab.reload()
    attaching.ready(tab, 1)


def _settings(tab: Tab, word: str) -> None:
    tab.find("#settings-open").click()
    tab.find("#set-system").fill(f"Your name is {word}.")
    tab.press("Tab", "Escape")
    tab.gone("#panel")


def _attachments(tab: Tab, new: Callable[[], str]) -> None:
    files = {
        f"{new()}.txt": f"The word is {new()}.".encode(),
        "paper.pdf": samples.pdf(f"The other word is {new()}."),
        "letter.docx": samples.word(f"The third word is {new()}."),
    }
    attaching.choose(tab, files)
    attaching.ready(tab, len(files))


def _title(tab: Tab, word: str) -> None:
    tab.page.get_by_role("button", name="Actions for").first.click()
    tab.page.get_by_role("menuitem", name="Rename the conversation").click()
    tab.find("#asking input").fill(word)
    tab.press("Enter")
    expect(tab.find(".conversation")).to_have_text(word)
