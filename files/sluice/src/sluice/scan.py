"""Reads what matters from the body of a request while it passes: in one pass, without building the document.

Proxy and relay use the same scanner. What any JSON parser accepts is read here as that parser reads it:

- A body is one object in UTF-8 and nothing beside it: no byte order mark, no NUL, hence no UTF-16 or UTF-32.
- Outside strings only JSON's own tokens pass, in JSON's order: no comments, single quotes, NaN, or commas
  too many. So what is a string, which string is a key and how deep it lies is the same for every parser.
- Inside strings the scanner is laxer than JSON (raw control characters, unknown escapes), for no laxness
  there moves a string's end; half of a surrogate pair is refused. A key that could mean something is decoded
  strictly before it is compared.
- Of the names that count (`model`, `stream`, TEXTS, SCALARS and COMPILED) none may come twice, nor in another
  case: so it does not matter whether a parser takes the first or the last, or folds case as Go's does.

What the values mean, and may be, is described by position in `sluice.bodies`.

No message quotes the body: errors go to logs and users.
"""

from __future__ import annotations

import codecs
import functools
import json
import re
from typing import Optional, Union

from sluice.bodies import (
    ADDRESS,
    ANY,
    COMPILED,
    FIELDS,
    IN_TEXT,
    SAYABLE,
    SCALARS,
    TEXTS,
    Field,
    Place,
    places,
)
from sluice.costs import DEFAULTS, Bounds, Costs, Excess, Role
from sluice.errors import SluiceError
from sluice.jsonorder import (
    END,
    MAX_DEPTH,
    MAX_SCALAR,
    REFUSED,
    START,
    advance,
    advance_known,
    enter,
    enter_known,
    malformed,
)

MAX_KEY = 1024
MAX_TOKENS = 2_000_000
MAX_PREFIX = 4096
MAX_PATH = 200

# Stands in `given` for a value that is no literal: a string, a list, an object.
OTHER = "…"

_PIECE = 65_536
_MEMO_GAP = 64
NAMES = frozenset(("model", "stream", *TEXTS, *SCALARS, *COMPILED, "mcp_servers"))
# What else folds to these letters, beside their capitals (Unicode's full case folding).
_FOLDED = {"k": "\u212a", "s": "\u017f", "ss": "\u00df\u1e9e", "st": "\ufb05\ufb06"}
_DATA_URL = b"data:"
_ADDRESSES = (b"_url", b"_uri")
_LITERALS = {b"true": True, b"false": False, b"null": None}
_TURN_KEYS = frozenset((b"role", b"content"))
_TEXT_KEYS = frozenset((b"content", b"text", b"prompt", b"input", b"query", b"system", b"instructions"))
_NOTED_KEYS = _TURN_KEYS | _TEXT_KEYS
# Where a message's own keys are: in an object in the list in the body.
_MESSAGE_DEPTH = 3
_NUMBERS = frozenset((Role.LENGTH, Role.LEAST, Role.ITEMS))
_LINKS_TO_STORE = b"item_reference"

# Escaped backslashes and quotes are masked by bytes that UTF-8 never has: each quote left bounds a string.
_BACKSLASH = b"\xff\xff"
_QUOTE = b"\xfe\xfe"
_SPACES = re.compile(rb"[ \t\r\n]+")
_SCALAR = re.compile(rb"[ \t\r\n:]*([{\[]|[^ \t\r\n:,}\]{\[]+)")
_SCALAR_BYTES = b"0123456789+-.eEtrufalsn \t\r\n"
_BRACKETS = re.compile(rb"[{}\[\]]")
_WHOLE_NUMBER = re.compile(rb"-?[0-9]+")
# Of a pair in escapes, each half has so many bytes. A high one is whole where a low one follows it.
_ESCAPE = 6
_HIGH = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}")
_SURROGATES = re.compile(rb"\\u[dD](?:[89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|([89a-fA-F]))")
# No bodies are counted by it: each makes its own where it has something to count.
_NO_COSTS = Costs(DEFAULTS)
_COLONS = frozenset((b":", b": "))
# Awaited: the first thing in a list or object at the top level.
_FIRST = Place()


class BodyScanner:
    """Takes a body in chunks, cut anywhere, and holds a few kilobytes of it at most.

    `capability` says by which description it is read, `bounds` what it may have an engine compile.

    `model`: the top-level model once it was seen. `stream`: the top-level `stream`, None where it is absent
    or null. `seen`: which of NAMES the body has at its top level; `nulls`: those of all names described
    that are null. `given`: those of SCALARS with their values, OTHER where one is no number, true, false or
    null. `items`: how many texts, inputs or documents it has where each is answered by itself. `prefix`: the
    start of the text by which requests of one conversation are alike, up to and with its first user message:
    raw bytes for a hash, not decoded text. `excess`: the bound that the body went beyond, if that refused it.
    """

    def __init__(self, capability: str, bounds: Bounds = DEFAULTS) -> None:
        self.model: Optional[str] = None
        self.stream: Optional[bool] = None
        self.seen: set[str] = set()
        self.nulls: set[str] = set()
        self.given: dict[str, object] = {}
        self.items = 0
        self.prefix = b""
        self.excess: Optional[Excess] = None
        self._capability = capability
        self._fields = FIELDS[capability]
        self._bounds = bounds
        self._costs = _NO_COSTS
        self._state = START
        self._tokens = 0
        self._size = 0
        self._decoder: Optional[codecs.IncrementalDecoder] = None
        self._escape = b""
        self._half = b""
        # The unfinished string (its start, where it may matter; the whole, where it counts) or gap (the
        # scalar at its end).
        self._in_string = False
        self._is_key = False
        self._holder = 0
        self._held = b""
        self._whole = bytearray()
        # Where the reader is: the field at the top, if it is described; whether the names below matter, and a
        # text; and by depth, the last name and its place.
        self._field: Optional[Field] = None
        self._watched = False
        self._alert = False
        self._awaits: Union[Field, Place, None] = None
        self._awaits_at = START
        self._places = [ANY] * (MAX_DEPTH + 2)
        self._keys = [b""] * (MAX_DEPTH + 2)
        self._addresses: set[int] = set()
        # What is counted, at each gap too: what it costs, or the items at this depth (0: none).
        self._counting = False
        self._costly = False
        self._items_at = 0
        self._opened = False
        self._key = b""
        self._message: set[bytes] = set()
        self._prefix_open = True
        self._user_speaks = False

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes.

        Raises SluiceError `malformed_json`, `invalid_request` or `media_url_refused`.
        """
        try:
            for start in range(0, len(chunk), _PIECE):
                self._take(chunk[start : start + _PIECE])
        except Excess as excess:
            self.excess = excess
            error = excess.told(self._where())
            self._refuse()
            raise error from None
        except SluiceError:
            self._refuse()
            raise

    def _refuse(self) -> None:
        """Whatever the owner does next, a body once refused is never found good."""
        self._state = REFUSED
        self._in_string = False

    @property
    def places(self) -> int:
        """How many places of a model the body needs, as far as it was read."""
        return places(self._capability, self.given, self.items)

    def finish(self) -> str:
        """Say that the body is complete; return its model. Raises SluiceError."""
        if self._state != END or self._held.strip() or self._escape:
            raise malformed(f"it ends too early, after {self._size} bytes")
        if self.model is None:
            raise _invalid("model", "must be given: the name of a model, as GET /v1/models lists them")
        return self.model

    # --- bytes to strings and gaps --------------------------------------------------------------------

    def _take(self, piece: bytes) -> None:
        self._size += len(piece)
        self._check_bytes(piece)
        if self._escape:
            piece = self._escape + piece
            self._escape = b""
        if b"\\" in piece:
            piece = piece.replace(b"\\\\", _BACKSLASH).replace(b'\\"', _QUOTE)
            if piece.endswith(b"\\"):
                self._escape = b"\\"
                piece = piece[:-1]
        if self._half or b"\\ud" in piece or b"\\uD" in piece or b"\\" in piece[-_ESCAPE:]:
            self._check_surrogates(piece)
        parts = piece.split(b'"')
        if self._in_string:
            self._hold(parts.pop(0))
            if not parts:
                return
            self._end_string()
        self._take_parts(parts)
        if self._tokens > MAX_TOKENS:
            raise malformed(f"it has more than {MAX_TOKENS} tokens")

    def _check_bytes(self, piece: bytes) -> None:
        if b"\0" in piece:
            raise malformed("it has a NUL byte; it must be UTF-8")
        if self._decoder is None:
            if piece.isascii():
                return
            self._decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            self._decoder.decode(piece)
        except UnicodeDecodeError:
            raise malformed("it is not UTF-8") from None

    def _check_surrogates(self, piece: bytes) -> None:
        """Refuse half of a pair; what the piece may have cut is kept for the next one."""
        text = self._half + piece
        cut = text.find(b"\\", max(0, len(text) - _ESCAPE))
        if cut < 0:
            cut = len(text)
        elif _HIGH.match(text, max(0, cut - _ESCAPE)):
            cut -= _ESCAPE
        self._half = text[cut:]
        if any(found[1] for found in _SURROGATES.finditer(text[:cut])):
            raise malformed("it has half of a surrogate pair, which is no character")

    def _take_parts(self, parts: list[bytes]) -> None:
        """Take gap, string, gap, string, …: all but the last are whole."""
        parts[0] = self._held + parts[0]
        self._held = b""
        last = parts.pop()
        if len(parts) % 2 == 0:
            self._take_pairs(parts)
            self._hold_gap(last)
        else:
            gap = parts.pop()
            self._take_pairs(parts)
            before = self._state
            self._is_key, self._state, tokens, self._holder = enter(before, gap)
            self._tokens += tokens
            if self._awaits is not None:
                self._see(gap, string=True)
            if self._counting:
                self._on_gap(before, gap)
            self._in_string = True
            self._hold(last)

    def _take_pairs(self, parts: list[bytes]) -> None:
        """Take gaps, each with the whole string behind it: the hot loop."""
        state, tokens = self._state, self._tokens
        for gap, string in zip(parts[0::2], parts[1::2]):
            before = state
            is_key, state, more, holder = (enter_known if len(gap) <= _MEMO_GAP else enter)(before, gap)
            self._state = state
            tokens += more
            awaits = self._awaits
            if awaits is not None:
                if awaits.takes_text and gap in _COLONS:
                    self._awaits = None
                else:
                    self._see(gap, string=True)
            if self._counting and gap not in _COLONS:
                self._on_gap(before, gap)
            if is_key:
                if self._watched or len(state) == 2:
                    self._on_key(string, holder)
                elif len(string) > MAX_KEY:
                    raise _long_key()
            elif self._alert:
                self._on_value(string, holder)
        self._tokens = tokens

    def _hold(self, text: bytes) -> None:
        """Keep the start of a string that the chunk cuts, where it may matter; the whole where it counts."""
        if self._is_key:
            self._held += text
            if len(self._held) > MAX_KEY:
                raise _long_key()
        elif not self._alert:
            return
        elif self._costly:
            self._whole += text
            if len(self._whole) > self._costs.longest:
                self._costs.add("bytes", len(self._whole))
        elif len(self._held) < MAX_PREFIX:
            self._held += text[:MAX_PREFIX]

    def _end_string(self) -> None:
        string, self._held = self._held, b""
        self._in_string = False
        if not self._is_key:
            if self._alert:
                if self._costly:
                    string, self._whole = bytes(self._whole), bytearray()
                self._on_value(string, self._holder)
        elif self._watched or len(self._state) == 2:
            self._on_key(string, self._holder)

    def _hold_gap(self, gap: bytes) -> None:
        """Take an unfinished gap but for the scalar at its end, which the next chunk may go on with."""
        whole = gap.rstrip(_SCALAR_BYTES)
        if whole:
            before = self._state
            self._state, tokens = (advance_known if len(whole) <= _MEMO_GAP else advance)(before, whole)
            self._tokens += tokens
            if self._awaits is not None:
                self._see(whole, string=False)
            if self._counting:
                self._on_gap(before, whole)
        self._held = _SPACES.sub(b" ", gap[len(whole) :])
        if len(self._held) > MAX_SCALAR:
            raise malformed(f"it has a number longer than {MAX_SCALAR} bytes")

    # --- names ----------------------------------------------------------------------------------------

    def _on_key(self, key: bytes, above: int) -> None:
        """Take a key at the top, or below a field that is described; `above`: the depth of its holder."""
        if len(key) > MAX_KEY:
            raise _long_key()
        depth = len(self._state) - 1
        if depth == 1:
            self._on_top_key(key)
            return
        holder = self._places[above]
        self._places[depth] = place = holder.inside.get(key) or _elsewhere(holder, key)
        self._keys[depth] = key
        alert = place.watches or self._counting
        if place.address or self._addresses:
            alert = self._within_address(place, depth) or alert
        if self._prefix_open:
            self._key = key
            if depth == _MESSAGE_DEPTH:
                self._on_message_key(key)
            alert = alert or key in _NOTED_KEYS
        self._alert = alert
        if place.awaited:
            self._awaits, self._awaits_at = place, self._state
        if self._costly:
            self._count_key(holder, place, key, depth)

    def _within_address(self, place: Place, depth: int) -> bool:
        """Note whether this name, or one that it is below, is an address."""
        if place.address:
            self._addresses.add(depth)
        else:
            self._addresses.discard(depth)
        return bool(self._addresses)

    def _count_key(self, holder: Place, place: Place, key: bytes, depth: int) -> None:
        if place.forbidden:
            raise _invalid(self._where(), place.forbidden)
        costs = self._costs
        costs.name(holder.role, len(key), depth - 1, first=self._opened)
        if holder.role is Role.PATTERN_NAMES:
            costs.pattern(_decode(key))
        elif holder.role is Role.CHOICES and self._opened:
            costs.add("alternatives", 1)
        if place.role is Role.TOOL:
            costs.add("tools", 1)
        elif place.role is Role.RANGE:
            costs.add("ranges", 1)
        self._opened = False

    def _on_top_key(self, key: bytes) -> None:
        name = _decode(key)
        field = self._fields.get(name)
        if name in NAMES:
            if name in self.seen:
                raise malformed(f"it has {name} twice")
            self.seen.add(name)
        elif field is None and name.casefold() in NAMES:
            raise malformed(f"it has {name.casefold()} in another spelling")
        self._field = self._awaits = field
        self._key = self._keys[1] = key
        self._addresses.clear()
        self._items_at = 0
        self._counting = self._costly = self._watched = False
        self._alert = field is not None
        if field is not None and field.place is not None:
            self._places[1] = field.place
            self._watched = True
            self._counting = self._costly = field.place.role is not Role.NONE
            if self._costly and self._costs is _NO_COSTS:
                self._costs = Costs(self._bounds)

    def _on_message_key(self, key: bytes) -> None:
        """Close the prefix where a message begins behind the user's first: a key that comes again says so."""
        if key in self._message:
            self._message.clear()
            if self._user_speaks:
                self._prefix_open = False
        if key in _TURN_KEYS:
            self._message.add(key)

    # --- the kinds of values ----------------------------------------------------------------------------

    def _see(self, gap: bytes, *, string: bool) -> None:
        """Read what begins behind a key whose value counts; a chunk may end before it."""
        awaited = self._awaits
        start = 0
        if awaited is not _FIRST:
            found = _SCALAR.match(gap) if gap != b":" else None
            if found is None and not string:
                return
            word = b'"' if found is None else found[1]
            self._awaits = None
            if isinstance(awaited, Place):
                self._on_kind(awaited, word)
                return
            self._on_field_kind(word)
            if self._awaits is None or found is None:
                return
            start = found.end()
        first = gap[start:].lstrip(b" \t\r\n")[:1] or (b'"' if string else b"")
        if first:
            self._awaits = None
            self._on_first(first)

    def _on_kind(self, place: Place, word: bytes) -> None:
        """Take the beginning of a value below the top."""
        if place.kind is not None and not _is_of(word, place.kind[0]):
            raise _invalid(self._where(self._awaits_at), f"must be {place.kind[1]}")
        if place.role in _NUMBERS and word[:1] in b"-0123456789":
            value = _value(word)
            if isinstance(value, (int, float)):
                try:
                    self._costs.number(place.role, value)
                except Excess as excess:
                    self.excess = excess
                    raise excess.told(self._where(self._awaits_at)) from None

    def _on_field_kind(self, word: bytes) -> None:
        """Take the beginning of a value at the top."""
        field = self._field
        if field is None:
            return
        if word == b"null":
            self.nulls.add(field.name)
        elif field.kind is not None and not _is_of(word, field.kind[0]):
            raise _invalid(field.name, f"must be {field.kind[1]}")
        if field.name in SCALARS:
            self.given[field.name] = _value(word)
        elif field.name == "stream":
            self.stream = _LITERALS.get(word)
        if word in (b"[", b"{"):
            if field.counts:
                self._items_at = 2 if word == b"[" else 3
                self._counting = True
            if field.full or field.empty:
                self._awaits = _FIRST
        if field.place is None and field.name != "model":
            self._alert = field.full

    def _on_first(self, sign: bytes) -> None:
        """Take the first thing in a list, or an object, at the top: its end, where it is empty."""
        field = self._field
        if field is None:
            return
        empty = sign in b"]}"
        if empty and field.full and field.kind is not None:
            raise _invalid(field.name, f"must be {field.kind[1]}")
        if not empty and field.empty:
            raise _invalid(field.name, field.empty)
        if not empty and field.objects and sign != b"{":
            raise _invalid(f"{field.name}[]", "must be an object")

    def _on_gap(self, before: str, gap: bytes) -> None:
        """Count what a gap has of what counts: names and items, or items alone."""
        if self._costly:
            bare = gap.rstrip(b" \t\r\n")
            if bare:
                self._opened = bare.endswith(b"{")
            values = gap.count(b",") + gap.count(b"{") + gap.count(b"[")
            if values:
                self._costs.add("values", values)
            return
        if b"[" not in gap and b"{" not in gap:
            return
        depth = len(before) - 1
        for sign in _BRACKETS.findall(gap):
            if sign in b"{[":
                self.items += depth == self._items_at
                depth += 1
            else:
                depth -= 1

    # --- texts ------------------------------------------------------------------------------------------

    def _on_value(self, value: bytes, above: int) -> None:
        """Take a string value where `_alert` says that it may matter; of a long one, its start will do."""
        if len(self._state) == 2:
            self._on_field_text(value)
        elif self._items_at and len(self._state) == 1 + self._items_at:
            self.items += 1
        place = self._places[above] if self._watched else ANY
        if place.address and not value.startswith(_DATA_URL):
            raise SluiceError(
                "media_url_refused",
                "Media by address is refused: nothing here fetches it. Send it as a `data:` URL.",
                param=self._where(),
            )
        if place.role is not Role.NONE:
            self._on_counted(place.role, value)
        elif self._prefix_open:
            self._add_to_prefix(value)

    def _on_field_text(self, value: bytes) -> None:
        """Take a text that is the whole value of a field."""
        field = self._field
        if field is None:
            return
        if field.name == "model":
            if len(value) > MAX_KEY:
                raise _invalid("model", "is longer than any model's name")
            self.model = _decode(value)
        elif field.full and not value and not field.may_be_empty and field.kind is not None:
            raise _invalid(field.name, f"must be {field.kind[1]}")

    def _on_counted(self, role: Role, value: bytes) -> None:
        """Count a text that an engine compiles."""
        if role is Role.ITEM_TYPE:
            if value == _LINKS_TO_STORE or (b"\\" in value and _decode(value).encode() == _LINKS_TO_STORE):
                raise _invalid(
                    self._where(), "refers to a stored item: nothing is stored here, send the item itself"
                )
        elif role is Role.PATTERN:
            self._costs.pattern(_decode(value))
        elif role is Role.GRAMMAR:
            self._costs.grammar(_decode(value))
        elif role is Role.SCHEMA_TEXT and self._capability != IN_TEXT:
            self._scan_text(_decode(value))
        else:
            self._costs.add("bytes", len(value))
            if role is Role.CHOICES:
                self._costs.add("alternatives", 1)

    def _scan_text(self, text: str) -> None:
        """Count a schema that comes as a text."""
        if not text.lstrip().startswith("{"):
            self._costs.add("bytes", len(text))
            return
        inner = BodyScanner(IN_TEXT, self._bounds)
        inner._costs = self._costs
        try:
            inner.feed(b'{"model":"","schema":' + text.encode("utf-8", "surrogatepass") + b"}")
            inner.finish()
        except SluiceError as error:
            if inner.excess is not None:
                raise inner.excess.told(self._where()) from None
            if error.code != "malformed_json":
                raise
            raise _invalid(self._where(), "must be JSON, or no text") from None

    def _where(self, state: str = "") -> str:
        """Return the path of the present name, in this state; of names, those that the descriptions have."""
        path = ""
        for depth, bracket in enumerate((state or self._state)[:-1], 1):
            if bracket == "[":
                path += "[]"
            else:
                name = self._keys[depth].decode("latin-1")
                path += ("." if path else "") + (name if name in SAYABLE else "…")
        return path if len(path) <= MAX_PATH else path[:MAX_PATH] + "…"

    def _add_to_prefix(self, value: bytes) -> None:
        if self._key in _TEXT_KEYS:
            self.prefix = (self.prefix + value[:MAX_PREFIX] + b"\n")[:MAX_PREFIX]
            self._prefix_open = len(self.prefix) < MAX_PREFIX
        elif value == b"user" and self._key == b"role" and len(self._state) == _MESSAGE_DEPTH + 1:
            self._user_speaks = True


def _elsewhere(holder: Place, key: bytes) -> Place:
    """Return the place of a name that its holder does not describe, as it is written. Raises SluiceError."""
    if b"\\" in key:
        key = _decode(key).encode("utf-8", "surrogatepass")
        place = holder.inside.get(key)
        if place is not None:
            return place
    if holder.strict:
        lower = key.lower()
        if lower.endswith(_ADDRESSES) or lower in (b"url", b"uri"):
            return ADDRESS
    return holder.other


@functools.lru_cache(maxsize=256)
def other_spellings() -> str:
    """Return the regular expression, whole, of the names that are refused for one that counts."""
    exact = sorted(NAMES)
    forms = (re.sub("ss|st|[a-z]", _forms, name) for name in exact)
    return f"^(?!(?:{'|'.join(exact)})$)(?:{'|'.join(forms)})$"


def _forms(found: re.Match[str]) -> str:
    letters = found[0]
    each = "".join(f"[{one}{one.upper()}{_FOLDED.get(one, '')}]" for one in letters)
    return each if len(letters) == 1 else f"(?:{each}|[{_FOLDED[letters]}])"


def _decode(raw: bytes) -> str:
    """Return what a masked string says. Raises SluiceError where JSON does not allow it."""
    if b"\\" not in raw and raw.isascii():
        return raw.decode("ascii")
    quoted = b'"' + raw.replace(_BACKSLASH, b"\\\\").replace(_QUOTE, b'\\"') + b'"'
    try:
        return str(json.loads(quoted.decode("utf-8")))
    except ValueError:
        raise malformed("it has a string that JSON does not allow") from None


def _value(word: bytes) -> object:
    if word in _LITERALS:
        return _LITERALS[word]
    if word[:1] in b'"{[':
        return OTHER
    return int(word) if _WHOLE_NUMBER.fullmatch(word) else float(word)


def _is_of(word: bytes, kinds: frozenset[type]) -> bool:
    """Return whether a value that begins with this word is null or of one of these kinds."""
    if word == b'"':
        return str in kinds
    if word == b"[":
        return list in kinds
    if word == b"{":
        return dict in kinds
    value = _value(word)
    if value is None or type(value) in kinds:
        return True
    # To JSON `2.0` is the same number as `2`.
    return isinstance(value, float) and value.is_integer() and int in kinds


def _long_key() -> SluiceError:
    return malformed(f"it has a key longer than {MAX_KEY} bytes")


def _invalid(param: str, problem: str) -> SluiceError:
    return SluiceError("invalid_request", f"`{param}` {problem}.", param=param)
