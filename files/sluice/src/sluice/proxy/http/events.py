"""Cuts an event stream where its events end, so that a client never has half an event. Pure."""

from __future__ import annotations

import re

BOUNDARY = b"\n\n"
# So many bytes of an unfinished event are held back; a longer event passes as it comes.
LONGEST_EVENT = 256 * 1024

# By these two bytes a line ends and another, empty one, ends or begins to end.
_BLANK_LINES = (BOUNDARY, b"\r\r", b"\n\r")
_COMMENTS = re.compile(rb"(?::[^\r\n]*\r?\n)+")


class Events:
    """Passes whole events of one stream on, and holds back what has come of the next one.

    Lines may end with LF, CR LF or CR, and the stream may be cut anywhere. Comment lines before an event say
    that the engine is alive: they pass at once. An event longer than LONGEST_EVENT passes in parts.
    """

    __slots__ = ("_held", "_sent")

    def __init__(self) -> None:
        self._held = bytearray()
        # So many of the held bytes went out already: those by which the end of a long event is found.
        self._sent = 0

    @property
    def torn(self) -> bool:
        """Whether a part of an event has passed whose end has not come."""
        return self._sent > 0

    def feed(self, data: bytes) -> bytes:
        """Take what came, and return what may pass now; that may be nothing."""
        if not self._held and (not data or data.endswith(BOUNDARY)):
            return data
        held = self._held
        searched = max(0, len(held) - len(BOUNDARY))
        held += data
        end = _end(held, searched)
        passed = self._take(end) if end else b""
        # Only what came can end a comment: a long one in small pieces is not looked through for each.
        if not self._sent and b"\n" in data and (comments := _COMMENTS.match(held)) is not None:
            passed += self._take(comments.end())
        if self._sent or len(held) > LONGEST_EVENT:
            passed += self._take(len(held), kept=len(BOUNDARY))
        return passed

    def rest(self) -> bytes:
        """Return what is held back, at the end of a whole answer."""
        return self._take(len(self._held))

    def _take(self, end: int, kept: int = 0) -> bytes:
        """Let go of what is held before `end`, but for the last `kept` bytes; return what of it is new."""
        taken = bytes(self._held[self._sent : end])
        del self._held[: end - kept]
        self._sent = kept
        return taken


def _end(data: bytearray, start: int) -> int:
    """Return where the last event ends whose blank line is found from `start` on, or 0."""
    at = max(data.rfind(blank, start) for blank in _BLANK_LINES[:2])
    # What follows CR tells whether its line end has one byte or two.
    at = max(at, data.rfind(_BLANK_LINES[2], start, len(data) - 1))
    if at < 0:
        return 0
    end = at + len(BOUNDARY)
    return end + 1 if data[end - 1 : end + 1] == b"\r\n" else end
