"""Decides when an instance that keeps failing is not used, and for whom. Pure: `now` is the monotonic clock.

A failure during a request may be the request's fault. So it counts for its user: after LIMIT failures in a
row the instance is not used for that user. It is not used for anybody only if LIMIT different users had a
failure, or if it failed LIMIT times by itself (no connection, a lost one, an engine that does not listen).
One complete answer, to any user, clears all of that.
"""

from __future__ import annotations

import random
from typing import Callable, Optional

# After this many failures, without a complete answer between them, an instance gets no more requests.
LIMIT = 3
FIRST_WAIT = 1.0
LONGEST_WAIT = 30.0
# Waits are longer or shorter by up to this part: relays must not all try again at the same moment.
JITTER = 0.2
# How many users with failures are remembered for one instance; if there are more, the oldest is forgotten.
MOST_SUSPECTS = 256


class Failures:
    """Failures in a row. After LIMIT of them it is open: after a wait, one trial at a time is allowed.

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
        """Whether no requests are allowed, or only one at a time."""
        return self._failures >= LIMIT

    def allows(self, now: float) -> bool:
        """Whether a request may be sent."""
        return not self.open or (now >= self._until and not self._trying)

    def wait(self, now: float) -> float:
        """Return after how many seconds the next trial may begin, 0 if it may begin now."""
        return max(0.0, self._until - now) if self.open else 0.0

    def begin(self) -> bool:
        """Note that a request is sent; return whether it is a trial, which must be ended."""
        self._trying = self.open
        return self._trying

    def end_trial(self) -> None:
        """The trial has ended without a result, or its answer has begun: allow the next one."""
        self._trying = False

    def succeed(self) -> None:
        """Forget all failures."""
        self._failures = 0
        self._wait = 0.0
        self._trying = False

    def fail(self, now: float) -> None:
        """Count a failure."""
        if self.open and now < self._until:
            # A request that was sent before it opened: many requests that fail together are one failure.
            return
        self._failures += 1
        self._trying = False
        if self.open:
            self._wait = min(LONGEST_WAIT, self._wait * 2 or FIRST_WAIT)
            self._until = now + self._wait * (1 - JITTER + 2 * JITTER * self._chance())


class Breaker:
    """The failures of one instance since its last complete answer: for everybody, and for each user."""

    def __init__(self, chance: Callable[[], float] = random.random) -> None:
        self._chance = chance
        self._all = Failures(chance)
        self._suspects: dict[str, Failures] = {}
        # The users of `_suspects` who count for everybody.
        self._witnesses: set[str] = set()

    @property
    def open(self) -> bool:
        """Whether the instance is used for nobody, or only for one request at a time."""
        return self._all.open

    def allows(self, now: float, user: str = "") -> bool:
        """Whether a request of the user may go to the instance; "" means a user without failures."""
        suspect = self._suspects.get(user)
        if suspect is None:
            return self._all.allows(now)
        # A user's trials must not take the place of a trial by a user without failures.
        return not self._all.wait(now) and suspect.allows(now)

    def wait(self, now: float, user: str = "") -> float:
        """Return after how many seconds the user's next trial may begin, 0 if it may begin now."""
        suspect = self._suspects.get(user)
        return max(self._all.wait(now), suspect.wait(now) if suspect is not None else 0.0)

    def begin(self, user: str = "") -> Optional[Failures]:
        """Note that a request goes to the instance; if it is a trial, return what must end it."""
        failures = self._suspects.get(user, self._all)
        return failures if failures.begin() else None

    def succeed(self) -> None:
        """The instance gave a complete answer."""
        self._all.succeed()
        self._suspects.clear()
        self._witnesses.clear()

    def fail(self, now: float) -> None:
        """The instance failed by itself, without the fault of a request."""
        self._all.fail(now)

    def suspect(self, user: str, now: float, *, alone: bool) -> None:
        """An attempt of this user broke at the instance; `alone`: no other request got an answer there.

        Each user counts for everybody only once, so no user can open it, or keep it open, alone.
        """
        if alone and user not in self._witnesses:
            self._witnesses.add(user)
            self._all.fail(now)
        failures = self._suspects.get(user)
        if failures is None:
            failures = self._suspects[user] = Failures(self._chance)
            if len(self._suspects) > MOST_SUSPECTS:
                oldest = next(iter(self._suspects))
                del self._suspects[oldest]
                self._witnesses.discard(oldest)
        failures.fail(now)
