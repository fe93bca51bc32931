"""The cluster's own limits on a session: how many requests a second, and memory for bodies. Pure."""

from __future__ import annotations


class Rate:
    """A token bucket: `per_second` requests on average, at most a second's worth at once; 0 = no limit."""

    def __init__(self, per_second: float, now: float) -> None:
        self._per_second = per_second
        self._most = max(1.0, per_second)
        self._tokens = self._most
        self._at = now

    def take(self, now: float) -> bool:
        """Whether a request may go now."""
        if not self._per_second:
            return True
        self._tokens = min(self._most, self._tokens + (now - self._at) * self._per_second)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class Budget:
    """A number of bytes that may be held at once."""

    def __init__(self, size: int) -> None:
        self.free = size

    def reserve(self, size: int) -> bool:
        """Take `size` bytes of the budget if they are free."""
        if size > self.free:
            return False
        self.free -= size
        return True

    def release(self, size: int) -> None:
        """Give back what was reserved."""
        self.free += size
