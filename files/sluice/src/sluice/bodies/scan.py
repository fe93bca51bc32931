"""Reads the parts of a request's body that matter, in one pass, without building the document.

Proxy and relay use the same scanner. It reads a body as every JSON parser that accepts the body reads it:

- A body is one object in UTF-8 and nothing else: no byte order mark, no NUL, so no UTF-16 or UTF-32.
- Outside strings only JSON's own tokens are allowed, in JSON's order: no comments, single quotes, NaN or
  extra commas. So every parser agrees on what is a string, which strings are keys, and how deep they are.
- Inside strings the scanner allows more than JSON (raw control characters, unknown escapes), because this
  cannot move a string's end; half of a surrogate pair is refused. A key that could have a meaning is decoded
  strictly before it is compared.
- None of the names in NAMES may occur twice, or in another case. So it does not matter whether a parser uses
  the first or the last, or ignores case as Go's does.

`sluice.bodies.positions` describes what values mean, and which ones are allowed.

No message quotes the body: errors go to logs and users.
"""

from __future__ import annotations

import re
from typing import Optional, Union

from sluice.bodies.costs import DEFAULTS, Bounds, Costs, Excess, Role, check_scored
from sluice.bodies.jsonorder import FIRST_NAME, MAX_DEPTH, START, Point, values
from sluice.bodies.jsontext import decode, malformed
from sluice.bodies.kinds import LITERALS, beginning, is_of, is_within, told, value_of
from sluice.bodies.pieces import Pairs, Pieces
from sluice.bodies.positions import ANY, FIELDS, IN_TEXT, NAMES, SAYABLE, SCALARS, Field, Position, places
from sluice.bodies.prefix import MAX_PREFIX, Prefix
from sluice.errors import SluiceError

MAX_KEY = 1024
MAX_PATH = 200

_TOKENS_EACH = 5
_FIELDS = {
    capability: {name.encode(): field for name, field in fields.items()}
    for capability, fields in FIELDS.items()
}
_NUMBERS = frozenset((Role.LENGTH, Role.LEAST, Role.ITEMS, Role.COUNT))
_LINKS_TO_STORE = b"item_reference"
# The values of _ROOTS are whole schemas; below a name of _MAPS, such a name is a user's own.
_ROOTS = frozenset(("guided_json", "input_schema", "json", "json_schema", "parameters", "schema"))
_MAPS = frozenset(("properties", "patternProperties", "$defs", "definitions"))
_BRACKETS = re.compile(rb"[{}\[\]]")
_COLONS = frozenset((b":", b": "))
_PLAIN = frozenset((*_COLONS, b",", b", "))
# A placeholder that counts nothing: a body with something to count gets its own.
_NO_COSTS = Costs(DEFAULTS)
_NOWHERE = [ANY] * (MAX_DEPTH + 2)
_NAMELESS = [b""] * (MAX_DEPTH + 2)
# Awaited: the first item of a list or object at the top level.
_FIRST = Position()


class BodyScanner(Pieces):
    """Reads a body in chunks, which may be cut anywhere; it keeps at most a few kilobytes.

    `capability`: that of the path, whose description applies. `bounds`: on what an engine compiles.
    `model`: the top-level model, None until it has arrived. `stream`: the top-level `stream`, None if it is
    absent or null. `seen`: the NAMES that the body has at its top level. `nulls`: the described names that
    are null. `given`: the SCALARS with their values, OTHER for a value that is not a number, true, false or
    null. `items`: how many texts, inputs or documents are answered one by one. `excess`: the bound that the
    body exceeded, if it was refused for that.
    """

    def __init__(self, capability: str, bounds: Bounds = DEFAULTS) -> None:
        super().__init__()
        self.model: Optional[str] = None
        self.stream: Optional[bool] = None
        self.seen: set[str] = set()
        self.nulls: set[str] = set()
        self.given: dict[str, object] = {}
        self.items = 0
        self.excess: Optional[Excess] = None
        self._capability = capability
        self._fields = _FIELDS[capability]
        self._bounds = bounds
        self._costs = _NO_COSTS
        self._prefix = Prefix()
        # The position: the field at the top, if it is described; whether values below it matter, or are
        # counted; what is awaited after which name; and by depth, the last name and its position.
        self._field: Optional[Field] = None
        self._watched = False
        self._costly = False
        self._awaits: Union[Field, Position, None] = None
        self._awaits_at = START
        self._positions = _NOWHERE.copy()
        self._keys = _NAMELESS.copy()
        # The depth at which items are counted; 0: none are.
        self._items_at = 0

    def feed(self, chunk: bytes) -> None:
        """Read the next bytes.

        Raises SluiceError `malformed_json`, `invalid_request` or `media_url_refused`.
        """
        try:
            self._take(chunk)
        except Excess as excess:
            self.excess = excess
            error = excess.told(self._where())
            self._refuse()
            raise error from None
        except SluiceError:
            self._refuse()
            raise

    @property
    def prefix(self) -> bytes:
        """The start of the text that requests of one conversation have in common (`Prefix`)."""
        return self._prefix.text

    @property
    def places(self) -> int:
        """How many places of a model the body needs, as far as it has been read."""
        return places(self._capability, self.given, self.items)

    def finish(self) -> str:
        """Check that the body is complete; return its model. Raises SluiceError."""
        self._check_end()
        if self.model is None:
            raise _invalid("model", "is required: the name of a model that GET /v1/models lists")
        check_scored(self.given, self._size, self._bounds)
        return self.model

    # --- strings and gaps ---------------------------------------------------------------------------------

    def _on_cut_string(self, is_name: bool, holder: int) -> int:
        """Keep more of a string that may be counted: as much as the bounds allow."""
        if is_name and len(self._string) > MAX_KEY:
            raise _long_key()
        if is_name or not self._costly:  # however small the bounds: a name cut short is not recognised
            return MAX_PREFIX
        if len(self._string) > self._costs.longest and self._positions[holder].watches:
            self._costs.text(len(self._string))
        return self._costs.longest + 1

    def _take_gap(self, gap: bytes, *, string: bool) -> None:
        """Read a gap of whole tokens alone."""
        before = self._point
        self._point, tokens = before.over(gap)
        self._tokens += tokens
        if string:
            self._point[b""]  # raises if no string is allowed here
        if self._awaits is not None:
            self._see(gap, string=string)
        if self._costly:
            self._costs.values += values(gap)
            self._costs.check()
        elif self._items_at:
            self._count_items(before, gap)

    def _take_pairs(self, pairs: Pairs) -> None:  # noqa: C901 - a call for each string would be expensive
        """Read gaps, each with the whole string after it: the hot loop, in which calls are expensive."""
        if self._costly:
            self._take_costly(pairs)
        point, positions, keys, prefix = self._point, self._positions, self._keys, self._prefix
        for gap, string in pairs:
            before = point
            is_name, point, tokens, depth, holder, _ = before[gap]
            self._point = point
            self._tokens += tokens
            awaits = self._awaits
            if awaits is not None:
                if awaits.takes_text and gap in _COLONS:
                    self._awaits = None
                else:
                    self._see(gap, string=True)
            if self._items_at and gap not in _PLAIN:
                self._count_items(before, gap)
            if is_name:
                if len(string) > MAX_KEY:
                    raise _long_key()
                if depth == 1:
                    self._on_top_key(string)
                    if self._costly:
                        self._take_costly(pairs)
                        point = self._point
                elif self._watched:
                    positions[depth] = position = positions[holder].inside[string]
                    keys[depth] = string
                    if position.awaited:
                        self._awaits, self._awaits_at = position, point
                    if prefix.open:
                        prefix.on_key(string, depth)
            elif depth == 1:
                self._on_field_text(string)
            elif self._watched:
                self.items += depth == self._items_at
                if prefix.open or positions[holder].watches:
                    self._on_value(string, positions[holder], depth)

    def _take_costly(self, pairs: Pairs) -> None:
        """Read pairs while their values are counted."""
        costs = self._costs
        name: Optional[bytes] = b""
        while self._costly and name is not None:
            before = costs.values
            name = self._count_pairs(costs, pairs)
            # Each name or item has at most a few tokens.
            self._tokens += _TOKENS_EACH * (costs.values - before)
            costs.check()
            if name is not None:
                self._on_top_key(name)

    def _count_pairs(self, costs: Costs, pairs: Pairs) -> Optional[bytes]:  # noqa: C901 - as for _take_pairs
        """Count pairs up to the next name at the top, and return that name: the other hot loop."""
        point, positions, keys, awaits = self._point, self._positions, self._keys, self._awaits
        properties, most_properties = costs.properties, costs.bounds.properties
        size, most, most_depth = costs.bytes, costs.bounds.bytes, costs.bounds.depth + 1
        values, most_values = costs.values, costs.bounds.values
        names, largest = costs.names, costs.largest
        try:
            for gap, string in pairs:
                is_name, point, _, depth, holder, begun = point[gap]
                values += begun
                if awaits is not None:
                    self._point = point
                    self._see(gap, string=True)
                    awaits = self._awaits
                above = positions[holder]
                if is_name:
                    if depth == 1:
                        return string
                    keys[depth] = string
                    length = len(string)
                    if length > MAX_KEY:
                        raise _long_key()
                    size += length
                    position = above.inside.get(string)
                    if position is None:
                        position = above.inside.other if b"\\" not in string else above.inside[string]
                    positions[depth] = position
                    if is_name == FIRST_NAME:
                        properties[depth] = 0
                        if depth > most_depth:
                            raise Excess("depth", most_depth - 1)
                    if above.lists_names:
                        properties[depth] = count = properties[depth] + 1
                        names += 1
                        if count > largest:
                            largest = count
                            if count > most_properties:
                                raise Excess("properties", most_properties)
                    if position.notable or above.notable_within:
                        self._point = point
                        self._on_notable(above, position, string, depth, first=is_name == FIRST_NAME)
                        awaits = self._awaits
                    if values > most_values:
                        raise Excess("values", most_values)
                elif above.literal:
                    size += len(string)
                elif above.watches:
                    self._point, costs.bytes, costs.values = point, size, values
                    costs.names, costs.largest = names, largest
                    self._on_counted(above.role, string)
                    size, values, names, largest = costs.bytes, costs.values, costs.names, costs.largest
                if size > most:
                    raise Excess("bytes", most)
            return None
        finally:
            self._point, costs.bytes, costs.values = point, size, values
            costs.names, costs.largest = names, largest

    # --- names ----------------------------------------------------------------------------------------

    def _on_top_key(self, key: bytes) -> None:
        if len(key) > MAX_KEY:
            raise _long_key()
        field = self._fields.get(key) or self._spelled(key)
        self._field = self._awaits = field
        self._keys[1] = key
        self._items_at = 0
        self._watched = self._costly = False
        self._prefix.key = key
        if field is None:
            return
        if field.single:
            if field.name in self.seen:
                raise malformed(f"it has {field.name} twice")
            self.seen.add(field.name)
        if field.position is not None:
            self._positions[1] = field.position
            self._watched = True
            self._costly = field.costly
            if field.costly and self._costs is _NO_COSTS:
                self._costs = Costs(self._bounds)

    def _spelled(self, key: bytes) -> Optional[Field]:
        """Return the field of a key that may have escapes; refuse spellings that other parsers may accept."""
        name = decode(key)
        if name not in NAMES and name.casefold() in NAMES:
            raise malformed(f"it has {name.casefold()} in another spelling")
        return self._fields.get(name.encode("utf-8", "surrogatepass"))

    def _on_notable(self, holder: Position, here: Position, key: bytes, depth: int, *, first: bool) -> None:
        """Count a name for more than its bytes; `first`: it is the first in its object."""
        if here.forbidden:
            raise _invalid(self._where(), here.forbidden)
        if here.awaited:
            self._awaits, self._awaits_at = here, self._point
        costs = self._costs
        if holder.role is Role.PATTERN_NAMES:
            costs.pattern(decode(key))
        elif holder.role is Role.CHOICES and first:
            costs.add("alternatives", 1)
        if here.role is Role.TOOL:
            costs.add("tools", 1)
        elif here.role is Role.RANGE:
            costs.add("ranges", 1)

    # --- the kinds of values ----------------------------------------------------------------------------

    def _see(self, gap: bytes, *, string: bool) -> None:
        """Read the start of a value after a key that awaits it; a piece may end before the value."""
        awaited = self._awaits
        sign = b""
        if awaited is not _FIRST:
            word, sign = beginning(gap)
            if not word:
                if not string:
                    return
                word = b'"'
            self._awaits = None
            if isinstance(awaited, Position):
                self._on_kind(awaited, word)
                return
            self._on_field_kind(word)
            if self._awaits is None:
                return
        else:
            sign = gap.lstrip(b" \t\r\n")[:1]
        if string and not sign:
            sign = b'"'
        if sign:
            self._awaits = None
            self._on_first(sign)

    def _on_kind(self, position: Position, word: bytes) -> None:
        """Check the start of a value below the top."""
        if position.kind is not None and not is_of(word, position.kind[0]):
            raise _invalid(self._where(self._awaits_at), f"must be {position.kind[1]}")
        if position.role in _NUMBERS and word[:1] in b"-0123456789":
            value = value_of(word)
            if isinstance(value, (int, float)):
                try:
                    self._costs.number(position.role, value)
                except Excess as excess:
                    self.excess = excess
                    raise excess.told(self._where(self._awaits_at)) from None

    def _on_field_kind(self, word: bytes) -> None:
        """Check the start of a value at the top."""
        field = self._field
        if field is None:
            return
        if word == b"null":
            self.nulls.add(field.name)
        elif field.kind is not None and not is_of(word, field.kind[0]):
            raise _invalid(field.name, f"must be {field.kind[1]}")
        elif field.range is not None and not is_within(word, field.range):
            raise _invalid(field.name, f"must be {told(field.range)}")
        if field.name in SCALARS:
            self.given[field.name] = value_of(word)
        elif field.name == "stream":
            self.stream = LITERALS.get(word)
        if word in (b"[", b"{"):
            if field.counts:
                self._items_at = 2 if word == b"[" else 3
            if field.full or field.empty:
                self._awaits = _FIRST

    def _on_first(self, sign: bytes) -> None:
        """Check the first sign in a list or object at the top: if that is empty, its closing bracket."""
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

    def _count_items(self, before: Point, gap: bytes) -> None:
        """Count the lists and objects that begin in a gap and are items; texts are counted elsewhere."""
        if b"[" not in gap and b"{" not in gap:
            return
        depth = len(before.stack)
        for sign in _BRACKETS.findall(gap):
            if sign in b"{[":
                self.items += depth == self._items_at
                depth += 1
            else:
                depth -= 1

    # --- texts ------------------------------------------------------------------------------------------

    def _on_field_text(self, value: bytes) -> None:
        """Check a text that is the value of a field, or the start of a long one."""
        field = self._field
        if field is None:
            return
        if field.name == "model":
            if len(value) > MAX_KEY:
                raise _invalid("model", "is longer than any model's name")
            self.model = decode(value)
        elif field.full and not value and not field.may_be_empty and field.kind is not None:
            raise _invalid(field.name, f"must be {field.kind[1]}")
        if self._watched:
            self._on_value(value, self._positions[1], 1)

    def _on_value(self, value: bytes, position: Position, depth: int) -> None:
        """Check a text that may matter, or the start of a long one."""
        if position.address and not value.startswith(b"data:"):
            raise SluiceError(
                "media_url_refused",
                "Media must be sent as a `data:` URL: Sluice fetches nothing from the network.",
                param=self._where(),
            )
        if position.role is not Role.NONE:
            self._on_counted(position.role, value)
        elif self._prefix.open:
            self._prefix.on_text(value, depth)

    def _on_counted(self, role: Role, value: bytes) -> None:
        """Count a text by its role: most of these are compiled."""
        if role is Role.ITEM_TYPE:
            if value == _LINKS_TO_STORE or (b"\\" in value and decode(value).encode() == _LINKS_TO_STORE):
                raise _invalid(
                    self._where(), "refers to a stored item, but nothing is stored: send the item itself"
                )
            return
        costs = self._costs
        if role is Role.REFERENCE:
            costs.text(len(value))
            if self._refers_to_itself(decode(value)):
                raise _invalid(self._where(), "must not refer to itself")
        elif role is Role.PATTERN:
            costs.pattern(decode(value))
        elif role is Role.GRAMMAR:
            costs.grammar(decode(value))
        elif role is Role.SCHEMA_TEXT and self._capability != IN_TEXT:
            self._scan_text(costs, decode(value))
        else:
            costs.text(len(value))
            if role is Role.CHOICES:
                costs.add("alternatives", 1)

    def _scan_text(self, costs: Costs, text: str) -> None:
        """Count a schema in the form of a text."""
        if not text.lstrip().startswith("{"):
            costs.text(len(text))
            return
        inner = BodyScanner(IN_TEXT, self._bounds)
        inner._costs = costs
        outer, costs.properties = costs.properties, list(costs.properties)
        try:
            inner.feed(b'{"model":"","schema":' + text.encode("utf-8", "surrogatepass") + b"}")
            inner.finish()
        except SluiceError as error:
            if inner.excess is not None:
                raise inner.excess.told(self._where()) from None
            if error.code != "malformed_json":
                raise
            raise _invalid(self._where(), "must be JSON, or not a text") from None
        finally:
            costs.properties = outer

    def _refers_to_itself(self, reference: str) -> bool:
        """Return whether a reference leads directly to its own schema, which no text can match."""
        brackets = self._point.stack[:-1]
        path = ["[]" if bracket == "[" else decode(key) for bracket, key in zip(brackets, self._keys[1:])]
        if reference == "#":
            return path[-1] in _ROOTS and not set(path[-2:-1]) & _MAPS
        return reference[:2] == "#/" and "/".join(path).endswith(reference[1:])

    def _where(self, point: Optional[Point] = None) -> str:
        """Return the path of the current name, or that at a point, with only the names in SAYABLE."""
        path = ""
        for depth, bracket in enumerate((self._point if point is None else point).stack, 1):
            if bracket == "[":
                path += "[]"
            else:
                name = self._keys[depth].decode("latin-1")
                path += ("." if path else "") + (name if name in SAYABLE else "…")
        # After the end of a field, only the field as a whole can exceed a bound.
        path = path or (self._field.name if self._field else "")
        return path if len(path) <= MAX_PATH else path[:MAX_PATH] + "…"


def _long_key() -> SluiceError:
    return malformed(f"it has a key longer than {MAX_KEY} bytes")


def _invalid(param: str, problem: str) -> SluiceError:
    return SluiceError("invalid_request", f"`{param}` {problem}.", param=param)
