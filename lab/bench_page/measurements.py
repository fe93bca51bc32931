"""What is measured of the page. Each function gives its figures with their goals."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from lab.bench.report import Figure, at_most, over_rounds
from lab.bench_page.place import BARE, Place
from tests.browser import stored, tasks
from tests.browser.tab import Tab

# Notes when a text field is there and has been painted, in milliseconds from the navigation's begin.
_READY = """
  const look = () => {
    if (!document.querySelector("#input")) return requestAnimationFrame(look);
    requestAnimationFrame(() => setTimeout(() => { window.ready = performance.now(); }));
  };
  requestAnimationFrame(look);
"""
# Clicks, and gives the milliseconds until so many elements are there, the last of them with a text, painted.
_CLICK = """
  const [button, selector, count, text] = arguments_;
  const there = () => {
    const all = document.querySelectorAll(selector);
    return all.length >= count && all[all.length - 1].textContent.includes(text);
  };
  const begun = performance.now();
  document.querySelector(button).click();
  while (!there()) await new Promise(requestAnimationFrame);
  await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  return performance.now() - begun;
"""
# Clicks for more of the list until all is there; gives the milliseconds until it is painted.
_LIST_ALL = """
  const begun = performance.now();
  const button = () => document.querySelector("#conversations li > button.quiet-button");
  while (document.querySelectorAll(".conversation").length < arguments_[0]) {
    button()?.click();
    await new Promise(requestAnimationFrame);
  }
  await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  return performance.now() - begun;
"""
MESSAGES, CONVERSATIONS = 2_000, 1_000
TOKENS_PER_SECOND = 200
LONGEST_TASK = 50
TYPED = "The quick brown fox jumps over the lazy dog. " * 5


@dataclass(frozen=True)
class Measurement:
    """One measurement: its name for `--only`, what it measures, and the function that does it."""

    name: str
    title: str
    run: Callable[[Place], list[Figure]]


def loads(place: Place) -> list[Figure]:
    """Measure bytes and requests of the first load and of the next."""
    tab = place.signed_in()
    received, asked = list[float](), list[str]()
    session = tab.cdp()
    session.on("Network.loadingFinished", lambda event: received.append(event["encodedDataLength"]))
    session.on("Network.requestWillBeSent", lambda event: asked.append(event["request"]["url"]))
    session.send("Network.enable")
    figures = []
    for name, bytes_, requests in (("first load", 150_000, 8), ("warm load", 10_000, 8)):
        received.clear()
        asked.clear()
        tab.open()
        tab.find("#model:enabled")
        tab.page.wait_for_load_state("networkidle")
        figures.append(Figure(f"bytes, {name}", sum(received), "bytes", at_most(bytes_)))
        figures.append(Figure(f"requests, {name}", len(asked), "requests", at_most(requests)))
    return figures


def readiness(place: Place) -> list[Figure]:
    """Measure when one can type, against a bare page with a text field from the same nginx, in turns."""
    seconds: dict[str, list[float]] = {"bare": [], "chat": [], "bare, warm": [], "chat, warm": []}
    for _ in place.rounds(15):
        for name, path in (("bare", BARE), ("chat", "/")):
            tab = place.signed_in()
            tab.page.add_init_script(_READY)
            for suffix in ("", ", warm"):
                tab.open(path)
                seconds[name + suffix].append(tab.wait(partial(tab.run, "return window.ready")))
            tab.profile.context.close()
    figures = [over_rounds(f"ready, {name}", found, "ms") for name, found in seconds.items()]
    for suffix in ("", ", warm"):
        pairs = zip(seconds["chat" + suffix], seconds["bare" + suffix], strict=True)
        ratios = [chat / bare for chat, bare in pairs]
        figures.append(over_rounds(f"ready, chat against bare{suffix}", ratios, "x", at_most(1.5)))
    return figures


def long_conversation(place: Place) -> list[Figure]:
    """Measure how a conversation of many messages opens, and the tasks while one types in it."""
    tab = place.signed_in()
    tab.open()
    tab.find("#model:enabled")
    address = stored.put(tab, *(f"turn **{at}** of many" for at in range(MESSAGES)))
    milliseconds = []
    for _ in place.rounds(9):
        tab.open()
        tab.find(".conversation")
        last = f"turn {MESSAGES - 1}"
        milliseconds.append(tab.run(_CLICK, ".conversation", ".message", 10, last))
    opened = over_rounds(f"{MESSAGES:,} messages opened", milliseconds, "s", at_most(0.5), scale=1 / 1000)
    tab.open(address)
    tab.find(".message")
    with tasks.traced(place.browser) as found:
        tab.find("#input").press_sequentially(TYPED)
    name = f"longest task while typing below {MESSAGES:,} messages"
    return [opened, Figure(name, found.longest, "ms", at_most(LONGEST_TASK))]


def long_list(place: Place) -> list[Figure]:
    """Measure how long many conversations take to be listed: the first of them, and all."""
    tab = place.signed_in()
    tab.open()
    tab.find("#model:enabled")
    for _ in range(CONVERSATIONS):
        stored.put(tab, "question", "answer")
    tab.page.add_init_script(
        _READY.replace("#input", ".conversation").replace("window.ready", "window.listed")
    )
    tab.page.add_init_script(_READY)
    first, whole = [], []
    for _ in place.rounds(9):
        tab.open()
        tab.wait(lambda: tab.run("return window.ready && window.listed"))
        first.append(max(0.0, tab.run("return window.listed - window.ready")))
        whole.append(tab.run(_LIST_ALL, CONVERSATIONS))
    name = f"{CONVERSATIONS:,} conversations"
    return [
        over_rounds(f"{name}: the first listed, from when one can type", first, "s", at_most(0.3), 1 / 1000),
        over_rounds(f"{name}: all listed, by clicks for more", whole, "s", at_most(0.3), 1 / 1000),
    ]


def _words(tab: Tab) -> int:
    """Return how many words the answer has, those out of view too, which have no inner text."""
    found: int = tab.run(
        "return [...document.querySelectorAll('.message.assistant')].at(-1).textContent.split(' ').length"
    )
    return found


def streaming(place: Place) -> list[Figure]:
    """Measure the processor's share of an answer of 200 tokens per second."""
    tab = place.signed_in()
    tab.open()
    tab.ask("fast")
    tab.wait(lambda: "token100 " in tab.answer())
    seconds = 5.0 if place.quick else 20.0
    came = _words(tab)
    begun, busy = time.monotonic(), _busy(place)
    tab.page.wait_for_timeout(seconds * 1000)
    ended, later = time.monotonic(), _busy(place)
    now = _words(tab)
    tab.stop()
    passed = ended - begun
    shares = {name: 100 * (later[name] - busy[name]) / passed for name in busy}
    rate = Figure("tokens that came", (now - came) / passed, "1/s")
    scale = TOKENS_PER_SECOND / rate.value
    return [
        rate,
        Figure("200 token/s, the tab's process", shares["renderer"] * scale, "% of core", at_most(20)),
        Figure("200 token/s, painting without a GPU", shares["GPU"] * scale, "% of core"),
    ]


def _busy(place: Place) -> dict[str, float]:
    """Return the seconds of the processor so far: all tabs' processes, the painter's."""
    session = place.browser.new_browser_cdp_session()
    processes: list[dict[str, Any]] = session.send("SystemInfo.getProcessInfo")["processInfo"]
    session.detach()
    found = {"renderer": 0.0, "GPU": 0.0}
    for one in processes:
        if one["type"] in found:
            found[one["type"]] += one["cpuTime"]
    return found


def _metrics(tab: Tab) -> dict[str, float]:
    session = tab.cdp()
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    found = {one["name"]: float(one["value"]) for one in session.send("Performance.getMetrics")["metrics"]}
    session.detach()
    return found


def _nodes(tab: Tab) -> int:
    """Return how many nodes the page has and holds: in the document, and out of it.

    Chromium's own count has the undo history of the text field too: two for each text, on a bare page too.
    """
    session = tab.cdp()
    session.send("DOM.enable")
    apart = session.send("DOM.getDetachedDomNodes")["detachedNodes"]
    session.detach()
    there: int = tab.run("return document.querySelectorAll('*').length")
    return there + sum(len(one["retainedNodeIds"]) for one in apart)


def a_day(place: Place) -> list[Figure]:
    """Measure memory over a day's use in a tab that stays open: conversations come and go, hours pass."""
    tab = place.signed_in()
    tab.page.clock.install()
    tab.open()
    tab.find("#model:enabled")
    heaps, nodes = [], []
    for _ in range(4 if place.quick else 12):
        for _ in range(3 if place.quick else 10):
            _one_conversation(tab)
        tab.page.clock.fast_forward("02:00:00")
        tab.find("#new-chat").click()
        tab.page.request_gc()
        metrics = _metrics(tab)
        heaps.append(metrics["JSHeapUsedSize"])
        nodes.append(_nodes(tab))
    # In the first hours things are loaded and compiled that stay.
    settled = len(heaps) // 3
    grown = 100 * (min(heaps[-settled:]) / min(heaps[settled : 2 * settled]) - 1)
    return [
        Figure("heap at the end of a day", heaps[-1] / 1e6, "MB"),
        Figure("growth of the heap, last third of a day against second", grown, "%", at_most(5)),
        Figure("growth of the page's nodes, the same", nodes[-1] - nodes[settled], "nodes", at_most(50)),
    ]


def _one_conversation(tab: Tab) -> None:
    """Ask, look at the answer, delete it all."""
    tab.ask("markdown")
    tab.finished_answer()
    tab.find('#conversations [aria-label^="Delete"]').click()
    tab.gone(".conversation")


ALL = (
    Measurement("loads", "what a browser loads", loads),
    Measurement("ready", "when one can type, against a bare page", readiness),
    Measurement("messages", "a conversation of 2,000 messages", long_conversation),
    Measurement("list", "a list of 1,000 conversations", long_list),
    Measurement("stream", "an answer of 200 tokens per second", streaming),
    Measurement("memory", "a day of use", a_day),
)
