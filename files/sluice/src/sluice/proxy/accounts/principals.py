"""The cache of principals: whose a key is, and how long an answer is valid. Pure: callers pass the time."""

from __future__ import annotations

import collections
from dataclasses import dataclass

from sluice.contracts.authority import Principal

MOST_KNOWN = 20_000
MOST_UNKNOWN = 20_000


@dataclass(frozen=True)
class CachedAnswer:
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
        self._known: collections.OrderedDict[str, CachedAnswer] = collections.OrderedDict()
        self._unknown: collections.OrderedDict[str, CachedAnswer] = collections.OrderedDict()

    def fresh(self, key_hash: str, now: float) -> CachedAnswer | None:
        """Return what was answered within the last `ttl` seconds."""
        cached = self._known.get(key_hash) or self._unknown.get(key_hash)
        if cached is None or now - cached.asked > self._ttl:
            return None
        answers = self._unknown if cached.principal is None else self._known
        answers.move_to_end(key_hash)
        return cached

    def stale(self, key_hash: str, now: float) -> Principal | None:
        """Return the principal last answered, if that was within the last `stale` seconds."""
        cached = self._known.get(key_hash)
        if cached is None or now - cached.asked > self._stale:
            return None
        return cached.principal

    def knows(self, key_hash: str) -> bool:
        """Whether the last answer for the credential was a principal."""
        return key_hash in self._known

    def learn(self, key_hash: str, principal: Principal | None, now: float) -> None:
        """Remember an answer."""
        self._known.pop(key_hash, None)
        self._unknown.pop(key_hash, None)
        answers, most = (self._unknown, MOST_UNKNOWN) if principal is None else (self._known, MOST_KNOWN)
        answers[key_hash] = CachedAnswer(principal, now)
        if len(answers) > most:
            answers.popitem(last=False)

    def __len__(self) -> int:
        return len(self._known) + len(self._unknown)
