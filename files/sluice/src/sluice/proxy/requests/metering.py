"""Asks an engine for a stream's usage, and removes usage from the answer that the client did not ask for.

Everything works on bytes: the body is forwarded as it came, with a member inserted after its first brace, and
the client gets what the engine wrote, without the removed usage. A model's text is in JSON strings with
escaped quotes, so that it never matches the name of a member.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from sluice.proxy.bodies.body import BodySummary
from sluice.proxy.http.events import Events
from sluice.proxy.requests.tokens import ALL, LONGEST_USAGE, TokenMeter

# The capabilities whose streams report usage only on request.
ASKED_FOR_USAGE = frozenset(("chat", "completions"))
OPTIONS = {
    "continuous": {"include_usage": True, "continuous_usage_stats": True},
    "final": {"include_usage": True},
}
SPLICE = {
    usage: b'"stream_options":' + json.dumps(options, separators=(",", ":")).encode() + b","
    for usage, options in OPTIONS.items()
}
# How many bytes longer a body may become.
MOST_ADDED = max(map(len, SPLICE.values()))
# A body's own options are searched for in bodies of up to this many bytes.
MOST_SEARCHED = 1024 * 1024
# A line of more bytes is not a chunk with usage: it passes unchanged.
LONGEST_LINE = 256 * 1024

_START = b"data: {"
_END = b"}}\n\n"
_MEMBER = b',"usage":'
_NAME = b'"usage"'
_OPTIONS = b'"stream_options"'
_OPTIONS_VALUE = re.compile(rb"\s*:\s*(\{[^{}]*\}|null)")
_CHOICE = b'"choices":[{"index":'
_ANY_CHOICE = re.compile(rb'"choices"\s*:\s*\[\s*\{[^{}\[\]]*?"index"\s*:\s*([0-9]+)')
# A line that ends with CR alone, which event streams allow. JSON texts contain no CR.
_BARE_END = re.compile(rb"\r[^\n]")
_NO_CHOICES = re.compile(rb'"choices"\s*:\s*\[\s*\]')
_NUMBERS = rb'(?:"[a-z_]+":(?:[0-9]+|null),?)*'
# Usage at the end of its event, in an unambiguous form: names, numbers, one nested level.
_LAST_MEMBER = re.compile(rb',"usage":(\{(?:"[a-z_]+":(?:[0-9]+|null|\{' + _NUMBERS + rb"\}),?)*\})\}\n\n?\Z")
_TOKENS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\],:]')


@dataclass(frozen=True, slots=True)
class WantedUsage:
    """Which usage the client sees: `each`: that in each chunk; `last`: the additional last chunk."""

    each: bool
    last: bool

    @classmethod
    def by(cls, options: Mapping[str, object], usage: str) -> WantedUsage:
        """Return what a body's own `stream_options` ask for; `usage` is what the engine can report."""
        last = options.get("include_usage") is True
        # An engine that is asked only for the last chunk reports in other chunks only what it always reports.
        each = usage == "final" or (last and options.get("continuous_usage_stats") is True)
        return cls(each, last)


Chunks = list[bytes | bytearray]


def with_usage_options(
    chunks: Chunks, summary: BodySummary, usage: str, *, small: bool
) -> tuple[Chunks, WantedUsage] | None:
    """Return the chunks of a body that asks the engine for usage, and which usage the client wants to see.

    `usage`: what the engine can report: `continuous`, `final` or `none`. `small`: the body was parsed as a
    whole. None if the engine cannot or need not be asked; then nothing must be removed from the answer.
    """
    if usage not in OPTIONS or not summary.stream or summary.capability not in ASKED_FOR_USAGE:
        return None
    if not summary.has_options:
        return spliced(chunks, SPLICE[usage]), WantedUsage.by({}, usage)
    given = summary.options if small else _own_options(chunks)
    if given is not None and not isinstance(given, dict):
        return None  # the engine refuses it with an explanation
    wanted = WantedUsage.by(given or {}, usage)
    if wanted.each and wanted.last:
        return (chunks, wanted) if usage == "continuous" else None
    options = {**(given or {}), **OPTIONS[usage]}
    changed = _replaced(chunks, options)
    if changed is None and small:
        changed = _encoded(chunks, options)
    return None if changed is None else (changed, wanted)


def spliced(chunks: Chunks, member: bytes) -> Chunks:
    """Insert `member`, which ends with a comma, after the first brace of a body with at least one member."""
    for number, chunk in enumerate(chunks):
        at = chunk.find(b"{") + 1
        if at:
            return [*chunks[:number], chunk[:at] + member + chunk[at:], *chunks[number + 1 :]]
    return chunks


def _encoded(chunks: Chunks, options: dict[str, object]) -> Chunks | None:
    """Encode a small body again with `options`; None if it has a number that cannot be written as it came."""
    document = {**json.loads(b"".join(chunks)), "stream_options": options}
    try:
        return [json.dumps(document, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()]
    except ValueError:
        return None


def _own_options(chunks: Chunks) -> object:
    """Return the `stream_options` of a large body, "" if they cannot be found for sure."""
    found = _found_options(chunks)
    return "" if found is None else json.loads(found[2])


def _replaced(chunks: Chunks, options: dict[str, object]) -> Chunks | None:
    found = _found_options(chunks)
    if found is None:
        return None
    number, place, _ = found
    chunk = chunks[number]
    new = chunk[: place.start] + json.dumps(options, separators=(",", ":")).encode() + chunk[place.stop :]
    return [*chunks[:number], new, *chunks[number + 1 :]]


def _found_options(chunks: Chunks) -> tuple[int, slice, bytes] | None:
    """Find the value of `stream_options` in a body that has it: the chunk's index, the slice, the bytes.

    The name could occur elsewhere only as the name of a nested member. So if it occurs once, that is the one.
    """
    if sum(map(len, chunks)) > MOST_SEARCHED or sum(chunk.count(_OPTIONS) for chunk in chunks) != 1:
        return None
    number = next(number for number, chunk in enumerate(chunks) if _OPTIONS in chunk)
    chunk = chunks[number]
    found = _OPTIONS_VALUE.match(chunk, chunk.index(_OPTIONS) + len(_OPTIONS))
    return None if found is None else (number, slice(*found.span(1)), bytes(found[1]))


class StreamFilter:
    """Passes the complete events of one stream to the client, and all bytes to the token meter."""

    __slots__ = ("_events", "meter")

    def __init__(self, meter: TokenMeter) -> None:
        self.meter = meter
        self._events = Events()

    @property
    def torn(self) -> bool:
        """Whether the client has a part of an event that was too long to be held back, but not its end."""
        return self._events.torn

    def feed(self, data: bytes) -> bytes:
        """Take what came, and return what the client is to see of it; that may be nothing."""
        self.meter.feed(data)
        return self._events.feed(data)

    def rest(self) -> bytes:
        """Return what is held back, at the end of a whole answer."""
        return self._events.rest()


class UsageFilter(StreamFilter):
    """Passes the usage in one event stream to the meter, and removes what the client does not want.

    It works on lines, which may be cut anywhere. Lines that end with CR alone pass unchanged. In addition to
    unfinished events, it holds back the beginning of an unfinished line, at most LONGEST_LINE bytes.
    """

    __slots__ = ("_busy", "_each", "_held", "_last", "_passing", "_swallowing")

    def __init__(self, meter: TokenMeter, wanted: WantedUsage) -> None:
        super().__init__(meter)
        self._each = wanted.each
        self._last = wanted.last
        self._held = b""
        # `_passing`: in a line that is too long to be searched. `_swallowing`: after an event that was
        # removed.
        self._passing = False
        self._swallowing = False
        self._busy = False

    def feed(self, data: bytes) -> bytes:
        """Take what came, and return what the client is to see of it; that may be nothing."""
        return self._events.feed(self._without_usage(data))

    def _without_usage(self, data: bytes) -> bytes:
        if not self._busy and data.startswith(_START) and data.endswith(_END):
            at = data.rfind(_MEMBER)
            if data.find(b"\n\n", 0, at) >= 0:
                return b"".join([self._without_usage(one + b"\n\n") for one in data[:-2].split(b"\n\n")])
            # One event of one line, the usual form. A CR alone would end a line too.
            if (
                0 < at < LONGEST_LINE - LONGEST_USAGE
                and data.find(b"\n", 0, at) < 0
                and data.find(b"\r", 0, at) < 0
            ):
                found = _LAST_MEMBER.match(data, at)
                if found is not None:
                    return self._without(data, found[1], at, found.end(1))
        return self._by_lines(data)

    def rest(self) -> bytes:
        """Return what is held back, at the end of a whole answer."""
        held, self._held = self._held, b""
        return super().rest() + held

    def _by_lines(self, data: bytes) -> bytes:
        if not self._busy and _NAME not in data and data.endswith(b"\n"):
            self.meter.feed(data)
            return data
        *lines, held = (self._held + data).split(b"\n")
        passed = [self._line(line + b"\n") for line in lines]
        if self._passing or len(held) > LONGEST_LINE or _BARE_END.search(held) is not None:
            self._passing = True
            self.meter.feed(held)
            passed.append(held)
            held = b""
        self._held = held
        self._busy = bool(held) or self._passing or self._swallowing
        return b"".join(passed)

    def _line(self, line: bytes) -> bytes:
        if self._swallowing and not self._passing:
            self._swallowing = False
            if not line.strip():
                return b""
        if not self._passing and _NAME in line and line.startswith(b"data:") and len(line) <= LONGEST_LINE:
            place = _member(line) if _BARE_END.search(line) is None else None
            if place is not None:
                return self._without(line, line[place.value : place.end].strip(), place.start, place.behind)
        self._passing = False
        self.meter.feed(line)
        return line

    def _without(self, event: bytes, usage: bytes, start: int, behind: int) -> bytes:
        """Return an event, or its only line, without its usage if that is not wanted."""
        choice = _choice(event)
        told = usage.startswith(b"{")
        if told:
            self.meter.note(choice, usage)
        else:
            self.meter.feed(event)
        if self._last if choice == ALL else self._each:
            return event
        if choice == ALL and told:
            self._swallowing = not event.endswith(b"\n\n")
            return b""
        return event[:start] + event[behind:]


def _choice(event: bytes) -> bytes:
    """Return the index of a chunk's choice; ALL for a chunk without choices."""
    start = event.find(_CHOICE)
    if start >= 0:
        start += len(_CHOICE)
        return event[start : event.find(b",", start)]
    if _NO_CHOICES.search(event) is not None:
        return ALL
    found = _ANY_CHOICE.search(event)
    return b"0" if found is None else found[1]


@dataclass(frozen=True, slots=True)
class _Member:
    """A member of an object: from `start` to `behind` with its comma; its value from `value` to `end`."""

    start: int
    value: int
    end: int
    behind: int


def _member(line: bytes) -> _Member | None:
    """Find `usage` among the members of the object in an event's line, not in nested objects."""
    found = _LAST_MEMBER.match(line, max(0, line.rfind(_MEMBER)))
    if found is not None:
        return _Member(found.start(), found.start(1), found.end(1), found.end(1))
    depth = 0
    before = name = value = -1
    for token in _TOKENS.finditer(line, len(b"data:")):
        sign = token[0]
        if depth == 1 and value >= 0 and sign in (b",", b"}"):
            return _located(line, before, name, value, token.start())
        if sign in (b"{", b"["):
            depth += 1
        elif sign in (b"}", b"]"):
            depth -= 1
        if depth != 1:
            continue
        if sign in (b"{", b","):
            before = token.start()
        elif sign == b":" and name >= 0 and value < 0:
            value = token.end()
        elif value < 0:
            name = token.start() if sign == _NAME else -1
    return None


def _located(line: bytes, before: int, name: int, value: int, end: int) -> _Member:
    """Return where a member with one comma is: the one before it, or after it if it is the first."""
    if line[before : before + 1] == b",":
        return _Member(before, value, end, end)
    behind = end
    while line[behind : behind + 1] in (b",", b" "):
        behind += 1
    return _Member(name, value, end, behind)
