"""One pass of the scheduler: observe, decide, save, publish, act. `policy` decides.

The order makes it harmless to kill the process at any time. An intent is on disk before its sbatch, a drain
is published before any cancellation, and a cancellation is on disk before its scancel. The next process finds
out by the job's name in the queue what was done.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from typing import Callable, Optional

from sluice.contracts.models import ModelEntry
from sluice.contracts.routing import RoutedModel
from sluice.scheduler import lease
from sluice.scheduler.config import SchedulerConfig
from sluice.scheduler.instances import node_failures
from sluice.scheduler.instances.instance import Instance, Phase, phase
from sluice.scheduler.loop.act import Actor, settings
from sluice.scheduler.loop.observe import Observation, Observer, Probe
from sluice.scheduler.models import orders
from sluice.scheduler.models.catalogue import WRITING
from sluice.scheduler.outside.jobs import JobDirectories
from sluice.scheduler.policy import ledger, policy
from sluice.scheduler.publish import metrics, routing
from sluice.scheduler.publish.publishing import RoutingFile, publish
from sluice.scheduler.slurm.client import Slurm
from sluice.scheduler.state import Lease, State, StateFile

log = logging.getLogger(__name__)

# A pending job is watched with short ticks for so many seconds; after that it waits for the cluster.
CLOSE_WATCH = 60.0
CLEAN_EVERY = 3600.0
# Models without a ready instance are called unknown after this many failed squeue answers in a row.
TELL_AFTER = 3


@dataclass
class Scheduler:
    """The scheduler of one cluster. `clock` returns seconds since the epoch.

    `state` is the content of the state file. `resting`: whether the next tick can wait for the long interval.
    """

    config: SchedulerConfig
    slurm: Slurm
    states: StateFile
    directories: JobDirectories
    probe: Probe
    clock: Callable[[], float]
    state: State = field(default_factory=State)
    resting: bool = False
    _cleaned: float = 0.0
    _strays: tuple[str, ...] = ()
    _entries: dict[str, tuple[object, ModelEntry]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._observer = Observer(self.config, self.slurm, self.directories, self.probe, self.clock)
        self._actor = Actor(self.config, self.slurm, self.states, self.directories, self.clock)
        self._routing = RoutingFile(self.config.routing_table, self.config.cluster)

    def load(self) -> None:
        """Read the state and take the lease. Raises OSError, and Busy while another host has the lease."""
        now = self.clock()
        state = self.states.load(now)
        own = lease.own_lease(now)
        lease.check(state.lease, own, self.config.lease)
        self._save(replace(state, lease=own))

    def release(self) -> None:
        """Give up the lease, so that another host may run the next process at once."""
        self._save(replace(self.state, lease=Lease()))

    def tick(self) -> None:
        """Make one pass. Raises OSError if the state cannot be written: then nothing more is done."""
        began = self.clock()
        before = self.state.instances
        self.state, seen = self._observer.observe(replace(self.state, lease=lease.own_lease(began)), began)
        account = ledger.advance(self.state.ledger, ledger.runs(before, self.state.instances), began)
        ordered = seen.catalogue.nodes
        nodes = node_failures.readmitted(self.state.nodes, ordered.all, ordered.nodes)
        self.state = replace(self.state, ledger=account, nodes=nodes)
        decision = self._decide(seen)
        self.state = self._actor.write_down(self.state, decision, seen)
        table = self._publish(decision, seen, self.clock())
        self.state = self._actor.carry_out(self.state, decision, seen)
        ended = self.clock()
        if any(isinstance(action, policy.Submit) for action in decision.actions):
            table = self._publish(decision, seen, ended)
        measured = metrics.build(self.state, table, decision.wanted, ended, max(0.0, ended - began))
        publish(self.config.figures, measured.dump())
        self.resting = self._rests(seen, bool(decision.actions), ended)
        self._clean(seen, ended)

    def _decide(self, seen: Observation) -> policy.Decision:
        now = self.clock()
        situation = policy.Situation(
            models={name: listed.model() for name, listed in seen.catalogue.listed.items()},
            instances=tuple(self.state.instances.values()),
            demand=seen.demand,
            memory=self.state.memory,
            unusable=frozenset(seen.catalogue.unusable),
            queue_known=seen.queue_known,
            orders={name: orders.for_policy(one) for name, one in seen.catalogue.orders.items()},
            spent=ledger.spent(self.state.ledger, now),
            backoff=self.state.backoff,
            scope_backoffs=self.state.scope_backoffs,
        )
        return policy.decide(situation, settings(self.config), now)

    def _save(self, state: State) -> None:
        self.states.save(state)
        self.state = state

    # --- publish -------------------------------------------------------------------------------------

    def _publish(self, decision: policy.Decision, seen: Observation, now: float) -> dict[str, RoutedModel]:
        """Write the routing table; its generation rises if anything but an estimate changed."""
        limits = settings(self.config)
        models = routing.routed_models(
            self._parsed_entries(),
            self.state.instances.values(),
            {
                name: routing.ModelOutcome(
                    decision.wanted.get(name, 0),
                    policy.failed(memory, limits),
                    memory,
                    self._drained(name, seen),
                )
                for name, memory in self.state.memory.items()
            },
            # Users need not know of a single missed answer: what was known a moment ago is still valid.
            seen.queue_known or self.state.queue_failing < TELL_AFTER,
            now,
        )
        before = self._routing.before()
        generation = max(self.state.generation, before.generation if before else 0)
        if self._routing.differs(models):
            generation += 1
            self._save(replace(self.state, generation=generation))
        self._routing.write(models, generation, now)
        return models

    def _parsed_entries(self) -> dict[str, ModelEntry]:
        """Return the entries in the state; an entry that is the same object is not parsed again."""
        before, self._entries = self._entries, {}
        for name, entry in self.state.entries.items():
            old = before.get(name)
            known = old if old is not None and old[0] is entry else (entry, ModelEntry.parse(entry))
            self._entries[name] = known
        return {name: entry for name, (_, entry) in self._entries.items()}

    def _drained(self, name: str, seen: Observation) -> bool:
        """Whether an administrator drained the model, as far as is known."""
        found = seen.catalogue.orders.get(name)
        if found is not None:
            return found.drained is not None
        table = self._routing.before()
        before = None if table is None else table.models.get(name)
        # If the orders cannot be read, the model is unusable and stays as it was.
        return name in seen.catalogue.unusable and before is not None and before.status == "drained"

    def _routed(self, name: str) -> Optional[RoutedModel]:
        table = self._routing.table
        return None if table is None else table.models.get(name)

    # --- rest ----------------------------------------------------------------------------------------

    def interval(self) -> float:
        """Return the seconds until the next tick; few while something must be watched.

        After squeue failed, the wait doubles from the short to the long interval, to spare an overloaded
        controller.
        """
        failing = self.state.queue_failing
        if failing:
            return min(self.config.tick_interval, self.config.busy_interval * 2.0 ** min(failing, 10))
        return self.config.tick_interval if self.resting else self.config.busy_interval

    def asked(self) -> bool:
        """Whether something happened since the last tick that needs a tick at once."""
        if self.state.queue_failing:
            return False
        if self._observer.changed():
            return True
        for name, demand in self._observer.demand(self.clock()).items():
            model = self._routed(name)
            if model is None or model.status == "drained":
                continue
            before = self.state.memory.get(name, policy.Memory())
            if demand.waiting or (not model.instances and demand.last > before.last):
                return True
        return False

    def _rests(self, seen: Observation, acted: bool, now: float) -> bool:
        writing = WRITING in seen.catalogue.unusable.values()
        asked = (one.waiting for name, one in seen.demand.items() if not self._drained(name, seen))
        if acted or writing or any(asked):
            return False
        return not any(self._watched(instance, now) for instance in self.state.instances.values())

    def _watched(self, instance: Instance, now: float) -> bool:
        found = phase(instance)
        if found is Phase.PENDING and not instance.absent:
            return now - instance.created < CLOSE_WATCH or instance.draining_since is not None
        steady = found is Phase.READY and not instance.failures and not instance.absent
        return not steady or instance.draining_since is not None

    def _clean(self, seen: Observation, now: float) -> None:
        """Remove old job directories once an hour, and log stray jobs when they change."""
        if seen.strays != self._strays:
            log.warning(
                (
                    "jobs of this account have Sluice's name prefix, but Sluice did not submit them; they "
                    "are left alone"
                ),
                extra={"jobs": list(seen.strays)},
            )
            self._strays = seen.strays
        if not seen.queue_known or now - self._cleaned < CLEAN_EVERY:
            return
        self._cleaned = now
        try:
            self.directories.clean(self.state.instances, now)
        except OSError as error:
            log.warning("job directories cannot be cleaned", extra={"problem": error.strerror})
