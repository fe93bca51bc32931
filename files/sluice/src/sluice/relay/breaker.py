"""When an instance that keeps failing is left alone, and when it is tried again: pure, `now` is monotonic."""

from __future__ import annotations

import random
from typing import Callable

# Failures in a row, without a whole answer between them, until an instance gets no more requests.
LIMIT = 3
FIRST_WAIT = 1.0
LONGEST_WAIT = 30.0
# Waits differ by this much either way: relays must not all try again in the same moment.
JITTER = 0.2


class Breaker:
    """One instance's record. It opens after LIMIT failures in a row; then, wait over, one trial at a time.

    A failed trial doubles the wait; one whole answer closes the breaker.
    """

    def __init__(self, chance: Callable[[], float] = random.random) -> None:
        self._chance = chance
        self._failures = 0
        self._wait = 0.0
        self._until = 0.0
        self._trying = False

    @property
    def open(self) -> bool:
        """Whether the instance is left alone, or tried by one request at a time."""
        return self._failures >= LIMIT

    def allows(self, now: float) -> bool:
        """Whether a request may go to the instance."""
        return not self.open or (now >= self._until and not self._trying)

    def wait(self, now: float) -> float:
        """Return after how many seconds the next trial may begin, 0 where one may now."""
        return max(0.0, self._until - now) if self.open else 0.0

    def begin(self) -> bool:
        """Note that a request goes to the instance; return whether it is a trial, to be settled."""
        self._trying = self.open
        return self._trying

    def settle(self) -> None:
        """The trial is over without a verdict, or its answer has begun: the next one may go."""
        self._trying = False

    def succeed(self) -> None:
        """The instance gave a whole answer."""
        self._failures = 0
        self._wait = 0.0
        self._trying = False

    def fail(self, now: float) -> None:
        """The instance could not be reached, broke off, or did not answer in time."""
        if self.open and now < self._until:
            # Of what was under way when it opened: many requests that fail together are one failure.
            return
        self._failures += 1
        self._trying = False
        if self.open:
            self._wait = min(LONGEST_WAIT, self._wait * 2 or FIRST_WAIT)
            self._until = now + self._wait * (1 - JITTER + 2 * JITTER * self._chance())
