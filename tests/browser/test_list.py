"""The list of conversations and what is done with one: names, folders, search, copies, temporary chats."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Dialog, expect

from tests.browser import stored
from tests.browser.marks import ON_STUB
from tests.browser.profiles import Profiles
from tests.browser.tab import PHONE, Tab

pytestmark = ON_STUB


def choose(tab: Tab, title: str, action: str) -> None:
    """Open the menu of a conversation or folder, and choose an action."""
    tab.page.get_by_role("button", name=f"Actions for “{title}”").click()
    tab.page.get_by_role("menuitem", name=action).click()


def put(tab: Tab, title: str, *contents: str) -> str:
    """Store a conversation with a title, and return its address; the page is loaded anew."""
    address = stored.put(tab, *contents, title=title)
    tab.reload()
    tab.wait(lambda: title in tab.titles())
    return address


def test_a_conversation_is_renamed_pinned_and_moved_and_a_reload_shows_it(alice: Tab) -> None:
    put(alice, "First", "one", "1")
    put(alice, "Second", "two", "2")
    choose(alice, "First", "Rename the conversation")
    alice.find("#asking input").fill("Better")
    alice.press("Enter")
    alice.wait(lambda: "Better" in alice.titles())
    choose(alice, "Second", "Pin to the top")
    alice.wait(lambda: alice.titles() == ["Second", "Better"])
    choose(alice, "Better", "Move to a folder")
    alice.find("#asking select").select_option(label="New folder…")
    alice.press("Tab", "Tab", "Enter")
    alice.find("#asking input").fill("Work")
    alice.press("Enter")
    expect(alice.page.locator("#conversations summary")).to_have_text("Work")
    alice.reload()
    alice.wait(lambda: alice.titles() == ["Second"])
    alice.find("#conversations summary").click()
    alice.wait(lambda: alice.titles() == ["Second", "Better"])
    choose(alice, "Work", "Rename the folder")
    alice.find("#asking input").fill("Office")
    alice.press("Enter")
    expect(alice.page.locator("#conversations summary")).to_have_text("Office")
    choose(alice, "Office", "Delete the folder")
    alice.gone("#conversations summary")
    alice.wait(lambda: alice.titles() == ["Second", "Better"])
    alice.find("#undo .button").click()
    expect(alice.page.locator("#conversations summary")).to_have_text("Office")


def test_folders_and_settings_are_in_step_in_two_tabs(alice: Tab) -> None:
    put(alice, "First", "one", "1")
    second = alice.another_tab()
    second.open()
    second.wait(lambda: second.titles() == ["First"])
    alice.page.get_by_role("button", name="New folder").click()
    alice.find("#asking input").fill("Work")
    alice.press("Enter")
    expect(second.page.locator("#conversations summary")).to_have_text("Work")
    alice.find("#data-open").click()
    alice.find("#titles").check()
    alice.find("#data-close").click()
    second.find("#data-open").click()
    expect(second.page.locator("#titles")).to_be_checked()


def test_the_keyboard_alone_renames_and_moves_and_is_never_lost(alice: Tab) -> None:
    put(alice, "First", "one", "1")
    put(alice, "Second", "two", "2")
    more = 'button[aria-label="Actions for “First”"]'
    alice.tab_to(more)
    alice.press("Enter")
    expect(alice.focused).to_have_text("Rename the conversation")
    alice.press("ArrowDown", "ArrowUp", "ArrowUp")
    expect(alice.focused).to_have_text("Print")
    alice.press("Escape")
    expect(alice.page.locator(more)).to_be_focused()
    alice.press("Enter", "Enter")
    expect(alice.page.locator("#asking input")).to_be_focused()
    alice.press("Escape")
    expect(alice.page.locator(more)).to_be_focused()
    alice.press("Enter", "Enter")
    alice.page.keyboard.type("By keys")
    alice.press("Enter")
    alice.wait(lambda: "By keys" in alice.titles())
    expect(alice.page.locator('button[aria-label="Actions for “By keys”"]')).to_be_focused()
    expect(alice.page.locator("#announcer")).to_have_text("The new name is “By keys”.")
    alice.press("Enter", "ArrowDown", "Enter")
    alice.wait(lambda: alice.titles()[0] == "By keys")
    expect(alice.page.locator("a.conversation", has_text="By keys")).to_be_focused()


def test_the_search_finds_titles_and_texts_and_says_how_many(alice: Tab) -> None:
    put(alice, "Mountains", "What about lakes?", "They are Übersichtlich deep.")
    put(alice, "Rivers", "x" * 120_000 + " needle", "found")
    put(alice, "Seas", "salt", "water")
    box = alice.find("#search")
    box.fill("uber")
    alice.wait(lambda: [title.split("\n")[0] for title in alice.titles()] == ["Mountains"])
    expect(alice.page.locator("#search-status")).to_have_text("Conversations found: 1.")
    assert "Übersichtlich" in alice.find(".conversation .place").inner_text()
    box.fill("needle")
    alice.wait(lambda: [title.split("\n")[0] for title in alice.titles()] == ["Rivers"])
    box.fill("SEAS")
    alice.wait(lambda: alice.titles() == ["Seas"])
    box.fill("nowhere at all")
    expect(alice.page.locator("#search-status")).to_have_text("Conversations found: 0.")
    box.press("Escape")
    alice.wait(lambda: len(alice.titles()) == 3)


def test_a_conversation_goes_on_from_any_message_in_another_one(alice: Tab) -> None:
    address = put(alice, "Long", "first", "one", "second", "two")
    alice.open(address)
    alice.wait(lambda: alice.turns("assistant") == ["one", "two"])
    alice.page.get_by_role("button", name="More actions").nth(1).click()
    alice.page.get_by_role("menuitem", name="Continue from here").click()
    alice.wait(lambda: alice.turns("assistant") == ["one"])
    assert alice.path != address
    alice.ask("third")
    assert "message 3" in alice.finished_answer()
    alice.reload()
    alice.wait(lambda: alice.turns("user") == ["first", "third"])
    alice.open(address)
    alice.wait(lambda: alice.turns("user") == ["first", "second"])
    assert len(stored.messages(alice)) == 4 + 4


def test_one_message_is_deleted_what_follows_stays_and_it_can_be_undone(alice: Tab) -> None:
    address = put(alice, "Long", "first", "one", "second", "two")
    alice.open(address)
    alice.wait(lambda: len(alice.turns("user")) == 2)
    alice.page.get_by_role("button", name="More actions").nth(1).click()
    alice.page.get_by_role("menuitem", name="Delete only this message").click()
    alice.wait(lambda: alice.turns("assistant") == ["two"])
    expect(alice.page.locator("#announcer")).to_have_text("The message is deleted.")
    expect(alice.page.locator("#input")).to_be_focused()
    alice.reload()
    alice.wait(lambda: (alice.turns("user"), alice.turns("assistant")) == (["first", "second"], ["two"]))
    alice.page.get_by_role("button", name="More actions").last.click()
    alice.page.get_by_role("menuitem", name="Delete only this message").click()
    alice.wait(lambda: alice.turns("assistant") == [])
    alice.find("#undo .button").click()
    alice.wait(lambda: alice.turns("assistant") == ["two"])
    alice.reload()
    alice.wait(lambda: alice.turns("assistant") == ["two"])


def test_a_temporary_chat_is_stored_nowhere_says_so_and_warns_before_it_goes(alice: Tab) -> None:
    put(alice, "Lasting", "one", "1")
    temporary = alice.page.get_by_role("button", name="New temporary chat")
    temporary.click()
    assert "It is not stored" in alice.find("#temporary").inner_text()
    alice.ask("a secret question")
    assert "secret" in alice.finished_answer()
    alice.type("a secret draft")
    assert alice.path == "/"
    alice.find("a.conversation:not([aria-current])").click()
    alice.find("#asking")
    alice.press("Escape")
    assert alice.turns("user") == ["a secret question"]
    asked: list[str] = []

    def stay(dialog: Dialog) -> None:
        asked.append(dialog.type)
        dialog.accept()

    alice.find("a.conversation:not([aria-current])").click()
    alice.page.get_by_role("button", name="Leave it").click()
    alice.wait(lambda: alice.turns("user") == ["one"])
    assert alice.titles() == ["Lasting"]
    assert not any("secret" in str(row) for row in stored.everything(alice))
    alice.page.get_by_role("button", name="New temporary chat").click()
    alice.ask("another")
    alice.finished_answer()
    alice.page.on("dialog", stay)
    alice.reload()
    assert asked == ["beforeunload"]
    alice.wait(lambda: alice.titles() == ["Lasting"])


def test_a_title_is_asked_of_the_model_only_where_the_reader_wants_it(alice: Tab) -> None:
    asked: list[str] = []
    alice.page.on("request", lambda request: asked.append(request.url) if request.post_data else None)
    alice.ask("What is the capital of France?")
    alice.finished_answer()
    questions = [url for url in asked if "/chat/completions" in url]
    assert len(questions) == 1
    assert alice.titles() == ["What is the capital of France?"]
    alice.find("#data-open").click()
    assert "This costs tokens" in alice.find("#data").inner_text()
    alice.find("#titles").check()
    alice.find("#data-close").click()
    alice.find("#new-chat").click()
    alice.ask("hello")
    alice.finished_answer()
    # The stub's answer to whatever it is asked.
    alice.wait(lambda: alice.titles()[0].startswith("You said"))
    choose(alice, alice.titles()[0], "Rename the conversation")
    alice.find("#asking input").fill("Mine")
    alice.press("Enter")
    alice.ask("hello again")
    alice.finished_answer()
    alice.wait(lambda: alice.titles()[0] == "Mine")


def test_the_whole_conversation_is_printed_and_nothing_else(alice: Tab) -> None:
    alice.page.add_init_script(
        "window.print = () => { window.printed = document.querySelectorAll('.message').length; };"
    )
    address = put(alice, "Long", *(f"turn {at}" for at in range(200)))
    alice.open(address)
    alice.wait(lambda: alice.turns("assistant"))
    assert alice.count(".message") == 40
    alice.find(".message").click()
    alice.press("Control+p")
    alice.wait(lambda: alice.run("return window.printed") == 200)
    alice.wait(lambda: alice.count(".message") == 40)
    alice.page.emulate_media(media="print")
    for hidden in ("#side", "#composer", ".bar", ".tools"):
        expect(alice.page.locator(hidden).first).to_be_hidden()
    expect(alice.page.locator("#scroller > h1")).to_have_text("Long")
    assert alice.run("return document.querySelector('#scroller > h1').offsetHeight") > 10


def test_menus_and_dialogs_serve_a_telephone(new_profile: Profiles) -> None:
    options: dict[str, Any] = {"viewport": PHONE, "has_touch": True, "is_mobile": True}
    phone = new_profile("alice", **options)
    stored.put(phone, "one", "1", title="On the go")
    phone.reload()
    phone.find("#menu").tap()
    phone.find('button[aria-label="Actions for “On the go”"]').tap()
    phone.page.get_by_role("menuitem", name="Rename the conversation").tap()
    phone.find("#asking input").fill("At home")
    phone.page.get_by_role("button", name="Rename", exact=True).tap()
    phone.wait(lambda: phone.titles() == ["At home"])
