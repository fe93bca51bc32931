"""A cluster as the proxy sees it: its sessions, its models, and the demand that the proxy reports to it."""

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

# Demand is reported when it changes, at most every DEMAND_SPACING, and anyway every DEMAND_REFRESH; while
# something waits, every DEMAND_WAITING, since waiting ends by the passing of time (seconds).
DEMAND_SPACING = 0.5
DEMAND_WAITING = 1.0
DEMAND_REFRESH = 5.0


class Cluster:
    """One cluster: its login nodes' sessions, and what a relay says of its models.

    `login_nodes`: the sessions by login node, in order of preference.
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
        """Keep sessions up, models known and demand told, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for keeper in self.keepers:
                group.create_task(keeper.run())
            group.create_task(self._poll_models())
            group.create_task(self._report_demand())

    # --- sessions -------------------------------------------------------------------------------------------

    def session(self) -> Session | None:
        """Return the session for a request now: of the first login node that has any, the least busy."""
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
        """Return the first session for the proxy's own questions, for which streams are reserved."""
        for keeper in self.keepers:
            if keeper.live:
                return keeper.session
        return None

    @property
    def up(self) -> bool:
        """Whether any session is up, with room or without."""
        return any(keeper.live for keeper in self.keepers)

    @property
    def returning(self) -> bool:
        """Whether a session that is away is worth waiting for."""
        return not self.up and any(keeper.returning for keeper in self.keepers)

    def unreachable(self) -> SluiceError:
        """Return the error that says why no session takes a request."""
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
        """Wait until a session comes or goes, a second at most: one that was full has room again unheard."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await self._changed.wait()

    @property
    def models_known(self) -> bool:
        """Whether the relay has told its models at least once."""
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
        """Ask every session: each knows its own requests, all of them the same models."""
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
        """Take the models as the first session tells them, with every session's draining requests."""
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
        """Return in how many seconds an instance of `model` may be ready, from 1 to 600."""
        known = self.models.get(model)
        expected = known.expected_ready if known is not None else None
        wait = expected - time.time() if expected is not None else 15.0
        return min(max(wait, 1.0), 600.0)

    # --- demand ---------------------------------------------------------------------------------------------

    def hold(self, model: str, places: int) -> None:
        """Note that a request waits here for so many places of an instance."""
        self.demand.hold(model, places)
        self._demand_changed.set()

    def release(self, model: str, places: int) -> None:
        """Note that a request waits no more."""
        self.demand.release(model, places)
        self._demand_changed.set()

    def sent_away(self, model: str, seconds: float, places: int) -> None:
        """Note that a request for so many places was told to come back in `seconds`."""
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
        """Tell one relay of all that waits; a relay told before, of which that is no longer so, of none."""
        session = self._control_session()
        if session is None:
            return
        waiting = self.demand.waiting(time.monotonic())
        last, _ = self._reported
        try:
            await session.demand(waiting)
            self._reported = (session, waiting)
            if last is not None and last is not session and not last.lost.done():
                # A relay that goes away itself takes this no more: what it was told runs out.
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
        """Every session of every cluster."""
        return [keeper for cluster in self.clusters for keeper in cluster.keepers]

    @property
    def schemas(self) -> Bounds:
        """What a body may have an engine compile: of several clusters, what any takes."""
        first, *others = [cluster.schemas for cluster in self.clusters]
        return loosest(first, *others) if any(one != first for one in others) else first

    async def wait_models(self, seconds: float) -> None:
        """Wait until a cluster has told its models; at most `seconds`, and only where that may be soon.

        So requests that come while the process starts are answered a little later instead of sent away.
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
        """Return each model once, as the best cluster has it. Raises SluiceError when none can be asked."""
        self._require_any()
        found: dict[str, ModelStatus] = {}
        for cluster in self.clusters:
            for name, model in cluster.models.items():
                if cluster.up and (name not in found or (model.ready and not found[name].ready)):
                    found[name] = model
        return found

    def model(self, name: str) -> ModelStatus:
        """Return one model. Raises SluiceError `model_not_found`, or why that cannot be told."""
        for cluster in self.routes(name):
            return cluster.models[name]
        if not all(cluster.models_known for cluster in self.clusters):
            raise self._unknown_yet()
        raise SluiceError(
            "model_not_found", "The model does not exist. GET /v1/models lists the models.", param="model"
        )

    def routes(self, name: str) -> list[Cluster]:
        """Return the clusters that have the model: reachable first, then ready, then as configured."""
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
