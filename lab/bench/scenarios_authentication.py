"""Scenarios of authentication: the cost of a known key, and of the first question about a key."""

from __future__ import annotations

import asyncio
import time

from lab.bench.generator import percentiles
from lab.bench.report import Bench, Figure, Scenario, at_most, over_rounds
from sluice.contracts.authority import GatewayState, Principal, Spent
from sluice.proxy.accounts.authority import Authenticator, AuthorityClient
from sluice.proxy.accounts.guesses import Guesses
from sluice.proxy.accounts.keys import credential
from sluice.proxy.accounts.limits import Buckets, need
from sluice.proxy.accounts.principals import PrincipalCache
from sluice.proxy.metrics import Metrics
from sluice.proxy.requests.limiter import headers

ROUNDS = 5
# Questions come so far apart (seconds), as those for 500 keys in use do, whose answers hold for 5 s.
APART = 0.01
# A request whose limits are counted: bytes of its body, tokens reserved for its answer, tokens of it.
SMALL, RESERVED, TOKENS = 75, 4096, 20
CONTEXT = 32_768


def authentication(bench: Bench) -> list[Figure]:
    """The CPU time of the proxy's thread for a known key and its limits; the time of a question."""
    stack = bench.stack()
    return asyncio.run(_ask(str(stack.authority.socket), stack.key, quick=bench.quick))


async def _ask(socket: str, key: str, *, quick: bool) -> list[Figure]:
    requests = 2_000 if quick else 20_000
    client = AuthorityClient(socket)
    try:
        known = await _known(client, key, requests)
        times = await _questions(client, key, 100 if quick else 1_000)
        principal = await client.principal(credential(key))
    finally:
        await client.close()
    assert principal is not None
    limits = _limits(principal, requests)
    found = percentiles(times, 1000.0)
    return [
        over_rounds("CPU of authentication, key known", known, "us", at_most(30), scale=1e6),
        over_rounds(f"CPU of {len(principal.limits)} limits on a request", limits, "us", scale=1e6),
        Figure("a question to the authority, p50", found["p50"], "ms"),
        Figure("a question to the authority, p99", found["p99"], "ms", at_most(5)),
    ]


async def _known(client: AuthorityClient, key: str, requests: int) -> list[float]:
    cache = PrincipalCache(ttl=600.0, stale=900.0)
    authenticator = Authenticator(client, cache, Guesses(30), Metrics(), GatewayState)
    presented = f"Bearer {key}"
    await authenticator.principal(presented)
    rounds = []
    for _ in range(ROUNDS):
        began = time.thread_time()
        for _ in range(requests):
            await authenticator.principal(presented, "192.0.2.1")
        rounds.append((time.thread_time() - began) / requests)
    return rounds


async def _questions(client: AuthorityClient, key: str, count: int) -> list[float]:
    """Ask one question after the other; return the seconds that each took."""
    asked = credential(key)
    times = []
    for _ in range(count):
        began = time.perf_counter()
        await client.principal(asked)
        times.append(time.perf_counter() - began)
        await asyncio.sleep(APART)
    return times


def _limits(principal: Principal, requests: int) -> list[float]:
    """Return the CPU seconds for a request's limits, including their headers, for each round."""
    limits, now = principal.limits, time.time()
    buckets = Buckets()
    for scope, model in buckets.missing(limits):
        buckets.learn(Spent(scope, model, (), (), 0), now)
    rounds = []
    for _ in range(ROUNDS):
        began = time.thread_time()
        for _ in range(requests):
            held = buckets.reserve(limits, need(SMALL, 1, 1, CONTEXT, RESERVED), now)
            headers(buckets.remaining(limits, now))
            buckets.settle(held, TOKENS, now)
        rounds.append((time.thread_time() - began) / requests)
    return rounds


SCENARIOS = (Scenario("authentication", "Whose key it is, and what it may", authentication),)
