"""The key of a keyed link: the client shows it in its hello, the server checks it."""

from __future__ import annotations

import hmac
from typing import Any

from sluice.contracts.fields import Fields
from sluice.contracts.values import JOB_KEY
from sluice.errors import RecordError
from sluice.wire.frames import MAX_PAYLOAD, ProtocolError

# How many bytes a server holds for a peer that has not shown the key.
MAX_UNAUTHENTICATED = 4096


class Guard:
    """Whether the peer has shown the key.

    `keyed`: the link needs a key. `serves`: this side checks the key; otherwise it shows it.
    """

    def __init__(self, key: str, *, keyed: bool, serves: bool) -> None:
        self._key = key
        self._shows = keyed and not serves
        self.unauthenticated = keyed and serves
        """Whether this side checks a key and has not yet seen it."""

    @property
    def most(self) -> int:
        """The largest payload to accept from the peer now, in bytes."""
        return MAX_UNAUTHENTICATED if self.unauthenticated else MAX_PAYLOAD

    def show(self, document: dict[str, Any]) -> None:
        """Add the key to a client's hello."""
        if self._shows:
            document["key"] = self._key

    def admit(self, document: object) -> None:
        """Accept a peer whose hello has the right key. Raises ProtocolError for any other."""
        try:
            shown = Fields(document).text("key", JOB_KEY)
        except RecordError:
            shown = ""
        if not self._key or not hmac.compare_digest(shown, self._key):
            raise ProtocolError("not authorised")
        self.unauthenticated = False
