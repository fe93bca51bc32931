"""How much of its limits each budget has used. Pure, on one thread: the caller passes the time.

A *bucket* is what limits of one scope and model count in (`Limit.bucket`). A request is held to every limit
that binds it: all of their buckets take it, or none does. What it may need of tokens is reserved before it
runs and replaced by what it used when it ends, however it ends.

Histogram are seconds since the epoch. A minute is 61 whole seconds, the one that runs now included: so no 60
seconds, wherever they begin, have more than a limit allows.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sluice.contracts.authority import LIMITED, Limit, Spent

MINUTE = 60
DAY = 86_400
# Buckets in memory, of a kilobyte each; beyond it the least recently used that no request holds is forgotten.
MOST_BUCKETS = 50_000
# What is held by requests that run comes back when they end; nobody knows when (seconds).
RETRY_OPEN = 2.0
RETRY_HELD = 5.0

REQUESTS = "requests_per_minute"
TOKENS = "tokens_per_minute"
DAY_TOKENS = "tokens_per_day"
CONCURRENT = "concurrent"

BucketKey = tuple[str, str]


class Need(NamedTuple):
    """The tokens that a request may use: hardly more than `most`; `likely` is an estimate, not above it."""

    most: int
    likely: int


class Remaining(NamedTuple):
    """What is left of one number: `reset` is in how many seconds it is whole again if nothing more comes."""

    limit: int
    remaining: int
    reset: float


class LimitsLeft(NamedTuple):
    """The tightest of the limits that bind a request, by requests and by tokens; None where there is none."""

    requests: Remaining | None
    tokens: Remaining | None


class LimitExceeded(Exception):
    """A limit has no room: `what` is the name of its number, `retry_after` in seconds.

    `retry_after` is None where waiting does not help: the request alone is more than the limit allows.
    """

    def __init__(self, limit: Limit, what: str, retry_after: float | None) -> None:
        super().__init__(what)
        self.limit = limit
        self.what = what
        self.retry_after = retry_after


class NotFilled(Exception):
    """A bucket is not there, and must be filled by `Buckets.learn` first."""


class Minute:
    """Counts of the last minute, by whole seconds; `total` is their sum as of the last `advance`."""

    __slots__ = ("_counts", "total")

    def __init__(self, counts: Iterable[tuple[int, int]] = ()) -> None:
        self._counts = collections.deque([second, count] for second, count in sorted(counts))
        self.total = sum(count for _, count in self._counts)

    def advance(self, second: int) -> None:
        """Forget what is older than a minute."""
        counts = self._counts
        while counts and counts[0][0] < second - MINUTE:
            self.total -= counts.popleft()[1]
        if counts and counts[-1][0] > second:
            self._clock_went_back(second)

    def _clock_went_back(self, second: int) -> None:
        """Let what a wrong clock put into the future count from now on, for a minute and no longer."""
        ahead = 0
        while self._counts and self._counts[-1][0] >= second:
            ahead += self._counts.pop()[1]
        self._counts.append([second, ahead])

    def add(self, second: int, count: int) -> None:
        """Count in `second`, which is the newest."""
        if self._counts and self._counts[-1][0] >= second:
            self._counts[-1][1] += count
        else:
            self._counts.append([second, count])
        self.total += count

    def take_back(self, second: int, count: int) -> None:
        """Uncount what was counted in `second`, unless it is forgotten already."""
        for entry in reversed(self._counts):
            if entry[0] == second:
                count = min(count, entry[1])
                entry[1] -= count
                self.total -= count
                return

    def wait(self, second: int, excess: int) -> float | None:
        """Return in how many seconds `excess` of the counts are forgotten; None if there are not so many."""
        for at, count in self._counts:
            excess -= count
            if excess <= 0:
                return float(at + MINUTE + 1 - second)
        return None

    @property
    def newest(self) -> int | None:
        """The last second in which anything was counted."""
        return self._counts[-1][0] if self._counts else None


class Bucket:
    """What requests of one scope and model have used, hold and are.

    `today` are the tokens of the day `day` (UTC, days since the epoch), `held` those reserved for requests
    that run, `open` how many those are. All is as of `second`, to which `advance` brings it.
    """

    __slots__ = ("day", "held", "open", "requests", "second", "today", "tokens")

    def __init__(self, spent: Spent, now: float) -> None:
        self.requests = Minute(spent.requests)
        self.tokens = Minute(spent.tokens)
        self.second = int(now)
        self.day = self.second // DAY
        self.today = spent.tokens_today
        self.held = 0
        self.open = 0

    def advance(self, second: int) -> None:
        """Let time pass."""
        self.second = second
        self.requests.advance(second)
        self.tokens.advance(second)
        day = second // DAY
        if day != self.day:
            # Where the clock was put back over midnight, what was counted keeps counting.
            if day > self.day:
                self.today = 0
            self.day = day

    def left(self, limit: Limit) -> int | None:
        """Return the tokens left by the tighter of its two numbers; None where it has neither."""
        left = None
        if limit.tokens_per_minute is not None:
            left = limit.tokens_per_minute - self.tokens.total - self.held
        if limit.tokens_per_day is not None:
            of_day = limit.tokens_per_day - self.today - self.held
            left = of_day if left is None or of_day < left else left
        return left

    def reservable(self, limit: Limit, need: Need, places: int) -> int:
        """Return how many tokens are reserved for the request, -1 if it has no room in the limit.

        Where nothing is held, one whose estimate fits may reserve all that is left: a request by itself is
        not refused for a bound that it is not going to reach.
        """
        if limit.concurrent is not None and self.open + places > limit.concurrent:
            return -1
        most = limit.requests_per_minute
        if most is not None and self.requests.total + places > most:
            return -1
        left = self.left(limit)
        if left is None or need.most <= left:
            return need.most
        if not self.held and need.likely <= left:
            return left
        return -1

    def excesses(self, limit: Limit, need: Need, places: int, second: int) -> list[LimitExceeded]:
        """Return every number of the limit that has no room for the request."""
        found = []
        if limit.concurrent is not None and self.open + places > limit.concurrent:
            found.append(LimitExceeded(limit, CONCURRENT, RETRY_OPEN if places <= limit.concurrent else None))
        most = limit.requests_per_minute
        if most is not None and self.requests.total + places > most:
            wait = self.requests.wait(second, self.requests.total - most + places) if places <= most else None
            found.append(LimitExceeded(limit, REQUESTS, wait))
        if limit.tokens_per_minute is not None:
            wait = self._token_wait(limit.tokens_per_minute, need, second)
            if wait != 0:
                found.append(LimitExceeded(limit, TOKENS, wait))
        if limit.tokens_per_day is not None:
            wait = self._day_wait(limit.tokens_per_day, need, second)
            if wait != 0:
                found.append(LimitExceeded(limit, DAY_TOKENS, wait))
        return found

    def _token_wait(self, most: int, need: Need, second: int) -> float | None:
        """Return after how many seconds there may be room, 0 if there is now, None if there never is."""
        if need.likely > most:
            return None
        left = most - self.tokens.total - self.held
        if need.most <= left or (not self.held and need.likely <= left):
            return 0.0
        wait = self.tokens.wait(second, self.tokens.total + need.likely - most)
        return max(wait or 0.0, RETRY_HELD) if self.held else wait

    def _day_wait(self, most: int, need: Need, second: int) -> float | None:
        if need.likely > most:
            return None
        left = most - self.today - self.held
        if need.most <= left or (not self.held and need.likely <= left):
            return 0.0
        if self.today + need.likely > most:
            return float(DAY - second % DAY)
        return RETRY_HELD

    def requests_remaining(self, most: int, second: int) -> Remaining:
        """Return what is left of so many requests a minute."""
        return Remaining(most, max(0, most - self.requests.total), _reset(self.requests, second))

    def tokens_remaining(self, limit: Limit, left: int, second: int) -> Remaining:
        """Return that `left` tokens are left of the limit's minute or day, whichever has less."""
        of_day = limit.tokens_per_day
        if of_day is not None and left == of_day - self.today - self.held:
            return Remaining(of_day, max(0, left), float(DAY - second % DAY))
        return Remaining(limit.tokens_per_minute or 0, max(0, left), _reset(self.tokens, second))

    @property
    def counts(self) -> bool:
        """Whether anything of it counts still, as of the last `advance`."""
        return bool(self.open or self.held or self.today or self.requests.total or self.tokens.total)


def _reset(minute: Minute, second: int) -> float:
    newest = minute.newest
    return 0.0 if newest is None else float(newest + MINUTE + 1 - second)


class Reservation:
    """What one request holds: in each of its buckets its places and so many tokens, since `second`."""

    __slots__ = ("places", "second", "taken")

    def __init__(self, second: int, taken: list[tuple[Bucket, int]], places: int = 1) -> None:
        self.second = second
        self.taken = taken
        self.places = places


class Buckets:
    """All buckets of one gateway.

    One that is met for the first time, or was forgotten, must be filled by `learn` before a request can be
    held to it. `forgotten` says that one which still counted was forgotten: from then on what fills another
    must have heard of all that this process has settled.
    """

    def __init__(self, most: int = MOST_BUCKETS) -> None:
        self._most = most
        self._buckets: collections.OrderedDict[BucketKey, Bucket] = collections.OrderedDict()
        self.forgotten = False

    def __len__(self) -> int:
        return len(self._buckets)

    def missing(self, limits: Sequence[Limit]) -> list[BucketKey]:
        """Return the buckets of the limits that have to be filled first."""
        return [limit.bucket for limit in limits if limit.bucket not in self._buckets]

    def learn(self, spent: Spent, now: float) -> None:
        """Fill a bucket with what was used by `now`; one that is there already knows better."""
        key = (spent.scope, spent.model)
        if key in self._buckets:
            return
        if len(self._buckets) >= self._most:
            self._forget_one()
        self._buckets[key] = Bucket(spent, now)

    def _forget_one(self) -> None:
        for key, bucket in self._buckets.items():
            if not bucket.open:
                self.forgotten = True
                del self._buckets[key]
                return

    def keys(self) -> list[BucketKey]:
        """Return the buckets that there are."""
        return list(self._buckets)

    def tidy(self, keys: Iterable[BucketKey], now: float) -> None:
        """Forget these buckets if nothing of them counts any more, and else what is old of them."""
        for key in keys:
            bucket = self._buckets.get(key)
            if bucket is not None:
                bucket.advance(int(now))
                if not bucket.counts:
                    del self._buckets[key]

    def reserve(self, limits: Sequence[Limit], need: Need, now: float, places: int = 1) -> Reservation:
        """Hold a request that counts as so many to all `limits`, of which no two have one bucket.

        Raises LimitExceeded, and changes nothing, where one has no room: of several, the one with the longest
        wait. Raises NotFilled where a bucket is `missing`.
        """
        second = int(now)
        taken = []
        for limit in limits:
            key = (limit.scope, limit.model)
            bucket = self._buckets.get(key)
            if bucket is None:
                raise NotFilled
            if bucket.second != second:
                bucket.advance(second)
            amount = bucket.reservable(limit, need, places)
            if amount < 0:
                raise self._excess(limits, need, places, second)
            taken.append((bucket, amount))
            self._buckets.move_to_end(key)
        for bucket, amount in taken:
            bucket.open += places
            bucket.held += amount
            bucket.requests.add(second, places)
        return Reservation(second, taken, places)

    def _excess(self, limits: Sequence[Limit], need: Need, places: int, second: int) -> LimitExceeded:
        found = []
        for limit in limits:
            bucket = self._buckets[limit.bucket]
            bucket.advance(second)
            found += bucket.excesses(limit, need, places, second)
        return max(found, key=lambda one: float("inf") if one.retry_after is None else one.retry_after)

    def settle(self, held: Reservation, tokens: int, now: float) -> None:
        """Put what a request has used in place of what it held."""
        second = int(now)
        for bucket, amount in held.taken:
            bucket.open -= held.places
            bucket.held -= amount
            if tokens:
                if bucket.second != second:
                    bucket.advance(second)
                bucket.tokens.add(second, tokens)
                bucket.today += tokens
        held.taken = []

    def give_back(self, held: Reservation) -> None:
        """Undo a reservation: the request was never sent to a cluster."""
        for bucket, amount in held.taken:
            bucket.open -= held.places
            bucket.held -= amount
            bucket.requests.take_back(held.second, held.places)
        held.taken = []

    def remaining(self, limits: Sequence[Limit], now: float) -> LimitsLeft:
        """Return what is left of `limits`, of which none is missing."""
        second = int(now)
        least: tuple[int, int, Bucket] | None = None
        fewest: tuple[int, Limit, Bucket] | None = None
        for limit in limits:
            bucket = self._buckets[(limit.scope, limit.model)]
            if bucket.second != second:
                bucket.advance(second)
            most = limit.requests_per_minute
            if most is not None and (least is None or most - bucket.requests.total < least[0]):
                least = (most - bucket.requests.total, most, bucket)
            left = bucket.left(limit)
            if left is not None and (fewest is None or left < fewest[0]):
                fewest = (left, limit, bucket)
        return LimitsLeft(
            None if least is None else least[2].requests_remaining(least[1], second),
            None if fewest is None else fewest[2].tokens_remaining(fewest[1], fewest[0], second),
        )


def merged(limits: Sequence[Limit]) -> tuple[Limit, ...]:
    """Return one limit for each bucket: of several, the smallest of each number."""
    found: dict[BucketKey, Limit] = {}
    for limit in limits:
        known = found.get(limit.bucket)
        found[limit.bucket] = limit if known is None else _smallest(known, limit)
    return tuple(found.values())


def _smallest(one: Limit, other: Limit) -> Limit:
    smallest = {name: _smaller(getattr(one, name), getattr(other, name)) for name in LIMITED}
    return Limit(one.scope, one.model, **smallest)


def _smaller(one: int | None, other: int | None) -> int | None:
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)


def need(size: int, output: int | None, choices: int, context_length: int, reserve_output: int) -> Need:
    """Return what a request may use of tokens.

    `size`: bytes of its body, of which no token is shorter than one. `output`: what each of its `choices` may
    write, None where the request does not say; `reserve_output` stands for it.
    """
    whole = context_length * choices
    written = min((reserve_output if output is None else output) * choices, whole)
    return Need(min(size + written, whole), min(size // 4 + written, whole))
