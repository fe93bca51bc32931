"""What a run leaves in its folder: results.json, table.txt, pareto.svg."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

from lab.bench import plot
from lab.bench.report import Figure, at_most, number
from lab.simulate.simulation import Result, pareto
from lab.simulate.sweep import AVERAGE, CLAIRVOYANT, FIXED, OURS, against, gpu_hours_at

# The setting that a model has where nothing else is said: the contract's default of `idle_stop`.
DEFAULT = "idle_stop 900"
# Beyond this many times our dearest setting a curve is left out of the plot: it would flatten the rest.
PLOTTED = 2.0


def figures(results: Sequence[Result]) -> list[Figure]:
    """Return the figures of a run with their goals."""
    ours, average, fixed, best = (
        [result for result in results if result.contestant == name]
        for name in (OURS, AVERAGE, FIXED, CLAIRVOYANT)
    )
    beside = against(ours, average)
    ratios = [result.gpu_hours / gpu_hours_at(best, result.p99) for result in pareto(ours)]
    found = [
        Figure("GPU-hours at the moving average's p99 wait, worst point", beside.gpu_hours, "x", at_most(1)),
        Figure("p99 wait at the moving average's GPU-hours, worst point", beside.p99, "x", at_most(1)),
        Figure("GPU-hours of the clairvoyant's at equal p99 wait, best", min(ratios), "x", at_most(1.25)),
        Figure("GPU-hours of the clairvoyant's at equal p99 wait, worst", max(ratios), "x", at_most(1.25)),
    ]
    same = against(ours, fixed)
    found.append(
        Figure("GPU-hours at the fixed size's p99 wait, worst point", same.gpu_hours, "x", at_most(1))
    )
    for result in ours:
        if result.setting == DEFAULT:
            found += [
                Figure(f"GPU-hours, {DEFAULT}", result.gpu_hours, "h"),
                Figure(f"p99 wait, {DEFAULT}", result.p99, "s"),
                Figure(f"mean wait, {DEFAULT}", result.mean, "s"),
                Figure(f"requests that waited, {DEFAULT}", 100 * result.delayed, "%"),
                Figure(f"requests cut by lost instances, {DEFAULT}", result.cut, ""),
            ]
    return found


def write(directory: Path, results: Sequence[Result], head: Sequence[str]) -> str:
    """Write all outputs; return the table."""
    directory.mkdir(parents=True, exist_ok=True)
    found = figures(results)
    documents = [figure.document() for figure in found]
    (directory / "results.json").write_text(json.dumps(documents, indent=2) + "\n")
    runs = [vars(result) for result in results]
    (directory / "runs.json").write_text(json.dumps(runs, indent=1) + "\n")
    table = "\n".join([*head, "", *_table(results), "", *(figure.line() for figure in found)]) + "\n"
    (directory / "table.txt").write_text(table)
    _plot(directory / "pareto.svg", results)
    return table


def _seconds(value: float, width: int, digits: int) -> str:
    """Return a time for the table; a dash if the contestant left requests unanswered."""
    return f"{value:>{width}.{digits}f} s" if math.isfinite(value) else f"{'-':>{width}}  "


def _table(results: Sequence[Result]) -> list[str]:
    lines = [
        f"{'contestant':<15} {'setting':<38} {'GPU-hours':>10} {'p99 wait':>9} {'p99.9':>8} {'mean':>7}"
        f" {'waited':>7} {'cut':>5} {'starts':>7} {'preempted':>9}"
    ]
    for name in (FIXED, AVERAGE, OURS, CLAIRVOYANT):
        mine = [result for result in results if result.contestant == name]
        front = pareto(mine)
        for result in sorted(mine, key=lambda result: result.gpu_hours):
            mark = " *" if result in front else ""
            lines.append(
                f"{name:<15} {result.setting:<38} {number(round(result.gpu_hours)):>10} {result.p99:>7.0f} s"
                f" {_seconds(result.p999, 6, 0)} {_seconds(result.mean, 5, 1)} {result.delayed:>6.1%}"
                f" {result.cut:>5} {result.submissions:>7} {result.preempted:>9}{mark}"
            )
    lines.append("* no other setting of the contestant is better in both GPU-hours and p99 wait")
    return lines


def _plot(path: Path, results: Sequence[Result]) -> None:
    far = PLOTTED * max(result.gpu_hours for result in results if result.contestant == OURS)
    slow = PLOTTED * max(result.p99 for result in results if result.contestant == OURS)
    series = []
    for name in (OURS, AVERAGE, FIXED, CLAIRVOYANT):
        front = pareto([result for result in results if result.contestant == name])
        points = [(one.gpu_hours, one.p99) for one in front if one.gpu_hours <= far and one.p99 <= slow]
        if points:
            series.append((name, points))
    plot.lines(path, "Wait against GPU-hours", series, across="GPU-hours", up="p99 wait, s")
