"""Slurm's hostlist expressions, such as `c[1-3,7],gpu01`. Pure."""

from __future__ import annotations

import re

from sluice.contracts.values import HOST

MOST_NODES = 1024
_PIECE = re.compile(r"([^\[\],]+)(?:\[([0-9,-]+)\]([^\[\],]*))?")
_RANGE = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?")


def expand(text: str) -> tuple[str, ...]:
    """Return the node names in a hostlist expression, at most 1,024 of them.

    One bracket per name is understood, as Slurm prints it for ordinary node names. Raises ValueError for
    anything else: the record of such a job cannot be checked and is not accepted.
    """
    names: list[str] = []
    position = 0
    while position < len(text):
        piece = _PIECE.match(text, position)
        if piece is None:
            raise ValueError(f"node list not understood: {text[:200]!r}")
        prefix, ranges, suffix = piece[1], piece[2], piece[3] or ""
        numbers = _numbers(ranges) if ranges else [""]
        names += [f"{prefix}{number}{suffix}" for number in numbers]
        position = piece.end()
        if position < len(text) and text[position] != ",":
            raise ValueError(f"node list not understood: {text[:200]!r}")
        position += 1
    if len(names) > MOST_NODES or not all(HOST.fullmatch(name) for name in names):
        raise ValueError(f"node list not understood: {text[:200]!r}")
    return tuple(names)


def _numbers(ranges: str) -> list[str]:
    numbers: list[str] = []
    for part in ranges.split(","):
        found = _RANGE.fullmatch(part)
        if found is None:
            raise ValueError(f"node range not understood: {ranges[:200]!r}")
        first, last = found[1], found[2] or found[1]
        if not 0 <= int(last) - int(first) < MOST_NODES:
            raise ValueError(f"node range not understood: {ranges[:200]!r}")
        numbers += [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
    return numbers
