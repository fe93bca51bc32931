"""A tab of a real browser, and what a user does in it.

How to write a test: take the fixture `alice` (a tab in which alice has signed in, in an empty profile, on the
chat page) or `tab` (an empty profile, on no page yet); `new_profile` opens more of them:

    def test_a_model_answers(alice: Tab) -> None:
        alice.ask("What is the capital of France?")
        assert "Paris" in alice.finished_answer()
        expect(alice.find("#model-status")).to_have_text("ready")

    def test_two_people(alice: Tab, new_profile: Profiles) -> None:
        bob = new_profile("bob")                                   # signed in, a profile of his own
        japanese = new_profile("alice", locale="ja-JP")            # alice again, in an empty browser
        phone = new_profile("alice", viewport=PHONE, has_touch=True, is_mobile=True)
        second = alice.another_tab()                               # same profile: same storage, same session

`tab.page` is Playwright's page (https://playwright.dev/python/docs/api/class-page), for whatever has no name
here: `page.keyboard.press("Tab")`, `page.set_viewport_size(…)`, `page.emulate_media(color_scheme="dark")`,
`page.add_init_script(…)` for what must be there before the page's own scripts, `with
page.expect_download() as download: …`, `locator.set_input_files(…)`. Options of `new_profile` are those of
`browser.new_context`: `locale`, `viewport`, `color_scheme`, `has_touch`, `permissions`, …

- Wait for states, never for time: `expect(…)` of Playwright, or `tab.wait(condition)` for what is not on the
  page. Both give up after 30 seconds.
- An end of a test fails it when any tab of its profiles has asked another host than the site and its
  provider. `tab.profile.asked()` has all addresses so far.
- `tab.complaints()` has the errors of the console: breaches of the content policy, and what scripts throw.
- When a test fails, build/browser/TEST has a picture of each tab and a trace:
  `.venv/bin/playwright show-trace build/browser/TEST/trace.zip`.
- tests/browser/stored.py puts conversations into a profile and reads them; tests/browser/tasks.py has the
  processor time of a tab's tasks; tests/browser/front.py has the words that make the stub behind /v1 slow,
  broken, queued, …
- Tests of what the stub does carry `pytestmark = ON_STUB`; others also run against a site of the test bed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

from playwright.sync_api import (
    BrowserContext,
    CDPSession,
    ConsoleMessage,
    Dialog,
    Error,
    Locator,
    Page,
    Request,
    ViewportSize,
    expect,
)

from tests.browser.chromium import PATIENCE, Target

T = TypeVar("T")

# A small model that rambles fills its whole context: minutes, on a busy processor.
RAMBLING = 240.0
PHONE: ViewportSize = {"width": 360, "height": 740}
DESKTOP: ViewportSize = {"width": 1280, "height": 800}

_POLL = 50.0
_MOST_TABS = 80


class Profile:
    """A browser's profile: its cookies, its storage, its tabs, and what all of these asked and complained."""

    def __init__(self, context: BrowserContext, target: Target) -> None:
        self.context = context
        self.target = target
        self.requests: list[Request] = []
        self.said: list[str] = []
        context.set_default_timeout(PATIENCE * 1000)
        context.on("request", self._count)
        context.on("console", self._note)
        context.on("weberror", lambda error: self.said.append(str(error.error)))

    def open_tab(self) -> Tab:
        """Open an empty tab."""
        return Tab(self.context.new_page(), self)

    def asked(self) -> list[str]:
        """Return the addresses of all requests, in their order."""
        return [request.url for request in self.requests]

    def strangers(self) -> list[str]:
        """Return the requests to others than the site and its provider."""
        return [url for url in self.asked() if not self.target.is_own(url)]

    def online(self, online: bool) -> None:
        """Give the profile a network, or take it away."""
        self.context.set_offline(not online)

    def _count(self, request: Request) -> None:
        self.requests.append(request)

    def _note(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.said.append(f"{message.location.get('url', '')} {message.text}")


class Tab:
    """What a user does in one tab. Waits end after 30 seconds, with AssertionError or Playwright's errors."""

    def __init__(self, page: Page, profile: Profile) -> None:
        self.page = page
        self.profile = profile
        self.target = profile.target
        self._answers = 0

    def another_tab(self) -> Tab:
        """Open an empty tab beside this one."""
        return self.profile.open_tab()

    def cdp(self) -> CDPSession:
        """Return a session of Chromium's own protocol, for what Playwright has no name for."""
        return self.profile.context.new_cdp_session(self.page)

    # --- Pages -------------------------------------------------------------------------------------------

    def open(self, path: str = "/") -> None:
        """Go to one of the site's pages."""
        try:
            self.page.goto(self.target.url + path)
        except Error as error:
            # Chromium drops what is under way when any interface of the machine comes or goes.
            if "ERR_NETWORK_CHANGED" not in str(error):
                raise
            self.page.goto(self.target.url + path)

    def reload(self) -> None:
        """Load the page again."""
        self.page.reload()

    @property
    def path(self) -> str:
        """The path of the address."""
        return urlsplit(self.page.url).path

    # --- Signing in and out ------------------------------------------------------------------------------

    def sign_in(self, login: str) -> None:
        """Sign in at the provider, from the front page, and wait for the chat page."""
        self.open()
        self.find("#sign-in").click()
        self.fill_in(login)

    def fill_in(self, login: str) -> None:
        """Fill in the provider's form, and wait for the site's page."""
        self.find("#login").fill(login)
        self.find("#password").fill(self.target.accounts[login])
        self.find("#submit").click()
        # On a phone it is in a list that is closed.
        self.page.locator("#sign-out").wait_for(state="attached")

    def sign_out(self) -> None:
        """Sign out here and at the provider, and wait for the page that says so."""
        self.find("#sign-out").click()
        self.find("#confirm").click()
        self.page.wait_for_url("**/auth/signed-out*")
        self.find("#sign-in")

    # --- Chatting ----------------------------------------------------------------------------------------

    def wait_for_models(self) -> list[str]:
        """Wait until models are offered; return their names, as the list shows them."""
        self.find("#model:enabled").click()
        self.find("#model-list [data-model]")
        names = self.attributes("#model-list [data-model]", "data-model")
        self.press("Escape")
        self.find("#input").focus()
        return names

    def choose_model(self, name: str) -> None:
        """Choose a model by name."""
        self.find("#model:enabled").click()
        self.find(f'#model-list [data-model="{name}"]').click()

    def type(self, text: str) -> None:
        """Put a text into the composer in place of what is there."""
        self.find("#input").fill(text)

    def ask(self, question: str) -> None:
        """Write a question and send it with Enter."""
        self.find("#model:enabled")
        self._answers = self.count(".message.assistant")
        self.type(question)
        self.find("#input").press("Enter")

    def ask_again(self) -> None:
        """Press the button that has the last answer made anew."""
        self._answers = self.count(".message.assistant") - 1
        self.press_last("Answer again")

    def answer(self) -> str:
        """Return what there is of the last answer."""
        found = self.texts(".message.assistant .body")
        return found[-1] if found else ""

    def turns(self, role: str) -> list[str]:
        """Return the texts of all turns of a role, "user" or "assistant"."""
        return self.texts(f".message.{role} .body")

    def finished_answer(self) -> str:
        """Wait for the answer to what was asked last to be complete; return it."""
        self.wait(
            lambda: self.count(".message.assistant") > self._answers and not self.is_writing(), RAMBLING
        )
        return self.wait(self.answer)

    def stop(self) -> None:
        """Press the stop button."""
        self.find("#stop").click()

    def is_writing(self) -> bool:
        """Tell whether an answer is under way."""
        return self.sees(".message.busy")

    # --- Keys --------------------------------------------------------------------------------------------

    def make_key(self, name: str) -> str:
        """Make an API key on the keys page and return it."""
        self.open("/keys")
        self.find("#key-name").fill(name)
        self.find("#make-key").click()
        return self.find("#new-key").inner_text()

    def key_names(self) -> list[str]:
        """Return the names of the keys that work, as the keys page lists them."""
        return self.texts("#live-keys tbody th")

    def revoke_key(self, name: str) -> None:
        """Revoke a key by its name, and say yes to the question."""
        asked: list[str] = []

        def accept(dialog: Dialog) -> None:
            asked.append(dialog.message)
            dialog.accept()

        self.page.once("dialog", accept)
        self.find(f'form[data-revoke="{name}"] button').click()
        self.wait(lambda: name not in self.key_names())
        assert asked and name in asked[0], "the page asks before it revokes a key"

    # --- Keyboard ----------------------------------------------------------------------------------------

    def press(self, *keys: str) -> None:
        """Press keys where the focus is: "Tab", "Shift+Enter", "Control+a", …"""
        for key in keys:
            self.page.keyboard.press(key)

    @property
    def focused(self) -> Locator:
        """What has the focus."""
        return self.page.locator(":focus")

    def tab_to(self, selector: str, key: str = "Tab") -> Locator:
        """Press Tab until what `selector` names has the focus, and see that it shows where it is."""
        for _ in range(_MOST_TABS):
            self.press(key)
            if self.run("return document.activeElement.matches(arguments_[0])", selector):
                style = self.run("return getComputedStyle(document.activeElement).outlineStyle")
                assert style != "none", f"nobody sees that {selector} has the focus"
                return self.focused
        raise AssertionError(f"{_MOST_TABS} tabs did not lead to {selector}")

    # --- Looking -----------------------------------------------------------------------------------------

    def titles(self) -> list[str]:
        """Return the titles in the list of conversations, in their order."""
        return self.texts("#conversations .conversation")

    def find(self, selector: str) -> Locator:
        """Wait for an element that can be seen, and return the first."""
        found = self.page.locator(selector).filter(visible=True).first
        found.wait_for()
        return found

    def press_last(self, label: str) -> None:
        """Click the last button with this name."""
        self.page.get_by_role("button", name=label, exact=True).last.click()

    def count(self, selector: str) -> int:
        """Return how many elements match right now, seen or not."""
        return self.page.locator(selector).count()

    def sees(self, selector: str) -> bool:
        """Tell whether an element that matches is there right now, seen or not."""
        return self.count(selector) > 0

    def texts(self, selector: str) -> list[str]:
        """Return the texts of what matches right now, as they are to be seen."""
        return [text.strip() for text in self.page.locator(selector).all_inner_texts()]

    def attributes(self, selector: str, name: str) -> list[str]:
        """Return an attribute of all that matches right now; "" where it has none."""
        script = "(all, name) => all.map((one) => one.getAttribute(name) ?? '')"
        found: list[str] = self.page.locator(selector).evaluate_all(script, name)
        return found

    def gone(self, selector: str) -> None:
        """Wait until nothing matches any more."""
        expect(self.page.locator(selector)).to_have_count(0)

    def wait(self, condition: Callable[[], T | None], patience: float = PATIENCE) -> T:
        """Wait until `condition` gives something, and return it. A page that another replaces is no error."""
        deadline = time.monotonic() + patience
        while True:
            found = self._unless_replaced(condition)
            if found:
                return found
            if time.monotonic() > deadline:
                raise AssertionError(
                    f"not seen within {patience} s at {self.page.url}; "
                    f"the page says: {self.texts('.problem')!r}; the console: {self.complaints()}"
                )
            self.page.wait_for_timeout(_POLL)

    @staticmethod
    def _unless_replaced(condition: Callable[[], T | None]) -> T | None:
        try:
            return condition()
        except Error as error:
            if "Execution context was destroyed" in str(error):
                return None
            raise
        except IndexError:
            # What it looks at has gone, or is still to come.
            return None

    def run(self, script: str, *arguments: object) -> Any:
        """Run an async function's body in the page, with `arguments_` as its arguments; return its result."""
        return self.page.evaluate(f"async (arguments_) => {{ {script} }}", list(arguments))

    def complaints(self) -> list[str]:
        """Return what the console of this profile said of errors, and forget it."""
        said, self.profile.said[:] = list(self.profile.said), []
        return said
