"""Charts of usage as coordinates for SVG. Pure. The server draws them, with a table of the same numbers.

The Content-Security-Policy forbids inline styles: geometry is in attributes, colours are in classes. A chart
is stretched to the page's width, so it contains no text: ticks and labels are HTML.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sluice.web.usage.reports import UsageSum

HEIGHT = 100.0

_STEP = 10.0
_GAP = 2.0
# Even numbers, because ticks are at 0, the half and the top.
_NICE = (2, 4, 6, 8, 10)


class Bar(NamedTuple):
    """A rectangle of the series with index `series` (0 is the lowest), in units of the chart."""

    series: int
    x: float
    y: float
    width: float
    height: float


class Column(NamedTuple):
    """The bars over one label, and the values that they show."""

    label: str
    x: float
    values: tuple[int, ...]
    bars: tuple[Bar, ...]


class Chart(NamedTuple):
    """Columns side by side in a box of `width` by HEIGHT; `ticks` are its lines' values, highest first."""

    width: float
    step: float
    columns: tuple[Column, ...]
    ticks: tuple[int, int, int]

    @property
    def empty(self) -> bool:
        """Tell whether every value is 0."""
        return not any(any(column.values) for column in self.columns)


def stacked(values: Sequence[tuple[str, Sequence[int]]]) -> Chart:
    """Return a stacked chart of `values`: for each label, the counts of its series."""
    top = nice_top(max((sum(counts) for _, counts in values), default=0))
    columns = tuple(
        Column(label, at * _STEP, tuple(counts), _bars(at * _STEP, counts, top))
        for at, (label, counts) in enumerate(values)
    )
    return Chart(len(values) * _STEP, _STEP, columns, (top, top // 2, 0))


def _bars(x: float, counts: Sequence[int], top: int) -> tuple[Bar, ...]:
    bars, below = [], 0
    for series, count in enumerate(counts):
        if count > 0:
            height = round(HEIGHT * count / top, 3)
            y = round(HEIGHT - HEIGHT * (below + count) / top, 3)
            bars.append(Bar(series, x + _GAP / 2, y, _STEP - _GAP, height))
            below += count
    return tuple(bars)


def nice_top(most: int) -> int:
    """Return the smallest even round number that is at least `most`: 2, 4, 6, 8, 10, 20, …"""
    power = 1
    while True:
        for step in _NICE:
            if step * power >= most:
                return step * power
        power *= 10


def of_tokens(rows: Sequence[UsageSum]) -> Chart:
    """Return a chart of sums: input tokens below, output tokens above."""
    return stacked([(row.group[0], (row.input_tokens, row.output_tokens)) for row in rows])


def percent(part: int, whole: int) -> float:
    """Return how many percent of `whole` `part` is, from 0 to 100; 100 if `whole` is 0."""
    return 100.0 if whole <= 0 else round(min(100.0, 100.0 * part / whole), 1)
