"""How long tabs' main threads worked on each task: processor time, which other programs do not lengthen."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from playwright.sync_api import Browser

_TASK = "ThreadControllerImpl::RunTask"
_MAIN_THREAD = "CrRendererMain"


@dataclass
class Tasks:
    """The tasks of the tabs' main threads, in milliseconds of processor time; filled when the block ends."""

    milliseconds: list[float] = field(default_factory=list)

    @property
    def longest(self) -> float:
        """The longest task."""
        return max(self.milliseconds)

    @property
    def total(self) -> float:
        """All tasks together."""
        return sum(self.milliseconds)


@contextmanager
def traced(browser: Browser) -> Iterator[Tasks]:
    """Note the tasks of all tabs of `browser` while the block runs: `with traced(chromium) as tasks: …`."""
    found = Tasks()
    browser.start_tracing(categories=["toplevel", "__metadata"])
    try:
        yield found
    finally:
        trace = browser.stop_tracing()
    events = json.loads(trace)["traceEvents"]
    mains = {
        (event["pid"], event["tid"])
        for event in events
        if event["name"] == "thread_name" and event["args"]["name"] == _MAIN_THREAD
    }
    found.milliseconds += [
        event.get("tdur", 0) / 1000
        for event in events
        if event["name"] == _TASK and event["ph"] == "X" and (event["pid"], event["tid"]) in mains
    ]
    assert len(found.milliseconds) > 100, "no tasks: Chromium may call them by another name now"
