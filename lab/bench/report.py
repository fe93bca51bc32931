"""The results of the benchmark: figures with their goals, as a table, results.json and plots.

A module `scenarios*.py` exports `SCENARIOS`, a tuple of `Scenario`; each runs with the shared `Bench`
and returns its figures. Plots are files that a scenario writes below `bench.directory`.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.bench.processes import machine_busy
from lab.bench.stack import Build, Options, Stack


@dataclass(frozen=True)
class Goal:
    """The bound of a value: `at` least or at most."""

    least: bool
    bound: float

    def met(self, value: float) -> bool:
        """Whether the value keeps to the bound."""
        return value >= self.bound if self.least else value <= self.bound

    def __str__(self) -> str:
        return f"{'>=' if self.least else '<='} {self.bound:g}"


def at_least(bound: float) -> Goal:
    """Return the goal of a value that must not be smaller."""
    return Goal(True, bound)


def at_most(bound: float) -> Goal:
    """Return the goal of a value that must not be larger."""
    return Goal(False, bound)


@dataclass(frozen=True)
class Figure:
    """One measured value; `low` and `high`: the spread over the rounds, if there were several."""

    figure: str
    value: float
    unit: str
    goal: Goal | None = None
    low: float | None = None
    high: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None if there is none."""
        return None if self.goal is None else self.goal.met(self.value)

    def document(self) -> dict[str, object]:
        """Return the entry of results.json."""
        goal = None if self.goal is None else str(self.goal)
        value = float(f"{self.value:.6g}")
        return {"figure": self.figure, "value": value, "unit": self.unit, "goal": goal, "met": self.met}

    def line(self) -> str:
        """Return the line of the table."""
        spread = "" if self.low is None or self.high is None else f"{number(self.low)} … {number(self.high)}"
        said = {True: "met", False: "MISSED", None: ""}[self.met]
        goal = "" if self.goal is None else str(self.goal)
        value = number(self.value)
        return f"{self.figure:<58} {value:>10} {self.unit:<10} {spread:<20} {goal:<10} {said}".rstrip()


def number(value: float) -> str:
    """Return a value as text with about three digits; from 100 on, as a whole number."""
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.3g}"


def over_rounds(
    figure: str, values: list[float], unit: str, goal: Goal | None = None, scale: float = 1.0
) -> Figure:
    """Return the median of the rounds' values, times `scale`, with their spread."""
    scaled = [value * scale for value in values]
    return Figure(figure, median(scaled), unit, goal, min(scaled), max(scaled))


def median(values: list[float]) -> float:
    """Return the middle value; for an even number of values, the mean of the two in the middle."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


class Bench:
    """What the scenarios share. `quick` asks for short runs; `directory` is where outputs go."""

    def __init__(self, directory: Path, *, quick: bool) -> None:
        self.directory = directory
        self.quick = quick
        self._build: Build | None = None
        self._stack: Stack | None = None
        self._running = contextlib.ExitStack()
        self._began = time.monotonic()

    def say(self, text: str) -> None:
        """Print a line of progress."""
        print(f"[bench {time.monotonic() - self._began:5.0f} s] {text}", flush=True)

    @property
    def build(self) -> Build:
        """Return the artefacts of this tree; they are built once."""
        if self._build is None:
            self.say("building wheel and zipapp")
            self._build = Build.make(self.directory / "build")
        return self._build

    def stack(self, options: Options | None = None) -> Stack:
        """Return the running stack with these options; end another one first."""
        wanted = options or Options()
        if self._stack is None or self._stack.options != wanted:
            self.renew()
            build = self.build
            self.say("starting the stack")
            self._stack = self._running.enter_context(Stack(self.directory, build, wanted))
        return self._stack

    @contextlib.contextmanager
    def fresh(self, options: Options | None = None) -> Iterator[Stack]:
        """Start a new stack for one scenario alone; end the shared one first."""
        self.renew()
        with Stack(self.directory, self.build, options) as stack:
            yield stack

    def renew(self) -> None:
        """End the running stack: the next scenario gets a fresh one."""
        self._stack = None
        self._running.close()

    @contextlib.contextmanager
    def closing(self) -> Iterator[Bench]:
        """End everything at the end."""
        try:
            yield self
        finally:
            self.renew()


@dataclass(frozen=True)
class Scenario:
    """One measurement: its name for `--only`, what it measures, and the function that does it."""

    name: str
    title: str
    run: Callable[[Bench], list[Figure]]


def machine() -> list[str]:
    """Return a description of the machine: kernel, CPUs, and how busy other programs keep them."""
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    busy, idle = machine_busy()
    time.sleep(1.0)
    later = machine_busy()
    share = (later[0] - busy) / max(later[0] - busy + later[1] - idle, 0.01)
    return [
        f"{os.cpu_count()} CPUs ({model}), Linux {platform.release()}, Python {platform.python_version()}",
        f"before the start {share:.0%} of the machine was busy with something else",
    ]


def write(directory: Path, groups: list[tuple[Scenario, list[Figure]]], head: list[str], keep: bool) -> str:
    """Write table.txt and results.json; return the table of this run.

    With `keep`, the scenarios of earlier runs that this one did not repeat stay in both files.
    """
    path = directory / "scenarios.json"
    found: dict[str, Any] = json.loads(path.read_text()) if keep and path.exists() else {}
    for scenario, figures in groups:
        found[scenario.name] = {
            "head": head,
            "title": scenario.title,
            "results": [figure.document() for figure in figures],
            "lines": [figure.line() for figure in figures],
        }
    path.write_text(json.dumps(found, indent=1) + "\n")
    results = [result for one in found.values() for result in one["results"]]
    (directory / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    (directory / "table.txt").write_text(_table(found))
    return _table({scenario.name: found[scenario.name] for scenario, _ in groups})


def _table(found: dict[str, Any]) -> str:
    title = f"{'FIGURE':<58} {'MEDIAN':>10} {'UNIT':<10} {'SPREAD':<20} {'GOAL':<10}".rstrip()
    lines: list[str] = []
    head: list[str] = []
    for one in found.values():
        if one["head"] != head:
            head = one["head"]
            lines += [*head, ""]
        lines += [f"--- {one['title']}", title, *one["lines"], ""]
    met = [result["met"] for one in found.values() for result in one["results"]]
    lines.append(f"{met.count(True)} goals met, {met.count(False)} missed")
    return "\n".join(lines) + "\n"
