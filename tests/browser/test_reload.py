"""What the page shows as done is still done when somebody reloads it at that very moment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.browser import stored
from tests.browser.marks import ON_STUB
from tests.browser.tab import Tab
from tests.browser.test_list import choose

pytestmark = ON_STUB

Act = Callable[[Tab], object]

_CONVERSATION = "5d5c1a52-7a4e-4d6e-9f0e-0b6d3c6a1f11"
# The button of a conversation's row, and what is there as long as the row is.
_TRASH = f'li:has([data-id="{_CONVERSATION}"]) [aria-label^="Delete"]'
_ROW = f"""document.querySelector('[data-id="{_CONVERSATION}"]')"""
_TURNS = "document.querySelectorAll('.message').length"
_FOLDER = "document.querySelector('#conversations summary')"
_PINNED = "document.querySelector('#conversations section')"


def _message(at: int, role: str, content: str) -> dict[str, Any]:
    parent = str(at - 1) if at else ""
    row = {"id": str(at), "parent": parent, "role": role, "content": content, "created": at}
    return {**row, "conversation": _CONVERSATION, "state": "done", "model": ""}


def _begin(tab: Tab) -> None:
    """Store one of each thing, and open the conversation."""
    conversation = {"id": _CONVERSATION, "title": "Talk", "created": 1, "updated": 1, "leaf": "2"}
    turns = [_message(0, "user", "first"), _message(1, "assistant", "one"), _message(2, "user", "second")]
    folder = {"id": "folder", "name": "Work", "created": 1}
    persona = {"id": "persona", "name": "Tutor", "description": "", "settings": {"seed": 1}, "created": 1}
    prompt = {"id": "prompt", "name": "Summary", "text": "Summarise:", "created": 1}
    tables = {"conversations": [conversation], "messages": turns, "folders": [folder]}
    stored.put_rows(tab, {**tables, "personas": [persona], "prompts": [prompt]})
    tab.open(f"/c/{_CONVERSATION}")
    tab.wait(lambda: tab.turns("user") == ["first", "second"])


def _reload_when(tab: Tab, shown: str, act: Act) -> None:
    """Act on a slow disk, and reload as soon as the page shows what the script `shown` looks for."""
    stored.slow(tab)
    tab.run(
        f"""
        const watching = new MutationObserver(() => {{
          if (!({shown})) return;
          watching.disconnect();
          location.reload();
        }});
        const everything = {{ subtree: true, childList: true, attributes: true, characterData: true }};
        watching.observe(document.body, everything);
        """
    )
    with tab.page.expect_event("domcontentloaded"):
        act(tab)


def _things(tab: Tab) -> set[str]:
    """Return the names of what is stored: titles, turns, folders, personas, prompts."""
    tables = ("conversations", "messages", "folders", "personas", "prompts")
    rows = stored.rows(tab, *tables)
    return {row.get("title") or row.get("name") or row["content"] for row in rows}


_ALL = {"Talk", "first", "one", "second", "Work", "Tutor", "Summary"}


def _open_shelf(tab: Tab, name: str) -> None:
    tab.find("#settings-open").click()
    tab.page.locator("summary", has_text=name).click()


def _remove_persona(tab: Tab) -> None:
    _open_shelf(tab, "Your personas")
    tab.find('.shelf [aria-label="Delete “Tutor”"]').click()


def _remove_prompt(tab: Tab) -> None:
    _open_shelf(tab, "Saved prompts")
    tab.find('.shelf [aria-label="Delete “Summary”"]').click()


def _remove_from(tab: Tab) -> None:
    tab.press_last("Delete this message and what follows it")


def _remove_only(tab: Tab) -> None:
    tab.page.get_by_role("button", name="More actions").nth(1).click()
    tab.page.get_by_role("menuitem", name="Delete only this message").click()


def _remove_all(tab: Tab) -> None:
    tab.find("#data-open").click()
    tab.find("#delete-all").click()


def _erase(tab: Tab) -> None:
    tab.find("#data-open").click()
    tab.find("#erase").click()
    tab.page.locator("#asking").get_by_role("button", name="Delete everything").click()


def _remove_conversation(tab: Tab) -> None:
    tab.find(_TRASH).click()


def _remove_folder(tab: Tab) -> None:
    choose(tab, "Work", "Delete the folder")


# What is deleted: how, what the page shows then, and what goes.
DELETIONS: dict[str, tuple[Act, str, set[str]]] = {
    "a conversation": (_remove_conversation, f"!{_ROW}", {"Talk", "first", "one", "second"}),
    "all conversations": (_remove_all, f"!{_ROW}", {"Talk", "first", "one", "second"}),
    "a message and what follows": (_remove_from, f"{_TURNS} === 2", {"second"}),
    "one message": (_remove_only, f"{_TURNS} === 2", {"one"}),
    "a folder": (_remove_folder, f"!{_FOLDER}", {"Work"}),
    "a persona": (_remove_persona, "!document.querySelector('[aria-label*=Tutor]')", {"Tutor"}),
    "a prompt": (_remove_prompt, "!document.querySelector('[aria-label*=Summary]')", {"Summary"}),
    "everything": (_erase, f"!{_ROW}", _ALL),
}


@pytest.mark.parametrize("kind", DELETIONS)
def test_what_is_shown_as_deleted_does_not_come_back_with_a_reload_at_once(alice: Tab, kind: str) -> None:
    act, shown, gone = DELETIONS[kind]
    _begin(alice)
    _reload_when(alice, shown, act)
    assert _things(alice) == _ALL - gone


UNDONE = {
    "a conversation": (_remove_conversation, _ROW),
    "a message and what follows": (_remove_from, f"{_TURNS} === 3"),
    "one message": (_remove_only, f"{_TURNS} === 3"),
    "a folder": (_remove_folder, _FOLDER),
}


@pytest.mark.parametrize("kind", UNDONE)
def test_what_is_shown_as_put_back_is_there_after_a_reload_at_once(alice: Tab, kind: str) -> None:
    act, shown = UNDONE[kind]
    _begin(alice)
    act(alice)
    alice.find("#undo")
    _reload_when(alice, shown, lambda tab: tab.find("#undo .button").click())
    assert _things(alice) == _ALL
    parents = {row["id"]: row["parent"] for row in stored.messages(alice)}
    assert parents == {"0": "", "1": "0", "2": "1"}


def _rename(tab: Tab) -> None:
    choose(tab, "Talk", "Rename the conversation")
    tab.find("#asking input").fill("Better")
    tab.press("Enter")


def _move(tab: Tab) -> None:
    choose(tab, "Talk", "Move to a folder")
    tab.find("#asking select").select_option(label="Work")
    tab.press("Tab", "Tab", "Enter")


# What is changed: how, what the page shows then, and the field that has it.
CHANGES: dict[str, tuple[Act, str, tuple[str, object]]] = {
    "its name": (_rename, f"{_ROW}.textContent === 'Better'", ("title", "Better")),
    "its place": (lambda tab: choose(tab, "Talk", "Pin to the top"), _PINNED, ("pinned", True)),
    "its folder": (_move, f"!{_ROW}", ("folder", "folder")),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_a_change_that_is_shown_is_there_after_a_reload_at_once(alice: Tab, kind: str) -> None:
    act, shown, (field, value) = CHANGES[kind]
    _begin(alice)
    _reload_when(alice, shown, act)
    (row,) = stored.rows(alice, "conversations")
    assert row[field] == value


# Two clicks and a question, before the disk has done anything.
_HASTE = """
  const [trash] = [...document.querySelectorAll('[aria-label^="Delete this message"]')].slice(-1);
  trash.click();
  trash.click();
  const field = document.querySelector("#input");
  field.value = "third";
  field.dispatchEvent(new InputEvent("input", { bubbles: true }));
  document.querySelector("#composer").requestSubmit();
"""


def test_who_is_faster_than_the_disk_deletes_once_and_asks_behind_what_is_left(alice: Tab) -> None:
    _begin(alice)
    alice.find("#model:enabled")
    stored.slow(alice)
    alice.run(_HASTE)
    alice.wait(lambda: "You said 'third' in message 3" in alice.answer())
    assert alice.turns("user") == ["first", "third"]
    assert alice.find("#undo span").inner_text() == "1 message is deleted."
    alice.find("#undo .button").click()
    alice.wait(lambda: alice.turns("user") == ["first", "second"])
    alice.reload()
    alice.wait(lambda: alice.turns("user") == ["first", "second"])
    alice.wait(lambda: len(stored.messages(alice)) == 5)
