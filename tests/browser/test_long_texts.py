"""Whatever a text is, the page stays responsive: no task of its main thread takes long."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.browser import stored, tasks
from tests.browser.browser import Browser, Target, opened

pytestmark = [pytest.mark.browser, pytest.mark.integration]

# In milliseconds of processor time.
LONGEST_TASK = 100
TEXTS = {
    "a heading of 50,000 spaces": "# a" + " " * 50_000 + "b",
    "a fence of 50,000 spaces": "```" + " " * 50_000 + "`",
    "1,000 nested lists": "\n".join("  " * depth + "- a" for depth in range(1_000)),
    "100,000 items": "- a\n" * 100_000,
    "a line of a million characters": "a" * 1_000_000,
    "100,000 lines of code": "```\n" + "x = 1;\n" * 100_000,
}


@pytest.fixture(scope="module")
def traced(target: Target, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    assert "SLUICE_URL" not in os.environ, "these tests need the stub: run them without SLUICE_URL"
    with opened(target, tmp_path_factory.mktemp("traced"), tracing=True) as browser:
        browser.sign_in("alice")
        browser.wait_for_models()
        yield browser


def shown(browser: Browser) -> None:
    """Wait until all parts of the text are there, and look at its beginning."""
    browser.wait(lambda: browser.all(".message .part, .message .piece"))
    browser.wait(lambda: browser.run("return !document.querySelector('.part:empty, .piece:empty')"), 120)
    browser.run(
        "document.querySelector('#scroller').scrollTop = 0; await new Promise(requestAnimationFrame);"
    )


@pytest.mark.parametrize("name", TEXTS)
def test_no_task_is_long_while_an_answer_is_shown(traced: Browser, name: str) -> None:
    address = stored.put(traced, "q", TEXTS[name])
    tasks.longest(traced)
    traced.open(address)
    shown(traced)
    assert tasks.longest(traced) < LONGEST_TASK


def test_no_task_is_long_while_a_long_question_is_shown(traced: Browser) -> None:
    address = stored.put(traced, "word " * 200_000, "a")
    tasks.longest(traced)
    traced.open(address)
    shown(traced)
    assert tasks.longest(traced) < LONGEST_TASK
