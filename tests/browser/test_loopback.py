"""What a real model cannot be made to do on demand: with the stub behind /v1 of the site on this machine."""

from __future__ import annotations

from playwright.sync_api import Browser

from tests.browser import stored, tasks
from tests.browser.marks import ON_STUB
from tests.browser.tab import Tab

pytestmark = ON_STUB


def test_the_stop_button_ends_an_answer_and_keeps_what_there_is(alice: Tab) -> None:
    alice.ask("slow")
    alice.wait(lambda: "word5" in alice.answer())
    alice.stop()
    alice.wait(lambda: not alice.is_writing())
    kept = alice.answer()
    assert kept.startswith("word0 word1")
    assert "You stopped this answer." in alice.find(".note").inner_text()
    alice.open()
    alice.find(".conversation").click()
    assert alice.wait(alice.answer) == kept


def test_escape_stops_and_shift_enter_makes_a_line(alice: Tab) -> None:
    alice.wait_for_models()
    alice.find("#input").press_sequentially("one")
    alice.press("Shift+Enter")
    alice.find("#input").press_sequentially("two")
    alice.press("Enter")
    assert "one\\ntwo" in alice.finished_answer()
    alice.ask("slow")
    alice.wait(lambda: "word2" in alice.answer())
    alice.press("Escape")
    alice.wait(lambda: not alice.is_writing())
    assert alice.find("#send").is_visible()


def test_an_answer_can_be_made_anew_and_takes_the_place_of_the_first(alice: Tab) -> None:
    alice.ask("hello")
    first = alice.finished_answer()
    alice.ask_again()
    assert alice.finished_answer() == first
    assert alice.count(".message.assistant") == 1


def test_who_waits_in_the_queue_is_told_so_and_sees_the_time_go_down(alice: Tab) -> None:
    alice.ask("line")
    alice.wait(lambda: "place 2 in the queue. About 1 min 5" in alice.find(".wait").inner_text())
    assert "place 2 in the queue" in (alice.page.locator("#announcer").text_content() or "")
    alice.find(".wait button").click()
    alice.wait(lambda: not alice.is_writing())
    alice.ask("queue")
    assert "You said 'queue'" in alice.finished_answer()
    assert not alice.sees(".note")


def test_a_model_that_must_wake_up_is_waited_for_with_a_countdown(alice: Tab) -> None:
    alice.ask("wake")
    card = alice.find(".problem.waiting")
    assert "not ready yet" in card.inner_text()
    assert "Trying again in" in card.inner_text()
    assert "You said 'wake'" in alice.finished_answer()


def test_who_waits_can_stop_waiting_and_keeps_the_question(alice: Tab) -> None:
    alice.ask("silent")
    # Before the gateway has said anything.
    assert "Sent to smollm2-135m" in alice.find(".note").inner_text()
    alice.find(".wait button").click()
    alice.wait(lambda: not alice.is_writing())
    assert alice.texts(".message .body") == ["silent"]
    assert alice.find(".offer .retry").is_visible()


def test_an_answer_without_a_word_is_said_and_asked_for_again(alice: Tab) -> None:
    alice.ask("empty")
    assert "ended without an answer" in alice.find(".problem").inner_text()
    alice.find(".problem .retry").click()
    alice.wait(lambda: "You said 'empty'" in alice.answer())


def test_a_network_that_is_gone_for_a_moment_is_waited_for(alice: Tab) -> None:
    alice.wait_for_models()
    alice.profile.online(False)
    alice.ask("What is the capital of France?")
    assert "cannot be reached" in alice.find(".problem.waiting").inner_text()
    alice.profile.online(True)
    assert "Paris" in alice.finished_answer()


def test_an_answer_that_breaks_off_says_so_and_can_be_asked_for_again(alice: Tab) -> None:
    alice.ask("break")
    card = alice.find(".problem")
    assert "incomplete" in card.inner_text()
    assert "req-1111" in card.inner_text()
    assert alice.answer() == "You said 'break' in message 1."
    alice.find(".retry").click()
    alice.find(".problem")
    assert alice.count(".message.assistant") == 1


def test_hostile_text_of_a_model_is_shown_and_not_obeyed(alice: Tab) -> None:
    alice.ask("markdown")
    answer = alice.finished_answer()
    assert '<script>document.title = "broken in"</script>' in answer
    assert alice.page.title() != "broken in"
    assert not alice.sees(".message script, .message img")
    assert alice.attributes(".message a", "href") == ["https://example.org/"]
    for selector in ("h3", "strong", "em", "code", "ul ul li", "ol li", "table td", "blockquote", "pre code"):
        assert alice.sees(f".message.assistant {selector}"), selector


def test_the_state_of_models_is_shown(alice: Tab) -> None:
    assert alice.wait_for_models() == ["smollm2-135m", "smollm2-light", "smollm2-slow"]
    assert alice.find("#model-status").inner_text() == "ready"
    alice.choose_model("smollm2-light")
    assert "asleep" in alice.find("#model-status").inner_text()
    alice.choose_model("smollm2-slow")
    assert "ready in about 2 min" in alice.find("#model-status").inner_text()


def test_another_person_on_the_same_browser_sees_none_of_the_conversations(alice: Tab) -> None:
    alice.ask("What is the capital of France?")
    alice.finished_answer()
    alice.sign_out()
    alice.sign_in("bob")
    alice.wait_for_models()
    assert not alice.sees(".conversation")


def test_a_session_that_has_ended_keeps_the_conversation_and_offers_to_sign_in(alice: Tab) -> None:
    alice.ask("What is the capital of France?")
    alice.finished_answer()
    second = alice.another_tab()
    second.open()
    second.sign_out()
    alice.type("And of Spain?")
    alice.press("Enter")
    assert "You are signed out" in alice.find(".problem").inner_text()
    alice.find(".problem a").click()
    alice.fill_in("alice")
    alice.find(".conversation").click()
    alice.wait(lambda: alice.turns("user"))
    assert alice.turns("user")[-1] == "And of Spain?"


HOSTILE = [
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt:alert(1))",
    "[x](data:text/html,<script>1</script>)",
    "[x](//evil.example)",
    "<img src=x onerror=alert(1)>",
    "<a href='javascript:alert(1)'>x</a>",
    "[x](vbscript:1)",
    "```\n</code></pre><script>1</script>\n```",
    "| a |\n| - |\n| <svg onload=alert(1)> |",
    "&lt;script&gt;",
    "![x](javascript:alert(1))",
]

_LOOK = """
  const box = document.querySelector(".message.assistant .body");
  const all = [...box.querySelectorAll("*")];
  return {
    tags: all.map((one) => one.localName),
    links: [...box.querySelectorAll("a")].map((one) => one.getAttribute("href")),
    attributes: all.flatMap((one) => one.getAttributeNames()),
    text: box.textContent,
  };
"""


def test_the_renderer_makes_nothing_but_its_own_harmless_elements(alice: Tab) -> None:
    alice.wait_for_models()
    for address in [stored.put(alice, "q", text) for text in HOSTILE]:
        alice.open(address)
        alice.wait(lambda: alice.sees(".message.assistant .body"))
        made = alice.run(_LOOK)
        assert made["text"]
        assert made["links"] == []
        # What the copy buttons draw is an svg of the page's own.
        assert not {"script", "img", "iframe"} & set(made["tags"])
        assert not [name for name in made["attributes"] if name.startswith("on") or name in ("src", "style")]


def test_the_renderer_stays_quick_on_text_made_to_slow_it_down(chromium: Browser, alice: Tab) -> None:
    alice.wait_for_models()
    texts = [
        "*" * 20_000,
        "`" * 5_000 + "a",
        "[" * 10_000,
        "> " * 5_000,
        "- " * 5_000,
        "_a" * 10_000,
        "|-" * 5_000,
        "# a" + " " * 50_000 + "b",
        "```" + " " * 50_000 + "`",
    ]
    addresses = [stored.put(alice, "q", text) for text in texts]
    with tasks.traced(chromium) as found:
        for address in addresses:
            alice.open(address)
            alice.wait(lambda: alice.sees(".message.assistant .body > *"))
    assert found.total < 5_000


def test_a_key_is_made_limited_and_rotated_by_keyboard_alone(alice: Tab) -> None:
    alice.open("/keys")
    alice.find("#key-name").fill("by keyboard")
    # From the name: the button, what the key may do (opened by Enter), its days, project or models.
    alice.press("Tab", "Tab", "Enter")
    alice.find("#key-days")
    alice.press("Tab")
    assert alice.focused.get_attribute("id") == "key-days"
    alice.press("Control+a")
    alice.page.keyboard.type("7")
    alice.press("Enter")
    first = alice.find("#new-key").inner_text()
    alice.open("/keys")
    alice.find("#live-keys tbody th a").press("Enter")
    alice.find("#key-grace").focus()
    alice.page.keyboard.type("after 2")
    alice.press("Tab", "Enter")
    alice.wait(lambda: alice.texts("#new-key") not in ([], [first]))
    alice.open("/keys")
    assert alice.key_names().count("by keyboard") == 2
