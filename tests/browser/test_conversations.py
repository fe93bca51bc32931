"""Nothing that was written or answered is lost: reloads, tabs, branches, deletions, faults of the storage."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from selenium.webdriver import Keys

from tests.browser import accessible, stored
from tests.browser.browser import Browser

pytestmark = [pytest.mark.browser, pytest.mark.integration]


@pytest.fixture(autouse=True)
def _on_this_machine() -> None:
    assert "SLUICE_URL" not in os.environ, "these tests need the stub: run them without SLUICE_URL"


@pytest.fixture
def second_tab(alice: Browser) -> Iterator[str]:
    """Another tab, not on view yet."""
    first = alice.driver.current_window_handle
    alice.driver.switch_to.new_window("tab")
    second = alice.driver.current_window_handle
    alice.driver.switch_to.window(first)
    yield second
    alice.driver.switch_to.window(first)


def bodies(browser: Browser, role: str) -> list[str]:
    """Return the texts of all turns of a role."""
    return [str(one.text) for one in browser.all(f".message.{role} .body")]


def press(browser: Browser, label: str) -> None:
    """Press the last button with a name."""
    browser.wait(lambda: browser.all(f'[aria-label="{label}"]'))
    browser.all(f'[aria-label="{label}"]')[-1].click()


def path(browser: Browser) -> str:
    """Return the path of the address."""
    return browser.driver.current_url.removeprefix(browser.target.url)


def test_a_first_visit_makes_eight_requests_at_most_before_one_can_type(alice: Browser) -> None:
    alice.open()
    alice.find("#input")
    alice.wait_for_models()
    loaded = alice.run('return performance.getEntriesByType("resource").map((one) => one.name);')
    assert len(loaded) + 1 <= 8, loaded


def test_what_the_page_of_version_1_stored_is_taken_over(alice: Browser) -> None:
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
    assert bodies(alice, "user") == ["Who?"]
    assert "You stopped this answer." in alice.find(".note").text
    assert len(stored.messages(alice)) == 2


def test_the_data_of_a_newer_page_are_not_touched_and_it_is_said(alice: Browser) -> None:
    alice.open("/keys")
    stored.put_old(alice, [], version=99)
    alice.open()
    assert "A newer version of this page" in alice.find("#storage .problem").text
    alice.ask("What is the capital of France?")
    assert "Paris" in alice.finished_answer()


def test_a_browser_that_forbids_storage_is_told_of_before_one_types(alice: Browser) -> None:
    script = """for (const name of ["indexedDB", "localStorage"])
      Object.defineProperty(window, name, { get() { throw new DOMException("no", "SecurityError"); } });"""
    made = alice.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": script})
    try:
        alice.open()
        assert "does not let the page store anything" in alice.find("#storage .problem").text
        alice.ask("What is the capital of France?")
        assert "Paris" in alice.finished_answer()
        alice.find("#new-chat").click()
        alice.find(".conversation").click()
        assert "Paris" in alice.wait(alice.answer)
    finally:
        alice.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", made)


def test_a_full_storage_is_said_and_what_waited_is_stored_when_there_is_room(alice: Browser) -> None:
    alice.wait_for_models()
    alice.run(
        """
        window.put = IDBObjectStore.prototype.add;
        IDBObjectStore.prototype.add = () => { throw new DOMException("full", "QuotaExceededError"); };
        """
    )
    alice.ask("What is the capital of France?")
    assert "Paris" in alice.finished_answer()
    assert "storage is full" in alice.find("#storage .problem").text
    alice.run("IDBObjectStore.prototype.add = window.put;")
    alice.find("#storage button").click()
    alice.wait(lambda: not alice.all("#storage .problem"))
    alice.wait(lambda: [one["state"] for one in stored.messages(alice)] == ["done", "done"])
    alice.driver.refresh()
    assert "Paris" in alice.wait(alice.answer)


def test_each_conversation_has_an_address_for_history_reload_and_a_second_tab(
    alice: Browser, second_tab: str
) -> None:
    alice.ask("first")
    alice.finished_answer()
    first = path(alice)
    assert first.startswith("/c/")
    alice.find("#new-chat").click()
    alice.ask("second")
    alice.finished_answer()
    second = path(alice)
    alice.driver.back()
    alice.wait(lambda: path(alice) in (first, "/"))
    alice.open(first)
    assert alice.wait(lambda: bodies(alice, "user")) == ["first"]
    alice.driver.switch_to.window(second_tab)
    alice.open(second)
    assert alice.wait(lambda: bodies(alice, "user")) == ["second"]
    alice.open("/c/99999999-9999-4999-8999-999999999999")
    assert "not in this browser" in alice.find("#empty .problem").text


def test_a_reload_in_the_middle_shows_what_came_says_so_and_continues(alice: Browser) -> None:
    alice.ask("slow")
    alice.wait(lambda: "word12" in alice.answer())
    alice.driver.refresh()
    kept = alice.wait(alice.answer)
    assert kept.startswith("word0 word1")
    alice.wait(lambda: "cut off" in alice.find(".note").text)
    alice.find(".tools .button").click()
    alice.wait(lambda: "Continue your last answer" in alice.answer())
    assert alice.answer().startswith(kept)
    alice.wait(lambda: not alice.is_writing())
    assert bodies(alice, "user") == ["slow"], "what the page asks for by itself is no turn"
    alice.wait(lambda: [one["state"] for one in stored.messages(alice)] == ["done", "done"])


def test_an_answer_that_reached_its_longest_length_says_so_and_continues(alice: Browser) -> None:
    alice.ask("length")
    kept = alice.finished_answer()
    assert "reached the length" in alice.find(".note").text
    alice.find(".tools .button").click()
    alice.wait(lambda: "Continue your last answer" in alice.answer())
    alice.wait(lambda: not alice.is_writing() and not alice.all(".note"))
    assert alice.answer().startswith(kept)


def test_an_answer_goes_on_while_one_looks_at_another_conversation(alice: Browser) -> None:
    alice.ask("queue")
    alice.wait(lambda: alice.all(".note"))
    alice.find("#new-chat").click()
    alice.wait(lambda: alice.all(".mark.writing"))
    alice.wait(lambda: alice.all(".mark.unseen"))
    alice.find(".conversation").click()
    assert "You said 'queue'" in alice.wait(alice.answer)
    assert not alice.all(".mark")


def test_what_is_typed_stays_with_its_conversation(alice: Browser) -> None:
    alice.ask("first")
    alice.finished_answer()
    alice.find("#input").send_keys("not sent")
    alice.find("#new-chat").click()
    alice.wait(lambda: alice.find("#input").get_attribute("value") == "")
    alice.find("#input").send_keys("a new one")
    alice.find(".conversation").click()
    alice.wait(lambda: alice.find("#input").get_attribute("value") == "not sent")
    alice.driver.refresh()
    alice.wait(lambda: alice.find("#input").get_attribute("value") == "not sent")
    alice.open()
    alice.wait(lambda: alice.find("#input").get_attribute("value") == "a new one")


def test_a_question_is_written_anew_beside_the_old_one(alice: Browser) -> None:
    alice.ask("before")
    alice.finished_answer()
    press(alice, "Edit and send again")
    alice.wait(lambda: alice.find("#input").get_attribute("value") == "before")
    alice.find("#input").send_keys(Keys.CONTROL, "a", Keys.NULL, "after", Keys.ENTER)
    alice.wait(lambda: "You said 'after' in message 1" in alice.answer())
    assert bodies(alice, "user") == ["after"]
    assert alice.find(".branches").text == "2/2"
    press(alice, "Earlier version")
    alice.wait(lambda: bodies(alice, "user") == ["before"])
    assert "You said 'before'" in alice.answer()
    alice.driver.refresh()
    assert alice.wait(lambda: bodies(alice, "user")) == ["before"]
    press(alice, "Later version")
    alice.wait(lambda: bodies(alice, "user") == ["after"])


def test_an_answer_made_anew_leaves_the_first_beside_it(alice: Browser) -> None:
    alice.ask("hello")
    alice.finished_answer()
    alice.ask_again()
    alice.finished_answer()
    assert alice.find(".message.assistant .branches").text == "2/2"
    assert len(stored.messages(alice)) == 3


def test_what_is_asked_before_the_database_is_open_is_stored(alice: Browser) -> None:
    script = """const open = IDBFactory.prototype.open;
      IDBFactory.prototype.open = function (...given) {
        const request = open.apply(this, given);
        const add = request.addEventListener.bind(request);
        const late = (listener) => (event) => setTimeout(() => listener(event), 4000);
        request.addEventListener = (name, listener, options) =>
          add(name, name === "success" ? late(listener) : listener, options);
        return request;
      };"""
    made = alice.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": script})
    try:
        alice.open()
        alice.ask("What is the capital of France?")
        assert "Paris" in alice.finished_answer()
    finally:
        alice.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", made)
    alice.wait(lambda: [one["state"] for one in stored.messages(alice)] == ["done", "done"])
    alice.driver.refresh()
    assert "Paris" in alice.wait(alice.answer)


def test_deletions_can_be_undone(alice: Browser) -> None:
    alice.ask("first")
    alice.finished_answer()
    alice.ask("second")
    alice.finished_answer()
    press(alice, "Delete this message and what follows it")
    alice.wait(lambda: len(alice.all(".message.assistant")) == 1)
    assert alice.driver.switch_to.active_element.get_attribute("id") == "input"
    alice.find("#undo .button").click()
    alice.wait(lambda: len(alice.all(".message.assistant")) == 2)
    alice.find('#conversations button[aria-label^="Delete"]').click()
    alice.wait(lambda: not alice.all(".conversation"))
    alice.wait(lambda: stored.messages(alice) == [])
    alice.find("#undo .button").click()
    alice.wait(lambda: bodies(alice, "user") == ["first", "second"])
    alice.driver.refresh()
    assert alice.wait(lambda: bodies(alice, "user")) == ["first", "second"]


def test_two_tabs_are_in_step_and_neither_overwrites(alice: Browser, second_tab: str) -> None:
    first_tab = alice.driver.current_window_handle
    alice.ask("one")
    alice.finished_answer()
    address = path(alice)
    alice.driver.switch_to.window(second_tab)
    alice.open(address)
    alice.wait(lambda: bodies(alice, "user") == ["one"])
    alice.ask("two")
    alice.finished_answer()
    alice.driver.switch_to.window(first_tab)
    alice.wait(lambda: bodies(alice, "user") == ["one", "two"])
    alice.ask("three")
    alice.finished_answer()
    alice.driver.switch_to.window(second_tab)
    alice.wait(lambda: bodies(alice, "user") == ["one", "two", "three"])
    assert len(stored.messages(alice)) == 6
    alice.find('#conversations button[aria-label^="Delete"]').click()
    alice.wait(lambda: not alice.all(".conversation"))
    alice.driver.switch_to.window(first_tab)
    alice.wait(lambda: not alice.all(".conversation") and path(alice) == "/")


def test_an_answer_in_another_tab_is_seen_to_grow_and_known_to_be_cut(
    alice: Browser, second_tab: str
) -> None:
    first_tab = alice.driver.current_window_handle
    alice.ask("slow")
    alice.wait(lambda: "word3" in alice.answer())
    address = path(alice)
    alice.driver.switch_to.window(second_tab)
    alice.open(address)
    alice.wait(lambda: "Another tab is getting this answer." in alice.find(".note").text)
    seen = alice.wait(alice.answer)
    alice.wait(lambda: len(alice.answer()) > len(seen))
    alice.driver.switch_to.window(first_tab)
    alice.open("/keys")
    alice.driver.switch_to.window(second_tab)
    alice.wait(lambda: "cut off" in alice.find(".note").text)
    alice.driver.switch_to.window(first_tab)


def test_a_long_conversation_shows_its_end_and_the_rest_when_asked(alice: Browser) -> None:
    alice.wait_for_models()
    alice.open(stored.put(alice, *(f"turn {at}" for at in range(2_000))))
    alice.wait(lambda: "turn 1999" in alice.answer())
    assert len(alice.all(".message")) == 40
    alice.find("#earlier").click()
    alice.wait(lambda: len(alice.all(".message")) == 240)


def test_the_chat_page_serves_a_screen_reader_in_both_colours(alice: Browser) -> None:
    alice.ask("markdown")
    alice.finished_answer()
    assert accessible.faults(alice) == []
    assert [one for one in alice.complaints() if "Content Security Policy" in one] == []
