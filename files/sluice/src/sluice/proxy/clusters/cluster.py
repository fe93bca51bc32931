"""The proxy's view of a cluster: its sessions, its models, and the demand that the proxy reports to it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from sluice.bodies.costs import DEFAULTS, Bounds, loosest
from sluice.contracts.status import ModelsAnswer, ModelStatus
from sluice.errors import RecordError, SluiceError
from sluice.proxy.clusters.demand import Demand
from sluice.proxy.clusters.keeper import SessionKeeper
from sluice.proxy.clusters.session import Session
from sluice.proxy.clusters.stream import SessionLost

log = logging.getLogger("sluice.proxy.clusters.cluster")

# Demand is reported when it changes, at most every DEMAND_SPACING seconds, and at least every DEMAND_REFRESH.
# While requests wait it is reported every DEMAND_WAITING, because those told to retry later expire with time.
DEMAND_SPACING = 0.5
DEMAND_WAITING = 1.0
DEMAND_REFRESH = 5.0


class Cluster:
    """One cluster: the sessions with its login nodes, and its models as the relays report them.

    `login_nodes`: the sessions of each login node, in order of preference.
    """

    def __init__(self, name: str, login_nodes: list[list[SessionKeeper]]) -> None:
        self.name = name
        self.login_nodes = login_nodes
        self.keepers = [keeper for sessions in login_nodes for keeper in sessions]
        self._changed = asyncio.Event()
        for keeper in self.keepers:
            keeper.on_change = self._tell_change
        self.models: dict[str, ModelStatus] = {}
        self.schemas = DEFAULTS
        self.told = asyncio.Event()
        self.demand = Demand()
        self._demand_changed = asyncio.Event()
        self._reported: tuple[Session | None, dict[str, int]] = (None, {})

    async def run(self) -> None:
        """Keep the sessions up, poll the models and report demand, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for keeper in self.keepers:
                group.create_task(keeper.run())
            group.create_task(self._poll_models())
            group.create_task(self._report_demand())

    # --- sessions -------------------------------------------------------------------------------------------

    def session(self) -> Session | None:
        """Return the least busy session of the first login node with a usable one; None without any."""
        for keepers in self.login_nodes:
            best: Session | None = None
            for keeper in keepers:
                session = keeper.session
                if (
                    session is not None
                    and session.takes_requests
                    and (best is None or session.open_streams < best.open_streams)
                ):
                    best = session
            if best is not None:
                return best
        return None

    def _control_session(self) -> Session | None:
        """Return the first live session, for the proxy's own streams, for which some are reserved."""
        for keeper in self.keepers:
            if keeper.live:
                return keeper.session
        return None

    @property
    def up(self) -> bool:
        """Whether any session is up, even if it is full."""
        return any(keeper.live for keeper in self.keepers)

    @property
    def returning(self) -> bool:
        """Whether no session is up and one is expected back soon."""
        return not self.up and any(keeper.returning for keeper in self.keepers)

    def unreachable(self) -> SluiceError:
        """Return the error that says why no session accepts a request."""
        if self.up:
            return SluiceError(
                "overloaded",
                "The cluster accepts no more requests at the moment. Try again soon.",
                retry_after=1.0,
            )
        if any(keeper.state == "closed" for keeper in self.keepers):
            return SluiceError(
                "closed",
                "The cluster takes no requests for now: its administrators closed the gate.",
                retry_after=60.0,
            )
        return SluiceError(
            "cluster_unreachable",
            "The cluster cannot be reached at the moment. Try again soon.",
            retry_after=min(keeper.retry_after() for keeper in self.keepers),
        )

    def _tell_change(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def _any_change(self) -> None:
        """Wait until a session comes or goes, at most a second: a full one has room again without notice."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await self._changed.wait()

    @property
    def models_known(self) -> bool:
        """Whether a relay has reported the models at least once."""
        return self.told.is_set()

    # --- models ---------------------------------------------------------------------------------------------

    async def _poll_models(self) -> None:
        while True:
            session = self._control_session()
            if session is None:
                await self._any_change()
                continue
            await self._ask_models()
            await asyncio.sleep(self.keepers[0].config.models_interval)

    async def _ask_models(self) -> None:
        """Ask the relays of all sessions: the models are the same, but each counts only its own requests."""
        answers = []
        for keeper in self.keepers:
            if keeper.live and keeper.session is not None:
                self.schemas = keeper.session.schemas
                answer = await self._models_of(keeper.session)
                if answer is not None:
                    answers.append(answer)
        if answers:
            self._learn(answers)

    async def _models_of(self, session: Session) -> ModelsAnswer | None:
        try:
            return await session.models()
        except (SluiceError, SessionLost, RecordError, TimeoutError) as error:
            log.warning(
                "the relay does not report its models",
                extra={
                    "cluster": self.name,
                    "why": type(error).__name__,
                    "field": getattr(error, "field", ""),
                },
            )
            return None

    def _learn(self, answers: Sequence[ModelsAnswer]) -> None:
        """Store the models as the first session reports them, with the draining requests of all sessions."""
        answer, *others = answers
        if answer.cluster != self.name and not self.models_known:
            log.warning(
                "the relay calls its cluster %s; the proxy's configuration calls it %s",
                answer.cluster,
                self.name,
            )
        draining = Counter({model.name: model.draining for model in answer.models})
        for other in others:
            draining.update({model.name: model.draining for model in other.models})
        self.models = {model.name: replace(model, draining=draining[model.name]) for model in answer.models}
        self.told.set()

    def retry_after(self, model: str) -> float:
        """Return the seconds until an instance of `model` may be ready, from 1 to 600."""
        known = self.models.get(model)
        expected = known.expected_ready if known is not None else None
        wait = expected - time.time() if expected is not None else 15.0
        return min(max(wait, 1.0), 600.0)

    # --- demand ---------------------------------------------------------------------------------------------

    def hold(self, model: str, places: int) -> None:
        """Note that a request waits here for this many places."""
        self.demand.hold(model, places)
        self._demand_changed.set()

    def release(self, model: str, places: int) -> None:
        """Note that a request waits no longer."""
        self.demand.release(model, places)
        self._demand_changed.set()

    def sent_away(self, model: str, seconds: float, places: int) -> None:
        """Note that a request for this many places was told to retry in `seconds`."""
        self.demand.send_away(model, time.monotonic() + seconds, places)
        self._demand_changed.set()

    async def _report_demand(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(DEMAND_WAITING if self._reported[1] else DEMAND_REFRESH):
                    await self._demand_changed.wait()
            self._demand_changed.clear()
            await self._tell_demand()
            await asyncio.sleep(DEMAND_SPACING)

    async def _tell_demand(self) -> None:
        """Report the demand to one relay; if another relay had it before, report zero demand to that one."""
        session = self._control_session()
        if session is None:
            return
        waiting = self.demand.waiting(time.monotonic())
        last, _ = self._reported
        try:
            await session.demand(waiting)
            self._reported = (session, waiting)
            if last is not None and last is not session and not last.lost.done():
                # A relay that is ending may not accept this: then its old report expires by itself.
                with contextlib.suppress(SluiceError, SessionLost):
                    await last.demand({})
        except (SluiceError, SessionLost, RecordError, TimeoutError) as error:
            log.warning(
                "the demand could not be reported", extra={"cluster": self.name, "why": type(error).__name__}
            )


class Fleet:
    """All clusters, in order of preference."""

    def __init__(self, clusters: list[Cluster]) -> None:
        self.clusters = clusters

    async def run(self) -> None:
        """Run every cluster until cancelled."""
        async with asyncio.TaskGroup() as group:
            for cluster in self.clusters:
                group.create_task(cluster.run())

    @property
    def keepers(self) -> list[SessionKeeper]:
        """All sessions of all clusters."""
        return [keeper for cluster in self.clusters for keeper in cluster.keepers]

    @property
    def schemas(self) -> Bounds:
        """The bounds on what an engine compiles for one body: the loosest of all clusters."""
        first, *others = [cluster.schemas for cluster in self.clusters]
        return loosest(first, *others) if any(one != first for one in others) else first

    async def wait_models(self, seconds: float) -> None:
        """Wait until a cluster has reported its models, at most `seconds`, and only if it may be soon.

        So requests that arrive while the process starts wait a little instead of being refused.
        """
        if any(cluster.models_known for cluster in self.clusters):
            return
        soon = [cluster for cluster in self.clusters if cluster.up or cluster.returning]
        waits = [asyncio.create_task(cluster.told.wait()) for cluster in soon]
        if waits:
            _, left = await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            for wait in left:
                wait.cancel()

    def models(self) -> dict[str, ModelStatus]:
        """Return the models by name, each from its best cluster. Raises SluiceError if no cluster is up."""
        self._require_any()
        found: dict[str, ModelStatus] = {}
        for cluster in self.clusters:
            for name, model in cluster.models.items():
                if cluster.up and (name not in found or (model.ready and not found[name].ready)):
                    found[name] = model
        return found

    def model(self, name: str) -> ModelStatus:
        """Return one model. Raises SluiceError `model_not_found`, or the reason if models are unknown."""
        for cluster in self.routes(name):
            return cluster.models[name]
        if not all(cluster.models_known for cluster in self.clusters):
            raise self._unknown_yet()
        raise SluiceError(
            "model_not_found", "The model does not exist. GET /v1/models lists the models.", param="model"
        )

    def routes(self, name: str) -> list[Cluster]:
        """Return the clusters with the model: reachable ones first, then those with ready instances."""
        having = [cluster for cluster in self.clusters if name in cluster.models]
        if len(having) < 2:
            return having
        return sorted(having, key=lambda cluster: (not cluster.up, not cluster.models[name].ready))

    def _require_any(self) -> None:
        if not any(cluster.up and cluster.models_known for cluster in self.clusters):
            raise self._unknown_yet()

    def _unknown_yet(self) -> SluiceError:
        for cluster in self.clusters:
            if not cluster.up:
                return cluster.unreachable()
        return SluiceError(
            "cluster_unreachable",
            ("The cluster has not reported its models yet. Try again soon."),
            retry_after=1.0,
        )
