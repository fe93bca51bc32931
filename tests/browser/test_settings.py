"""Settings, personas, saved prompts, links with settings; texts that are too long or not what they seem."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.sync_api import Request, Route, expect

from tests.browser import accessible, stored
from tests.browser.attaching import questions
from tests.browser.marks import ON_STUB
from tests.browser.profiles import Profiles
from tests.browser.tab import Tab

pytestmark = ON_STUB


def body(request: Request) -> dict[str, Any]:
    """Return what a request sends."""
    sent: dict[str, Any] = json.loads(request.post_data or "{}")
    return sent


def settings(tab: Tab) -> None:
    """Open the settings."""
    tab.find("#settings-open").click()
    tab.find("#panel")


def close(tab: Tab) -> None:
    """Close the dialogue that is open."""
    tab.press("Escape")
    tab.gone("dialog")


def ask(tab: Tab, text: str = "hello") -> None:
    """Ask and wait for the answer."""
    tab.ask(text)
    tab.finished_answer()


def test_what_is_set_for_a_conversation_is_asked_with_and_stays_with_it(alice: Tab) -> None:
    asked = questions(alice)
    alice.find("#model:enabled")
    settings(alice)
    alice.find("#set-system").fill("Be brief")
    alice.find("#set-temperature").fill("0,3")
    alice.find("#set-seed").fill("7")
    close(alice)
    ask(alice)
    assert asked[0]["messages"][0] == {"role": "system", "content": "Be brief"}
    assert (asked[0]["temperature"], asked[0]["seed"]) == (0.3, 7)
    assert "top_p" not in asked[0] and "max_tokens" not in asked[0]
    assert asked[0]["stream_options"] == {"include_usage": True}
    alice.reload()
    alice.find("#model:enabled")
    ask(alice)
    assert asked[1]["temperature"] == 0.3
    alice.find("#new-chat").click()
    ask(alice)
    assert "temperature" not in asked[2], "another conversation has its own"


def test_a_wrong_value_is_told_and_the_last_right_one_stays(alice: Tab) -> None:
    asked = questions(alice)
    alice.find("#model:enabled")
    settings(alice)
    alice.find("#set-top_p").fill("0.5")
    alice.find("#set-top_p").fill("1.5")
    assert "from 0 to 1" in alice.find("#set-top_p-wrong").inner_text()
    assert alice.find("#set-top_p").get_attribute("aria-invalid") == "true"
    close(alice)
    ask(alice)
    assert asked[0]["top_p"] == 0.5


def test_defaults_hold_where_a_conversation_sets_nothing(alice: Tab) -> None:
    asked = questions(alice)
    alice.find("#model:enabled")
    settings(alice)
    alice.find("#set-max_tokens").fill("50")
    alice.page.get_by_label("all conversations").check()
    alice.find("#set-max_tokens").fill("99")
    alice.find("#set-temperature").fill("1")
    close(alice)
    ask(alice)
    assert (asked[0]["max_tokens"], asked[0]["temperature"]) == (50, 1)
    alice.reload()
    alice.find("#new-chat").click()
    alice.find("#model:enabled")
    ask(alice)
    assert asked[1]["max_tokens"] == 99


def test_a_setting_that_the_model_refuses_is_named_and_can_be_left_out(alice: Tab) -> None:
    def refuse(route: Route) -> None:
        if "temperature" in body(route.request):
            error = {"message": "temperature must be 1", "code": "invalid_request", "param": "temperature"}
            route.fulfill(status=400, json={"error": error})
        else:
            route.continue_()

    alice.page.route("**/v1/chat/completions", refuse)
    alice.find("#model:enabled")
    settings(alice)
    alice.find("#set-temperature").fill("0")
    close(alice)
    alice.ask("hello")
    card = alice.find(".problem")
    assert "refused this setting: Temperature" in card.inner_text()
    assert "temperature must be 1" in card.inner_text()
    alice.find("#set-open").click()
    expect(alice.page.locator("#set-temperature")).to_be_focused()
    close(alice)
    alice.find("#set-without").click()
    assert "You said 'hello'" in alice.finished_answer()


def test_a_persona_of_the_site_sets_how_one_is_answered_and_switches_no_model(alice: Tab) -> None:
    asked = questions(alice)
    alice.find("#model:enabled")
    settings(alice)
    alice.find("#persona").select_option(label="Poet")
    assert "made for the model smollm2-light. You are using smollm2-135m" in alice.find("#panel").inner_text()
    close(alice)
    assert "Poet" in alice.find("#persona-chip").inner_text()
    ask(alice)
    assert (asked[0]["model"], asked[0]["messages"][0]["content"]) == ("smollm2-135m", "Answer in verse.")
    alice.find("#new-chat").click()
    settings(alice)
    alice.find("#persona").select_option(label="Poet")
    alice.find("#persona-model").click()
    close(alice)
    ask(alice)
    assert asked[1]["model"] == "smollm2-light"


def test_own_personas_and_prompts_go_to_another_browser_by_a_file(
    alice: Tab, new_profile: Profiles, tmp_path: Path
) -> None:
    alice.find("#model:enabled")
    settings(alice)
    alice.find("#set-system").fill("Answer as a pirate")
    alice.find("#set-temperature").click()
    alice.find("#persona-name").fill("Pirate")
    alice.press("Enter")
    alice.page.locator("summary", has_text="Saved prompts").click()
    alice.page.get_by_label("New prompt: name").fill("Greeting")
    alice.page.locator("#prompt-new-text").fill("Write a greeting for")
    alice.press("Tab", "Enter")
    alice.page.locator("summary", has_text="Your personas").click()
    with alice.page.expect_download() as download:
        alice.page.get_by_role("button", name="Export personas and prompts").first.click()
    file = tmp_path / "shared.json"
    download.value.save_as(file)
    shared = json.loads(file.read_text())
    assert [one["name"] for one in shared["personas"] + shared["prompts"]] == ["Pirate", "Greeting"]

    other = new_profile("alice")
    other.find("#model:enabled")
    settings(other)
    other.page.locator("summary", has_text="Your personas").click()
    for expected in ("Added: 2", "Here already: 2"):
        other.page.locator("#panel input[type=file]").first.set_input_files(file)
        expect(other.find("#panel")).to_contain_text(expected)
    bad = tmp_path / "bad.json"
    bad.write_text('{"format": "another"}')
    other.page.locator("#panel input[type=file]").first.set_input_files(bad)
    other.wait(lambda: "Nothing was changed" in other.find("#panel").inner_text())
    other.find("#persona").select_option(label="Pirate")
    close(other)
    asked = questions(other)
    ask(other)
    assert asked[0]["messages"][0]["content"] == "Answer as a pirate"


def save_prompt(tab: Tab, name: str, text: str) -> None:
    """Save a prompt."""
    settings(tab)
    tab.page.locator("summary", has_text="Saved prompts").click()
    tab.page.get_by_label("New prompt: name").fill(name)
    tab.page.locator("#prompt-new-text").fill(text)
    tab.press("Tab", "Enter")
    tab.wait(lambda: tab.count("#panel .shelf form") == 2)
    close(tab)


def test_a_slash_offers_saved_prompts_and_leaves_words_that_are_composed_alone(alice: Tab) -> None:
    alice.find("#model:enabled")
    save_prompt(alice, "Résumé", "Summarise this text:")
    box = alice.find("#input")
    box.press_sequentially("/res")
    assert "Résumé" in alice.find("#slash").inner_text()
    # The Enter that ends a word in Japanese, in both ways in which browsers say so.
    for extra in ("isComposing: true", "keyCode: 229"):
        alice.run(
            f"""
            const given = {{ key: "Enter", bubbles: true, cancelable: true, {extra} }};
            document.getElementById("input").dispatchEvent(new KeyboardEvent("keydown", given));
            """
        )
    assert box.input_value() == "/res"
    alice.press("Enter")
    alice.wait(lambda: box.input_value() == "Summarise this text:")
    alice.gone("#slash")
    assert not alice.sees(".message"), "the Enter chose, it did not send"
    box.fill("a/b")
    assert not alice.sees("#slash")
    box.fill("")
    box.press_sequentially("/")
    alice.find("#slash")
    alice.press("Escape")
    alice.gone("#slash")
    assert box.input_value() == "/"


def test_a_link_carries_settings_which_are_told_before_they_apply(alice: Tab, new_profile: Profiles) -> None:
    alice.profile.context.grant_permissions(["clipboard-read", "clipboard-write"])
    alice.find("#model:enabled")
    ask(alice, "a secret question")
    settings(alice)
    alice.find("#set-system").fill("Be kind")
    alice.find("#set-temperature").fill("0.5")
    alice.find("#link-copy").click()
    alice.wait(lambda: "link is copied" in alice.find("#panel").inner_text())
    link = str(alice.run("return navigator.clipboard.readText()"))
    assert "secret" not in link and "/c/" not in link
    for answer, expected in (("#linked .button:not(.primary)", None), ("#linked-use", 0.5)):
        other = new_profile("alice")
        other.page.goto(link)
        other.find("#model:enabled")
        assert "Be kind" in other.find("#linked").inner_text()
        assert "#" not in other.page.url
        other.find(answer).click()
        asked = questions(other)
        ask(other)
        assert asked[0].get("temperature") == expected


def test_a_link_waits_for_the_sign_in(tab: Tab) -> None:
    tab.open("/#settings?temperature=0.5")
    tab.find("#sign-in").click()
    tab.fill_in("alice")
    assert "0.5" in tab.find("#linked").inner_text()
    close(tab)
    tab.reload()
    tab.find("#model:enabled")
    assert not tab.sees("#linked")


def test_a_link_with_anything_else_changes_nothing_and_is_said_to_be_bad(alice: Tab) -> None:
    for said in ("temperature=9", "system=x&message=hello", "model=%3Cscript%3E"):
        alice.open("/keys")
        alice.open(f"/#settings?{said}")
        assert "cannot read" in alice.find("#linked").inner_text()
        assert not alice.sees("#linked-use")
        close(alice)


# --- What is too long, and what is not what it seems ------------------------------------------------------


def test_tokens_speed_and_what_is_left_of_the_context_stand_under_an_answer(alice: Tab) -> None:
    ask(alice)
    words = alice.find(".usage-note").inner_text()
    assert "smollm2-135m · 2 tokens" in words
    assert "1,946 of 2,048 tokens left" in words
    alice.reload()
    assert alice.find(".usage-note").inner_text().startswith("smollm2-135m · 2 tokens")


def test_a_conversation_that_is_too_long_is_said_to_be_and_goes_on_with_its_newest_turns(alice: Tab) -> None:
    asked = questions(alice)
    alice.open(stored.put(alice, "a" * 3_000, "b" * 3_000, "short", "answer"))
    alice.find("#model:enabled")
    alice.ask("And now?")
    card = alice.find(".problem")
    assert "longer than the model can read" in card.inner_text()
    assert "the messages before: about 2,0" in card.inner_text()
    assert asked == [], "it is said before it is sent"
    assert accessible.faults(alice) == []
    alice.find("#newest-only").click()
    assert "You said 'And now?'" in alice.finished_answer()
    sent = [one["content"][:5] for one in asked[0]["messages"]]
    assert sent == ["short", "answe", "And n"]


def test_what_an_engine_counts_as_too_long_is_shortened_until_it_fits(alice: Tab) -> None:
    def refuse(route: Route) -> None:
        if len(body(route.request)["messages"]) > 1:
            error = {"message": "too many tokens", "code": "context_length_exceeded", "param": "messages"}
            route.fulfill(status=400, json={"error": error})
        else:
            route.continue_()

    alice.page.route("**/v1/chat/completions", refuse)
    alice.open(stored.put(alice, *(f"{at} " + "c" * 300 for at in range(6))))
    alice.find("#model:enabled")
    alice.ask("And now?")
    for _ in range(6):
        alice.wait(lambda: alice.sees("#newest-only") or "You said" in alice.answer())
        if not alice.sees("#newest-only"):
            break
        alice.find("#newest-only").click()
        alice.wait(lambda: not alice.is_writing())
    assert "You said 'And now?' in message 1." in alice.finished_answer()


def test_an_answer_that_never_ends_is_ended_and_kept(alice: Tab) -> None:
    alice.ask("endless")
    alice.wait(lambda: alice.sees(".note") and "reached the length" in alice.texts(".note")[0], 240)
    alice.wait(lambda: max(len(one["content"]) for one in stored.messages(alice)) > 1_900_000)


def paste(tab: Tab, make: str) -> None:
    """Paste a text that an expression of JavaScript makes."""
    tab.run(
        f"""
        const data = new DataTransfer();
        data.setData("text/plain", {make});
        const box = document.getElementById("input");
        box.focus();
        const given = {{ clipboardData: data, bubbles: true, cancelable: true }};
        const taken = box.dispatchEvent(new ClipboardEvent("paste", given));
        if (taken) document.execCommand("insertText", false, {make});
        """
    )


def test_fifty_megabytes_in_the_clipboard_stay_there_and_it_is_said(alice: Tab) -> None:
    alice.type("before ")
    paste(alice, '"x".repeat(50_000_000)')
    assert "50,000,000 characters" in alice.find("#paste").inner_text()
    assert alice.find("#input").input_value() == "before "
    alice.find("#paste button").click()
    alice.wait(lambda: alice.run('return document.getElementById("input").value.length') == 1_000_000)
    alice.gone("#paste .problem")


def test_characters_that_nobody_sees_are_counted_and_can_be_removed(alice: Tab) -> None:
    paste(alice, r'"pay\u202e1000\u202c \u0007now\u200b"')
    assert "change the direction of text: 4" in alice.find("#paste").inner_text()
    assert accessible.faults(alice) == []
    alice.find("#paste button").click()
    assert alice.find("#input").input_value() == "pay1000 now"


def test_a_title_from_right_to_left_turns_nothing_around_it(alice: Tab) -> None:
    ask(alice, "abc \u202edef")
    alice.find('#conversations button[aria-label^="Delete"]').click()
    text = alice.find("#undo").inner_text()
    assert "\u2068abc \u202edef\u2069" in text


def until_said(tab: Tab, condition: Callable[[], bool]) -> None:
    """Wait for what the page notices by itself: it asks for the models' state each quarter of a minute."""
    tab.wait(condition, 90)


def test_a_session_that_ends_while_one_types_is_said_and_the_text_is_kept(alice: Tab) -> None:
    alice.find("#model:enabled")
    alice.type("a long thought")
    second = alice.another_tab()
    second.open()
    second.sign_out()
    # Coming back to a tab has it look.
    alice.run('document.dispatchEvent(new Event("visibilitychange"))')
    until_said(alice, lambda: "You are signed out" in " ".join(alice.texts("#session")))
    assert alice.find("#input").input_value() == "a long thought"
    alice.find("#session a").click()
    alice.fill_in("alice")
    alice.wait(lambda: alice.find("#input").input_value() == "a long thought")


def test_a_web_that_is_down_is_said_and_the_question_is_kept(alice: Tab) -> None:
    alice.find("#model:enabled")
    alice.page.route(
        "**/v1/chat/completions", lambda route: route.fulfill(status=502, body="<html>bad gateway")
    )
    alice.ask("hello")
    assert "cannot be reached" in alice.find(".problem").inner_text()
    assert alice.turns("user") == ["hello"]
    alice.page.unroute("**/v1/chat/completions")
    alice.find(".problem .retry").click()
    assert "You said 'hello'" in alice.finished_answer()
