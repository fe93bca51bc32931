"""Counts what an engine must compile for a request, while the body passes: schemas, grammars, lists, tools.

An engine turns these into automata before the first token. That delays the answers of all users, and the
engine continues when the client has left. So the cluster's configuration bounds them. Each count is linear in
the body's bytes. docs/decisions/bodies-are-scanned.md has the measured costs behind the defaults.
"""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields

from sluice.bodies.jsonorder import MAX_DEPTH
from sluice.errors import SluiceError

# Engines handle more repetitions of a character than this in another way: such a length costs LONGER.
LONGEST_UNROLLED = 128
LONGER = 192
# All objects together may have this many times the properties of one object.
OBJECTS = 8
# Lengths of up to this need no automaton of their own.
FREE_LENGTH = 1
MAX_BOUND = 1 << 30


class Role(enum.Enum):
    """What a value means to the counter."""

    NONE = "not counted"
    PART = "part of what is compiled"
    CHOICES = "list of alternatives"
    NAMES = "object whose names are properties"
    LENGTH = "longest text"
    LEAST = "shortest text"
    ITEMS = "how many items"
    COUNT = "how many properties"
    RANGE = "least or largest number"
    PATTERN = "regular expression"
    PATTERN_NAMES = "object whose names are regular expressions"
    GRAMMAR = "grammar"
    SCHEMA_TEXT = "schema, or a text that is one"
    TOOL = "schema of a tool's arguments"
    REFERENCE = "reference to another schema"
    ITEM_TYPE = "type of an item of a conversation"


@dataclass(frozen=True)
class Bounds:
    """Bounds on the schemas, grammars, lists and tools of one request, all of them together.

    `bytes`: of names and texts that are compiled. `values`: names and items. `alternatives`: of `anyOf` and
    choices. `properties`: of one object; all objects may have OBJECTS times as many, and fewer if a schema
    bounds their number. `ranges`: bounds of numbers. `lengths`: the sum of the different lengths of texts
    (above LONGEST_UNROLLED each counts as LONGER), and of repetitions and optional parts in regular
    expressions. `repeats`: optional or repeated parts in one regular expression, and in all grammars.
    `ways`: in how many ways one regular expression can split a text, as a power of two (`ambiguity`).
    `repetition`: the largest number of items, characters or repetitions. By default no grammars are allowed:
    the cost of an ambiguous one grows with each token, even if it is short. `scored_bytes`: of a body whose
    prompt's tokens are scored. By default none are: an engine then keeps the whole vocabulary for each token
    of the prompt, in memory that it has not planned for.
    """

    bytes: int = 65_536
    depth: int = 32
    values: int = 4_096
    alternatives: int = 512
    properties: int = 128
    ranges: int = 64
    lengths: int = 256
    pattern_bytes: int = 4_096
    repeats: int = 32
    ways: int = 8
    repetition: int = 100_000
    grammar_bytes: int = 0
    scored_bytes: int = 0
    tools: int = 128

    def problem(self) -> str:
        """Return what is wrong with these numbers, "" if nothing is."""
        low = [one.name for one in fields(self) if not 0 <= getattr(self, one.name) <= MAX_BOUND]
        return f"{low[0]}: must be from 0 to {MAX_BOUND}" if low else ""


DEFAULTS = Bounds()


def loosest(*several: Bounds) -> Bounds:
    """Return bounds that allow everything that at least one of these allows."""
    return Bounds(
        **{one.name: max(getattr(bounds, one.name) for bounds in several) for one in fields(Bounds)}
    )


WORDS = {
    "bytes": "bytes of schemas and lists",
    "depth": "levels of a schema",
    "values": "names and items of schemas and lists",
    "alternatives": "alternatives",
    "properties": f"properties of one object ({OBJECTS} times as many in all; fewer if `minProperties` or "
    "`maxProperties` counts them)",
    "ranges": "bounds of numbers (`minimum`, `maximum`)",
    "lengths": f"repetitions (different lengths of texts, above {LONGEST_UNROLLED} as {LONGER}; repetitions "
    "and optional parts in regular expressions)",
    "pattern_bytes": "bytes of regular expressions",
    "repeats": (
        "repetition signs (`*`, `+`, `?`, `{0,9}`, `{1,}`, empty alternatives) in a regular expression "
        "or grammar"
    ),
    "ways": (
        "doublings of the ways in which a regular expression can split a text (optional parts and ranges "
        "such as `{0,9}`, most of all in repeated groups)"
    ),
    "repetition": "items, characters or repetitions at one place",
    "grammar_bytes": "bytes of grammars",
    "scored_bytes": "bytes with log probabilities of the prompt",
    "tools": "tools",
}


class Excess(Exception):
    """A body exceeds a bound: `what` is the bound's name, `most` its value."""

    def __init__(self, what: str, most: int) -> None:
        super().__init__(what)
        self.what = what
        self.most = most

    def told(self, param: str) -> SluiceError:
        """Return the error for the field at path `param`."""
        return SluiceError(
            "invalid_request",
            f"`{param}` asks for too much work: this cluster allows at most {self.most} "
            f"{WORDS[self.what]} in a request.",
            param=param,
        )


def scored(given: Mapping[str, object]) -> str:
    """Return the field that asks to score the prompt's own tokens, "" if none does.

    `given`: the scalars of a body. An echoed prompt is scored like the generated tokens after it.
    """
    if given.get("prompt_logprobs") is not None:
        return "prompt_logprobs"
    asked = given.get("logprobs")
    # 0 asks for the scores of the prompt's own tokens, so it must not be read as False.
    wanted = (asked is not None and asked is not False) or given.get("top_logprobs") is not None
    return "echo" if given.get("echo") is True and wanted else ""


def check_scored(given: Mapping[str, object], size: int, bounds: Bounds) -> None:
    """Raise SluiceError if a body asks to score its prompt's tokens and is too large for that."""
    param = scored(given)
    if param and size > bounds.scored_bytes:
        raise Excess("scored_bytes", bounds.scored_bytes).told(param)


class Costs:
    """The counts of one body. Every method raises Excess if a bound is exceeded."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        # The counts that are only sums.
        self._counts = dict.fromkeys(WORDS, 0)
        self.bytes = 0
        self.values = 0
        # What each different length costs.
        self._least: dict[int, int] = {}
        self._longest: dict[int, int] = {}
        # The sum of all lengths, with equal ones counted each time.
        self._each = 0
        self._unrolled = 0
        # By depth: how many names the object that is open there has so far.
        self.properties = [0] * (MAX_DEPTH + 2)
        # The most names of one object, the names of all objects, and how many schemas bound their number.
        self.largest = 0
        self.names = 0
        self._counting = 0

    def add(self, what: str, count: int) -> None:
        """Add to the count of `what`."""
        self._counts[what] += count
        self._check(what, self._counts[what])

    def text(self, size: int) -> None:
        """Count the bytes of a text."""
        self.bytes += size
        self.check()

    def check(self) -> None:
        """Check the counts that the scanner changes itself."""
        self._check("values", self.values)
        self._check("bytes", self.bytes)
        most = self.bounds.properties
        # An engine compiles each possible number of properties: the work grows with the cube of it.
        if self.names > OBJECTS * most or self._counting * self.largest**3 * 4 > most**3:
            raise Excess("properties", most)

    def _check(self, what: str, count: float) -> None:
        most: int = vars(self.bounds)[what]
        if count > most:
            raise Excess(what, most)

    @property
    def longest(self) -> int:
        """The length of the longest text that can be within the bounds."""
        return max(self.bounds.bytes, self.bounds.pattern_bytes, self.bounds.grammar_bytes)

    def number(self, role: Role, value: float) -> None:
        """Count a number. A length's cost depends on the others: each pair of them is compiled by itself."""
        self._check("repetition", value)
        # max() first: int() raises on minus infinity, which is what `-1e999` becomes.
        whole = int(max(0, value))
        cost = whole if whole <= LONGEST_UNROLLED else LONGER
        if role is Role.COUNT:
            self._counting += 1
            self.check()
        elif role is Role.LENGTH:
            self._longest[whole] = cost
            self._each += cost
        elif role is Role.LEAST and whole > FREE_LENGTH:
            self._least[whole] = cost
            self._each += cost
        self._check_lengths()

    def _check_lengths(self) -> None:
        pairs = sum((self._longest or self._least).values()) * (1 + len(self._least))
        self._check("lengths", min(pairs, self._each) + self._unrolled)

    def pattern(self, text: str) -> None:
        """Count a regular expression."""
        self.add("pattern_bytes", len(text))
        self._unrolled += text.count("?") - text.count("(?")
        self._check("repeats", self._repetitions(text))
        self._check("ways", math.ceil(ambiguity(text)))

    def grammar(self, text: str) -> None:
        """Count a grammar."""
        self.add("grammar_bytes", len(text))
        self.add("repeats", self._repetitions(text))

    def _repetitions(self, text: str) -> int:
        """Count the repetitions that have an upper bound; return how many signs count as `repeats`."""
        endless, numbers = repetitions(text)
        for number in numbers:
            self._check("repetition", number)
            self._unrolled += min(number, LONGEST_UNROLLED)
        self._check_lengths()
        return endless


# Digits without a closing bracket are read only once: the lookbehind lets no second number begin in them.
_RANGE = r"\{([0-9]*)(,?)((?:(?<=,)[0-9]+)?)\}"
# An escape, a quantifier, or an alternative that is empty; in grammars, an empty text.
_QUANTIFIER = re.compile(r"\\.|[*+?]|\(\||\|(?=[|)])|\"\"|''|" + _RANGE, re.DOTALL)


def repetitions(text: str) -> tuple[int, list[int]]:
    """Return how many signs of repeated or optional parts a regular expression or grammar has; its numbers.

    An engine must keep each of these parts open at each step: together they cost more than their sum.

    Signs within character classes count too, because engines differ in what is inside brackets.
    """
    endless = 0
    numbers = []
    for found in _QUANTIFIER.finditer(text):
        word = found[0]
        if word[0] == "{":
            least, comma, most = found.groups()
            endless += bool(comma and not most) or not _number(least)
            numbers.append(max(_number(least), _number(most)))
        elif word[0] != "\\":
            endless += 1
    return endless, numbers


def _number(digits: str) -> int:
    """Return the number that the digits mean; for very many digits, a number above all bounds."""
    return int(digits or 0) if len(digits) < 16 else 1 << 60


# A repetition without an upper bound counts as this many: engines join these, but not the ranges in them.
_ENDLESS = 8
_MOST_WAYS = float(1 << 40)
_PIECES = re.compile(r"\\.|\(|\)|[*+?]|" + _RANGE + r"|[^\\()*+?{]+|.", re.DOTALL)
# Engines differ in what ends a class of characters; each reading is counted. A class without an end matches
# up to the text's end and is not replaced: otherwise each bracket in it would search for an end again.
_CLASSES = (
    re.compile(r"(\[)(?:\\.|[^\]\\])*(\]?)", re.DOTALL),
    re.compile(r"(\[\^?\]?)(?:\\.|[^\]\\])*(\]?)", re.DOTALL),
)


def _one_character(found: re.Match[str]) -> str:
    """Return the replacement for a class of characters."""
    if found[2]:
        return "c"
    # Without another end, the bracket that could be the first member is the end.
    return "c" + found[0][found.end(1) - found.start() :] if found[1].endswith("]") else found[0]


def ambiguity(pattern: str) -> float:
    """Return an upper bound of the ways in which a regular expression can split a text, as a power of two.

    An optional part doubles the ways, a range `{m,n}` multiplies them by its width, and a repeated group does
    so for each repetition. Engines that follow each way by itself hang on a few dozen doublings:
    `(.{0,9}){0,9}` stopped one.
    """
    readings = [pattern, *(one.sub(_one_character, pattern) for one in _CLASSES)]
    return max(map(_ways, readings))


def _ways(pattern: str) -> float:
    # For each open group: its ways so far, and those of its last part, which a quantifier may still multiply.
    groups = [[0.0, 0.0]]
    for piece in _PIECES.finditer(pattern):
        word = piece[0]
        group = groups[-1]
        if word == "(":
            groups.append([0.0, 0.0])
        elif word == ")" and len(groups) > 1:
            done = sum(groups.pop())
            groups[-1] = [sum(groups[-1]), done]
        elif word == "?":
            group[1] += 1
        elif word in "*+":
            group[1] *= _ENDLESS
        elif word[0] == "{" and len(word) > 1:
            group[1] = _in_a_range(group[1], *piece.groups())
        else:
            groups[-1] = [sum(group), 0.0]
        groups[-1][1] = min(groups[-1][1], _MOST_WAYS)
    return min(sum(map(sum, groups)), _MOST_WAYS)


def _in_a_range(ways: float, least: str, comma: str, most: str) -> float:
    low, high = _number(least), _number(most)
    if comma and not most:
        return ways * max(low, _ENDLESS)
    if not comma:
        return ways * low
    return ways * max(1, high) + math.log2(max(1, high - low + 1))
