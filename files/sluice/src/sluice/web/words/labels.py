"""Names and texts that people enter: which characters they must not contain. Pure."""

from __future__ import annotations

import unicodedata

# What turns the direction of the text around it: the rest of a table row would be read backwards.
_DIRECTION = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")

# Joiners are invisible, and many scripts and emoji cannot be written without them.
_JOINERS = frozenset("\u200c\u200d")

_PROBLEMS = {"Cc": "control", "Zl": "control", "Zp": "control", "Cs": "broken", "Cf": "invisible"}


def problem(text: str, most: int) -> str:
    """Say what is wrong with a label of at most `most` characters; "" for one that can be used.

    `empty`, `too_long`, `control` (control characters, line breaks), `broken` (half of a surrogate pair, or
    the sign that stands for bytes that were no text), `direction` (overrides of the reading direction),
    `invisible` (other characters that nobody sees). A label has no blanks at its ends: the caller strips it.
    """
    if not text:
        return "empty"
    if len(text) > most:
        return "too_long"
    for character in text:
        fault = _fault(character)
        if fault:
            return fault
    return "" if any(character not in _JOINERS for character in text) else "invisible"


def _fault(character: str) -> str:
    if character in _DIRECTION:
        return "direction"
    if character == "\ufffd":
        return "broken"
    if character in _JOINERS:
        return ""
    return _PROBLEMS.get(unicodedata.category(character), "")
