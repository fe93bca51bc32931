"""Whatever a text is, the page stays responsive: no task of its main thread takes long."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser

from tests.browser import stored, tasks
from tests.browser.marks import ON_STUB
from tests.browser.tab import Tab

pytestmark = ON_STUB

# In milliseconds of processor time.
LONGEST_TASK = 100
# Other programs only lengthen a task, by the caches that they use: the least of some tries is the page's own.
TRIES = 8
TEXTS = {
    "a heading of 50,000 spaces": "# a" + " " * 50_000 + "b",
    "a fence of 50,000 spaces": "```" + " " * 50_000 + "`",
    "1,000 nested lists": "\n".join("  " * depth + "- a" for depth in range(1_000)),
    "100,000 items": "- a\n" * 100_000,
    "a line of a million characters": "a" * 1_000_000,
    "100,000 lines of code": "```\n" + "x = 1;\n" * 100_000,
}


def shown(tab: Tab) -> None:
    """Wait until all parts of the text are there, and look at its beginning."""
    tab.wait(lambda: tab.sees(".message .part, .message .piece"))
    tab.wait(lambda: tab.run("return !document.querySelector('.part:empty, .piece:empty')"), 120)
    tab.run("document.querySelector('#scroller').scrollTop = 0; await new Promise(requestAnimationFrame);")


def longest_task(chromium: Browser, tab: Tab, question: str, answer: str) -> float:
    """Return the longest task of the main thread while a conversation is opened and shown.

    It is opened again while that is too long, TRIES times at most; the least of these is what counts. But no
    other program makes a task three times as long.
    """
    address = stored.put(tab, question, answer)
    found: list[float] = []
    while len(found) < TRIES and min(found, default=LONGEST_TASK) >= LONGEST_TASK:
        found.append(_longest_task(chromium, tab, address))
    assert max(found) < 3 * LONGEST_TASK
    return min(found)


def _longest_task(chromium: Browser, tab: Tab, address: str) -> float:
    tab.page.goto("about:blank")
    with tasks.traced(chromium) as found:
        tab.open(address)
        shown(tab)
    return found.longest


@pytest.mark.parametrize("name", TEXTS)
def test_no_task_is_long_while_an_answer_is_shown(chromium: Browser, alice: Tab, name: str) -> None:
    assert longest_task(chromium, alice, "q", TEXTS[name]) < LONGEST_TASK


def test_no_task_is_long_while_a_long_question_is_shown(chromium: Browser, alice: Tab) -> None:
    assert longest_task(chromium, alice, "word " * 200_000, "a") < LONGEST_TASK
