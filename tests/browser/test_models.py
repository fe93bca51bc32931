"""Models: searched, chosen, told apart, asked two at a time; and the phone on which that happens."""

from __future__ import annotations

import json
from typing import Any

import pytest
from playwright.sync_api import Route, expect

from tests.browser.marks import ON_STUB
from tests.browser.profiles import Profiles
from tests.browser.tab import PHONE, Tab

pytestmark = ON_STUB

OWN = [
    {"id": "smollm2-135m", "status": "ready", "context_length": 2048},
    {"id": "smollm2-light", "status": "sleeping", "context_length": 2048},
    {"id": "smollm2-slow", "status": "starting", "context_length": 2048},
]
OUTSIDE = {
    "id": "outside-large",
    "status": "ready",
    "context_length": 128_000,
    "capabilities": ["chat", "vision"],
    "external": True,
    "provider": "Example Cloud",
    "region": "Frankfurt",
}


def offer(tab: Tab, *more: dict[str, Any]) -> None:
    """Have the site offer models that it does not have; /v1 behind it is the same."""

    offered = {"object": "list", "data": [*OWN, *more]}
    tab.page.route("**/v1/models", lambda route: route.fulfill(json=offered))
    tab.open()
    tab.find("#model:enabled")


def as_stub(route: Route) -> None:
    """Ask the stub's own model in place of one that it does not have."""
    asked = json.loads(route.request.post_data or "{}")
    route.continue_(post_data=json.dumps({**asked, "model": "smollm2-135m"}))


def chosen(tab: Tab) -> str:
    """Return the model that the box shows."""
    return tab.find("#model").input_value()


def many(number: int) -> list[dict[str, Any]]:
    """Return models of a large site."""
    return [{"id": f"model-{at:02}", "status": "ready", "context_length": 8192} for at in range(number)]


def test_sixty_models_are_searched_and_chosen_by_keyboard_alone(alice: Tab) -> None:
    offer(alice, *many(56), OUTSIDE)
    alice.find("#model").focus()
    alice.press("ArrowDown")
    assert alice.count("#model-list [role=option]") == 60
    alice.find("#model").press_sequentially("42 8,192")
    assert alice.texts("#model-list .model-name") == ["model-42"]
    active = alice.find("#model").get_attribute("aria-activedescendant")
    assert alice.find(f"#{active}").get_attribute("data-model") == "model-42"
    alice.press("Enter")
    assert chosen(alice) == "model-42"
    assert alice.find("#model").get_attribute("aria-expanded") == "false"
    alice.find("#model").press_sequentially("nothing like it")
    assert "No model" in alice.find("#model-list").inner_text()
    alice.press("Enter", "Escape")
    assert chosen(alice) == "model-42", "what was typed and not chosen is gone"
    alice.press("ArrowDown", "ArrowDown", "Enter")
    assert chosen(alice) == "model-43"
    alice.press("ArrowUp", "PageUp", "Enter")
    assert chosen(alice) == "model-35"


def test_the_list_tells_what_each_model_is(alice: Tab) -> None:
    offer(alice, OUTSIDE)
    alice.find("#model").click()
    outside = alice.find('[data-model="outside-large"]').inner_text()
    for words in ("external", "Example Cloud, Frankfurt", "reads 128,000 tokens", "reads images", "ready"):
        assert words in outside
    assert "external" not in alice.find('[data-model="smollm2-135m"]').inner_text()
    assert alice.texts("#model-list .model-name")[-1].startswith("outside-large"), "own models come first"


def test_each_conversation_remembers_its_model(alice: Tab) -> None:
    alice.choose_model("smollm2-light")
    alice.ask("first")
    alice.finished_answer()
    alice.find("#new-chat").click()
    alice.choose_model("smollm2-slow")
    alice.ask("second")
    alice.finished_answer()
    alice.page.get_by_role("link", name="first").click()
    alice.wait(lambda: chosen(alice) == "smollm2-light")
    alice.reload()
    alice.find("#model:enabled")
    alice.wait(lambda: chosen(alice) == "smollm2-light")


def test_an_outside_model_is_asked_after_consent_which_is_remembered(alice: Tab) -> None:
    alice.page.route("**/v1/chat/completions", as_stub)
    offer(alice, OUTSIDE)
    alice.choose_model("outside-large")
    alice.ask("hello")
    assert "run by Example Cloud (Frankfurt)" in alice.find("#consent").inner_text()
    alice.press("Escape")
    alice.gone("#consent")
    assert not [url for url in alice.profile.asked() if url.endswith("/chat/completions")]
    assert alice.turns("user") == ["hello"], "the question stays"
    alice.find(".offer .retry").click()
    alice.find("#consent-yes").click()
    assert "You said 'hello'" in alice.finished_answer()
    alice.reload()
    alice.find("#model:enabled")
    alice.ask("and now")
    assert "You said 'and now'" in alice.finished_answer()
    assert not alice.sees("#consent")


def two(tab: Tab) -> None:
    """Switch the second model on, and wait until it is there."""
    tab.find("#model:enabled")
    tab.find('[aria-label="Ask two models at once"]').click()
    tab.find("#second")


def test_two_models_answer_side_by_side_and_one_answer_is_kept(alice: Tab) -> None:
    two(alice)
    alice.find("#second").click()
    alice.find('#second-list [data-model="smollm2-light"]').click()
    alice.ask("hello")
    expect(alice.page.locator(".side-answer .keep")).to_have_count(2)
    assert alice.attributes(".side-answer", "data-model") == ["smollm2-135m", "smollm2-light"]
    assert alice.turns("assistant") == ["You said 'hello' in message 1."] * 2
    alice.reload()
    expect(alice.page.locator(".side-answer .keep")).to_have_count(2)
    alice.type("go on")
    alice.press("Enter")
    expect(alice.page.locator(".keep").first).to_be_focused()
    assert alice.find("#input").input_value() == "go on", "nothing is sent before one is chosen"
    alice.page.locator(".keep").nth(1).click()
    alice.gone(".choice")
    assert chosen(alice) == "smollm2-light"
    assert alice.find(".message.assistant .branches").inner_text() == "2/2"
    alice.press("Enter")
    assert "You said 'go on' in message 3." in alice.finished_answer()


def test_of_two_models_one_may_fail_and_is_tried_again(alice: Tab) -> None:
    refused: list[dict[str, Any]] = []

    def refuse_once(route: Route) -> None:
        asked = json.loads(route.request.post_data or "{}")
        if asked["model"] == "smollm2-light" and not refused:
            refused.append(asked)
            error = {"message": "gone", "code": "instance_failed"}
            route.fulfill(status=502, json={"error": error})
        else:
            route.continue_()

    alice.page.route("**/v1/chat/completions", refuse_once)
    two(alice)
    alice.ask("hello")
    side = alice.page.locator('.side-answer[data-model="smollm2-light"]')
    expect(side.locator(".problem")).to_contain_text("incomplete")
    side.locator(".retry").click()
    expect(side.locator(".body")).to_have_text("You said 'hello' in message 1.")
    expect(alice.page.locator(".side-answer .keep")).to_have_count(2)


def test_two_answers_are_stopped_at_once(alice: Tab) -> None:
    two(alice)
    alice.ask("slow")
    alice.wait(lambda: len([text for text in alice.turns("assistant") if "word3" in text]) == 2)
    alice.stop()
    expect(alice.page.locator(".side-answer .keep")).to_have_count(2)
    assert not alice.is_writing()


@pytest.fixture
def phone(new_profile: Profiles) -> Tab:
    """A phone on which alice has signed in."""
    return new_profile("alice", viewport=PHONE, has_touch=True, is_mobile=True)


def test_a_phone_has_a_header_of_one_row_and_a_list_of_models_for_fingers(phone: Tab) -> None:
    offer(phone, *many(56))
    assert phone.run('return document.querySelector(".bar").offsetHeight') < 64
    phone.find("#model").tap()
    phone.find('[data-model="smollm2-light"]').tap()
    assert chosen(phone) == "smollm2-light"
    assert "asleep" in (phone.page.locator("#model-status").text_content() or "")
    phone.find("#nav-open").tap()
    phone.find("#nav .link")
    phone.press("Escape")
    expect(phone.page.locator("#nav")).to_be_hidden()
    assert phone.run("return document.documentElement.scrollWidth") <= PHONE["width"]


def test_on_a_phone_enter_makes_a_line_and_the_composer_stays_above_the_keyboard(phone: Tab) -> None:
    phone.find("#model:enabled")
    phone.find("#input").tap()
    phone.find("#input").press_sequentially("one")
    phone.press("Enter")
    phone.find("#input").press_sequentially("two")
    assert phone.find("#input").input_value() == "one\ntwo"
    # As a browser that makes the window smaller for its keyboard.
    phone.page.set_viewport_size({"width": 360, "height": 380})
    assert phone.run('return document.querySelector("#send").getBoundingClientRect().bottom') <= 380
    phone.page.set_viewport_size(PHONE)
    # As one that lays the keyboard over the window.
    phone.run(
        """
        Object.defineProperty(visualViewport, "height", { value: 400, configurable: true });
        visualViewport.dispatchEvent(new Event("resize"));
        """
    )
    phone.wait(
        lambda: phone.run('return document.querySelector("#send").getBoundingClientRect().bottom') <= 400
    )
