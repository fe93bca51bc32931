"""Splits a body that arrives in pieces into strings and the gaps between them."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator

from sluice.bodies.jsonorder import MAX_SCALAR, REFUSED, START
from sluice.bodies.jsontext import Mask, malformed

MAX_TOKENS = 2_000_000

_PIECE = 65_536
_SPACES = re.compile(rb"[ \t\r\n]+")
_SCALAR_BYTES = b"0123456789+-.eEtrufalsn \t\r\n"

# Each gap with the string after it.
Pairs = Iterator[tuple[bytes, bytes]]


class Pieces(ABC):
    """Takes a body in pieces, which may be cut anywhere; a subclass handles its gaps and whole strings."""

    def __init__(self) -> None:
        self._point = START
        self._tokens = 0
        self._size = 0
        self._mask = Mask()
        # What a piece may have cut: the scalar at a gap's end, or a string, of which only a part may be kept.
        self._gap = b""
        self._in_string = False
        self._string = bytearray()

    @abstractmethod
    def _take_pairs(self, pairs: Pairs) -> None:
        """Handle gaps, each with the whole string after it; move `_point` and count `_tokens`."""

    @abstractmethod
    def _take_gap(self, gap: bytes, *, string: bool) -> None:
        """Handle a gap of whole tokens alone; `string`: after it a string begins that is not complete yet."""

    @abstractmethod
    def _on_cut_string(self, is_name: bool, holder: int) -> int:
        """Check the start of a string; return how many of its bytes to keep."""

    def _take(self, chunk: bytes) -> None:
        """Take the next bytes. Raises SluiceError."""
        for start in range(0, len(chunk), _PIECE):
            self._take_piece(chunk[start : start + _PIECE])

    def _refuse(self) -> None:
        """Refuse everything from now on: a refused body must not pass, even if the caller continues."""
        self._point = REFUSED
        self._in_string = False

    def _check_end(self) -> None:
        """Raise SluiceError unless the body is complete."""
        if self._point.expected != "$" or self._gap.strip() or self._mask.escape:
            raise malformed(f"it ends too early, after {self._size} bytes")

    def _take_piece(self, piece: bytes) -> None:
        self._size += len(piece)
        # Gap, string, gap, string, …: all are complete except the last.
        parts = self._mask.take(piece).split(b'"')
        if not self._in_string:
            parts[0] = self._gap + parts[0]
            self._gap = b""
        else:
            self._hold(parts[0])
            if len(parts) == 1:
                return
            parts[0:1] = b"", bytes(self._string)
            self._string.clear()
            self._in_string = False
        last = parts.pop()
        before = parts.pop() if len(parts) % 2 else None
        self._take_pairs(zip(parts[0::2], parts[1::2]))
        if before is None:
            self._hold_gap(last)
        else:
            self._take_gap(before, string=True)
            self._in_string = True
            self._hold(last)
        if self._tokens > MAX_TOKENS:
            raise malformed(f"it has more than {MAX_TOKENS} tokens")

    def _hold(self, text: bytes) -> None:
        """Keep the start of a string that the piece has cut."""
        is_name, _, _, _, holder, _ = self._point[b""]
        most = self._on_cut_string(bool(is_name), holder)
        if len(self._string) < most:
            self._string += text[:most]
            self._on_cut_string(bool(is_name), holder)

    def _hold_gap(self, gap: bytes) -> None:
        """Handle an incomplete gap, without the scalar at its end: the next piece may continue it."""
        whole = gap.rstrip(_SCALAR_BYTES)
        if whole:
            self._take_gap(whole, string=False)
        if len(whole) < len(gap):
            self._gap = _SPACES.sub(b" ", gap[len(whole) :])
            if len(self._gap) > MAX_SCALAR:
                raise malformed(f"it has a number longer than {MAX_SCALAR} bytes")
