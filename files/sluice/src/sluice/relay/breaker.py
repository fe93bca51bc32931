"""When an instance that keeps failing is not used, and for whom. Pure: `now` is the monotonic clock.

What goes wrong under a request may be the request's fault. So it is held against the one who asked: after
LIMIT failures in a row the instance is left alone for that user. It is left alone for everybody only when
LIMIT different users met one, or when it failed without any request's part (no connection, a lost one, an
engine that does not listen). One whole answer, whoever gets it, clears all of that.
"""

from __future__ import annotations

import random
from typing import Callable, Optional

# Failures in a row, without a whole answer between them, until an instance gets no more requests.
LIMIT = 3
FIRST_WAIT = 1.0
LONGEST_WAIT = 30.0
# Waits differ by this much either way: relays must not all try again in the same moment.
JITTER = 0.2
# Users with failures that one instance's record holds; beyond it the oldest is forgotten.
MOST_SUSPECTS = 256


class Record:
    """Failures in a row. After LIMIT of them it is open: then, wait over, one trial at a time.

    A failed trial doubles the wait.
    """

    __slots__ = ("_chance", "_failures", "_trying", "_until", "_wait")

    def __init__(self, chance: Callable[[], float]) -> None:
        self._chance = chance
        self._failures = 0
        self._wait = 0.0
        self._until = 0.0
        self._trying = False

    @property
    def open(self) -> bool:
        """Whether requests are held back, or let through one by one."""
        return self._failures >= LIMIT

    def allows(self, now: float) -> bool:
        """Whether a request may go."""
        return not self.open or (now >= self._until and not self._trying)

    def wait(self, now: float) -> float:
        """Return after how many seconds the next trial may begin, 0 where one may now."""
        return max(0.0, self._until - now) if self.open else 0.0

    def begin(self) -> bool:
        """Note that a request goes; return whether it is a trial, to be settled."""
        self._trying = self.open
        return self._trying

    def settle(self) -> None:
        """The trial is over without a verdict, or its answer has begun: the next one may go."""
        self._trying = False

    def succeed(self) -> None:
        """Forget all failures."""
        self._failures = 0
        self._wait = 0.0
        self._trying = False

    def fail(self, now: float) -> None:
        """Count a failure."""
        if self.open and now < self._until:
            # Of what was under way when it opened: many requests that fail together are one failure.
            return
        self._failures += 1
        self._trying = False
        if self.open:
            self._wait = min(LONGEST_WAIT, self._wait * 2 or FIRST_WAIT)
            self._until = now + self._wait * (1 - JITTER + 2 * JITTER * self._chance())


class Breaker:
    """One instance's record: what it did to everybody, and what each user met since its last whole answer."""

    def __init__(self, chance: Callable[[], float] = random.random) -> None:
        self._chance = chance
        self._all = Record(chance)
        self._suspects: dict[str, Record] = {}
        # Of those the users whose failures count for everybody.
        self._witnesses: set[str] = set()

    @property
    def open(self) -> bool:
        """Whether the instance is left alone by everybody, or tried by one request at a time."""
        return self._all.open

    def allows(self, now: float, user: str = "") -> bool:
        """Whether a request of the user may go to the instance; without one, a stranger's."""
        suspect = self._suspects.get(user)
        if suspect is None:
            return self._all.allows(now)
        # Its trials are its own: they must not take the place of one by somebody who met no failure.
        return not self._all.wait(now) and suspect.allows(now)

    def wait(self, now: float, user: str = "") -> float:
        """Return after how many seconds the user's next trial may begin, 0 where one may now."""
        suspect = self._suspects.get(user)
        return max(self._all.wait(now), suspect.wait(now) if suspect is not None else 0.0)

    def begin(self, user: str = "") -> Optional[Record]:
        """Note that a request goes to the instance; return the record to settle where it is a trial."""
        record = self._suspects.get(user, self._all)
        return record if record.begin() else None

    def succeed(self) -> None:
        """The instance gave a whole answer."""
        self._all.succeed()
        self._suspects.clear()
        self._witnesses.clear()

    def fail(self, now: float) -> None:
        """The instance failed without any request's part."""
        self._all.fail(now)

    def suspect(self, user: str, now: float, *, alone: bool) -> None:
        """An attempt of this user broke at the instance; `alone`: nobody else was being answered there.

        A user counts for everybody once: so nobody opens it, or keeps it open, by failing again.
        """
        if alone and user not in self._witnesses:
            self._witnesses.add(user)
            self._all.fail(now)
        record = self._suspects.get(user)
        if record is None:
            record = self._suspects[user] = Record(self._chance)
            if len(self._suspects) > MOST_SUSPECTS:
                oldest = next(iter(self._suspects))
                del self._suspects[oldest]
                self._witnesses.discard(oldest)
        record.fail(now)
