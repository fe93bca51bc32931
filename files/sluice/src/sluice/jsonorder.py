"""JSON outside strings: what may follow what, from one gap between two strings to the next.

No message quotes the body: errors go to logs and users.
"""

from __future__ import annotations

import functools
import re

from sluice.errors import SluiceError

MAX_DEPTH = 64
MAX_SCALAR = 1024

# A state is the open brackets, outermost first, and a letter for what may come next:
#   ^ the object    o key or }    k key    c colon    v a member's value    a item or ]    w item
#   e comma or the end of what is open    $ nothing more    ! nothing: the body was refused

START = "^"
END = "$"
REFUSED = "!"
_ALLOWED = frozenset(
    ("^{", "o}", "c:", "v0", "v{", "v[", "a0", "a{", "a[", "a]", "w0", "w{", "w[", "e,", "e}", "e]")
)
_OPENER = {"}": "{", "]": "["}
_NUMBER = r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?"
_TOKEN = re.compile(r"[ \t\r\n]*([{}\[\],:]|true|false|null|" + _NUMBER + ")")
# Prompts may be lists of a hundred thousand token ids.
_ITEMS = re.compile(r"(?: ?[1-9][0-9]{0,19},)+")


def advance(state: str, gap: bytes) -> tuple[str, int]:
    """Return the state behind a gap of whole tokens, and how many it has. Raises SluiceError."""
    stack, expected = state[:-1], state[-1]
    text = gap.decode("latin-1").rstrip(" \t\r\n")
    position = tokens = 0
    while position < len(text):
        items = _ITEMS.match(text, position) if expected in "aw" else None
        if items is not None:
            tokens += 2 * items[0].count(",")
            position = items.end()
            expected = "w"
            continue
        found = _TOKEN.match(text, position)
        if found is None or len(found[1]) > MAX_SCALAR:
            raise malformed("it has something that is no JSON token")
        stack, expected = _after(stack, expected, found[1])
        position = found.end()
        tokens += 1
    return stack + expected, tokens


def _after(stack: str, expected: str, word: str) -> tuple[str, str]:
    sign = word if word in "{}[],:" else "0"
    if expected + sign not in _ALLOWED:
        raise malformed("its tokens are not in JSON's order")
    if sign in "{[":
        if len(stack) == MAX_DEPTH:
            raise malformed(f"it is nested deeper than {MAX_DEPTH}")
        return stack + sign, "o" if sign == "{" else "a"
    if sign in "}]":
        if stack[-1] != _OPENER[sign]:
            raise malformed("its brackets do not match")
        return stack[:-1], "e" if stack[:-1] else END
    if sign == ",":
        return stack, "k" if stack[-1] == "{" else "w"
    return stack, "v" if sign == ":" else "e"


def enter(state: str, gap: bytes) -> tuple[bool, str, int, int]:
    """Return whether the string behind the gap is a key, the state behind the string, tokens, and a depth.

    That is the depth of the object whose member holds the string, or the object of the key; lists between
    them are looked through.
    """
    state, tokens = advance(state, gap)
    stack, expected = state[:-1], state[-1]
    if expected in "ok":
        return True, stack + "c", tokens + 1, stack.rfind("{", 0, len(stack) - 1) + 1
    if expected in "vaw":
        return False, stack + "e", tokens + 1, stack.rfind("{") + 1
    raise malformed("it has a string where none may be")


# Bodies are made of a few short gaps (`:`, `,`, `},{`): what each does is worked out once.
enter_known = functools.lru_cache(maxsize=1024)(enter)
advance_known = functools.lru_cache(maxsize=1024)(advance)


def malformed(problem: str) -> SluiceError:
    """Return the error for what is not one JSON object; its problem goes on behind these words."""
    return SluiceError("malformed_json", f"The body must be one JSON object; {problem}.")
