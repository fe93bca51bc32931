"""How many places requests wait for, by model: requests held here, and requests sent away for a while."""

from __future__ import annotations

import collections

# Of those sent away: beyond this many a model's queue says "very many"; the relay clamps far below.
MOST_AWAY = 1000


class Demand:
    """Counts what waits, by model. Knows no clock: times are handed in, in seconds."""

    def __init__(self) -> None:
        self._held: collections.Counter[str] = collections.Counter()
        self._away: dict[str, collections.deque[tuple[float, int]]] = {}

    def hold(self, model: str, places: int = 1) -> None:
        """Note that a request is held, which counts as so many."""
        self._held[model] += places

    def release(self, model: str, places: int = 1) -> None:
        """Note that a held request is not held any more."""
        self._held[model] -= places
        if self._held[model] <= 0:
            del self._held[model]

    def send_away(self, model: str, until: float, places: int = 1) -> None:
        """Note that a request for so many places was answered with Retry-After, which passes at `until`."""
        self._away.setdefault(model, collections.deque(maxlen=MOST_AWAY)).append((until, places))

    def waiting(self, now: float) -> dict[str, int]:
        """Return how many places requests wait for, by model; models with none are left out."""
        counts = dict(self._held)
        for model in list(self._away):
            left = [one for one in self._away[model] if one[0] > now]
            if left:
                self._away[model] = collections.deque(left, maxlen=MOST_AWAY)
                counts[model] = counts.get(model, 0) + min(MOST_AWAY, sum(places for _, places in left))
            else:
                del self._away[model]
        return counts
