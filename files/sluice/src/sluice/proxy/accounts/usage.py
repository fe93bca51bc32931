"""Delivers usage records to the authority: at least once, in batches, from the spool on disk."""

from __future__ import annotations

import asyncio
import logging

from sluice.proxy.accounts.authority import AuthorityClient, AuthorityUnreachable, UsageRefused
from sluice.proxy.accounts.spool import Spool
from sluice.proxy.metrics import Metrics

log = logging.getLogger("sluice.proxy.accounts.usage")

BATCH = 500
BACKOFF_MAX = 30.0


class UsageQueue:
    """Delivers the records of the spool. A record is removed only after the authority's answer.

    So the authority may get a record twice, with the same id.
    """

    def __init__(self, client: AuthorityClient, spool: Spool, interval: float, metrics: Metrics) -> None:
        self._client = client
        self._spool = spool
        self._interval = interval
        self._metrics = metrics
        self._dropped = 0
        self._delivering = asyncio.Lock()
        # Whether an earlier process left records that are not delivered yet.
        self._behind = len(spool) > 0

    def __len__(self) -> int:
        return len(self._spool)

    def begin(self, request_id: str, record: bytes) -> None:
        """Note a request that is sent now; `record` counts if this process is killed before it is settled."""
        self._spool.begin(request_id, record)

    def add(self, request_id: str, record: bytes) -> None:
        """Add a settled record, as JSON; never waits."""
        self._spool.settle(request_id, record)

    async def run(self) -> None:
        """Deliver every `interval` seconds, or after a back-off, until cancelled."""
        delay, waited = self._interval, 0.0
        while True:
            await asyncio.sleep(self._interval)
            waited += self._interval
            if waited >= delay:
                delivered = await self.flush()
                delay = self._interval if delivered else min(max(delay, 0.5) * 2, BACKOFF_MAX)
                waited = 0.0
            # Also while the authority cannot be reached.
            await self._sync()

    async def _sync(self) -> None:
        """Make the written records safe from a power cut."""
        try:
            unsynced = self._spool.unsynced()
            if unsynced is not None:
                await asyncio.to_thread(unsynced.sync)
        except OSError as error:
            log.critical(
                (
                    "usage records do not reach the disk: they survive the end of this process, but not "
                    "a power cut"
                ),
                extra={"problem": error.strerror or str(error)},
            )

    async def catch_up(self, *, everything: bool) -> None:
        """Deliver what an earlier process left, or `everything` until now. Raises AuthorityUnreachable."""
        if (self._behind or everything) and not await self.flush():
            raise AuthorityUnreachable("it does not accept the usage records")

    async def flush(self) -> bool:
        """Deliver all records; return whether the authority could be reached."""
        # Two deliveries at the same time would take the same records from the spool.
        async with self._delivering:
            delivered = await self._deliver()
            self._behind = self._behind and not delivered
        return delivered

    async def _deliver(self) -> bool:
        self._spool.flush()
        left = len(self._spool)
        while left > 0:
            batch = self._spool.batch(BATCH)
            if not batch.records:
                break
            try:
                await self._client.usage(batch.records)
            except AuthorityUnreachable:
                return False
            except UsageRefused as error:
                log.warning(
                    "the authority refuses usage records",
                    extra={"why": str(error), "count": len(batch.records)},
                )
                self._metrics.usage_dropped(len(batch.records))
            self._spool.taken(batch)
            left -= len(batch.records)
        self._tell_dropped()
        return True

    def close(self) -> None:
        """Close the spool; the next process delivers what it still holds."""
        self._spool.close()

    def _tell_dropped(self) -> None:
        if self._spool.dropped > self._dropped:
            self._metrics.usage_dropped(self._spool.dropped - self._dropped)
            self._dropped = self._spool.dropped
