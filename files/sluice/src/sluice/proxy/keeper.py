"""Keeps one session with a relay up: connects, watches, and connects again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time

from sluice.errors import RecordError, SluiceError
from sluice.proxy.config import ClusterConfig
from sluice.proxy.session import Session, SessionLost
from sluice.proxy.transport import TransportError, TransportFactory
from sluice.records import Sample

log = logging.getLogger("sluice.proxy.keeper")

BACKOFF_MIN = 0.5
# A session that lived this long was sound: the next one is tried at once.
SOUND_AFTER = 10.0
# After the relay says go away, open streams have this long to end.
DRAIN_SECONDS = 1800.0
# A session that was there this many seconds ago is expected back.
RETURN_SECONDS = 5.0
METRICS_INTERVAL = 10.0


class SessionKeeper:
    """One of a cluster's sessions, across its reconnections.

    `state` is one of `sluice.proxy.metrics.SESSION_STATES`; `detail` says why it is not up; `since` and
    `next_attempt` are times as the monotonic clock tells them.
    """

    def __init__(self, config: ClusterConfig, index: int, factory: TransportFactory) -> None:
        self.config = config
        self.index = index
        self.state = "connecting"
        self.detail = ""
        self.since = time.monotonic()
        self.next_attempt = time.monotonic()
        self.session: Session | None = None
        self.samples: tuple[Sample, ...] = ()
        self.changed = asyncio.Event()
        self._factory = factory
        self._failures = 0
        self._last_live = time.monotonic()
        self._draining: dict[asyncio.Task[None], Session] = {}

    @property
    def cluster(self) -> str:
        """The cluster's name."""
        return self.config.name

    @property
    def open_streams(self) -> int:
        """Streams on the session and on those that it replaced and that still drain."""
        sessions = [*self._draining.values(), *([self.session] if self.session else [])]
        return sum(session.open_streams for session in sessions)

    @property
    def live(self) -> bool:
        """Whether the session is there for new requests. It may be lost a moment before `state` says so."""
        return self.session is not None and not self.session.leaving.done()

    @property
    def returning(self) -> bool:
        """Whether the session is away for so short a time that it is worth waiting for."""
        return (
            self.state in ("connecting", "up", "down") and time.monotonic() - self._last_live < RETURN_SECONDS
        )

    def retry_after(self) -> float:
        """Return in how many seconds a session may be up, as far as can be told."""
        return max(1.0, self.next_attempt - time.monotonic() + 1.0)

    async def run(self) -> None:
        """Keep the session up until cancelled."""
        try:
            while True:
                await self._one_session()
                await asyncio.sleep(self._backoff())
        finally:
            for session in [*self._draining.values(), *([self.session] if self.session else [])]:
                session.say_goodbye()
                session.close("the proxy stops")

    async def _one_session(self) -> None:
        session = Session(self._factory(), f"{self.config.name}/{self.index}")
        try:
            hello = await session.start(self.config.connect_timeout)
        except TransportError as error:
            self._failures += 1
            self._enter(error.state, str(error))
            return
        self.session = session
        self._enter("up", "")
        log.info(
            "session up", extra={"cluster": self.cluster, "session": self.index, "relay": hello.software}
        )
        began = time.monotonic()
        code = await self._watch(session)
        self.session = None
        self._last_live = time.monotonic()
        self.samples = ()
        self._leave(session, code, sound=time.monotonic() - began > SOUND_AFTER)

    async def _watch(self, session: Session) -> str:
        """Ping and poll while the session is good for new requests; return why it is not any more."""
        tasks = [asyncio.create_task(self._ping(session)), asyncio.create_task(self._poll_metrics(session))]
        try:
            return await session.leaving
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _leave(self, session: Session, code: str, *, sound: bool) -> None:
        self._failures = 0 if sound or code == "age" else self._failures + 1
        if session.lost.done():
            self._enter("down", session.lost.result())
            return
        self._enter("closed" if code == "closed" else "connecting", f"the relay says go away ({code})")
        task = asyncio.create_task(self._drain(session))
        self._draining[task] = session
        task.add_done_callback(lambda done: self._draining.pop(done, None))

    async def _drain(self, session: Session) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                await session.idle.wait()
        session.close("drained")

    async def _ping(self, session: Session) -> None:
        while True:
            await asyncio.sleep(self.config.ping_interval)
            await session.ping(self.config.ping_timeout)

    async def _poll_metrics(self, session: Session) -> None:
        while True:
            try:
                figures = await session.metrics()
                self.samples = figures.samples
            except (SluiceError, RecordError, TimeoutError) as error:
                self.samples = ()
                log.warning(
                    "the relay gives no figures",
                    extra={"cluster": self.cluster, "session": self.index, "why": type(error).__name__},
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
                extra={
                    "cluster": self.cluster,
                    "session": self.index,
                    "host": self.config.host,
                    "why": detail,
                },
            )
        if state != self.state:
            self.since = time.monotonic()
        self.state, self.detail = state, detail
        self.changed.set()
        self.changed = asyncio.Event()

    def _backoff(self) -> float:
        """Return how long to wait before the next attempt, in seconds: doubling, bounded, with jitter."""
        doubled = BACKOFF_MIN * 2.0 ** min(self._failures, 16)
        # Jitter needs no secrecy: it only keeps gateways from knocking in step.
        delay = min(self.config.backoff_max, doubled) * random.uniform(0.5, 1.0)  # noqa: S311 - jitter
        if self._failures == 0:
            delay = random.uniform(0.0, 0.2)  # noqa: S311 - jitter
        self.next_attempt = time.monotonic() + delay
        return delay

    async def wait_change(self, timeout: float) -> None:
        """Wait until the state changes, or `timeout` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self.changed.wait()
