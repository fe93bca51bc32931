"""JSON between strings (in the gaps): which tokens may follow each other.

No message quotes the body: errors go to logs and users.
"""

from __future__ import annotations

import re

from sluice.bodies.jsontext import malformed

MAX_DEPTH = 64
MAX_SCALAR = 1024

_ALLOWED = frozenset(
    ("^{", "o}", "c:", "v0", "v{", "v[", "a0", "a{", "a[", "a]", "w0", "w{", "w[", "e,", "e}", "e]")
)
_OPENER = {"}": "{", "]": "["}
_NUMBER = r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?"
_TOKEN = re.compile(r"[ \t\r\n]*([{}\[\],:]|true|false|null|" + _NUMBER + ")")
# Prompts may be lists of a hundred thousand token ids.
_ITEMS = re.compile(r"(?: ?[1-9][0-9]{0,19},)+")
# Bodies repeat a few short gaps (`:`, `,`, `},{`): the effect of gaps of up to this many bytes is remembered.
LONGEST_KNOWN = 64
_MOST_KNOWN = 2048

# What the string after a gap is.
TEXT, NAME, FIRST_NAME = 0, 1, 2


class Point(dict[bytes, "Step"]):
    """A point between two strings: the open brackets, outermost first, and a letter for what may come next.

        ^ the object    o key or }    k key    c colon    v a member's value    a item or ]    w item
        e comma or a closing bracket    $ nothing more    ! nothing: the body was refused

    It maps a gap that begins here to the step over the gap and the string after it.
    """

    __slots__ = ("ends", "expected", "stack")

    def __init__(self, stack: str, expected: str) -> None:
        super().__init__()
        self.stack = stack
        self.expected = expected
        # By gap, without a string after it: the point after the gap, and its tokens.
        self.ends: dict[bytes, tuple[Point, int]] = {}

    def __missing__(self, gap: bytes) -> Step:
        """Raises SluiceError."""
        stack, expected, tokens = self._over(gap)
        depth = len(stack)
        if expected in "ok":
            kind = FIRST_NAME if expected == "o" else NAME
            after, holder = _POINTS[stack, "c"], stack.rfind("{", 0, depth - 1) + 1
        elif expected in "vaw":
            kind, after, holder = TEXT, _POINTS[stack, "e"], stack.rfind("{") + 1
        else:
            raise malformed("it has a string in a place where JSON allows none")
        step = (kind, after, tokens + 1, depth, holder, values(gap))
        if len(gap) <= LONGEST_KNOWN:
            _POINTS.make_room()
            self[gap] = step
        return step

    def over(self, gap: bytes) -> tuple[Point, int]:
        """Return the point after a gap of whole tokens, and how many it has. Raises SluiceError."""
        known = self.ends.get(gap) if len(gap) <= LONGEST_KNOWN else None
        if known is None:
            stack, expected, tokens = self._over(gap)
            known = _POINTS[stack, expected], tokens
            if len(gap) <= LONGEST_KNOWN:
                _POINTS.make_room()
                self.ends[gap] = known
        return known

    def _over(self, gap: bytes) -> tuple[str, str, int]:
        stack, expected = self.stack, self.expected
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
                raise malformed("it has something that is not a JSON token")
            stack, expected = _after(stack, expected, found[1])
            position = found.end()
            tokens += 1
        return stack, expected, tokens


# TEXT, NAME or FIRST_NAME; the point after the string; the number of tokens; the string's depth; the depth of
# the object that the name belongs to, or whose member contains the text (lists between them do not count);
# and the names and items that begin in the gap.
Step = tuple[int, Point, int, int, int, int]


class _Points(dict[tuple[str, str], Point]):
    """All points, by their brackets and letter. All are forgotten when they remember too many gaps."""

    def __init__(self) -> None:
        super().__init__()
        self._known = 0

    def __missing__(self, key: tuple[str, str]) -> Point:
        self[key] = point = Point(*key)
        return point

    def make_room(self) -> None:
        """Count one more gap, and forget all points if there are too many."""
        self._known += 1
        if self._known > _MOST_KNOWN:
            for point in self.values():
                point.clear()
                point.ends.clear()
            self.clear()
            self._known = 1


_POINTS = _Points()
START = _POINTS["", "^"]
REFUSED = _POINTS["", "!"]


def _after(stack: str, expected: str, word: str) -> tuple[str, str]:
    sign = word if word in "{}[],:" else "0"
    if expected + sign not in _ALLOWED:
        raise malformed("its tokens are in the wrong order for JSON")
    if sign in "{[":
        if len(stack) == MAX_DEPTH:
            raise malformed(f"it is nested more than {MAX_DEPTH} levels deep")
        return stack + sign, "o" if sign == "{" else "a"
    if sign in "}]":
        if stack[-1] != _OPENER[sign]:
            raise malformed("its brackets do not match")
        return stack[:-1], "e" if stack[:-1] else "$"
    if sign == ",":
        return stack, "k" if stack[-1] == "{" else "w"
    return stack, "v" if sign == ":" else "e"


def values(gap: bytes) -> int:
    """Return about how many names and items begin in a gap."""
    return gap.count(b",") + gap.count(b"{") + gap.count(b"[")
