"""Nothing that was written or answered is lost: reloads, tabs, branches, deletions, faults of the storage."""

from __future__ import annotations

import pytest
from playwright.sync_api import Route, expect

from tests.browser import stored
from tests.browser.marks import ON_STUB
from tests.browser.tab import Tab

pytestmark = ON_STUB


@pytest.fixture
def second(alice: Tab) -> Tab:
    """Another tab of alice's browser, on no page yet."""
    return alice.another_tab()


def test_a_first_visit_makes_seven_requests_at_most_before_one_can_type(alice: Tab) -> None:
    alice.open()
    alice.find("#input")
    alice.wait_for_models()
    loaded = alice.run('return performance.getEntriesByType("resource").map((one) => one.name);')
    # The icon of the tab is the image on the page: it is listed twice, and asked for once.
    twice = {one for one in loaded if loaded.count(one) > 1}
    assert all(one.endswith(".svg") for one in twice), loaded
    assert len(set(loaded)) + 1 <= 7, loaded


def _without_script(tab: Tab, address: str) -> list[Route]:
    """Open a chat page whose script does not come until the route that is in the list goes on."""
    held = list[Route]()

    def hold(route: Route) -> None:
        held.append(route)

    tab.page.route("**/static/chat-*.js", hold)
    tab.page.goto(address, wait_until="commit")
    return held


def _drafts(tab: Tab) -> list[str]:
    return [row["text"] for row in stored.rows(tab, "drafts") if row["text"]]


def test_what_is_typed_before_the_script_has_come_stays_below_the_draft(alice: Tab) -> None:
    alice.open()
    alice.ask("What is the capital of France?")
    alice.finished_answer()
    alice.type("a draft")
    alice.wait(lambda: _drafts(alice) == ["a draft"])
    held = _without_script(alice, alice.page.url)
    alice.find("#input").click()
    alice.page.keyboard.type("at once")
    alice.press("Home", "ArrowRight")
    assert alice.count("#send") == 0
    alice.wait(lambda: held)
    held[0].continue_()
    alice.find("#send")
    expect(alice.find("#input")).to_have_value("a draft\nat once")
    expect(alice.find("#input")).to_be_focused()
    alice.wait(lambda: _drafts(alice) == ["a draft\nat once"])
    alice.find("#new-chat").click()
    expect(alice.find("#input")).to_have_value("")


def test_the_caret_stays_where_one_types_while_the_script_comes(alice: Tab) -> None:
    held = _without_script(alice, alice.target.url)
    alice.find("#input").click()
    alice.page.keyboard.type("mony")
    alice.press("ArrowLeft", "ArrowLeft")
    alice.wait(lambda: held)
    held[0].continue_()
    alice.find("#send")
    alice.page.keyboard.type("n")
    expect(alice.find("#input")).to_have_value("monny")


def test_what_the_page_of_version_1_stored_is_taken_over(alice: Tab) -> None:
    alice.open("/keys")
    old = {
        "id": "11111111-2222-4333-8444-555555555555",
        "title": "Of old",
        "created": 1,
        "updated": 2,
        "model": "smollm2-135m",
        "messages": [
            {"role": "user", "content": "Who?"},
            {"role": "assistant", "content": "It was", "note": "stopped_note"},
        ],
    }
    stored.put_old(alice, [old])
    alice.open()
    alice.find(".conversation").click()
    assert alice.wait(alice.answer) == "It was"
    assert alice.turns("user") == ["Who?"]
    assert "You stopped this answer." in alice.find(".note").inner_text()
    assert len(stored.messages(alice)) == 2


def test_the_data_of_a_newer_page_are_not_touched_and_it_is_said(alice: Tab) -> None:
    alice.open("/keys")
    stored.put_old(alice, [], version=99)
    alice.open()
    assert "A newer version of this page" in alice.find("#storage .problem").inner_text()
    alice.ask("What is the capital of France?")
    assert "Paris" in alice.finished_answer()


def test_a_browser_that_forbids_storage_is_told_of_before_one_types(alice: Tab) -> None:
    alice.page.add_init_script(stored.FORBIDDEN)
    alice.open()
    assert "does not let the page store anything" in alice.find("#storage .problem").inner_text()
    alice.ask("What is the capital of France?")
    assert "Paris" in alice.finished_answer()
    alice.find("#new-chat").click()
    alice.find(".conversation").click()
    assert "Paris" in alice.wait(alice.answer)


def test_a_full_storage_is_said_and_what_waited_is_stored_when_there_is_room(alice: Tab) -> None:
    alice.wait_for_models()
    alice.run(
        """
        window.put = IDBObjectStore.prototype.add;
        IDBObjectStore.prototype.add = () => { throw new DOMException("full", "QuotaExceededError"); };
        """
    )
    alice.ask("What is the capital of France?")
    assert "Paris" in alice.finished_answer()
    assert "storage is full" in alice.find("#storage .problem").inner_text()
    alice.run("IDBObjectStore.prototype.add = window.put;")
    alice.find("#storage button").click()
    alice.wait(lambda: not alice.sees("#storage .problem"))
    alice.wait(lambda: [one["state"] for one in stored.messages(alice)] == ["done", "done"])
    alice.reload()
    assert "Paris" in alice.wait(alice.answer)


def test_each_conversation_has_an_address_for_history_reload_and_a_second_tab(
    alice: Tab, second: Tab
) -> None:
    alice.ask("first")
    alice.finished_answer()
    earlier = alice.path
    assert earlier.startswith("/c/")
    alice.find("#new-chat").click()
    alice.ask("second")
    alice.finished_answer()
    later = alice.path
    alice.page.go_back()
    alice.wait(lambda: alice.path in (earlier, "/"))
    alice.open(earlier)
    assert alice.wait(lambda: alice.turns("user")) == ["first"]
    second.open(later)
    assert second.wait(lambda: second.turns("user")) == ["second"]
    second.open("/c/99999999-9999-4999-8999-999999999999")
    assert "not in this browser" in second.find("#empty .problem").inner_text()


def test_a_reload_in_the_middle_shows_what_came_says_so_and_continues(alice: Tab) -> None:
    alice.ask("slow")
    alice.wait(lambda: "word12" in alice.answer())
    alice.reload()
    kept = alice.wait(alice.answer)
    assert kept.startswith("word0 word1")
    alice.wait(lambda: "cut off" in alice.find(".note").inner_text())
    alice.find(".tools .button").click()
    alice.wait(lambda: "Continue your last answer" in alice.answer())
    assert alice.answer().startswith(kept)
    alice.wait(lambda: not alice.is_writing())
    assert alice.turns("user") == ["slow"], "what the page asks for by itself is no turn"
    alice.wait(lambda: [one["state"] for one in stored.messages(alice)] == ["done", "done"])


def test_an_answer_that_reached_its_longest_length_says_so_and_continues(alice: Tab) -> None:
    alice.ask("length")
    kept = alice.finished_answer()
    assert "reached the length" in alice.find(".note").inner_text()
    alice.find(".tools .button").click()
    alice.wait(lambda: "Continue your last answer" in alice.answer())
    alice.wait(lambda: not alice.is_writing() and not alice.sees(".note"))
    assert alice.answer().startswith(kept)


def test_an_answer_goes_on_while_one_looks_at_another_conversation(alice: Tab) -> None:
    alice.ask("queue")
    alice.wait(lambda: alice.sees(".note"))
    alice.find("#new-chat").click()
    alice.wait(lambda: alice.sees(".mark.writing"))
    alice.wait(lambda: alice.sees(".mark.unseen"))
    alice.find(".conversation").click()
    assert "You said 'queue'" in alice.wait(alice.answer)
    assert not alice.sees(".mark")


def test_what_is_typed_stays_with_its_conversation(alice: Tab) -> None:
    alice.ask("first")
    alice.finished_answer()
    alice.type("not sent")
    alice.find("#new-chat").click()
    alice.wait(lambda: alice.find("#input").input_value() == "")
    alice.type("a new one")
    alice.find(".conversation").click()
    alice.wait(lambda: alice.find("#input").input_value() == "not sent")
    alice.reload()
    alice.wait(lambda: alice.find("#input").input_value() == "not sent")
    alice.open()
    alice.wait(lambda: alice.find("#input").input_value() == "a new one")


def test_a_question_is_written_anew_beside_the_old_one(alice: Tab) -> None:
    alice.ask("before")
    alice.finished_answer()
    alice.press_last("Edit and send again")
    alice.wait(lambda: alice.find("#input").input_value() == "before")
    alice.type("after")
    alice.press("Enter")
    alice.wait(lambda: "You said 'after' in message 1" in alice.answer())
    assert alice.turns("user") == ["after"]
    assert alice.find(".branches").inner_text() == "2/2"
    alice.press_last("Earlier version")
    alice.wait(lambda: alice.turns("user") == ["before"])
    assert "You said 'before'" in alice.answer()
    alice.reload()
    assert alice.wait(lambda: alice.turns("user")) == ["before"]
    alice.press_last("Later version")
    alice.wait(lambda: alice.turns("user") == ["after"])


def test_an_answer_made_anew_leaves_the_first_beside_it(alice: Tab) -> None:
    alice.ask("hello")
    alice.finished_answer()
    alice.ask_again()
    alice.finished_answer()
    assert alice.find(".message.assistant .branches").inner_text() == "2/2"
    assert len(stored.messages(alice)) == 3


def test_what_is_asked_before_the_database_is_open_is_stored(alice: Tab) -> None:
    alice.page.add_init_script(stored.LATE)
    alice.open()
    alice.ask("What is the capital of France?")
    assert "Paris" in alice.finished_answer()
    alice.wait(lambda: [one["state"] for one in stored.messages(alice)] == ["done", "done"])
    alice.reload()
    assert "Paris" in alice.wait(alice.answer)


def test_deletions_can_be_undone(alice: Tab) -> None:
    alice.ask("first")
    alice.finished_answer()
    alice.ask("second")
    alice.finished_answer()
    alice.press_last("Delete this message and what follows it")
    alice.wait(lambda: alice.count(".message.assistant") == 1)
    assert alice.focused.get_attribute("id") == "input"
    alice.find("#undo .button").click()
    alice.wait(lambda: alice.count(".message.assistant") == 2)
    alice.find('#conversations button[aria-label^="Delete"]').click()
    alice.wait(lambda: not alice.sees(".conversation"))
    alice.wait(lambda: stored.messages(alice) == [])
    alice.find("#undo .button").click()
    alice.wait(lambda: alice.turns("user") == ["first", "second"])
    alice.reload()
    assert alice.wait(lambda: alice.turns("user")) == ["first", "second"]


def test_two_tabs_are_in_step_and_neither_overwrites(alice: Tab, second: Tab) -> None:
    alice.ask("one")
    alice.finished_answer()
    second.open(alice.path)
    second.wait(lambda: second.turns("user") == ["one"])
    second.ask("two")
    second.finished_answer()
    alice.wait(lambda: alice.turns("user") == ["one", "two"])
    alice.ask("three")
    alice.finished_answer()
    second.wait(lambda: second.turns("user") == ["one", "two", "three"])
    assert len(stored.messages(second)) == 6
    second.find('#conversations button[aria-label^="Delete"]').click()
    second.gone(".conversation")
    alice.wait(lambda: not alice.sees(".conversation") and alice.path == "/")


def test_an_answer_in_another_tab_is_seen_to_grow_and_known_to_be_cut(alice: Tab, second: Tab) -> None:
    alice.ask("slow")
    alice.wait(lambda: "word3" in alice.answer())
    second.open(alice.path)
    second.wait(lambda: "Another tab is getting this answer." in second.find(".note").inner_text())
    seen = second.wait(second.answer)
    second.wait(lambda: len(second.answer()) > len(seen))
    alice.open("/keys")
    second.wait(lambda: "cut off" in second.find(".note").inner_text())


def test_an_answer_that_another_tab_deletes_ends_and_one_asks_on(alice: Tab, second: Tab) -> None:
    alice.ask("first")
    alice.finished_answer()
    alice.ask("slow")
    alice.wait(lambda: "word3" in alice.answer())
    second.open(alice.path)
    second.wait(lambda: second.turns("user") == ["first", "slow"])
    second.press_last("Delete this message and what follows it")
    alice.wait(lambda: alice.turns("user") == ["first"])
    alice.find("#send")
    alice.ask("next")
    assert "You said 'next' in message 3" in alice.finished_answer()
    assert [row["content"] for row in stored.messages(alice) if row["role"] == "user"] == ["first", "next"]


def test_a_long_conversation_shows_its_end_and_the_rest_when_asked(alice: Tab) -> None:
    alice.wait_for_models()
    alice.open(stored.put(alice, *(f"turn {at}" for at in range(2_000))))
    alice.wait(lambda: "turn 1999" in alice.answer())
    assert alice.count(".message") == 40
    alice.find("#earlier").click()
    alice.wait(lambda: alice.count(".message") == 240)
