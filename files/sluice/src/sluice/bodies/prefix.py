"""The text that the requests of one conversation have in common, for the choice of an instance."""

from __future__ import annotations

MAX_PREFIX = 4096

_TURN_KEYS = frozenset((b"role", b"content"))
_TEXT_KEYS = frozenset((b"content", b"text", b"prompt", b"input", b"query", b"system", b"instructions"))
# Where a message's own keys are: in an object in the list in the body.
_MESSAGE_DEPTH = 3


class Prefix:
    """Collects texts of a body while it is `open`: up to and including the first user message.

    `key`: the last key, at any depth. `text`: raw bytes for a hash, not decoded; at most MAX_PREFIX.
    """

    __slots__ = ("_message", "_user_speaks", "key", "open", "text")

    def __init__(self) -> None:
        self.text = b""
        self.open = True
        self.key = b""
        self._message: set[bytes] = set()
        self._user_speaks = False

    def on_key(self, key: bytes, depth: int) -> None:
        """Note a key at this depth. If a message's key comes again, the next message has begun."""
        self.key = key
        if depth != _MESSAGE_DEPTH:
            return
        if key in self._message:
            self._message.clear()
            self.open = not self._user_speaks
        if key in _TURN_KEYS:
            self._message.add(key)

    def on_text(self, value: bytes, depth: int) -> None:
        """Collect the text of the last key, or the start of a long text."""
        if self.key in _TEXT_KEYS:
            self.text = (self.text + value[:MAX_PREFIX] + b"\n")[:MAX_PREFIX]
            self.open = len(self.text) < MAX_PREFIX
        elif value == b"user" and self.key == b"role" and depth == _MESSAGE_DEPTH:
            self._user_speaks = True
