"""How many places requests wait for, by model: requests in the queue, and those told to retry later."""

from __future__ import annotations

import collections

# The most requests told to retry that are counted for one model; the relay's own bound is far lower.
MOST_AWAY = 1000


class Demand:
    """Counts demand by model. Without a clock: callers pass times in seconds."""

    def __init__(self) -> None:
        self._held: collections.Counter[str] = collections.Counter()
        self._away: dict[str, collections.deque[tuple[float, int]]] = {}

    def hold(self, model: str, places: int = 1) -> None:
        """Note that a request waits for this many places."""
        self._held[model] += places

    def release(self, model: str, places: int = 1) -> None:
        """Note that a request waits no longer."""
        self._held[model] -= places
        if self._held[model] <= 0:
            del self._held[model]

    def send_away(self, model: str, until: float, places: int = 1) -> None:
        """Note that a request for this many places was answered with a Retry-After that ends at `until`."""
        self._away.setdefault(model, collections.deque(maxlen=MOST_AWAY)).append((until, places))

    def waiting(self, now: float) -> dict[str, int]:
        """Return how many places requests wait for, by model, without models that have none."""
        counts = dict(self._held)
        for model in list(self._away):
            left = [one for one in self._away[model] if one[0] > now]
            if left:
                self._away[model] = collections.deque(left, maxlen=MOST_AWAY)
                counts[model] = counts.get(model, 0) + min(MOST_AWAY, sum(places for _, places in left))
            else:
                del self._away[model]
        return counts
