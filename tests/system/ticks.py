"""Counts the scheduler's ticks: what must not take many of them, however busy the machine is."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from tests.system.service import Service

# A tick ends when it writes its metrics.
WRITTEN = "/var/lib/sluice/figures.json"
SECONDS = 300


@dataclass
class Ticks:
    """When ticks ended, in seconds since the epoch; empty until the block of `watched_ticks` is left."""

    ends: tuple[float, ...] = ()

    def between(self, since: float, until: float) -> int:
        """Return how many ticks ended after `since` and before `until`."""
        return sum(since < end < until for end in self.ends)


@contextmanager
def watched_ticks(service: Service) -> Iterator[Ticks]:
    """Watch the ticks from here to the block's end, for SECONDS at most."""
    ticks, stop = Ticks(), f"/run/ticks-{secrets.token_hex(4)}"
    script = (
        f"for _ in $(seq {SECONDS * 10}); do [ ! -e {stop} ] || break; stat -c %.Y {WRITTEN}; sleep 0.1; done"
        f" | uniq; rm -f {stop}"
    )
    with ThreadPoolExecutor(1) as pool:
        told = pool.submit(service.shell, "login", script, SECONDS * 3)
        try:
            yield ticks
        finally:
            service.shell("login", f"touch {stop}")
    ticks.ends = tuple(float(line) for line in told.result().split())
    assert ticks.ends, f"no tick was seen: does the scheduler write its metrics to {WRITTEN}?"
