"""The cache of principals: whose a key is, and how long an answer is valid. Pure: callers pass the time."""

from __future__ import annotations

import collections
from dataclasses import dataclass

from sluice.contracts.authority import Principal

MOST_KNOWN = 20_000
MOST_UNKNOWN = 20_000


@dataclass(frozen=True)
class Belief:
    """What the cache holds for a credential: a principal, or None where the authority knew of none."""

    principal: Principal | None
    asked: float


class PrincipalCache:
    """Remembers answers of the authority by credential, the least recently used forgotten first.

    `ttl`: seconds for which an answer is believed. `stale`: seconds for which a known principal is believed
    while the authority cannot be asked. Unknown credentials have a room of their own, so that guessing keys
    pushes out no known one.
    """

    def __init__(self, ttl: float, stale: float) -> None:
        self._ttl = ttl
        self._stale = stale
        self._known: collections.OrderedDict[str, Belief] = collections.OrderedDict()
        self._unknown: collections.OrderedDict[str, Belief] = collections.OrderedDict()

    def fresh(self, credential: str, now: float) -> Belief | None:
        """Return what was answered within the last `ttl` seconds."""
        belief = self._known.get(credential) or self._unknown.get(credential)
        if belief is None or now - belief.asked > self._ttl:
            return None
        room = self._unknown if belief.principal is None else self._known
        room.move_to_end(credential)
        return belief

    def stale(self, credential: str, now: float) -> Principal | None:
        """Return the principal last answered, if that was within the last `stale` seconds."""
        belief = self._known.get(credential)
        if belief is None or now - belief.asked > self._stale:
            return None
        return belief.principal

    def knows(self, credential: str) -> bool:
        """Whether the last answer for the credential was a principal."""
        return credential in self._known

    def learn(self, credential: str, principal: Principal | None, now: float) -> None:
        """Remember an answer."""
        self._known.pop(credential, None)
        self._unknown.pop(credential, None)
        room, most = (self._unknown, MOST_UNKNOWN) if principal is None else (self._known, MOST_KNOWN)
        room[credential] = Belief(principal, now)
        if len(room) > most:
            room.popitem(last=False)

    def __len__(self) -> int:
        return len(self._known) + len(self._unknown)
