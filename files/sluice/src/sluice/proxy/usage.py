"""Usage records on their way to the authority: at least once, in batches, within bounded memory."""

from __future__ import annotations

import asyncio
import collections
import logging

from sluice.proxy.authority import AuthorityClient, AuthorityUnreachable, UsageRefused
from sluice.proxy.metrics import Metrics

log = logging.getLogger("sluice.proxy.usage")

MOST_HELD = 50_000
BATCH = 500
BACKOFF_MAX = 30.0


class UsageQueue:
    """Holds settled usage until the authority has taken it: as JSON, which takes the least room.

    A record leaves the queue only after the authority's answer, so it may arrive twice, under the same id.
    When MOST_HELD wait, the oldest are dropped and counted.
    """

    def __init__(self, client: AuthorityClient, interval: float, metrics: Metrics) -> None:
        self._client = client
        self._interval = interval
        self._metrics = metrics
        self._records: collections.deque[bytes] = collections.deque()

    def __len__(self) -> int:
        return len(self._records)

    def add(self, record: bytes) -> None:
        """Take a settled record, as JSON; never waits."""
        if len(self._records) >= MOST_HELD:
            self._records.popleft()
            self._metrics.usage_dropped(1)
        self._records.append(record)

    async def run(self) -> None:
        """Deliver, every `interval` seconds or after a back-off, until cancelled."""
        delay = self._interval
        while True:
            await asyncio.sleep(delay)
            delivered = await self.flush()
            delay = self._interval if delivered else min(max(delay, 0.5) * 2, BACKOFF_MAX)

    async def flush(self) -> bool:
        """Deliver what is there now; return whether the authority could be reached."""
        left = len(self._records)
        while left > 0 and self._records:
            batch = [self._records[index] for index in range(min(BATCH, left, len(self._records)))]
            try:
                await self._client.usage(batch)
            except AuthorityUnreachable:
                return False
            except UsageRefused as error:
                log.warning(
                    "the authority refuses usage records", extra={"why": str(error), "count": len(batch)}
                )
                self._metrics.usage_dropped(len(batch))
            self._remove(batch)
            left -= len(batch)
        return True

    def _remove(self, batch: list[bytes]) -> None:
        """Take the batch off the queue's head; records dropped meanwhile are gone from there already."""
        for record in batch:
            if self._records and self._records[0] is record:
                self._records.popleft()
