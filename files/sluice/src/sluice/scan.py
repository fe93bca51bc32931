"""Reads what matters from the body of a request while it passes: in one pass, without building the document.

Proxy and relay use the same scanner. What any JSON parser accepts is read here as that parser reads it:

- A body is one object in UTF-8 and nothing beside it: no byte order mark, no NUL, hence no UTF-16 or UTF-32.
- Outside strings only JSON's own tokens pass, in JSON's order: no comments, single quotes, NaN, or commas
  too many. So what is a string, which string is a key and how deep it lies is the same for every parser.
- Inside strings the scanner is laxer than JSON (raw control characters, unknown escapes), for no laxness
  there moves a string's end; half of a surrogate pair is refused. A key that could mean something is decoded
  strictly before it is compared.
- Of the names that count (`model`, `stream`, TEXTS and SCALARS) none may come twice, nor in another case:
  so it does not matter whether a parser takes the first or the last, or folds case as Go's does.

No message quotes the body: errors go to logs and users.
"""

from __future__ import annotations

import codecs
import functools
import json
import re
from typing import Optional

from sluice.errors import SluiceError

MAX_DEPTH = 64
MAX_KEY = 1024
MAX_SCALAR = 1024
MAX_TOKENS = 2_000_000
MAX_PREFIX = 4096

# Where a body's text lies, by path: the conversation, and what may refer to media.
TEXTS = ("messages", "prompt", "input", "documents", "query", "system", "instructions")
# What says how a body is to be answered; their values are noted where they are literals.
SCALARS = (
    "background",
    "best_of",
    "cache_prompt",
    "cache_salt",
    "conversation",
    "max_completion_tokens",
    "max_output_tokens",
    "max_tokens",
    "n",
    "previous_response_id",
    "store",
    "stream_options",
)
# Stands in `given` for a value that is no literal: a string, a list, an object.
OTHER = "…"

_PIECE = 65_536
_MEMO_GAP = 64
_NAMES = frozenset(("model", "stream", *TEXTS, *SCALARS))
# What else folds to these letters, beside their capitals (Unicode's full case folding).
_FOLDED = {"k": "\u212a", "s": "\u017f", "ss": "\u00df\u1e9e", "st": "\ufb05\ufb06"}
_DATA_URL = b"data:"
_LITERALS = {b"true": True, b"false": False, b"null": None}
_TURN_KEYS = frozenset((b"role", b"content"))
_TEXT_KEYS = frozenset((b"content", b"text", b"prompt", b"input", b"query", b"system", b"instructions"))
_NOTED_KEYS = _TURN_KEYS | _TEXT_KEYS
# Where a message's own keys are: in an object in the list in the body.
_MESSAGE_DEPTH = 3

# Escaped backslashes and quotes are masked by bytes that UTF-8 never has: each quote left bounds a string.
_BACKSLASH = b"\xff\xff"
_QUOTE = b"\xfe\xfe"


class BodyScanner:
    """Takes a body in chunks, cut anywhere, and holds a few kilobytes of it at most.

    `model`: the top-level model once it was seen. `stream`: the top-level `stream`, None where it is absent
    or null. `seen`: which of model, stream, TEXTS and SCALARS the body has at its top level. `given`: those
    of SCALARS with their values, OTHER where one is no number, true, false or null. `prefix`: the start of
    the text by which requests of one conversation are alike, up to and with its first user message: raw
    bytes for a hash, not decoded text.
    """

    def __init__(self) -> None:
        self.model: Optional[str] = None
        self.stream: Optional[bool] = None
        self.seen: set[str] = set()
        self.given: dict[str, object] = {}
        self.prefix = b""
        self._state = _START
        self._tokens = 0
        self._size = 0
        self._decoder: Optional[codecs.IncrementalDecoder] = None
        self._escape = b""
        self._half = b""
        # The unfinished string (its start, where it may matter) or gap (the scalar at its end).
        self._in_string = False
        self._is_key = False
        self._held = b""
        # Where the reader is: the top-level name, if it counts, and whether a string value may matter.
        self._name = ""
        self._alert = False
        self._awaits_scalar = False
        self._key = b""
        self._addresses: set[int] = set()
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
        except SluiceError:
            # Whatever the owner does next, a body once refused is never found good.
            self._state = _REFUSED
            self._in_string = False
            raise

    def finish(self) -> str:
        """Say that the body is complete; return its model. Raises SluiceError."""
        if self._state != _END or self._held.strip() or self._escape:
            raise _malformed(f"it ends too early, after {self._size} bytes")
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
            raise _malformed(f"it has more than {MAX_TOKENS} tokens")

    def _check_bytes(self, piece: bytes) -> None:
        if b"\0" in piece:
            raise _malformed("it has a NUL byte; it must be UTF-8")
        if self._decoder is None:
            if piece.isascii():
                return
            self._decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            self._decoder.decode(piece)
        except UnicodeDecodeError:
            raise _malformed("it is not UTF-8") from None

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
            raise _malformed("it has half of a surrogate pair, which is no character")

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
            self._is_key, self._state, tokens = _enter(self._state, gap)
            self._tokens += tokens
            if self._awaits_scalar:
                self._see_scalar(gap)
            self._in_string = True
            self._hold(last)

    def _take_pairs(self, parts: list[bytes]) -> None:
        """Take gaps, each with the whole string behind it: the hot loop."""
        for gap, string in zip(parts[0::2], parts[1::2]):
            is_key, self._state, tokens = (_enter_known if len(gap) <= _MEMO_GAP else _enter)(
                self._state, gap
            )
            self._tokens += tokens
            if self._awaits_scalar:
                self._see_scalar(gap)
            if is_key:
                if self._name or len(self._state) == 2:
                    self._on_key(string)
                elif len(string) > MAX_KEY:
                    raise _long_key()
            elif self._alert:
                self._on_value(string)

    def _hold(self, text: bytes) -> None:
        """Keep the start of a string that the chunk cuts, where it may matter."""
        if self._is_key:
            self._held += text
            if len(self._held) > MAX_KEY:
                raise _long_key()
        elif self._alert and len(self._held) < MAX_PREFIX:
            self._held += text[:MAX_PREFIX]

    def _end_string(self) -> None:
        string, self._held = self._held, b""
        self._in_string = False
        if not self._is_key:
            if self._alert:
                self._on_value(string)
        elif self._name or len(self._state) == 2:
            self._on_key(string)

    def _hold_gap(self, gap: bytes) -> None:
        """Take an unfinished gap but for the scalar at its end, which the next chunk may go on with."""
        whole = gap.rstrip(_SCALAR_BYTES)
        if whole:
            self._state, tokens = (_advance_known if len(whole) <= _MEMO_GAP else _advance)(
                self._state, whole
            )
            self._tokens += tokens
            if self._awaits_scalar:
                self._see_scalar(whole)
        self._held = _SPACES.sub(b" ", gap[len(whole) :])
        if len(self._held) > MAX_SCALAR:
            raise _malformed(f"it has a number longer than {MAX_SCALAR} bytes")

    # --- what they mean -------------------------------------------------------------------------------

    def _on_key(self, key: bytes) -> None:
        """Take a key at the top level, or anywhere below messages and prompt."""
        if len(key) > MAX_KEY:
            raise _long_key()
        depth = len(self._state) - 1
        if depth == 1:
            self._on_top_key(key)
            return
        if key not in _NOTED_KEYS and _names_url(key):
            self._addresses.add(depth)
        else:
            self._addresses.discard(depth)
        self._key = key
        if self._prefix_open and depth == _MESSAGE_DEPTH:
            self._on_message_key(key)
        self._alert = bool(self._addresses) or (self._prefix_open and key in _NOTED_KEYS)

    def _on_top_key(self, key: bytes) -> None:
        name = _counted(key)
        if not name:
            self._name = ""
            self._alert = False
            return
        if name in self.seen:
            raise _malformed(f"it has {name} twice")
        self.seen.add(name)
        self._name = name
        self._key = key
        self._addresses.clear()
        self._alert = True
        self._awaits_scalar = name == "stream" or name in SCALARS

    def _on_message_key(self, key: bytes) -> None:
        """Close the prefix where a message begins behind the user's first: a key that comes again says so."""
        if key in self._message:
            self._message.clear()
            if self._user_speaks:
                self._prefix_open = False
        if key in _TURN_KEYS:
            self._message.add(key)

    def _on_value(self, value: bytes) -> None:
        """Take a string value where `_alert` says that it may matter; of a long one, its start will do."""
        if self._name == "model":
            self._on_model(value)
        elif self._awaits_scalar:
            self._note_scalar(b'"')
        elif self._addresses and self._is_address() and not value.startswith(_DATA_URL):
            raise SluiceError(
                "media_url_refused",
                "Media by address is refused: nothing here fetches it. Send it as a `data:` URL.",
                param=self._name,
            )
        elif self._prefix_open:
            self._add_to_prefix(value)

    def _on_model(self, value: bytes) -> None:
        if len(self._state) != 2:
            raise _invalid("model", "must be a string")
        if len(value) > MAX_KEY:
            raise _invalid("model", "is longer than any model's name")
        self.model = _decode(value)

    def _is_address(self) -> bool:
        """Whether the string stands at a key that names a URL: as its value, or in the list that is."""
        depth = len(self._state) - 1
        opened = self._state[-3:-1]
        if opened == "{[":
            return depth - 1 in self._addresses
        return opened.endswith("{") and depth in self._addresses

    def _add_to_prefix(self, value: bytes) -> None:
        if self._key in _TEXT_KEYS:
            self.prefix = (self.prefix + value[:MAX_PREFIX] + b"\n")[:MAX_PREFIX]
            self._prefix_open = len(self.prefix) < MAX_PREFIX
        elif value == b"user" and self._key == b"role" and len(self._state) == _MESSAGE_DEPTH + 1:
            self._user_speaks = True

    def _see_scalar(self, gap: bytes) -> None:
        """Read what stands behind a key whose value counts; a chunk may end before it."""
        found = _SCALAR.match(gap)
        if found is not None:
            self._note_scalar(found[1])

    def _note_scalar(self, word: bytes) -> None:
        name = self._name
        # What the value holds, should it be a list or an object, is no more than that.
        self._name = ""
        self._alert = self._awaits_scalar = False
        if name != "stream":
            self.given[name] = _value(word)
        elif word in _LITERALS:
            self.stream = _LITERALS[word]
        else:
            raise _invalid("stream", "must be true or false")


# --- JSON's order, outside strings ----------------------------------------------------------------------
#
# A state is the open brackets, outermost first, and a letter for what may come next:
#   ^ the object    o key or }    k key    c colon    v a member's value    a item or ]    w item
#   e comma or the end of what is open    $ nothing more    ! nothing: the body was refused

_START = "^"
_END = "$"
_REFUSED = "!"
_ALLOWED = frozenset(
    ("^{", "o}", "c:", "v0", "v{", "v[", "a0", "a{", "a[", "a]", "w0", "w{", "w[", "e,", "e}", "e]")
)
_OPENER = {"}": "{", "]": "["}
_NUMBER = r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?"
_TOKEN = re.compile(r"[ \t\r\n]*([{}\[\],:]|true|false|null|" + _NUMBER + ")")
# Prompts may be lists of a hundred thousand token ids.
_ITEMS = re.compile(r"(?: ?[1-9][0-9]{0,19},)+")
_SPACES = re.compile(rb"[ \t\r\n]+")
_SCALAR = re.compile(rb"[ \t\r\n:]*([{\[]|[^ \t\r\n:,}\]{\[]+)")
_WHOLE_NUMBER = re.compile(rb"-?[0-9]+")
# Of a pair in escapes, each half has so many bytes. A high one is whole where a low one follows it.
_ESCAPE = 6
_HIGH = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}")
_SURROGATES = re.compile(rb"\\u[dD](?:[89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|([89a-fA-F]))")
_SCALAR_BYTES = b"0123456789+-.eEtrufalsn \t\r\n"


def _advance(state: str, gap: bytes) -> tuple[str, int]:
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
            raise _malformed("it has something that is no JSON token")
        stack, expected = _after(stack, expected, found[1])
        position = found.end()
        tokens += 1
    return stack + expected, tokens


def _after(stack: str, expected: str, word: str) -> tuple[str, str]:
    sign = word if word in "{}[],:" else "0"
    if expected + sign not in _ALLOWED:
        raise _malformed("its tokens are not in JSON's order")
    if sign in "{[":
        if len(stack) == MAX_DEPTH:
            raise _malformed(f"it is nested deeper than {MAX_DEPTH}")
        return stack + sign, "o" if sign == "{" else "a"
    if sign in "}]":
        if stack[-1] != _OPENER[sign]:
            raise _malformed("its brackets do not match")
        return stack[:-1], "e" if stack[:-1] else _END
    if sign == ",":
        return stack, "k" if stack[-1] == "{" else "w"
    return stack, "v" if sign == ":" else "e"


def _enter(state: str, gap: bytes) -> tuple[bool, str, int]:
    """Return whether the string behind the gap is a key, the state behind the string, and the tokens."""
    state, tokens = _advance(state, gap)
    stack, expected = state[:-1], state[-1]
    if expected in "ok":
        return True, stack + "c", tokens + 1
    if expected in "vaw":
        return False, stack + "e", tokens + 1
    raise _malformed("it has a string where none may be")


# Bodies are made of a few short gaps (`:`, `,`, `},{`): what each does is worked out once.
_enter_known = functools.lru_cache(maxsize=1024)(_enter)
_advance_known = functools.lru_cache(maxsize=1024)(_advance)


@functools.lru_cache(maxsize=256)
def other_spellings() -> str:
    """Return the regular expression, whole, of the names that are refused for one that counts."""
    exact = sorted(_NAMES)
    forms = (re.sub("ss|st|[a-z]", _forms, name) for name in exact)
    return f"^(?!(?:{'|'.join(exact)})$)(?:{'|'.join(forms)})$"


def _forms(found: re.Match[str]) -> str:
    letters = found[0]
    each = "".join(f"[{one}{one.upper()}{_FOLDED.get(one, '')}]" for one in letters)
    return each if len(letters) == 1 else f"(?:{each}|[{_FOLDED[letters]}])"


def _counted(key: bytes) -> str:
    """Return the name that a top-level key says, if it is one that counts, else "". Raises SluiceError."""
    name = _decode(key)
    if name in _NAMES:
        return name
    if name.casefold() in _NAMES:
        raise _malformed(f"it has {name.casefold()} in another spelling")
    return ""


def _decode(raw: bytes) -> str:
    """Return what a masked string says. Raises SluiceError where JSON does not allow it."""
    if b"\\" not in raw and raw.isascii():
        return raw.decode("ascii")
    quoted = b'"' + raw.replace(_BACKSLASH, b"\\\\").replace(_QUOTE, b'\\"') + b'"'
    try:
        return str(json.loads(quoted.decode("utf-8")))
    except ValueError:
        raise _malformed("it has a string that JSON does not allow") from None


def _value(word: bytes) -> object:
    if word in _LITERALS:
        return _LITERALS[word]
    if word[:1] in b'"{[':
        return OTHER
    return int(word) if _WHOLE_NUMBER.fullmatch(word) else float(word)


def _names_url(key: bytes) -> bool:
    name = _decode(key).lower()
    return name in ("url", "uri") or name.endswith(("_url", "_uri"))


def _malformed(problem: str) -> SluiceError:
    return SluiceError("malformed_json", f"The body must be one JSON object; {problem}.")


def _long_key() -> SluiceError:
    return _malformed(f"it has a key longer than {MAX_KEY} bytes")


def _invalid(param: str, problem: str) -> SluiceError:
    return SluiceError("invalid_request", f"`{param}` {problem}.", param=param)
