"""The cluster's own limits on a session: requests for each second, and memory for bodies. Pure."""

from __future__ import annotations


class Rate:
    """A token bucket: `per_second` requests on average, and as many at once; 0 = no limit."""

    def __init__(self, per_second: float, now: float) -> None:
        self._per_second = per_second
        self._most = max(1.0, per_second)
        self._tokens = self._most
        self._at = now

    def take(self, now: float) -> bool:
        """Count a request; return False if it exceeds the rate."""
        if not self._per_second:
            return True
        self._tokens = min(self._most, self._tokens + (now - self._at) * self._per_second)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class BodyMemory:
    """How many bytes may be held at the same time."""

    def __init__(self, size: int) -> None:
        self.free = size

    def reserve(self, size: int) -> bool:
        """Reserve `size` bytes; return False if fewer are free."""
        if size > self.free:
            return False
        self.free -= size
        return True

    def release(self, size: int) -> None:
        """Free `size` reserved bytes."""
        self.free += size
