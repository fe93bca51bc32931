"""The kind of a value by its first bytes after a name: a bracket, a text, or a literal."""

from __future__ import annotations

import functools
import re
from math import inf

from sluice.bodies.jsonorder import LONGEST_KNOWN

# Stands for a value that is not a literal: a string, a list, an object.
OTHER = "…"
LITERALS = {b"true": True, b"false": False, b"null": None}

_BEGINNING = re.compile(rb"[ \t\r\n:]*([{\[]|[^ \t\r\n:,}\]{\[]+)[ \t\r\n]*(.?)", re.DOTALL)
_WHOLE_NUMBER = re.compile(rb"-?[0-9]+")


def beginning(gap: bytes) -> tuple[bytes, bytes]:
    """Return the bracket or scalar that begins a value, and the sign after it; b"" if one is missing."""
    return (_known if len(gap) <= LONGEST_KNOWN else _beginning)(gap)


def _beginning(gap: bytes) -> tuple[bytes, bytes]:
    found = _BEGINNING.match(gap)
    return (found[1], found[2]) if found else (b"", b"")


_known = functools.lru_cache(maxsize=1024)(_beginning)


def value_of(word: bytes) -> object:
    """Return the value that begins with this word, OTHER if it is not a literal."""
    if word in LITERALS:
        return LITERALS[word]
    if word[:1] in b'"{[':
        return OTHER
    return int(word) if _WHOLE_NUMBER.fullmatch(word) else float(word)


def is_of(word: bytes, kinds: frozenset[type]) -> bool:
    """Return whether the value that begins with this word is null or of one of these kinds."""
    if word == b'"':
        return str in kinds
    if word == b"[":
        return list in kinds
    if word == b"{":
        return dict in kinds
    value = value_of(word)
    if value is None or type(value) in kinds:
        return True
    # In JSON, `2.0` is the same number as `2`.
    return isinstance(value, float) and value.is_integer() and int in kinds


def is_within(word: bytes, limits: tuple[float, float]) -> bool:
    """Return whether the value that begins with this word is not a number, or a number within the limits."""
    value = value_of(word)
    return not isinstance(value, (int, float)) or limits[0] <= value <= limits[1]


def told(limits: tuple[float, float]) -> str:
    """Return the words for "a number within these limits" in an error message."""
    return ("{:g} or more" if limits[1] == inf else "from {:g} to {:g}").format(*limits)
