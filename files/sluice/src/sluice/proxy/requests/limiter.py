"""Checks requests against their limits, with the rules of `sluice.proxy.accounts.limits`."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Sequence

from sluice.contracts.authority import Limit
from sluice.contracts.paths import COUNTING
from sluice.contracts.status import ModelStatus
from sluice.errors import SluiceError
from sluice.proxy.accounts.authority import RETRY_AFTER, AuthorityClient, AuthorityUnreachable
from sluice.proxy.accounts.limits import (
    CONCURRENT,
    DAY_TOKENS,
    REQUESTS,
    TOKENS,
    BucketKey,
    Buckets,
    LimitExceeded,
    LimitsLeft,
    Need,
    NotFilled,
    Remaining,
    Reservation,
    need,
)
from sluice.proxy.accounts.usage import UsageQueue
from sluice.proxy.bodies.body import BodySummary
from sluice.proxy.requests.context import RequestContext
from sluice.proxy.requests.tokens import TokenCount

# A request waits at most this long for its buckets to be filled (seconds).
FILL_SECONDS = 10.0
# How often the authority is asked for a bucket that is forgotten again before it was used.
MOST_ASKED = 3
# Buckets are tidied at this interval (seconds), this many in one turn of the event loop.
TIDY_EVERY = 60.0
TIDY_AT_ONCE = 500

_CODES = {
    REQUESTS: "requests_limited",
    TOKENS: "tokens_limited",
    DAY_TOKENS: "day_limited",
    CONCURRENT: "concurrency_limited",
}
_UNITS = {
    REQUESTS: "requests a minute",
    TOKENS: "tokens a minute",
    DAY_TOKENS: "tokens a day (UTC)",
    CONCURRENT: "requests at once",
}
_OWNERS = {
    "site": "this service",
    "project": "the project",
    "group": "the group",
    "user": "your account",
    "key": "this API key",
}


class Limiter:
    """Reserves what a request may use before it runs, and settles what it used when it has ended."""

    def __init__(self, client: AuthorityClient, usage: UsageQueue, reserve_output: int) -> None:
        self._client = client
        self._usage = usage
        self._reserve_output = reserve_output
        self._buckets = Buckets()
        self._filling: dict[BucketKey, asyncio.Task[None]] = {}

    async def hold(
        self,
        context: RequestContext,
        limits: Sequence[Limit],
        model: ModelStatus,
        summary: BodySummary,
        size: int,
    ) -> None:
        """Reserve what a request with a body of `size` bytes may use, in the limits that apply to it.

        Sets headers in `context.headers` with what is left. Raises SluiceError `requests_limited`,
        `tokens_limited`, `day_limited`, `concurrency_limited`, or `authority_unreachable` if the used amounts
        are unknown.
        """
        binding = [limit for limit in limits if not limit.model or limit.model == model.name]
        if not binding:
            return
        tokens = need(size, summary.most_output, summary.copies, model.context_length, self._reserve_output)
        if summary.capability in COUNTING:
            tokens = Need(0, 0)
        try:
            self._reserve(context, binding, tokens, summary.places)
        except NotFilled:
            await self._fill(binding)
            self._reserve(context, binding, tokens, summary.places)

    def _reserve(self, context: RequestContext, limits: Sequence[Limit], tokens: Need, places: int) -> None:
        """Reserve, and set the headers with what is left. Raises SluiceError, NotFilled."""
        now = time.time()
        try:
            context.held = self._buckets.reserve(limits, tokens, now, places)
        except LimitExceeded as excess:
            context.headers.update(headers(self._buckets.remaining(limits, now)))
            raise _refusal(excess, places) from None
        context.headers.update(headers(self._buckets.remaining(limits, now)))

    def settle(self, held: Reservation, cluster: str, tokens: TokenCount) -> None:
        """Replace what a request held by what it used.

        A request that was not sent to any `cluster` gives everything back, as if it had never come.
        """
        if cluster:
            self._buckets.settle(held, tokens.input + tokens.output, time.time())
        else:
            self._buckets.give_back(held)

    async def run(self) -> None:
        """Forget from time to time what no longer counts, until cancelled."""
        while True:
            await asyncio.sleep(TIDY_EVERY)
            keys = self._buckets.keys()
            for start in range(0, len(keys), TIDY_AT_ONCE):
                self._buckets.tidy(keys[start : start + TIDY_AT_ONCE], time.time())
                await asyncio.sleep(0)

    # --- filling of new buckets ---------------------------------------------------------------------------

    async def _fill(self, limits: Sequence[Limit]) -> None:
        try:
            async with asyncio.timeout(FILL_SECONDS):
                for _ in range(MOST_ASKED):
                    missing = self._buckets.missing(limits)
                    if not missing:
                        return
                    await self._filled(missing)
        except (AuthorityUnreachable, TimeoutError):
            pass
        if self._buckets.missing(limits):
            raise SluiceError(
                "authority_unreachable",
                "Your limits cannot be checked at the moment. Try again soon.",
                retry_after=RETRY_AFTER,
            )

    async def _filled(self, missing: Sequence[BucketKey]) -> None:
        """Ask the authority once for all buckets that are not asked for already, and wait for all."""
        new = [key for key in missing if key not in self._filling]
        if new:
            task = asyncio.get_running_loop().create_task(self._ask(new))
            self._filling.update(dict.fromkeys(new, task))
            task.add_done_callback(lambda done: self._asked(new, done))
        for task in {self._filling[key] for key in missing}:
            # Shielded: this client may leave while others wait for the same answer.
            await asyncio.shield(task)

    def _asked(self, keys: Sequence[BucketKey], task: asyncio.Task[None]) -> None:
        for key in keys:
            self._filling.pop(key, None)
        if not task.cancelled():
            task.exception()  # retrieved here: whoever waited for it may have left

    async def _ask(self, keys: Sequence[BucketKey]) -> None:
        """Fill buckets. Raises AuthorityUnreachable."""
        await self._usage.catch_up(everything=self._buckets.forgotten)
        now = time.time()
        for spent in await self._client.spent(keys, now):
            self._buckets.learn(spent, now)


def _refusal(excess: LimitExceeded, places: int) -> SluiceError:
    """Return the error for the user: whose limit it is, of what, how much, and when to retry."""
    limit, what = excess.limit, excess.what
    kind, _, name = limit.scope.partition(":")
    owner = f"{_OWNERS[kind]} {name}" if kind in ("project", "group") else _OWNERS[kind]
    models = f"the model {limit.model}" if limit.model else "all models together"
    if excess.retry_after is not None:
        advice = f"Try again in {span(excess.retry_after)}."
    elif what in (TOKENS, DAY_TOKENS) and getattr(limit, what):
        advice = "This request alone may need more: shorten it, or lower `max_tokens`."
    elif places > 1 and getattr(limit, what):
        advice = f"This request alone counts as {places}: ask for fewer answers or inputs."
    else:
        advice = "Waiting does not help."
    number = getattr(limit, what)
    return SluiceError(
        _CODES[what],
        f"The limit of {owner} for {models} is {number} {_UNITS[what]}. {advice}",
        retry_after=excess.retry_after,
    )


def headers(left: LimitsLeft) -> dict[str, str]:
    """Return the headers `x-ratelimit-*` with what is left of the limits."""
    found: dict[str, str] = {}
    for name, remaining in (("requests", left.requests), ("tokens", left.tokens)):
        if remaining is not None:
            _add(found, name, remaining)
    return found


def _add(found: dict[str, str], name: str, remaining: Remaining) -> None:
    found[f"x-ratelimit-limit-{name}"] = str(remaining.limit)
    found[f"x-ratelimit-remaining-{name}"] = str(remaining.remaining)
    found[f"x-ratelimit-reset-{name}"] = span(remaining.reset)


@functools.lru_cache(maxsize=1024)
def span(seconds: float) -> str:
    """Return a number of seconds in the form `12s`, `1m30s` or `7h0m5s`."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60}s"
    return f"{whole // 3600}h{whole % 3600 // 60}m{whole % 60}s"
