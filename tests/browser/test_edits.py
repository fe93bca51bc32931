"""An edit that was not sent comes back with its conversation, and the draft beneath it too."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser import attaching, stored
from tests.browser.marks import ON_STUB
from tests.browser.tab import Tab

pytestmark = ON_STUB


def _begin(tab: Tab) -> str:
    """Open a conversation with a draft and an edit of its first message; return its address."""
    address = stored.put(tab, "First?", "1", "Second?", "2", title="Talk")
    tab.open(address)
    tab.wait(lambda: tab.turns("user") == ["First?", "Second?"])
    tab.type("a draft")
    tab.page.get_by_role("button", name="Edit and send again", exact=True).first.click()
    expect(tab.find("#input")).to_have_value("First?")
    tab.type("First, anew?")
    return address


def _is_edited(tab: Tab) -> None:
    """See that the page says what is edited, and has it."""
    tab.find("#editing")
    expect(tab.find("#input")).to_have_value("First, anew?")


def _is_draft(tab: Tab, text: str) -> None:
    """See that nothing is edited, and what is typed."""
    expect(tab.find("#input")).to_have_value(text)
    tab.gone("#editing")


def _edits(tab: Tab) -> list[str]:
    return [row["edit"]["text"] for row in stored.rows(tab, "drafts") if "edit" in row]


def _draft(tab: Tab) -> str | None:
    """Return the text of the only draft that is stored, None where there is none."""
    found = [row["text"] for row in stored.rows(tab, "drafts")]
    return found[0] if len(found) == 1 else None


def _files(tab: Tab) -> list[str]:
    edits = [row.get("edit", {}) for row in stored.rows(tab, "drafts")]
    return sorted(one["name"] for edit in edits for one in edit.get("attachments", []))


def test_an_edit_survives_a_reload_at_once_and_its_end_gives_back_the_draft(alice: Tab) -> None:
    _begin(alice)
    alice.reload()
    _is_edited(alice)
    alice.reload()
    _is_edited(alice)
    alice.find("#editing button").click()
    _is_draft(alice, "a draft")
    expect(alice.page.locator("#input")).to_be_focused()
    alice.reload()
    alice.wait(lambda: len(alice.turns("user")) == 2)
    _is_draft(alice, "a draft")
    alice.wait(lambda: _edits(alice) == [] and _draft(alice) == "a draft")


def test_an_edit_waits_while_one_is_elsewhere_and_is_sent_in_its_place(alice: Tab) -> None:
    _begin(alice)
    alice.find("#new-chat").click()
    _is_draft(alice, "")
    alice.type("a new one")
    alice.find(".conversation").click()
    _is_edited(alice)
    alice.find("#new-chat").click()
    _is_draft(alice, "a new one")
    alice.page.go_back()
    _is_edited(alice)
    alice.find("#model:enabled")
    alice.find("#input").press("Enter")
    alice.wait(lambda: "You said 'First, anew?' in message 1" in alice.answer())
    assert alice.turns("user") == ["First, anew?"]
    expect(alice.find(".message.user .branches")).to_have_text("2/2")
    _is_draft(alice, "a draft")
    alice.wait(lambda: _edits(alice) == [])
    alice.reload()
    alice.wait(lambda: alice.turns("user") == ["First, anew?"])
    _is_draft(alice, "a draft")


def test_an_edit_is_there_after_the_sign_in_has_ended(alice: Tab) -> None:
    address = _begin(alice)
    alice.wait(lambda: _edits(alice) == ["First, anew?"])
    alice.page.close()
    alice.profile.context.clear_cookies()
    # What a tab alone would know has gone with it.
    later = alice.another_tab()
    later.sign_in("alice")
    later.open(address)
    _is_edited(later)
    later.find("#editing button").click()
    _is_draft(later, "a draft")


@pytest.mark.parametrize("seen", [True, False], ids=["on view", "elsewhere"])
def test_an_edit_whose_message_another_tab_deletes_is_a_draft(alice: Tab, seen: bool) -> None:
    address = _begin(alice)
    alice.wait(lambda: _edits(alice) == ["First, anew?"])
    alice.run("document.hasFocus = () => false;")
    if not seen:
        alice.find("#new-chat").click()
        _is_draft(alice, "")
    second = alice.another_tab()
    second.open(address)
    _is_edited(second)
    second.page.get_by_role("button", name="Delete this message and what follows it").first.click()
    second.find("#undo")
    _is_draft(second, "a draft\nFirst, anew?")
    if not seen:
        alice.find(".conversation").click()
    _is_draft(alice, "a draft\nFirst, anew?")
    alice.wait(lambda: _edits(alice) == [] and _draft(alice) == "a draft\nFirst, anew?")


def test_two_tabs_edit_two_messages_and_neither_loses_its_own(alice: Tab) -> None:
    address = _begin(alice)
    alice.wait(lambda: _edits(alice) == ["First, anew?"])
    # Whoever types in another window has the focus there.
    alice.run("document.hasFocus = () => false;")
    second = alice.another_tab()
    second.open(address)
    _is_edited(second)
    second.press_last("Edit and send again")
    second.type("Second, anew?")
    second.wait(lambda: _edits(second) == ["Second, anew?"])
    second.find("#editing button").click()
    second.wait(lambda: _edits(second) == [])
    second.type("another draft")
    second.wait(lambda: _draft(second) == "another draft")
    _is_edited(alice)
    alice.find("#editing button").click()
    _is_draft(alice, "another draft")


def test_an_edit_in_one_tab_is_followed_in_another_and_ends_there_too(alice: Tab) -> None:
    address = _begin(alice)
    alice.wait(lambda: _edits(alice) == ["First, anew?"])
    second = alice.another_tab()
    second.open(address)
    _is_edited(second)
    second.run("document.hasFocus = () => false;")
    alice.type("First, and more?")
    expect(second.find("#input")).to_have_value("First, and more?")
    alice.find("#editing button").click()
    _is_draft(second, "a draft")


def test_an_edit_goes_and_comes_back_with_its_conversation(alice: Tab) -> None:
    _begin(alice)
    alice.find('#conversations [aria-label^="Delete"]').click()
    alice.find("#undo")
    assert stored.everything(alice) == []
    _is_draft(alice, "")
    alice.find("#undo .button").click()
    _is_edited(alice)
    assert _edits(alice) == ["First, anew?"]
    alice.find("#data-open").click()
    alice.find("#erase").click()
    alice.page.locator("#asking").get_by_role("button", name="Delete everything").click()
    alice.gone("#data")
    _is_draft(alice, "")
    assert stored.everything(alice) == []


def test_an_edit_in_a_temporary_chat_is_stored_nowhere(alice: Tab) -> None:
    alice.page.get_by_role("button", name="New temporary chat").click()
    alice.ask("a secret question")
    alice.finished_answer()
    alice.press_last("Edit and send again")
    alice.type("a secret edit")
    # The page may be about to end.
    alice.run("window.dispatchEvent(new PageTransitionEvent('pagehide'));")
    assert stored.everything(alice) == []
    assert "secret" not in str(alice.run("return Object.values(sessionStorage);"))
    alice.find("#editing button").click()
    _is_draft(alice, "")


def test_an_edit_on_a_full_disk_is_kept_and_stored_when_there_is_room(alice: Tab) -> None:
    address = stored.put(alice, "First?", "1", title="Talk")
    alice.open(address)
    alice.wait(lambda: alice.turns("user") == ["First?"])
    alice.run(
        """
        window.put = IDBObjectStore.prototype.put;
        IDBObjectStore.prototype.put = () => { throw new DOMException("full", "QuotaExceededError"); };
        """
    )
    alice.press_last("Edit and send again")
    alice.type("First, anew?")
    assert "storage is full" in alice.find("#storage .problem").inner_text()
    alice.find("#new-chat").click()
    alice.find(".conversation").click()
    _is_edited(alice)
    alice.run("IDBObjectStore.prototype.put = window.put;")
    alice.find("#storage button").click()
    alice.gone("#storage .problem")
    alice.wait(lambda: _edits(alice) == ["First, anew?"])


def test_an_edit_where_nothing_is_stored_lasts_as_long_as_the_page(alice: Tab) -> None:
    alice.page.add_init_script(stored.FORBIDDEN)
    alice.open()
    alice.ask("First?")
    alice.finished_answer()
    alice.press_last("Edit and send again")
    alice.type("First, anew?")
    alice.find("#new-chat").click()
    _is_draft(alice, "")
    alice.find(".conversation").click()
    _is_edited(alice)


def test_the_files_of_an_edit_come_back_with_it(alice: Tab) -> None:
    attaching.choose(alice, {"one.txt": b"first file", "two.txt": b"second file"})
    attaching.ready(alice, 2)
    alice.ask("Compare.")
    alice.finished_answer()
    alice.press_last("Edit and send again")
    attaching.ready(alice, 2)
    alice.page.get_by_role("button", name="Remove one.txt").click()
    attaching.choose(alice, {"three.txt": b"third file"})
    attaching.ready(alice, 2)
    names = ["three.txt", "two.txt"]
    alice.wait(lambda: _files(alice) == names)
    alice.reload()
    attaching.ready(alice, 2)
    alice.find("#editing")
    alice.ask("Only these.")
    alice.wait(lambda: sorted(alice.texts(".message.user .chip")) == names)
    alice.gone("#tray")
