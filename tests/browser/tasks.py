"""How long a tab's main thread worked on each task: processor time, which other programs do not lengthen."""

from __future__ import annotations

import json
from typing import Any

from tests.browser.browser import Browser

_TASK = "ThreadControllerImpl::RunTask"


def longest(browser: Browser) -> float:
    """Leave the page, and return the longest task of its time in milliseconds.

    The browser must be opened with tracing. Its driver reads the trace when another page is loaded.
    """
    browser.open("/keys")
    # Selenium has no types for this method.
    entries = browser.driver.get_log("performance")  # type: ignore[no-untyped-call]
    messages: list[dict[str, Any]] = [json.loads(entry["message"])["message"] for entry in entries]
    events = [one["params"] for one in messages if one.get("method") == "Tracing.dataCollected"]
    tasks = [
        event.get("tdur", 0) / 1000
        for event in events
        # A process's first thread has the number of the process.
        if event.get("name") == _TASK and event.get("ph") == "X" and event["pid"] == event["tid"]
    ]
    assert len(tasks) > 100, "the trace has no tasks: Chromium may call them by another name now"
    return max(tasks)
