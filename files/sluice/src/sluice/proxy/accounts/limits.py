"""How much of each limit is used. Pure, for one thread: callers pass the time.

A *bucket* counts for all limits of one scope and model (`Limit.bucket`). A request must fit into every limit
that applies to it: it is counted in all of their buckets or in none. The tokens that it may need are reserved
before it runs, and replaced by those that it used when it ends.

Times are seconds since the epoch. A minute is 61 whole seconds including the current one, so that any 60
seconds keep to the limit, wherever they begin.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sluice.contracts.authority import LIMITED, Limit, Spent

MINUTE = 60
DAY = 86_400
# Buckets in memory, of a kilobyte each; beyond it, the least recently used one without requests is forgotten.
MOST_BUCKETS = 50_000
# Retry-After if a limit is full because of open requests, which may end at any time (seconds).
RETRY_OPEN = 2.0
RETRY_HELD = 5.0

REQUESTS = "requests_per_minute"
TOKENS = "tokens_per_minute"
DAY_TOKENS = "tokens_per_day"
CONCURRENT = "concurrent"

BucketKey = tuple[str, str]


class Need(NamedTuple):
    """The tokens that a request may use: `most` is an upper bound, `likely` an estimate of at most that."""

    most: int
    likely: int


class Remaining(NamedTuple):
    """What is left of one number of a limit; `reset`: seconds until all of it is available again."""

    limit: int
    remaining: int
    reset: float


class LimitsLeft(NamedTuple):
    """What is left of the tightest limits of a request, by requests and by tokens; None without a limit."""

    requests: Remaining | None
    tokens: Remaining | None


class LimitExceeded(Exception):
    """A request does not fit into a limit; `what` is the name of the exceeded number.

    `retry_after`: seconds, None if waiting does not help because the request alone exceeds the limit.
    """

    def __init__(self, limit: Limit, what: str, retry_after: float | None) -> None:
        super().__init__(what)
        self.limit = limit
        self.what = what
        self.retry_after = retry_after


class NotFilled(Exception):
    """A bucket is missing and must first be filled with `Buckets.learn`."""


class Minute:
    """The counts of the last minute by whole seconds; `total` is their sum at the last `advance`."""

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
        """Count what a wrong clock dated into the future from now on, so that it expires after a minute."""
        ahead = 0
        while self._counts and self._counts[-1][0] >= second:
            ahead += self._counts.pop()[1]
        self._counts.append([second, ahead])

    def add(self, second: int, count: int) -> None:
        """Count in `second`, which must not be older than the newest one."""
        if self._counts and self._counts[-1][0] >= second:
            self._counts[-1][1] += count
        else:
            self._counts.append([second, count])
        self.total += count

    def take_back(self, second: int, count: int) -> None:
        """Undo a count in `second`, unless it has expired."""
        for entry in reversed(self._counts):
            if entry[0] == second:
                count = min(count, entry[1])
                entry[1] -= count
                self.total -= count
                return

    def wait(self, second: int, excess: int) -> float | None:
        """Return the seconds until `excess` of the counts have expired; None if there are not so many."""
        for at, count in self._counts:
            excess -= count
            if excess <= 0:
                return float(at + MINUTE + 1 - second)
        return None

    @property
    def newest(self) -> int | None:
        """The last second with a count, None if there is none."""
        return self._counts[-1][0] if self._counts else None


class Bucket:
    """The use of one scope and model.

    `today`: tokens used on `day` (UTC, days since the epoch). `held`: tokens reserved for open requests.
    `open`: the number of their places. All values are those at `second`, which `advance` sets.
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
        """Set the time to `second` and drop what has expired."""
        self.second = second
        self.requests.advance(second)
        self.tokens.advance(second)
        day = second // DAY
        if day != self.day:
            # If the clock was put back over midnight, the tokens still count.
            if day > self.day:
                self.today = 0
            self.day = day

    def left(self, limit: Limit) -> int | None:
        """Return the tokens left by the tighter of the limit's two numbers; None if it has neither."""
        left = None
        if limit.tokens_per_minute is not None:
            left = limit.tokens_per_minute - self.tokens.total - self.held
        if limit.tokens_per_day is not None:
            of_day = limit.tokens_per_day - self.today - self.held
            left = of_day if left is None or of_day < left else left
        return left

    def reservable(self, limit: Limit, need: Need, places: int) -> int:
        """Return how many tokens to reserve for a request, -1 if it does not fit into the limit.

        If nothing is held, a request whose estimate fits reserves all that is left: a single request is not
        refused because of an upper bound that it will not reach.
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
        """Return an exception for each number of the limit that the request exceeds."""
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
        """Return the seconds until the request may fit: 0 if it fits now, None if it never does."""
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
        """Return what is left of `most` requests a minute."""
        return Remaining(most, max(0, most - self.requests.total), _reset(self.requests, second))

    def tokens_remaining(self, limit: Limit, left: int, second: int) -> Remaining:
        """Return `left` as what is left of the limit's minute or day, whichever has less."""
        of_day = limit.tokens_per_day
        if of_day is not None and left == of_day - self.today - self.held:
            return Remaining(of_day, max(0, left), float(DAY - second % DAY))
        return Remaining(limit.tokens_per_minute or 0, max(0, left), _reset(self.tokens, second))

    @property
    def counts(self) -> bool:
        """Whether anything still counted at the last `advance`."""
        return bool(self.open or self.held or self.today or self.requests.total or self.tokens.total)


def _reset(minute: Minute, second: int) -> float:
    newest = minute.newest
    return 0.0 if newest is None else float(newest + MINUTE + 1 - second)


class Reservation:
    """What one request holds since `second`: its places, and some tokens in each of its buckets."""

    __slots__ = ("places", "second", "taken")

    def __init__(self, second: int, taken: list[tuple[Bucket, int]], places: int = 1) -> None:
        self.second = second
        self.taken = taken
        self.places = places


class Buckets:
    """All buckets of one gateway.

    A bucket that is new or was forgotten must be filled with `learn` before requests can use it. `forgotten`:
    a bucket that still counted was forgotten. From then on, the authority must have all usage records of this
    process before it is asked for the used amounts of a bucket.
    """

    def __init__(self, most: int = MOST_BUCKETS) -> None:
        self._most = most
        self._buckets: collections.OrderedDict[BucketKey, Bucket] = collections.OrderedDict()
        self.forgotten = False

    def __len__(self) -> int:
        return len(self._buckets)

    def missing(self, limits: Sequence[Limit]) -> list[BucketKey]:
        """Return the buckets of the limits that must be filled first."""
        return [limit.bucket for limit in limits if limit.bucket not in self._buckets]

    def learn(self, spent: Spent, now: float) -> None:
        """Fill a bucket with what was used by `now`; an existing one is newer and stays as it is."""
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
        """Return the keys of all buckets."""
        return list(self._buckets)

    def tidy(self, keys: Iterable[BucketKey], now: float) -> None:
        """Drop what has expired in these buckets, and forget those in which nothing counts any more."""
        for key in keys:
            bucket = self._buckets.get(key)
            if bucket is not None:
                bucket.advance(int(now))
                if not bucket.counts:
                    del self._buckets[key]

    def reserve(self, limits: Sequence[Limit], need: Need, now: float, places: int = 1) -> Reservation:
        """Reserve a request's places and tokens in all `limits`, each of which has a bucket of its own.

        Raises LimitExceeded and changes nothing if a limit is exceeded: the one with the longest wait. Raises
        NotFilled if a bucket is `missing`.
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
        """Replace what a request held by the tokens that it used."""
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
        """Undo a reservation, for a request that was never sent to a cluster."""
        for bucket, amount in held.taken:
            bucket.open -= held.places
            bucket.held -= amount
            bucket.requests.take_back(held.second, held.places)
        held.taken = []

    def remaining(self, limits: Sequence[Limit], now: float) -> LimitsLeft:
        """Return what is left of `limits`; none of their buckets may be missing."""
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
    """Return one limit for each bucket, with the smallest of each number."""
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
    """Return how many tokens a request may use.

    `size`: bytes of its body; a token has at least one byte. `output`: how many tokens each of its `choices`
    may have; `reserve_output` is used if the request does not say.
    """
    whole = context_length * choices
    written = min((reserve_output if output is None else output) * choices, whole)
    return Need(min(size + written, whole), min(size // 4 + written, whole))
