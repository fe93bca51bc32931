"""Plots as SVG, written by hand: bars with a spread, and lines over a number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from pathlib import Path

from lab.bench.report import median, number

WIDTH = 860
LEFT = 230
RIGHT = 110
ROW = 34
TOP = 56
INK = "#1c2733"
BAR = "#3b6ea5"
RULE = "#c8d0d8"
COLOURS = ("#3b6ea5", "#c2562d", "#4b8b57", "#7a5aa6", "#8a7a2f", "#5b6770")


def bars(path: Path, title: str, rows: Sequence[tuple[str, Sequence[float]]]) -> None:
    """Write one bar for each row, at the median of its values; logarithmic if they are far apart."""
    values = [median(list(found)) for _, found in rows]
    low, high = min(values), max(values)
    far = low > 0 and high / low > 50
    height = TOP + ROW * len(rows) + 30
    parts = _open(height, title)
    for index, (name, found) in enumerate(rows):
        y = TOP + ROW * index
        end = _place(values[index], low, high, far)
        least, most = (_place(value, low, high, far) for value in (min(found), max(found)))
        parts += [
            _text(LEFT - 8, y + 18, name, "end"),
            f'<rect x="{LEFT}" y="{y + 4}" width="{max(end - LEFT, 1):.1f}" height="20" fill="{BAR}"/>',
            f'<path d="M{least:.1f} {y + 14}H{most:.1f}" stroke="{INK}" stroke-width="2"/>',
            _text(max(end, most) + 8, y + 18, number(values[index])),
        ]
    if far:
        parts.append(
            _text(LEFT, height - 10, "logarithmic axis: a step of the same length is the same factor")
        )
    path.write_text("\n".join([*parts, "</svg>"]) + "\n")


def _place(value: float, low: float, high: float, far: bool) -> float:
    room = WIDTH - LEFT - RIGHT
    if not far:
        return LEFT + room * value / high
    least = math.log10(low) - 0.5
    return LEFT + room * max(math.log10(max(value, 1e-9)) - least, 0) / (math.log10(high) - least)


def lines(
    path: Path,
    title: str,
    series: Sequence[tuple[str, Sequence[tuple[float, float]]]],
    *,
    across: str,
    up: str,
    bound: float | None = None,
) -> None:
    """Write one line for each series of points; `bound` is drawn as a goal across the plot."""
    height, foot = 420, 60
    points = [point for _, found in series for point in found]
    right = max((x for x, _ in points), default=1.0) or 1.0
    top = max([y for _, y in points] + ([bound] if bound else []), default=1.0) * 1.08 or 1.0
    room, rise = WIDTH - 90 - 30, height - TOP - foot

    def at(x: float, y: float) -> str:
        return f"{90 + room * x / right:.1f} {height - foot - rise * y / top:.1f}"

    parts = _open(height, title)
    for step in range(6):
        y = top * step / 5
        parts.append(f'<path d="M{at(0, y)}L{at(right, y)}" stroke="{RULE}"/>')
        parts.append(_text(82, height - foot - rise * step / 5 + 4, number(y), "end"))
        parts.append(_text(90 + room * step / 5, height - foot + 18, number(right * step / 5), "middle"))
    for index, (name, found) in enumerate(series):
        colour = COLOURS[index % len(COLOURS)]
        drawn = "L".join(at(x, y) for x, y in sorted(found))
        parts.append(f'<path d="M{drawn}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [
            f'<circle cx="{p[0]}" cy="{p[1]}" r="3" fill="{colour}"/>'
            for p in map(str.split, drawn.split("L"))
        ]
        parts.append(_text(100 + 190 * index, TOP - 6, name, colour=colour))
    if bound is not None:
        parts.append(f'<path d="M{at(0, bound)}L{at(right, bound)}" stroke="{INK}" stroke-dasharray="6 4"/>')
    parts.append(_text(90 + room / 2, height - 14, across, "middle"))
    parts.append(f'<g transform="rotate(-90 20 {height / 2})">{_text(20, height / 2, up, "middle")}</g>')
    path.write_text("\n".join([*parts, "</svg>"]) + "\n")


def _open(height: int, title: str) -> list[str]:
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif"'
        ' font-size="13">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        _text(16, 26, title, size=15),
    ]


def _text(x: float, y: float, text: str, anchor: str = "start", *, size: int = 13, colour: str = INK) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{colour}">'
        f"{escape(text)}</text>"
    )
