"""Keeps one session with a relay up: connects, checks it, replaces it when it is old, and reconnects."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable

from sluice.contracts.metrics import Sample
from sluice.errors import RecordError, SluiceError
from sluice.proxy.clusters.session import Session
from sluice.proxy.clusters.stream import SessionLost
from sluice.proxy.clusters.transport import TransportError, TransportFactory
from sluice.proxy.config import ClusterConfig

log = logging.getLogger("sluice.proxy.clusters.keeper")

BACKOFF_MIN = 0.5
# After a session of at least this long, the next connection is tried without a back-off (seconds).
SOUND_AFTER = 10.0
# On a session that accepts no new requests, open streams have this long to end (seconds).
DRAIN_SECONDS = 1800.0
# A session that was up within this many seconds is expected back soon.
RETURN_SECONDS = 5.0
METRICS_INTERVAL = 10.0
# A session is replaced at a random age between this share of `session_age` and all of it, so that two are not
# replaced at the same time.
YOUNGEST_SHARE = 0.75


class SessionKeeper:
    """One of a cluster's sessions, across its reconnections.

    `state`: one of `sluice.proxy.metrics.SESSION_STATES`. `detail`: why it is not up. `since`,
    `next_attempt`: times of the monotonic clock. `on_change` is called when a session comes or goes.
    """

    def __init__(
        self,
        config: ClusterConfig,
        index: int,
        factory: TransportFactory,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self.config = config
        self.index = index
        self.state = "connecting"
        self.detail = ""
        self.since = time.monotonic()
        self.next_attempt = time.monotonic()
        self.session: Session | None = None
        self.samples: tuple[Sample, ...] = ()
        self.on_change = on_change
        self._factory = factory
        self._failures = 0
        self._last_live = time.monotonic()
        # The session in use and those that drain, each by its task.
        self._sessions: dict[asyncio.Task[None], Session] = {}

    @property
    def cluster(self) -> str:
        """The cluster's name."""
        return self.config.name

    @property
    def open_streams(self) -> int:
        """The number of streams on the session and on the replaced ones that still drain."""
        return sum(session.open_streams for session in self._sessions.values())

    @property
    def live(self) -> bool:
        """Whether the session accepts new requests. It may be lost a moment before `state` shows it."""
        return self.session is not None and not self.session.leaving.done()

    @property
    def returning(self) -> bool:
        """Whether the session is expected back soon, because it was up a moment ago."""
        return (
            self.state in ("connecting", "up", "down") and time.monotonic() - self._last_live < RETURN_SECONDS
        )

    def retry_after(self) -> float:
        """Return an estimate of the seconds until the session may be up."""
        return max(1.0, self.next_attempt - time.monotonic() + 1.0)

    async def run(self) -> None:
        """Keep the session up until cancelled."""
        try:
            while True:
                session = await self._connect()
                if session is not None:
                    self._adopt(session)
                    await self._until_due(session)
                await asyncio.sleep(self._backoff())
        finally:
            await self._let_go()

    async def _let_go(self) -> None:
        sessions = dict(self._sessions)
        for task, session in sessions.items():
            session.say_goodbye()
            session.close("the proxy stops")
            task.cancel()
        await asyncio.gather(*sessions, return_exceptions=True)
        await asyncio.gather(*(session.wait_closed() for session in sessions.values()))

    async def _connect(self) -> Session | None:
        session = Session(self._factory(), f"{self.config.name}/{self.index}")
        try:
            hello = await session.start(self.config.connect_timeout)
        except asyncio.CancelledError:
            # No other code knows this session yet: its child process would outlive the event loop.
            await session.wait_closed()
            raise
        except TransportError as error:
            self._failures += 1
            if self.live:
                # The session to be replaced still works: requests are not affected yet.
                log.warning(
                    "a session cannot be replaced at the moment", extra={**self._named(), "why": str(error)}
                )
            else:
                self._enter(error.state, str(error))
            await session.wait_closed()
            return None
        log.info("session up", extra={**self._named(), "relay": hello.software})
        return session

    def _adopt(self, session: Session) -> None:
        """Use the session for new requests; the previous one drains."""
        before, self.session = self.session, session
        task = asyncio.create_task(self._attend(session))
        self._sessions[task] = session
        task.add_done_callback(lambda done: self._sessions.pop(done, None))
        self._enter("up", "")
        if before is not None:
            before.retire()

    async def _until_due(self, session: Session) -> None:
        """Wait until the session accepts no new requests or is due to be replaced."""
        # Jitter needs no secure random numbers: it only spreads the replacements.
        age = self.config.session_age * random.uniform(YOUNGEST_SHARE, 1.0)  # noqa: S311 - jitter
        await asyncio.wait((session.leaving,), timeout=age)

    async def _attend(self, session: Session) -> None:
        """Ping the session and poll its metrics; when it accepts no new requests, let it drain."""
        began = time.monotonic()
        pinging = asyncio.create_task(self._ping(session))
        polling = asyncio.create_task(self._poll_metrics(session))
        try:
            code = await session.leaving
            polling.cancel()
            if self.session is session:
                self._missed(session, code, sound=time.monotonic() - began > SOUND_AFTER)
            await self._drain(session)
        finally:
            for task in (pinging, polling):
                task.cancel()
            await asyncio.gather(pinging, polling, return_exceptions=True)

    def _missed(self, session: Session, code: str, *, sound: bool) -> None:
        """Note that there is no session for new requests; `code` is the go-away's, "replaced" or "lost"."""
        self.session = None
        self._last_live = time.monotonic()
        self.samples = ()
        self._failures = 0 if sound or code == "age" else self._failures + 1
        if session.lost.done():
            self._enter("down", session.lost.result())
        else:
            self._enter("closed" if code == "closed" else "connecting", f"the relay sent go-away ({code})")

    async def _drain(self, session: Session) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                await session.idle.wait()
        session.close("drained")
        await session.wait_closed()

    async def _ping(self, session: Session) -> None:
        while not session.lost.done():
            await asyncio.sleep(self.config.ping_interval)
            await session.ping(self.config.ping_timeout)

    async def _poll_metrics(self, session: Session) -> None:
        while True:
            try:
                self.samples = (await session.metrics()).samples
            except (SluiceError, RecordError, TimeoutError) as error:
                self.samples = ()
                log.warning(
                    "the relay reports no metrics",
                    extra={**self._named(), "why": type(error).__name__},
                )
            except SessionLost:
                return
            await asyncio.sleep(METRICS_INTERVAL)

    def _enter(self, state: str, detail: str) -> None:
        if state != "up" and (state, detail) != (self.state, self.detail):
            level = logging.INFO if state == "connecting" else logging.ERROR
            log.log(
                level,
                "session %s",
                state,
                extra={**self._named(), "host": self.config.host, "why": detail},
            )
        if state != self.state:
            self.since = time.monotonic()
        self.state, self.detail = state, detail
        self.on_change()

    def _named(self) -> dict[str, object]:
        return {"cluster": self.cluster, "session": self.index}

    def _backoff(self) -> float:
        """Return the seconds to wait before the next attempt: doubling, bounded, with jitter."""
        doubled = BACKOFF_MIN * 2.0 ** min(self._failures, 16)
        # Jitter needs no secure random numbers: it only keeps gateways from connecting at the same time.
        delay = min(self.config.backoff_max, doubled) * random.uniform(0.5, 1.0)  # noqa: S311 - jitter
        if self._failures == 0:
            delay = random.uniform(0.0, 0.2)  # noqa: S311 - jitter
        self.next_attempt = time.monotonic() + delay
        return delay
