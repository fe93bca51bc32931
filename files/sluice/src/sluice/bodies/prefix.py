"""The text that the requests of one conversation have in common."""

from __future__ import annotations

MAX_PREFIX = 4096

_TURN_KEYS = frozenset((b"role", b"content"))
_TEXT_KEYS = frozenset((b"content", b"text", b"prompt", b"input", b"query", b"system", b"instructions"))
# Where a message's own keys are: in an object in the list in the body.
_MESSAGE_DEPTH = 3


class Prefix:
    """Takes the keys and texts of a body while it is `open`: up to and with the first user message.

    `key`: the last one, at any depth. `text`: raw bytes for a hash, not decoded text; MAX_PREFIX at most.
    """

    __slots__ = ("_message", "_user_speaks", "key", "open", "text")

    def __init__(self) -> None:
        self.text = b""
        self.open = True
        self.key = b""
        self._message: set[bytes] = set()
        self._user_speaks = False

    def on_key(self, key: bytes, depth: int) -> None:
        """Take a key at this depth. A key that comes again in a message says that another one begins."""
        self.key = key
        if depth != _MESSAGE_DEPTH:
            return
        if key in self._message:
            self._message.clear()
            self.open = not self._user_speaks
        if key in _TURN_KEYS:
            self._message.add(key)

    def on_text(self, value: bytes, depth: int) -> None:
        """Take a text, or the start of a long one, that belongs to the last key."""
        if self.key in _TEXT_KEYS:
            self.text = (self.text + value[:MAX_PREFIX] + b"\n")[:MAX_PREFIX]
            self.open = len(self.text) < MAX_PREFIX
        elif value == b"user" and self.key == b"role" and depth == _MESSAGE_DEPTH:
            self._user_speaks = True
