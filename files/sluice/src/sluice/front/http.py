"""The front's HTTP/1.1 client for the engine: writes request heads, parses answers. No sockets.

The engine is not trusted. The parser is strict: it refuses everything that two parsers could read
differently. An error message names the violation and never contains a byte of the answer.
"""

from __future__ import annotations

import re
from typing import NamedTuple, Optional

MAX_HEAD = 16_384
MAX_FIELDS = 100
MAX_INTERIM = 8
MAX_SIZE_LINE = 256
MAX_TRAILERS = 4096

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_TEXT = rb"[\t\x20-\x7e\x80-\xff]*"
# The alternatives in these do not overlap: each match takes one pass over the bytes.
_HEAD = re.compile(
    rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: " + _TEXT + rb")?\r\n((?:" + _TOKEN + rb":" + _TEXT + rb"\r\n)*)\r\n"
)
_TRAILERS = re.compile(rb"(?:" + _TOKEN + rb":" + _TEXT + rb"\r\n)*\r\n")
# The fields that the front reads; all others are dropped.
_FIELD = re.compile(rb"^(content-length|content-type|transfer-encoding|connection):(.*)\r$", re.I | re.M)
_LENGTH = re.compile(rb"[0-9]{1,15}")
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})(?:;" + _TEXT + rb")?\r\n")
_SIZE_BEGUN = re.compile(rb"[0-9A-Fa-f]{1,8}(?:;" + _TEXT + rb")?\r?")
# A line feed without a carriage return, or the reverse; after a carriage return at the end, one may follow.
_BARE = re.compile(rb"(?<!\r)\n|\r(?!\n|\Z)")
_VERSION = b"HTTP/1."

_POST_FIELDS = b" HTTP/1.1\r\nHost: engine\r\nAccept: application/json, text/event-stream\r\n"
_GET_FIELDS = b" HTTP/1.1\r\nHost: engine\r\nAccept: */*\r\n"


class InvalidAnswer(Exception):
    """The engine's answer violates HTTP. Each rule has a fixed text, without any part of the answer."""


class AnswerHead(NamedTuple):
    """The start of an answer; `media_type` is the content type in lower case, without parameters."""

    status: int
    media_type: str


def request_head(method: str, path: str, length: int, request_id: str) -> bytes:
    """Return the head of a request. The arguments must be checked: they are not escaped."""
    words = f"{method} {path}".encode("ascii")
    identifier = f"X-Request-Id: {request_id}\r\n".encode("ascii") if request_id else b""
    if method == "GET":
        return words + _GET_FIELDS + identifier + b"\r\n"
    body = b"Content-Type: application/json\r\nContent-Length: %d\r\n" % length
    return words + _POST_FIELDS + body + identifier + b"\r\n"


class AnswerParser:
    """Parses one answer, fed in pieces of any size.

    `head` is set when the final head is complete (interim heads are dropped). `complete`: the body is
    complete. `excess`: bytes came after it. A connection can carry another request only if `reusable`.
    """

    def __init__(self) -> None:
        self.head: Optional[AnswerHead] = None
        self.complete = False
        self.excess = False
        self._keeps = False
        self._chunked = False
        # Bytes left of the body, or of the current chunk.
        self._left = 0
        self._ends_chunk = False
        self._in_trailers = False
        self._interim = 0
        # An incomplete line or head: at most MAX_HEAD bytes.
        self._rest = b""

    @property
    def begun(self) -> bool:
        """Whether any byte of an answer has come."""
        return self.head is not None or self._interim > 0 or bool(self._rest)

    @property
    def reusable(self) -> bool:
        """Whether another request may follow on the connection."""
        return self.complete and self._keeps and not self.excess

    def feed(self, data: bytes) -> bytes:
        """Take bytes of the answer; return those of the body. Raises InvalidAnswer."""
        if self.complete:
            self.excess = self.excess or bool(data)
            return b""
        if self._rest:
            if self.head is None and _within_a_line(self._rest, data):
                self._rest += data
                return b""
            data = self._rest + data
            self._rest = b""
        if self.head is None:
            data = self._read_head(data)
            if self.head is None:
                return b""
        return self._read_chunks(data) if self._chunked else self._read_plain(data)

    # --- head ----------------------------------------------------------------------------------------------

    def _read_head(self, data: bytes) -> bytes:
        """Return what follows the final head; while there is none, keep the bytes and return b""."""
        while data:
            found = _HEAD.match(data, 0, MAX_HEAD)
            if found is None:
                _check_unfinished(data)
                self._rest = data
                break
            data = data[found.end() :]
            status = int(found[2])
            if status >= 200:
                self._take_head(status, found)
                return data
            self._drop_interim(status, found[3])
        return b""

    def _drop_interim(self, status: int, fields: bytes) -> None:
        self._interim += 1
        if self._interim > MAX_INTERIM:
            raise InvalidAnswer("too many interim responses")
        if status == 101:
            raise InvalidAnswer("a change of protocol without a request for it")
        given = _fields(fields)
        if b"content-length" in given or b"transfer-encoding" in given:
            raise InvalidAnswer("an interim response with a body")

    def _take_head(self, status: int, found: re.Match[bytes]) -> None:
        if found[3].count(b"\n") > MAX_FIELDS:
            raise InvalidAnswer("too many fields in a head")
        given = _fields(found[3])
        length, coding = given.get(b"content-length"), given.get(b"transfer-encoding")
        if status in (204, 304):
            raise InvalidAnswer("a status that allows no body")
        if coding is not None:
            self._begin_chunks(length, coding, found[1])
        else:
            self._begin_plain(length)
        self._keeps = found[1] == b"1" and given.get(b"connection", b"keep-alive").lower() == b"keep-alive"
        media = given.get(b"content-type", b"").partition(b";")[0].strip().lower()
        self.head = AnswerHead(status, media.decode("latin-1"))

    def _begin_chunks(self, length: Optional[bytes], coding: bytes, minor: bytes) -> None:
        if length is not None:
            raise InvalidAnswer("a length and chunks together")
        if coding.lower() != b"chunked" or minor != b"1":
            raise InvalidAnswer("a transfer coding other than chunks")
        self._chunked = True

    def _begin_plain(self, length: Optional[bytes]) -> None:
        if length is None:
            raise InvalidAnswer("a body without a length, so that its end looks like a failure")
        if not _LENGTH.fullmatch(length):
            raise InvalidAnswer("a length that is not a number")
        self._left = int(length)
        self.complete = not self._left

    # --- body ----------------------------------------------------------------------------------------------

    def _read_plain(self, data: bytes) -> bytes:
        left = self._left
        if len(data) > left:
            self.excess = True
            data = data[:left]
        self._left = left - len(data)
        self.complete = not self._left
        return data

    def _read_chunks(self, data: bytes) -> bytes:
        parts = []
        position = 0
        while True:
            left = self._left
            if left:
                piece = data[position : position + left]
                position += len(piece)
                parts.append(piece)
                self._left = left - len(piece)
                if self._left:
                    break
            if self._ends_chunk and not data.startswith(b"\r\n", position):
                _check_line_end(data, position)
                break
            if self._in_trailers:
                break
            begin = position + 2 * self._ends_chunk
            size = _SIZE.match(data, begin, begin + MAX_SIZE_LINE)
            if size is None:
                break
            position = size.end()
            self._left = int(size[1], 16)
            self._ends_chunk = bool(self._left)
            if not self._left:
                self._in_trailers = True
                break
        self._keep_line(data, position)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _keep_line(self, data: bytes, position: int) -> None:
        """Check what follows the last complete line: trailers, or the beginning of a chunk's size."""
        if self._left:
            return
        rest = data[position:]
        if self._in_trailers:
            self._read_trailers(rest)
            return
        if len(rest) > 2 * self._ends_chunk:
            line = rest[2 * self._ends_chunk :]
            if len(line) >= MAX_SIZE_LINE or not _SIZE_BEGUN.fullmatch(line):
                raise InvalidAnswer("a chunk's size")
        self._rest = rest

    def _read_trailers(self, rest: bytes) -> None:
        found = _TRAILERS.match(rest, 0, MAX_TRAILERS)
        if found is not None:
            self.complete = True
            self.excess = found.end() < len(rest)
            return
        if len(rest) >= MAX_TRAILERS or b"\r\n\r\n" in rest or _BARE.search(rest):
            raise InvalidAnswer("trailers")
        self._rest = rest


def _fields(block: bytes) -> dict[bytes, bytes]:
    given: dict[bytes, bytes] = {}
    for written, value in _FIELD.findall(block):
        name = written.lower()
        if name in given:
            raise InvalidAnswer("a field that decides the length, twice")
        given[name] = value.strip(b" \t")
    return given


def _within_a_line(rest: bytes, data: bytes) -> bool:
    """Whether `data` only extends a line of a head: for single bytes, the head must not be parsed again."""
    return (
        b"\n" not in data
        and b"\r" not in data
        and not rest.endswith(b"\r")
        and len(rest) >= len(_VERSION)
        and len(rest) + len(data) < MAX_HEAD
    )


def _check_unfinished(data: bytes) -> None:
    """Raise InvalidAnswer as soon as `data` cannot become a valid head."""
    if len(data) >= MAX_HEAD:
        raise InvalidAnswer("a head that is too long")
    if not data.startswith(_VERSION[: len(data)]):
        raise InvalidAnswer("not an HTTP/1 answer")
    if b"\r\n\r\n" in data or _BARE.search(data):
        raise InvalidAnswer("a head that is not well-formed")


def _check_line_end(data: bytes, position: int) -> None:
    if data[position : position + 2] not in (b"", b"\r"):
        raise InvalidAnswer("a chunk longer than its size")
