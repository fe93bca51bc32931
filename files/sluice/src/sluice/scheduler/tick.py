"""One pass of the scheduler: observe, decide, act, publish. Decisions are `policy`'s; effects stay thin.

The order makes every kill harmless. An intent is in the state, on disk, before its sbatch; a drain is
published before any cancellation; a cancellation is written down before scancel. Whatever a killed process
left undone, the next one finds by the job's name in the queue.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Callable, Optional

from sluice.errors import RecordError
from sluice.records import (
    INSTANCE_ID,
    JobRecord,
    ModelEntry,
    RoutedModel,
    RoutingTable,
    read_json,
    write_json,
)
from sluice.scheduler import figures, lease, orders, policy, routing
from sluice.scheduler.catalogue import WRITING, Catalogue, Listed, read_catalogue
from sluice.scheduler.config import SchedulerConfig
from sluice.scheduler.demand import read_demand
from sluice.scheduler.instance import (
    ABSENT_ANSWERS,
    COMPLETING,
    TERMINAL,
    Instance,
    Phase,
    answered,
    job_name,
    missing,
    phase,
    published,
    seen,
    unanswered,
)
from sluice.scheduler.instance import QueueJob as Job
from sluice.scheduler.jobs import JobDirectories
from sluice.scheduler.slurm import JOB_PREFIX, Known, Slurm, Submission, Unknown
from sluice.scheduler.state import REMEMBER_ENDED, Ended, FailedStart, State, StateFile

log = logging.getLogger(__name__)

SPLIT_ID = re.compile(r"(.+)-([0-9a-f]{8})")
PUBLISHED_MODE = 0o640
PROBES_AT_ONCE = 16
# A pending job is followed closely for this long; after that it waits for the cluster, not for us.
CLOSE_WATCH = 60.0
CLEAN_EVERY = 3600.0
# Models without a ready instance are called unknown after this many failed squeue answers in a row.
TELL_AFTER = 3

Probe = Callable[[JobRecord, float], str]


@dataclass(frozen=True)
class Observation:
    """What a tick saw, besides the instances, which are folded into the state."""

    catalogue: Catalogue
    demand: Mapping[str, policy.Demand]
    known: bool
    strays: tuple[str, ...] = ()


@dataclass
class Scheduler:
    """The scheduler of one cluster, between ticks. `clock` gives seconds since the epoch.

    `state` is what the file holds; `resting` says whether the last tick left nothing to be watched closely.
    """

    config: SchedulerConfig
    slurm: Slurm
    states: StateFile
    directories: JobDirectories
    probe: Probe
    clock: Callable[[], float]
    state: State = field(default_factory=State)
    resting: bool = False
    _table: Optional[RoutingTable] = None
    _stamp: tuple[tuple[str, int], ...] = ()
    _cleaned: float = 0.0
    _strays: tuple[str, ...] = ()

    def load(self) -> None:
        """Read the state and take the lease. Raises OSError, and Busy while another host has the lease."""
        now = self.clock()
        state = self.states.load(now)
        own = lease.mine(now)
        lease.check(state.lease, own, self.config.lease)
        self._save(replace(state, lease=own))

    def tick(self) -> None:
        """Make one pass. Raises OSError when the state cannot be written: then nothing more is done."""
        began = self.clock()
        self.state = replace(self.state, lease=lease.mine(began))
        seen_now = self.observe(began)
        decision = self._decide(seen_now)
        self._apply(decision, seen_now)
        table = self._publish(decision, seen_now, self.clock())
        for action in decision.actions:
            self._carry_out(action, seen_now)
        ended = self.clock()
        if any(isinstance(action, policy.Submit) for action in decision.actions):
            table = self._publish(decision, seen_now, ended)
        numbers = figures.build(self.state, table, decision.wanted, ended, max(0.0, ended - began))
        publish(self.config.figures, numbers.dump())
        self.resting = self._rests(seen_now, bool(decision.actions), ended)
        self._clean(seen_now, ended)

    # --- observe -------------------------------------------------------------------------------------

    def observe(self, now: float) -> Observation:
        """Fold what squeue, the job directories and the fronts say into the state's instances."""
        self._stamp = self._models_stamp()
        catalogue, readable = self._catalogue(now)
        demand = read_demand(self.config.demand_dir, now)
        queue = self.slurm.queue()
        strays: tuple[str, ...] = ()
        if isinstance(queue, Unknown):
            log.warning("the queue is unknown", extra={"problem": queue.reason})
            self.state = replace(
                self.state,
                queue_failures=self.state.queue_failures + 1,
                queue_failing=self.state.queue_failing + 1,
            )
        else:
            strays = self._follow(queue.value, now)
        self._consult_fronts()
        return Observation(catalogue, demand, readable and isinstance(queue, Known), strays)

    def _catalogue(self, now: float) -> tuple[Catalogue, bool]:
        """Return the models, and whether they could be listed at all."""
        try:
            catalogue = read_catalogue(self.config.models_dir, now)
        except OSError as error:
            fields = {"path": self.config.models_dir, "problem": error.strerror}
            log.warning("models cannot be listed; nothing is started or ended", extra=fields)
            return Catalogue(), False
        for name, problem in catalogue.held.items():
            log.warning("model entry held", extra={"model": name, "problem": problem})
        return catalogue, True

    def _follow(self, jobs: Iterable[Job], asked_at: float) -> tuple[str, ...]:
        """Fold in a squeue answer; return the names of jobs that bear our prefix but are not ours."""
        by_name: dict[str, list[Job]] = {}
        for one in jobs:
            by_name.setdefault(one.name, []).append(one)
        strays = self._adopt(by_name, asked_at)
        settle = 1.5 * self.config.command_timeout
        instances = {}
        for instance in self.state.instances.values():
            job = own_job(instance, by_name.get(instance.name, ()))
            if job is None:
                instances[instance.id] = self._doubt(missing(instance, asked_at, settle))
            else:
                instances[instance.id] = self._seen(instance, job)
        self.state = replace(self.state, instances=instances, queue_failing=0, adopting=False)
        return strays

    def _seen(self, instance: Instance, job: Job) -> Instance:
        """Fold in a job; one that waits again after a run must not be found by its old record."""
        followed = seen(instance, job)
        if instance.record is not None and followed.record is None and not followed.running:
            self.directories.drop_record(instance.id)
        return followed

    def _doubt(self, instance: Instance) -> Instance:
        """Ask about a job that several squeue answers did not name."""
        if instance.absent < ABSENT_ANSWERS or not instance.job_id:
            return instance
        shown = self.slurm.show(instance.job_id)
        if isinstance(shown, Unknown):
            log.warning("job in doubt", extra={"instance": instance.id, "problem": shown.reason})
            return instance
        if shown.value is None or shown.value.name != instance.name:
            return replace(instance, invalid=True)
        return seen(instance, shown.value)

    def _adopt(self, by_name: Mapping[str, list[Job]], now: float) -> tuple[str, ...]:
        """Take back jobs that the state lost or had given up; return the names of all others."""
        strays = []
        for name, found in by_name.items():
            instance_id = name[len(JOB_PREFIX) :]
            alive = [job for job in found if job.state not in TERMINAL and job.state != COMPLETING]
            if not alive or instance_id in self.state.instances:
                continue
            adopted = self._adopted(instance_id, alive[0], now)
            if adopted is None:
                strays.append(name)
                continue
            log.warning("job adopted", extra={"instance": adopted.id, "job_id": alive[0].job_id})
            self.state = replace(
                self.state,
                instances={**self.state.instances, adopted.id: adopted},
                ended={key: value for key, value in self.state.ended.items() if key != adopted.id},
            )
        return tuple(sorted(strays))

    def _adopted(self, instance_id: str, job: Job, now: float) -> Optional[Instance]:
        found = SPLIT_ID.fullmatch(instance_id)
        if found is None or not INSTANCE_ID.fullmatch(instance_id):
            return None
        ended = self.state.ended.get(instance_id)
        # With the state intact, a name that it never held is somebody else's, whatever it looks like.
        if ended is None and not (self.state.adopting and self.directories.exists(instance_id)):
            return None
        digest = job.comment if ended is None else ended.digest
        created = now if job.submitted is None else job.submitted
        return Instance(instance_id, found[1], found[2], digest, created)

    def _consult_fronts(self) -> None:
        """Read the records of running jobs and probe every front that is known."""
        instances = {instance.id: self._with_record(instance) for instance in self.state.instances.values()}
        asked = [one for one in instances.values() if one.record is not None and not ended(one)]
        if asked:
            with ThreadPoolExecutor(max_workers=min(PROBES_AT_ONCE, len(asked))) as pool:
                problems = list(pool.map(self._probe, asked))
            for instance, problem in zip(asked, problems):
                instances[instance.id] = self._probed(instance, problem)
        self.state = replace(self.state, instances=instances)

    def _with_record(self, instance: Instance) -> Instance:
        """Read the job record while it is of interest: before readiness, and after a failed probe."""
        if not instance.running or ended(instance):
            return instance
        if instance.record is not None and instance.ready_at is not None and not instance.failures:
            return instance
        try:
            record = self.directories.record(instance)
        except RecordError as error:
            log.warning("job record refused", extra={"instance": instance.id, "problem": str(error)})
            return instance
        return instance if record is None else published(instance, record)

    def _probe(self, instance: Instance) -> str:
        return "" if instance.record is None else self.probe(instance.record, self.config.probe_timeout)

    def _probed(self, instance: Instance, problem: str) -> Instance:
        now = self.clock()
        if problem:
            if instance.ready_at is not None:
                log.warning("front does not answer", extra={"instance": instance.id, "problem": problem})
            return unanswered(instance, now)
        if instance.ready_at is None:
            self._measure(instance, now)
        return answered(instance, now)

    def _measure(self, instance: Instance, now: float) -> None:
        """Remember how long it took from the job's start to ready."""
        if instance.started is None:
            return
        seconds = max(0.0, now - instance.started)
        memory = self.state.memory.get(instance.model, policy.Memory())
        self.state = replace(
            self.state,
            memory={**self.state.memory, instance.model: policy.measured_load(memory, seconds)},
        )
        log.info("ready", extra={"instance": instance.id, "job_id": instance.job_id, "seconds": seconds})

    # --- decide --------------------------------------------------------------------------------------

    def _decide(self, seen_now: Observation) -> policy.Decision:
        situation = policy.Situation(
            models={name: listed.model() for name, listed in seen_now.catalogue.listed.items()},
            instances=tuple(self.state.instances.values()),
            demand=seen_now.demand,
            memory=self.state.memory,
            held=frozenset(seen_now.catalogue.held),
            known=seen_now.known,
            orders={name: orders.for_policy(one) for name, one in seen_now.catalogue.orders.items()},
        )
        return policy.decide(situation, self._settings(), self.clock())

    def _settings(self) -> policy.Settings:
        return policy.Settings(
            max_instances=self.config.max_instances,
            retry_backoff=self.config.retry_backoff,
            max_failures=self.config.max_failures,
            drain_timeout=self.config.drain_timeout,
        )

    def _apply(self, decision: policy.Decision, seen_now: Observation) -> None:
        """Write down everything that was decided, before anything is done about it."""
        now = self.clock()
        instances, ended_ones = dict(self.state.instances), dict(self.state.ended)
        failed_starts = self._failed_starts(decision)
        for action in decision.actions:
            if isinstance(action, policy.Submit):
                continue
            instance = instances[action.instance]
            if isinstance(action, policy.Forget):
                del instances[instance.id]
                ended_ones[instance.id] = Ended(instance.model, instance.digest, now)
            else:
                instances[instance.id] = marked(instance, action, now)
            log_action(action, instance)
        memory = decision.memory
        entries = self._entries(seen_now, instances)
        if seen_now.known:
            memory = {name: kept for name, kept in memory.items() if name in entries}
        recent = {key: one for key, one in ended_ones.items() if now - one.time < REMEMBER_ENDED}
        self._save(
            replace(
                self.state,
                instances=instances,
                ended=recent,
                memory=memory,
                entries=entries,
                failed_starts={name: one for name, one in failed_starts.items() if name in memory},
            )
        )

    def _failed_starts(self, decision: policy.Decision) -> dict[str, FailedStart]:
        """Return each model's last failed start; the job's lines are read while they are still there."""
        found = {
            name: one
            for name, one in self.state.failed_starts.items()
            if name in decision.memory and decision.memory[name].failures
        }
        for action in decision.actions:
            instance = None if isinstance(action, policy.Submit) else self.state.instances[action.instance]
            if instance is None or not isinstance(action, (policy.Cancel, policy.Forget)):
                continue
            memory = decision.memory.get(instance.model, policy.Memory())
            before = self.state.memory.get(instance.model, policy.Memory())
            if memory.failures and memory.failed_at != before.failed_at:
                lines = self.directories.first_lines(instance)
                found[instance.model] = FailedStart(instance.id, instance.job_id, instance.digest, lines)
        return found

    def _entries(self, seen_now: Observation, instances: Mapping[str, Instance]) -> dict[str, dict[str, Any]]:
        """Return the last good entry of each model that is listed, held, or still has instances."""
        needed = {instance.model for instance in instances.values()} | set(seen_now.catalogue.held)
        kept = {
            name: entry for name, entry in self.state.entries.items() if name in needed or not seen_now.known
        }
        listed = seen_now.catalogue.listed
        return {**kept, **{name: listed[name].entry.dump() for name in listed}}

    # --- act -----------------------------------------------------------------------------------------

    def _carry_out(self, action: policy.Action, seen_now: Observation) -> None:
        if isinstance(action, policy.Cancel):
            self._cancel(self.state.instances[action.instance])
        elif isinstance(action, policy.Submit):
            self._submit(seen_now.catalogue.listed[action.model])

    def _cancel(self, instance: Instance) -> None:
        result = self.slurm.cancel(instance.job_id, instance.name)
        if isinstance(result, Unknown):
            # Repeated by the policy for as long as the job is seen.
            log.warning("scancel in doubt", extra={"instance": instance.id, "problem": result.reason})

    def _submit(self, listed: Listed) -> None:
        """Submit one job: directory, intent in the state, sbatch, job id in the state."""
        now = self.clock()
        nonce = secrets.token_hex(4)
        name, concurrency = listed.entry.name, listed.entry.concurrency
        instance = Instance(f"{name}-{nonce}", name, nonce, listed.digest, now, concurrency=concurrency)
        try:
            directory = self.directories.create(instance.id)
        except OSError as error:
            self._not_submitted(listed, f"{self.config.jobs_dir}: {error.strerror}")
            return
        self._remember(instance, submissions=self.state.submissions + 1)
        submission = Submission(
            name=job_name(instance.id),
            script=listed.script,
            digest=listed.digest,
            directory=str(directory),
            environment=self._job_environment(instance, listed.entry, directory),
        )
        result = self.slurm.submit(submission)
        fields = {"instance": instance.id, "model": instance.model}
        if isinstance(result, Unknown):
            log.warning("sbatch in doubt", extra={**fields, "problem": result.reason})
            self._remember(replace(instance, submit_error=result.reason))
        else:
            log.info("submitted", extra={**fields, "job_id": result.value})
            self._remember(replace(instance, job_id=result.value))

    def _not_submitted(self, listed: Listed, problem: str) -> None:
        log.error("job directory cannot be made", extra={"model": listed.entry.name, "problem": problem})
        memory = self.state.memory.get(listed.entry.name, policy.Memory())
        counted = policy.count_failure(memory, self._settings(), self.clock(), problem)
        self._save(replace(self.state, memory={**self.state.memory, listed.entry.name: counted}))

    def _job_environment(self, instance: Instance, entry: ModelEntry, directory: Path) -> dict[str, str]:
        return {
            "SLUICE_INSTANCE": instance.id,
            "SLUICE_MODEL": instance.model,
            "SLUICE_NONCE": instance.nonce,
            "SLUICE_JOB_DIR": str(directory),
            "SLUICE_ZIPAPP": self.config.zipapp,
            "SLUICE_PYTHON": self.config.python,
            "SLUICE_PORTS": self.config.ports,
            "SLUICE_CONCURRENCY": str(entry.concurrency),
            "SLUICE_MAX_BODY": str(self.config.max_body),
        }

    def _remember(self, instance: Instance, **changes: Any) -> None:
        self._save(replace(self.state, instances={**self.state.instances, instance.id: instance}, **changes))

    def _save(self, state: State) -> None:
        self.states.save(state)
        self.state = state

    # --- publish -------------------------------------------------------------------------------------

    def _publish(
        self, decision: policy.Decision, seen_now: Observation, now: float
    ) -> dict[str, RoutedModel]:
        """Write the routing table; its generation rises when anything but the time changed."""
        models = routing.routed_models(
            {name: ModelEntry.parse(entry) for name, entry in self.state.entries.items()},
            self.state.instances.values(),
            {
                name: routing.Outlook(
                    decision.wanted.get(name, 0),
                    policy.failed(memory, self._settings()),
                    memory,
                    self._drained(name, seen_now),
                )
                for name, memory in self.state.memory.items()
            },
            # One missed answer is no news for users; what was known a moment ago still stands.
            seen_now.known or self.state.queue_failing < TELL_AFTER,
            now,
        )
        before = self._table or self._published()
        if before is None or before.models != models or before.cluster != self.config.cluster:
            last = max(self.state.generation, before.generation if before else 0)
            self._save(replace(self.state, generation=last + 1))
        generation = max(self.state.generation, before.generation if before else 0)
        self._table = RoutingTable(self.config.cluster, generation, now, models)
        publish(self.config.routing_table, self._table.dump())
        return models

    def _drained(self, name: str, seen_now: Observation) -> bool:
        """Whether an administrator took the model out of service, as far as can be told."""
        found = seen_now.catalogue.orders.get(name)
        if found is not None:
            return found.drained is not None
        before = self._table.models.get(name) if self._table is not None else None
        # Orders that cannot be read now hold the model: it stays as it was.
        return name in seen_now.catalogue.held and before is not None and before.status == "drained"

    def _published(self) -> Optional[RoutingTable]:
        try:
            return RoutingTable.parse(read_json(self.config.routing_table))
        except (OSError, RecordError):
            return None

    # --- rest ----------------------------------------------------------------------------------------

    def interval(self) -> float:
        """Return how long to wait for the next tick: short while something is under way.

        After squeue failed the wait doubles from the short to the long interval: an overloaded controller
        is not helped by questions.
        """
        failing = self.state.queue_failing
        if failing:
            return min(self.config.tick_interval, self.config.busy_interval * 2.0 ** min(failing, 10))
        return self.config.tick_interval if self.resting else self.config.busy_interval

    def asked(self) -> bool:
        """Whether something came up since the last tick that should not wait for the next."""
        if self.state.queue_failing:
            return False
        if self._models_stamp() != self._stamp:
            return True
        routed = self._table.models if self._table is not None else {}
        for name, demand in read_demand(self.config.demand_dir, self.clock()).items():
            model = routed.get(name)
            if model is None or model.status == "drained":
                continue
            before = self.state.memory.get(name, policy.Memory())
            if demand.waiting or (not model.instances and demand.last > before.last):
                return True
        return False

    def _rests(self, seen_now: Observation, acted: bool, now: float) -> bool:
        writing = WRITING in seen_now.catalogue.held.values()
        asked = (one.waiting for name, one in seen_now.demand.items() if not self._drained(name, seen_now))
        if acted or writing or any(asked):
            return False
        return not any(self._watched(instance, now) for instance in self.state.instances.values())

    def _watched(self, instance: Instance, now: float) -> bool:
        found = phase(instance)
        if found is Phase.PENDING and not instance.absent:
            return now - instance.created < CLOSE_WATCH or instance.draining_since is not None
        settled = found is Phase.READY and not instance.failures and not instance.absent
        return not settled or instance.draining_since is not None

    def _models_stamp(self) -> tuple[tuple[str, int], ...]:
        try:
            entries = list(os.scandir(self.config.models_dir))
            return tuple(sorted((entry.name, entry.stat().st_mtime_ns) for entry in entries))
        except OSError:
            return ()

    def _clean(self, seen_now: Observation, now: float) -> None:
        """Remove old job directories once in a while, and tell of strays when they change."""
        if seen_now.strays != self._strays:
            log.warning(
                "jobs of this account bear our prefix but are not ours; they are left alone",
                extra={"jobs": list(seen_now.strays)},
            )
            self._strays = seen_now.strays
        if not seen_now.known or now - self._cleaned < CLEAN_EVERY:
            return
        self._cleaned = now
        try:
            self.directories.clean(self.state.instances, now)
        except OSError as error:
            log.warning("job directories cannot be cleaned", extra={"problem": error.strerror})


def own_job(instance: Instance, found: Iterable[Job]) -> Optional[Job]:
    """Return the instance's job out of those that bear its name: the one with its id, if that is known.

    Before the id is known a job that has not ended is preferred, then the first submitted.
    """
    candidates = [job for job in found if instance.job_id in ("", job.job_id)]
    candidates.sort(key=lambda job: (job.state in TERMINAL, int(job.job_id)))
    return candidates[0] if candidates else None


def ended(instance: Instance) -> bool:
    """Whether there is no front to ask: the job has ended or is ending."""
    return instance.job_state in TERMINAL or instance.job_state == COMPLETING


def marked(instance: Instance, action: policy.Action, now: float) -> Instance:
    """Return the instance with a drain, a cancellation or a resumption written down."""
    if isinstance(action, policy.Drain):
        return replace(instance, draining_since=now, drain_reason=action.reason)
    if isinstance(action, policy.Resume):
        return replace(instance, draining_since=None, drain_reason="")
    if isinstance(action, policy.Cancel):
        return replace(instance, cancelled_at=now, cancel_reason=action.reason)
    raise TypeError(f"{action} marks nothing")


def log_action(action: policy.Action, instance: Instance) -> None:
    """Log what was decided about one instance."""
    fields = {"instance": instance.id, "job_id": instance.job_id, "job_state": instance.job_state}
    reason = getattr(action, "reason", "")
    log.info(type(action).__name__.lower(), extra={**fields, "reason": reason} if reason else fields)


def publish(path: str, document: object) -> None:
    """Write a file that relays read: mode 0640 and the group of its directory.

    The group is the directory's because that is the relay's; the scheduler may give it to a file if the
    directory hands it on (mode 2750) or if it is a member.
    """
    group = Path(path).parent.stat().st_gid
    write_json(path, document, mode=PUBLISHED_MODE, group=group)
