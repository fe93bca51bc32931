"""Web is killed while users are on its pages: what they wrote and got stays, and they are told what to do."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.browser import stored
from tests.browser.loopback import Site, killed
from tests.browser.marks import ON_STUB
from tests.browser.tab import Tab

pytestmark = ON_STUB


def test_an_answer_goes_on_while_web_is_down(alice: Tab, stub: Site) -> None:
    alice.ask("slow")
    alice.wait(lambda: "word3" in alice.answer())
    with killed(stub, "web"):
        came = alice.answer()
        alice.wait(lambda: len(alice.answer()) > len(came) + 20)
        alice.stop()
        alice.wait(lambda: not alice.is_writing())
        kept = alice.wait(alice.answer)
        alice.type("written while web was down")
        alice.wait(lambda: "stopped" in [one["state"] for one in stored.messages(alice)])
    alice.reload()
    assert alice.wait(alice.answer) == kept
    expect(alice.find("#input")).to_have_value("written while web was down")


def test_a_question_that_web_is_needed_for_is_kept_and_can_be_asked_again(alice: Tab, stub: Site) -> None:
    """The page's bearer lasts ten minutes; a new one comes from web."""
    alice.page.clock.install()
    alice.open()
    alice.wait_for_models()
    with killed(stub, "web"):
        alice.page.clock.fast_forward("20:00")
        alice.type("What is the capital of France?")
        alice.press("Enter")
        retry = alice.find(".problem .retry")
        assert alice.turns("user") == ["What is the capital of France?"]
    retry.click()
    alice.wait(lambda: "Paris" in alice.answer() and not alice.is_writing())
    alice.gone(".problem")
