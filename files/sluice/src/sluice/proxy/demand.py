"""How many requests wait for a model: those held here, and those sent away until they may come back."""

from __future__ import annotations

import collections

# Beyond this many a model's queue says "very many"; the relay clamps far below.
MOST_AWAY = 1000


class Demand:
    """Counts what waits, by model. Knows no clock: times are handed in, in seconds."""

    def __init__(self) -> None:
        self._held: collections.Counter[str] = collections.Counter()
        self._away: dict[str, collections.deque[float]] = {}

    def hold(self, model: str, places: int = 1) -> None:
        """Note that a request is held, which counts as so many."""
        self._held[model] += places

    def release(self, model: str, places: int = 1) -> None:
        """Note that a held request is not held any more."""
        self._held[model] -= places
        if self._held[model] <= 0:
            del self._held[model]

    def send_away(self, model: str, until: float) -> None:
        """Note that a request was answered with Retry-After, which passes at `until`."""
        self._away.setdefault(model, collections.deque(maxlen=MOST_AWAY)).append(until)

    def waiting(self, now: float) -> dict[str, int]:
        """Return how many requests wait, by model; models with none are left out."""
        counts = dict(self._held)
        for model in list(self._away):
            left = [until for until in self._away[model] if until > now]
            if left:
                self._away[model] = collections.deque(left, maxlen=MOST_AWAY)
                counts[model] = counts.get(model, 0) + len(left)
            else:
                del self._away[model]
        return counts
