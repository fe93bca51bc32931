"""Splits an event stream at the ends of its events, so that a client never gets half an event. Pure."""

from __future__ import annotations

import re

BOUNDARY = b"\n\n"
# An unfinished event is held back up to this many bytes; a longer one passes as it arrives.
LONGEST_EVENT = 256 * 1024

# Two bytes that end a line and end, or begin to end, an empty line.
_BLANK_LINES = (BOUNDARY, b"\r\r", b"\n\r")
_COMMENTS = re.compile(rb"(?::[^\r\n]*\r?\n)+")


class Events:
    """Passes the complete events of one stream, and holds back the unfinished one.

    Lines may end with LF, CR LF or CR; the stream may be cut anywhere. Comment lines before an event pass at
    once, as a sign that the engine works. An event longer than LONGEST_EVENT passes in parts.
    """

    __slots__ = ("_held", "_sent")

    def __init__(self) -> None:
        self._held = bytearray()
        # How many of the held bytes have passed already; they are kept to find the end of a long event.
        self._sent = 0

    @property
    def torn(self) -> bool:
        """Whether a part of an event has passed, but not its end."""
        return self._sent > 0

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes; return those that may pass now, possibly none."""
        if not self._held and (not data or data.endswith(BOUNDARY)):
            return data
        held = self._held
        searched = max(0, len(held) - len(BOUNDARY))
        held += data
        end = _end(held, searched)
        passed = self._take(end) if end else b""
        # Only new bytes can end a comment: a long one in small pieces must not be searched each time.
        if not self._sent and b"\n" in data and (comments := _COMMENTS.match(held)) is not None:
            passed += self._take(comments.end())
        if self._sent or len(held) > LONGEST_EVENT:
            passed += self._take(len(held), kept=len(BOUNDARY))
        return passed

    def rest(self) -> bytes:
        """Return what is held back; for the end of a complete answer."""
        return self._take(len(self._held))

    def _take(self, end: int, kept: int = 0) -> bytes:
        """Drop the held bytes before `end`, except the last `kept`; return those that have not passed."""
        taken = bytes(self._held[self._sent : end])
        del self._held[: end - kept]
        self._sent = kept
        return taken


def _end(data: bytearray, start: int) -> int:
    """Return the end of the last event whose blank line begins at `start` or later, 0 if there is none."""
    at = max(data.rfind(blank, start) for blank in _BLANK_LINES[:2])
    # What follows CR tells whether its line end has one byte or two.
    at = max(at, data.rfind(_BLANK_LINES[2], start, len(data) - 1))
    if at < 0:
        return 0
    end = at + len(BOUNDARY)
    return end + 1 if data[end - 1 : end + 1] == b"\r\n" else end
