"""What a hand does in passing loses nothing: double clicks, words composed while the page changes."""

from __future__ import annotations

from playwright.sync_api import Locator, Route, expect

from tests.browser import stored
from tests.browser.marks import ON_STUB
from tests.browser.tab import Tab

pytestmark = ON_STUB


def _drafts(tab: Tab) -> list[str]:
    return [row["text"] for row in stored.rows(tab, "drafts") if row["text"]]


def _click_twice(tab: Tab, button: Locator, between: str) -> None:
    """Double-click a place; the second click comes when the page shows `between`, a selector."""
    box = button.bounding_box()
    assert box
    mouse = tab.page.mouse
    mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    mouse.down(click_count=1)
    mouse.up(click_count=1)
    tab.find(between)
    mouse.down(click_count=2)
    mouse.up(click_count=2)


def test_a_double_click_deletes_one_conversation(alice: Tab) -> None:
    for title in ("First", "Second", "Third"):
        stored.put(alice, "one", "1", title=title)
    alice.reload()
    alice.wait(lambda: len(alice.titles()) == 3)
    row = alice.page.locator("#conversations li").first
    row.hover()
    _click_twice(alice, row.get_by_role("button").last, "#undo")
    alice.find("#undo .button").click()
    alice.wait(lambda: sorted(alice.titles()) == ["First", "Second", "Third"])


def test_a_double_click_sends_and_does_not_stop(alice: Tab) -> None:
    alice.wait_for_models()
    alice.type("slow")
    _click_twice(alice, alice.find("#send"), "#stop")
    alice.wait(alice.answer)
    assert alice.is_writing()
    alice.stop()
    alice.gone(".message.busy")


_FILLED = """
  const [text, times] = arguments_;
  const field = document.querySelector("#input");
  field.value += text.repeat(times);
  field.dispatchEvent(new InputEvent("input", { bubbles: true }));
"""


def test_a_text_that_no_box_holds_is_refused_in_words_however_it_comes(alice: Tab) -> None:
    held = list[Route]()

    def hold(route: Route) -> None:
        held.append(route)

    alice.page.route("**/static/chat-*.js", hold)
    alice.page.goto(alice.target.url + stored.put(alice, "First?", "1"), wait_until="commit")
    alice.find("#input")
    alice.run(_FILLED, "abcdefghi ", 110_000)
    alice.wait(lambda: held)
    held[0].continue_()
    notice = alice.page.locator("#paste .problem")
    expect(notice).to_contain_text("1,100,000")
    alice.wait(lambda: alice.turns("user") == ["First?"])
    expect(notice).to_contain_text("1,100,000")
    expect(alice.find("#input")).to_have_value("")
    alice.type("mine ")
    # As text that is dropped comes.
    alice.run(_FILLED, "abcdefghi ", 100_000)
    expect(notice).to_contain_text("1,000,005")
    expect(alice.find("#input")).to_have_value("mine ")


def test_what_was_typed_in_the_last_moment_survives_a_reload(alice: Tab) -> None:
    alice.ask("one")
    alice.finished_answer()
    alice.type("the very last words")
    alice.reload()
    expect(alice.find("#input")).to_have_value("the very last words")
    alice.wait(lambda: _drafts(alice) == ["the very last words"])
    alice.type("")
    alice.reload()
    alice.find("#send")
    alice.wait(lambda: alice.turns("user") == ["one"])
    expect(alice.find("#input")).to_have_value("")


def test_the_draft_comes_back_after_two_messages_were_to_be_edited(alice: Tab) -> None:
    alice.page.goto(alice.target.url + stored.put(alice, "First?", "1", "Second?", "2"))
    alice.wait(lambda: len(alice.turns("user")) == 2)
    alice.type("a draft")
    alice.wait(lambda: _drafts(alice) == ["a draft"])
    edits = alice.page.get_by_role("button", name="Edit and send again", exact=True)
    edits.first.dblclick()
    expect(alice.find("#input")).to_have_value("First?")
    edits.last.click()
    expect(alice.find("#input")).to_have_value("Second?")
    alice.find("#editing button").click()
    expect(alice.find("#input")).to_have_value("a draft")


def test_a_word_that_is_composed_while_the_script_comes_is_there_once(alice: Tab) -> None:
    alice.wait_for_models()
    alice.type("a draft")
    alice.wait(lambda: _drafts(alice) == ["a draft"])
    held = list[Route]()

    def hold(route: Route) -> None:
        held.append(route)

    alice.page.route("**/static/chat-*.js", hold)
    alice.page.goto(alice.target.url, wait_until="commit")
    alice.find("#input").click()
    keyboard = alice.cdp()
    keyboard.send("Input.imeSetComposition", {"text": "にほ", "selectionStart": 2, "selectionEnd": 2})
    alice.wait(lambda: held)
    held[0].continue_()
    # Its other parts are drawn while the field waits.
    alice.find("#model:enabled")
    keyboard.send("Input.imeSetComposition", {"text": "日本", "selectionStart": 2, "selectionEnd": 2})
    keyboard.send("Input.insertText", {"text": "日本語"})
    alice.find("#send")
    expect(alice.find("#input")).to_have_value("a draft\n日本語")
    alice.wait(lambda: _drafts(alice) == ["a draft\n日本語"])


def test_a_question_before_the_database_is_open_leaves_the_draft_that_is_stored(alice: Tab) -> None:
    alice.wait_for_models()
    alice.type("a draft")
    alice.wait(lambda: _drafts(alice) == ["a draft"])
    alice.page.add_init_script(stored.LATE)
    alice.open()
    alice.ask("What is the capital of France?")
    alice.finished_answer()
    alice.wait(lambda: len(stored.messages(alice)) == 2)
    assert _drafts(alice) == ["a draft"]
    alice.find("#new-chat").click()
    expect(alice.find("#input")).to_have_value("a draft")
