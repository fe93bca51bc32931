"""Scenarios of streams: the first token, tokens at a steady pace, memory, readers that stop reading."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Optional

from lab.bench.generator import Group, Load, Plan, run
from lab.bench.plot import lines
from lab.bench.processes import BenchError
from lab.bench.report import Bench, Figure, Scenario, at_least, at_most, over_rounds
from lab.bench.stack import PARTS, Stack

FIRST_TOKENS = 16
PACE = 20.0  # tokens a second of a stream, as fast as a person reads
SETTLE = 1.5
JITTER_MS = 20.0
DELAY_MS = 50.0  # a token later than the next one's turn is no stream any more
FEWEST, MOST, STEP = 100, 2400, 1.3
PINNED = {"nginx": 0, "proxy": 0, "ssh": 0, "sshd": 0, "relay": 0, "front": 1, "engine": 1}
HELD = ("nginx", "proxy", "ssh", "relay", "front")
KIB = 1024
PAGE = os.sysconf("SC_PAGE_SIZE")


# --- the first token ------------------------------------------------------------------------------------


def first_token(bench: Bench) -> list[Figure]:
    """Time to the first token, compared with the engine alone, at half of the rate that 64 readers reach.

    With tokens 2 ms apart the stack limits the 64 readers. With tokens 10 ms apart, as engines generate them,
    the engine does.
    """
    return [*_first_token(bench, 500.0, goals=(3.0, 10.0)), *_first_token(bench, 100.0, goals=None)]


def _first_token(bench: Bench, rate: float, goals: Optional[tuple[float, float]]) -> list[Figure]:
    stack = bench.stack()
    seconds = 4.0 if bench.quick else 8.0
    group = Group("streams", 64, tokens=FIRST_TOKENS, rate=rate)
    full = run(Plan(stack.target("sluice"), (group,), seconds, measure_from=1.0, measure_until=seconds))
    capacity = full["groups"]["streams"]["latency"]["count"] / (seconds - 1.0)
    arriving = Group("streams", 64, arrivals=capacity / 2, tokens=FIRST_TOKENS, rate=rate)
    found: dict[str, list[dict[str, float]]] = {"direct": [], "sluice": []}
    for _ in range(1 if bench.quick else 3):
        for name, results in found.items():
            done = run(Plan(stack.target(name), (arriving,), seconds, measure_from=1.0))
            results.append(all_well(done, "streams")["first"])
    figures = [Figure(f"streams/s, {FIRST_TOKENS} tokens at {rate:.0f}/s, 64 at once", capacity, "1/s")]
    for number, name in enumerate(("p50", "p99")):
        sluice, direct = ([one[name] for one in found[way]] for way in ("sluice", "direct"))
        over = [one - other for one, other in zip(sluice, direct, strict=True)]
        title = f"first token at half of that ({rate:.0f}/s), over direct, {name}"
        figures.append(over_rounds(title, over, "ms", at_most(goals[number]) if goals else None))
    return figures


def all_well(results: Mapping[str, Any], group: str) -> Mapping[str, Any]:
    """Return a group's results. Raises BenchError if an answer was not complete: its times say nothing."""
    found: Mapping[str, Any] = results["groups"][group]
    wrong = {outcome: count for outcome, count in found["outcomes"].items() if outcome != "ok"}
    if wrong or not found["outcomes"]:
        raise BenchError(f"not all answers of {group} were whole: {wrong or 'there was none'}")
    return found


# --- tokens at a steady pace ----------------------------------------------------------------------------


def steady(bench: Bench) -> list[Figure]:
    """How many streams of 20 tokens per second one core carries: data plane on CPU 0, the rest on CPU 1."""
    stack = bench.stack()
    pinned(stack, PINNED)
    try:
        measured = climb(lambda streams: pace(bench, stack, streams), quick=bench.quick)
    finally:
        stack.pin({part: {0, 1} for part in PINNED})
    carried = [one for one in measured if one["carried"]]
    best = max(carried, key=lambda one: float(one["streams"])) if carried else measured[0]
    plot_pace(bench, measured)
    name = f"streams of {PACE:.0f} token/s carried, jitter p99 within {JITTER_MS:.0f} ms"
    return [
        Figure(name, best["streams"] if carried else 0, "streams", at_least(500)),
        *_ended(measured),
        Figure("token jitter p99 there", best["jitter"], "ms"),
        Figure("token delay p50 there", best["delay_p50"], "ms"),
        Figure("token delay p99 there", best["delay"], "ms"),
        *(Figure(f"CPU per token, {part}", cost, "us") for part, cost in best["cpu"].items()),
    ]


def _ended(measured: list[dict[str, Any]]) -> Iterator[Figure]:
    """Yield the lowest number of streams that was too much."""
    failed = [one["streams"] for one in measured if not one["carried"]]
    if failed:
        yield Figure("fewest streams that were not carried", min(failed), "streams")


def pinned(stack: Stack, places: Mapping[str, int]) -> None:
    """Bind each part to its CPU."""
    stack.pin({part: {cpu} for part, cpu in places.items()})


def climb(measure: Callable[[int], dict[str, Any]], *, quick: bool) -> list[dict[str, Any]]:
    """Measure more and more streams until they are too many, then once between the last two numbers."""
    found: list[dict[str, Any]] = []
    streams = FEWEST
    while streams <= (250 if quick else MOST):
        found.append(measure(streams))
        if not found[-1]["carried"]:
            break
        streams = int(streams * STEP / 10) * 10
    if len(found) > 1 and not found[-1]["carried"]:
        between = (found[-2]["streams"] + found[-1]["streams"]) // 20 * 10
        found.append(measure(between))
    return found


def pace(bench: Bench, stack: Stack, streams: int) -> dict[str, Any]:
    """Run this many streams at 20 tokens per second; return the delay of their tokens and their cost."""
    ramp, window = max(streams / 250, 1.0), 3.0 if bench.quick else 6.0
    tokens = int((ramp + SETTLE + window) * PACE)
    group = Group("streams", streams, requests=streams, ramp=ramp, tokens=tokens, rate=PACE)
    begin = ramp + SETTLE
    plan = Plan(
        stack.target("sluice"),
        (group,),
        begin + window,
        measure_from=begin,
        measure_until=begin + window,
        cpu=1,
    )
    with Load(plan) as load:
        load.wait(lambda groups: groups["streams"]["started"] >= streams, ramp + 10)
        time.sleep(SETTLE + 0.2)
        cpu, began = stack.cpu(), load.figures["streams"]["tokens"]
        time.sleep(window - 0.6)
        spent, ended = stack.cpu(), load.figures["streams"]["tokens"]
        results = load.results()
    found = results["groups"]["streams"]
    cost = {part: (spent[part] - cpu[part]) / max(ended - began, 1) * 1e6 for part in PINNED}
    cost["generator"] = results["cpu_us_per_token"] or 0.0
    whole = found["outcomes"] == {"ok": streams}
    jitter, middle, delay = found["jitter"]["p99"], found["delay"]["p50"], found["delay"]["p99"]
    carried = whole and jitter <= JITTER_MS and delay <= DELAY_MS
    bench.say(
        f"{streams} streams: jitter p99 {jitter:.1f} ms, delay p50 {middle:.1f} p99 {delay:.1f} ms; "
        f"{'' if whole else found['outcomes']} us a token: "
        + " ".join(f"{part} {value:.0f}" for part, value in cost.items() if value >= 0.5)
    )
    return {
        "streams": streams, "carried": carried, "jitter": jitter, "delay": delay,
        "delay_p50": middle, "cpu": {part: round(value, 1) for part, value in cost.items()},
    }  # fmt: skip


def plot_pace(bench: Bench, measured: list[dict[str, Any]]) -> None:
    """Draw jitter and delay against the number of streams."""
    ordered = sorted(measured, key=lambda one: int(one["streams"]))
    names = {"jitter": "jitter p99", "delay": "delay p99", "delay_p50": "delay p50"}
    series = [
        (title, [(float(one["streams"]), min(float(one[key]), 5 * JITTER_MS)) for one in ordered])
        for key, title in names.items()
    ]
    title = f"Tokens of streams at {PACE:.0f} token/s (from {5 * JITTER_MS:.0f} ms on cut off)"
    path = bench.directory / "streams.svg"
    lines(path, title, series, across="streams at once", up="milliseconds", bound=JITTER_MS)


# --- memory ---------------------------------------------------------------------------------------------


def memory(bench: Bench) -> list[Figure]:
    """The memory of an open stream with few tokens, in bytes."""
    bench.renew()  # what an earlier scenario made grow would be used again here
    stack = bench.stack()
    streams = 100 if bench.quick else 500
    run(Plan(stack.target("sluice"), (Group("warm", 16, requests=200, tokens=8),), 10.0))
    time.sleep(1.0)
    before = stack.memory()
    group = Group("streams", streams, requests=streams, ramp=2.0, tokens=100_000, rate=2.0)
    with Load(Plan(stack.target("sluice"), (group,), 60.0, grace=1.0)) as load:
        if not load.wait(lambda groups: groups["streams"]["flowing"] >= streams, 30):
            raise BenchError(f"{streams} streams did not open: {load.figures}")
        time.sleep(2.0)
        after = stack.memory()
        load.stop()
        load.results()
    grown = {part: (after[part] - before[part]) / streams / KIB for part in HELD}
    return [
        Figure(f"memory per open stream, of {streams}", sum(grown.values()), "KiB", at_most(150)),
        *(
            Figure(f"memory per open stream, {part}", kib, "KiB")
            for part, kib in grown.items()
            if kib >= 0.05
        ),
    ]


# --- readers that stop reading --------------------------------------------------------------------------


def stalled(bench: Bench) -> list[Figure]:
    """How readers who stop reading affect the others, and memory."""
    bench.renew()
    stack = bench.stack()
    readers = 200 if bench.quick else 1000
    target = stack.target("sluice")
    live = Group("live", 16, requests=16, ramp=0.8, tokens=160, rate=PACE)
    plan = Plan(target, (live,), 9.0, measure_from=1.0)
    alone = all_well(run(plan), "live")["delay"]
    before, kernel = stack.memory(), tcp_memory()
    stopping = Group(
        "stalled", readers, requests=readers, ramp=4.0, tokens=1_000_000, size=2000, stop_after=5
    )
    with Load(Plan(target, (stopping,), 90.0, grace=1.0)) as load:
        if not load.wait(lambda groups: groups["stalled"]["stopped"] >= readers, 60):
            raise BenchError(f"{readers} readers were not served: {load.figures}")
        at_rest(stack)
        beside = all_well(run(plan), "live")["delay"]
        after, kernel = stack.memory(), tcp_memory() - kernel
        ended = load.figures["stalled"]["outcomes"]
        load.stop()
        load.results()
    grown = {part: (after[part] - before[part]) / readers / KIB for part in (*HELD, "sshd")}
    return [
        Figure("token delay p99 of 16 streams, before readers stop", alone["p99"], "ms"),
        Figure(f"the same beside {readers} stalled readers", beside["p99"], "ms", at_most(alone["p99"] + 10)),
        Figure("memory per stalled reader", sum(grown.values()), "KiB", at_most(256)),
        *(
            Figure(f"memory per stalled reader, {part}", kib, "KiB")
            for part, kib in grown.items()
            if kib >= 0.05
        ),
        Figure("TCP buffers of the kernel per stalled reader", kernel / readers / KIB, "KiB"),
        Figure("stalled readers whose answer ended", sum(ended.values()), "readers", at_most(0)),
    ]


def tcp_memory() -> int:
    """Return the bytes that the kernel holds in TCP buffers."""
    text = Path("/proc/net/sockstat").read_text()
    line = next(line for line in text.splitlines() if line.startswith("TCP:"))
    return int(line.split()[-1]) * PAGE


def at_rest(stack: Stack, seconds: float = 30.0) -> None:
    """Wait until the buffers are full: until the data plane uses almost no CPU."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        before = sum(stack.cpu()[part] for part in PARTS)
        time.sleep(1.0)
        if sum(stack.cpu()[part] for part in PARTS) - before < 0.1:
            return


SCENARIOS = (
    Scenario("first-token", "Time to the first token", first_token),
    Scenario("steady", "Streams of 20 tokens a second", steady),
    Scenario("memory", "Memory of open streams", memory),
    Scenario("stalled", "Readers that stop reading", stalled),
)
