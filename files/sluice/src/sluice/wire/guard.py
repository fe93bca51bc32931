"""The key of a keyed link: the client shows it in its hello, the server lets in who knows it."""

from __future__ import annotations

import hmac
from typing import Any

from sluice.contracts.fields import Fields
from sluice.contracts.words import JOB_KEY
from sluice.errors import RecordError
from sluice.wire.frames import MAX_PAYLOAD, ProtocolError

# What a stranger may make a server hold before it has shown the key, in bytes.
MAX_STRANGER = 4096


class Guard:
    """Whether the peer is still a stranger, and the key that changes that.

    `keyed`: the link asks for a key. `serves`: this side checks it; the other shows it.
    """

    def __init__(self, key: str, *, keyed: bool, serves: bool) -> None:
        self._key = key
        self._shows = keyed and not serves
        self.stranger = keyed and serves
        """Whether this side serves and has not yet seen the key."""

    @property
    def most(self) -> int:
        """The largest payload to take of the peer now, in bytes."""
        return MAX_STRANGER if self.stranger else MAX_PAYLOAD

    def show(self, document: dict[str, Any]) -> None:
        """Put the key into a client's hello."""
        if self._shows:
            document["key"] = self._key

    def admit(self, document: object) -> None:
        """Let in a peer whose hello shows the key. Raises ProtocolError for any other."""
        try:
            shown = Fields(document).text("key", JOB_KEY)
        except RecordError:
            shown = ""
        if not self._key or not hmac.compare_digest(shown, self._key):
            raise ProtocolError("not authorised")
        self.stranger = False
