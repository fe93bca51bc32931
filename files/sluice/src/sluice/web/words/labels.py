"""Checks of labels: names and texts that users enter. Pure."""

from __future__ import annotations

import unicodedata

# Characters that change the direction of the text after them: a table row would be shown backwards.
_DIRECTION = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")

# Joiners are invisible, but many scripts and emoji need them.
_JOINERS = frozenset("\u200c\u200d")

_PROBLEMS = {"Cc": "control", "Zl": "control", "Zp": "control", "Cs": "broken", "Cf": "invisible"}


def problem(text: str, most: int) -> str:
    """Return what is wrong with a label of at most `most` characters, "" if it is valid.

    `empty`, `too_long`, `control` (control characters, line breaks), `broken` (half of a surrogate pair, or
    U+FFFD, which replaces undecodable bytes), `direction` (characters that change the reading direction),
    `invisible` (other invisible characters). The caller strips blanks at the ends first.
    """
    if not text:
        return "empty"
    if len(text) > most:
        return "too_long"
    for character in text:
        found = _problem_of(character)
        if found:
            return found
    return "" if any(character not in _JOINERS for character in text) else "invisible"


def _problem_of(character: str) -> str:
    if character in _DIRECTION:
        return "direction"
    if character == "\ufffd":
        return "broken"
    if character in _JOINERS:
        return ""
    return _PROBLEMS.get(unicodedata.category(character), "")
