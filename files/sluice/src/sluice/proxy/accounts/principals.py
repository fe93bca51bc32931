"""The cache of the authority's answers about keys. Pure: callers pass the time."""

from __future__ import annotations

import collections
from dataclasses import dataclass

from sluice.contracts.authority import Principal

MOST_KNOWN = 20_000
MOST_UNKNOWN = 20_000


@dataclass(frozen=True)
class CachedAnswer:
    """An answer of the authority: a principal, or None for an unknown key; `asked`: when."""

    principal: Principal | None
    asked: float


class PrincipalCache:
    """Caches answers of the authority by the key's hash; the least recently used one is dropped first.

    `ttl`: seconds for which an answer is valid. `stale`: seconds for which a principal is valid while the
    authority cannot be reached. Unknown keys are cached separately, so that guesses push out no known key.
    """

    def __init__(self, ttl: float, stale: float) -> None:
        self._ttl = ttl
        self._stale = stale
        self._known: collections.OrderedDict[str, CachedAnswer] = collections.OrderedDict()
        self._unknown: collections.OrderedDict[str, CachedAnswer] = collections.OrderedDict()

    def fresh(self, key_hash: str, now: float) -> CachedAnswer | None:
        """Return the answer if it is at most `ttl` seconds old, else None."""
        cached = self._known.get(key_hash) or self._unknown.get(key_hash)
        if cached is None or now - cached.asked > self._ttl:
            return None
        answers = self._unknown if cached.principal is None else self._known
        answers.move_to_end(key_hash)
        return cached

    def stale(self, key_hash: str, now: float) -> Principal | None:
        """Return the last known principal if it is at most `stale` seconds old, else None."""
        cached = self._known.get(key_hash)
        if cached is None or now - cached.asked > self._stale:
            return None
        return cached.principal

    def knows(self, key_hash: str) -> bool:
        """Whether the last answer about the key was a principal."""
        return key_hash in self._known

    def learn(self, key_hash: str, principal: Principal | None, now: float) -> None:
        """Cache an answer."""
        self._known.pop(key_hash, None)
        self._unknown.pop(key_hash, None)
        answers, most = (self._unknown, MOST_UNKNOWN) if principal is None else (self._known, MOST_KNOWN)
        answers[key_hash] = CachedAnswer(principal, now)
        if len(answers) > most:
            answers.popitem(last=False)

    def __len__(self) -> int:
        return len(self._known) + len(self._unknown)
