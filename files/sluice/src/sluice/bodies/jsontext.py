"""The text of a JSON document that arrives in pieces: its characters, and the values of strings.

No message quotes the body: errors go to logs and users.
"""

from __future__ import annotations

import codecs
import json
import re
from typing import Optional

from sluice.errors import SluiceError

# Bytes that UTF-8 never has replace escaped backslashes and quotes: each quote that is left bounds a string.
_BACKSLASH = b"\xff\xff"
_QUOTE = b"\xfe\xfe"
# Each escaped half of a surrogate pair has this many bytes. A high half is valid if a low one follows.
_ESCAPE = 6
_HIGH = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}")
_SURROGATES = re.compile(rb"\\u[dD](?:[89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|([89a-fA-F]))")


class Mask:
    """Masks a document in pieces, which may be cut anywhere; it keeps what a piece cuts for the next one."""

    __slots__ = ("_decoder", "_half", "escape")

    def __init__(self) -> None:
        self._decoder: Optional[codecs.IncrementalDecoder] = None
        self._half = b""
        # A backslash at the end of a piece, whose character has not arrived yet.
        self.escape = b""

    def take(self, piece: bytes) -> bytes:
        """Return the piece, masked. Raises SluiceError if it is not valid text."""
        self._check_bytes(piece)
        if self.escape:
            piece = self.escape + piece
            self.escape = b""
        escaped = b"\\" in piece
        if escaped:
            piece = piece.replace(b"\\\\", _BACKSLASH).replace(b'\\"', _QUOTE)
            if piece.endswith(b"\\"):
                self.escape = b"\\"
                piece = piece[:-1]
        if self._half or (escaped and (b"\\ud" in piece or b"\\uD" in piece or b"\\" in piece[-_ESCAPE:])):
            self._check_surrogates(piece)
        return piece

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
        """Refuse half of a surrogate pair; keep what the piece may have cut for the next one."""
        text = self._half + piece
        cut = text.find(b"\\", max(0, len(text) - _ESCAPE))
        if cut < 0:
            cut = len(text)
        elif _HIGH.match(text, max(0, cut - _ESCAPE)):
            cut -= _ESCAPE
        self._half = text[cut:]
        if any(found[1] for found in _SURROGATES.finditer(text[:cut])):
            raise malformed("it has half of a surrogate pair, which is not a character")


def decode(raw: bytes) -> str:
    """Return the value of a masked string. Raises SluiceError if JSON does not allow the string."""
    if b"\\" not in raw and raw.isascii():
        return raw.decode("ascii")
    quoted = b'"' + raw.replace(_BACKSLASH, b"\\\\").replace(_QUOTE, b'\\"') + b'"'
    try:
        return str(json.loads(quoted.decode("utf-8")))
    except ValueError:
        raise malformed("it has a string that JSON does not allow") from None


def malformed(problem: str) -> SluiceError:
    """Return the error for a body that is not one JSON object; `problem` completes its sentence."""
    return SluiceError("malformed_json", f"The body must be one JSON object; {problem}.")
