"""What a tick observes: one squeue answer, job records, the fronts' health and demand, folded into the state.

Nothing is decided or written here, except that the record of a run that has ended is removed.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from typing import Callable, Optional

from sluice.contracts.jobs import JobRecord
from sluice.contracts.values import INSTANCE_ID
from sluice.errors import RecordError
from sluice.scheduler.config import SchedulerConfig
from sluice.scheduler.instances import node_failures
from sluice.scheduler.instances.instance import (
    ABSENT_ANSWERS,
    COMPLETING,
    SUSPENDED,
    TERMINAL,
    Instance,
    QueueJob,
    answered,
    hindered,
    is_other_record,
    missing,
    published,
    seen,
    unanswered,
    with_refused_record,
)
from sluice.scheduler.instances.matching import UNREADABLE, QueueJobs
from sluice.scheduler.models.catalogue import Allowed, Catalogue, gpus, read_catalogue
from sluice.scheduler.outside.demand import DemandFolder
from sluice.scheduler.outside.jobs import JobDirectories
from sluice.scheduler.outside.probe import Health
from sluice.scheduler.policy import policy, refusal
from sluice.scheduler.slurm.client import Slurm
from sluice.scheduler.slurm.programs import Unknown
from sluice.scheduler.state import State

log = logging.getLogger(__name__)

SPLIT_ID = re.compile(r"(.+)-([0-9a-f]{8})")
PROBES_AT_ONCE = 16
# Each handshake costs the login node about two milliseconds. So one tick probes at most so many instances
# that answer and so many that do not, in turn.
MOST_PROBES = 32
# How many seconds beyond the probes' own time-outs to wait for their answers.
PROBE_SLACK = 2.0
NO_PROBE = "no answer in time; is the name service unavailable?"
# If a job's end moved forward by more than FORWARD seconds and is less than NEAR seconds away, Slurm is
# about to preempt the job.
FORWARD = 60.0
NEAR = 300.0
# If a relay got an answer from an instance within so many seconds, the instance serves.
ANSWERED_LATELY = 20.0
# How many jobs that have our prefix but are not ours are reported.
MOST_STRAYS = 20
PREEMPTED = "preempted"
ANOTHER = "it is not the one that the front published"
# Causes for which it is certain that Slurm does not have the job.
CERTAIN = (refusal.Cause.SITE, refusal.Cause.LIMIT, refusal.Cause.MODEL)

Probe = Callable[[JobRecord, float], Health]
Stamp = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True)
class Observation:
    """What a tick observed, except the instances, which are in the state."""

    catalogue: Catalogue
    demand: Mapping[str, policy.TotalDemand]
    queue_known: bool
    strays: tuple[str, ...] = ()


class Observer:
    """Observes everything once per tick; `clock` returns seconds since the epoch."""

    def __init__(
        self,
        config: SchedulerConfig,
        slurm: Slurm,
        directories: JobDirectories,
        probe: Probe,
        clock: Callable[[], float],
    ) -> None:
        self._config = config
        self._slurm = slurm
        self._directories = directories
        self._probe = probe
        self._clock = clock
        self._stamp: Stamp = ()
        self._catalogue: Optional[Catalogue] = None
        self._demand = DemandFolder(config.demand_dir)
        self._turn = int(clock() // config.tick_interval) * MOST_PROBES

    def observe(self, state: State, now: float) -> tuple[State, Observation]:
        """Return the state updated from squeue, job directories and fronts, and the other observations."""
        catalogue, readable = self._models(now)
        demand = self.demand(now)
        queue = self._slurm.queue()
        strays: tuple[str, ...] = ()
        if isinstance(queue, Unknown):
            log.warning("the queue is unknown", extra={"problem": queue.reason})
            failures, failing = state.queue_failures + 1, state.queue_failing + 1
            state = replace(state, queue_failures=failures, queue_failing=failing)
        else:
            state, strays = self._follow(state, catalogue, queue.value, now)
        state = self._consult_fronts(state, demand)
        return state, Observation(catalogue, demand, readable and not isinstance(queue, Unknown), strays)

    def demand(self, now: float) -> dict[str, policy.TotalDemand]:
        """Return the demand that the relays report, by model."""
        return self._demand.read(now)

    # --- models --------------------------------------------------------------------------------------

    def changed(self) -> bool:
        """Whether any model's files changed since they were last read."""
        return models_stamp(self._config.models_dir) != self._stamp

    def _models(self, now: float) -> tuple[Catalogue, bool]:
        """Return the models, and whether they could be listed; they are read again only after a change."""
        stamp = models_stamp(self._config.models_dir)
        if self._catalogue is not None and stamp == self._stamp and stamp:
            return self._catalogue, True
        self._stamp, self._catalogue = stamp, None
        try:
            catalogue = read_catalogue(self._config.models_dir, now, Allowed.from_config(self._config))
        except OSError as error:
            fields = {"path": self._config.models_dir, "problem": error.strerror}
            log.warning("the models cannot be listed; nothing is started or ended", extra=fields)
            return Catalogue(), False
        for name, problem in catalogue.unusable.items():
            log.warning(
                "a model entry cannot be used; the model's instances stay as they are",
                extra={"model": name, "problem": problem},
            )
        if not catalogue.unusable:
            self._catalogue = catalogue
        return catalogue, True

    # --- the queue -----------------------------------------------------------------------------------

    def _follow(
        self, state: State, catalogue: Catalogue, found: Iterable[QueueJob], asked_at: float
    ) -> tuple[State, tuple[str, ...]]:
        """Fold in a squeue answer; return also the names of jobs that have our prefix but are not ours."""
        jobs = QueueJobs(found, self._config.jobs_dir, {*state.instances, *state.ended})
        state, strays = self._adopt(state, catalogue, jobs, asked_at)
        instances = {}
        for instance in state.instances.values():
            job = jobs.of(instance)
            if job is None:
                instances[instance.id] = self._missed(instance, jobs, asked_at)
            elif job is UNREADABLE:
                fields = {"instance": instance.id, "job_id": instance.job_id}
                log.warning("a job's state cannot be read; the instance keeps its state", extra=fields)
                instances[instance.id] = instance
            else:
                instances[instance.id] = self._seen(instance, job, asked_at)
        memory = _queue_times(state.memory, state.instances, instances)
        adopting = state.adopting and not jobs.clear
        state = replace(state, instances=instances, memory=memory, queue_failing=0, adopting=adopting)
        return state, strays

    def _seen(self, instance: Instance, job: QueueJob, now: float) -> Instance:
        """Fold in a job; if it waits again after a run, remove that run's record."""
        followed = hindered(seen(instance, job), now)
        if followed is instance:
            return instance
        if instance.record is not None and followed.record is None and not followed.running:
            self._directories.drop_record(instance.id)
        if followed.running and not followed.leaving and _brought_forward(instance, followed, now):
            log.info(
                ("Slurm moved the job's end forward"), extra={"instance": instance.id, "ends": followed.ends}
            )
            return replace(followed, leaving=PREEMPTED)
        return followed

    def _missed(self, instance: Instance, jobs: QueueJobs, asked_at: float) -> Instance:
        """Fold in an answer that does not list the instance's job."""
        if instance.submit_error and refusal.parse_refusal(instance.submit_error).cause in CERTAIN:
            return replace(instance, absent=ABSENT_ANSWERS)
        return self._confirm_absence(missing(instance, asked_at, 1.5 * self._config.command_timeout), jobs)

    def _confirm_absence(self, instance: Instance, jobs: QueueJobs) -> Instance:
        """Ask scontrol about a job that several squeue answers did not list."""
        if instance.absent < ABSENT_ANSWERS or not instance.job_id:
            return instance
        shown = self._slurm.show(instance.job_id)
        if isinstance(shown, Unknown):
            log.warning("a job's state is unknown", extra={"instance": instance.id, "problem": shown.reason})
            return instance
        if shown.value is None or not jobs.owns(instance, shown.value):
            return replace(instance, invalid=True)
        return seen(instance, shown.value)

    def _adopt(
        self, state: State, catalogue: Catalogue, jobs: QueueJobs, now: float
    ) -> tuple[State, tuple[str, ...]]:
        """Adopt our jobs that are missing from the state; return the names of jobs that are not ours."""
        strays = []
        followed = {one.job_id for one in state.instances.values()}
        for instance_id, found in jobs.named().items():
            if instance_id in state.instances:
                continue
            alive = [job for job in found if _may_be_adopted(job) and job.job_id not in followed]
            if not alive:
                continue
            adopted = self._adopted(state, catalogue, instance_id, alive[0], now)
            if adopted is None:
                strays.append(alive[0].name)
                continue
            log.warning("job adopted", extra={"instance": adopted.id, "job_id": alive[0].job_id})
            state = replace(
                state,
                instances={**state.instances, adopted.id: adopted},
                ended={key: value for key, value in state.ended.items() if key != adopted.id},
            )
        return state, tuple(sorted(strays)[:MOST_STRAYS])

    def _adopted(
        self, state: State, catalogue: Catalogue, instance_id: str, job: QueueJob, now: float
    ) -> Optional[Instance]:
        found = SPLIT_ID.fullmatch(instance_id)
        if found is None or not INSTANCE_ID.fullmatch(instance_id):
            return None
        ended = state.ended.get(instance_id)
        # If the state was not lost, a job whose instance it never had is somebody else's, whatever its name.
        if ended is None and not (state.adopting and self._directories.exists(instance_id)):
            return None
        digest = job.digest if ended is None else ended.digest
        created = now if job.submitted is None else job.submitted
        adopted = Instance(instance_id, found[1], found[2], digest, created, kind=job.kind)
        listed = catalogue.listed.get(adopted.model)
        if listed is None:
            return adopted
        asked = listed.entry.slurm
        return replace(adopted, gpus=gpus(asked), asked_nodes=asked.nodes)

    # --- the fronts ----------------------------------------------------------------------------------

    def _consult_fronts(self, state: State, demand: Mapping[str, policy.TotalDemand]) -> State:
        """Read the records of running jobs, and probe the fronts whose turn it is."""
        instances = {instance.id: self._with_record(instance) for instance in state.instances.values()}
        state = replace(state, instances=instances)
        now = self._clock()
        for instance in instances.values():
            if instance.job_state in SUSPENDED:
                # A suspended front cannot answer: probing it would only delay the tick.
                instances[instance.id] = unanswered(instance, now)
        asked = [self._compared(instance) for instance in self._due(instances.values())]
        instances.update((instance.id, instance) for instance in asked)
        for instance, health in zip(asked, self._answers(asked)):
            serves = health.problem and _serves(instance, demand, now)
            # `stalled` stays as it was: only the front can tell it.
            state = self._probed(state, instance, Health("", stalled=instance.stalled) if serves else health)
        return state

    def _answers(self, asked: Sequence[Instance]) -> list[Health]:
        """Probe the fronts of some instances.

        The probe's time-out does not cover the look-up of the host's name, which can take very long if the
        name service is unavailable. Such probes are not waited for.
        """
        if not asked:
            return []
        pool = ThreadPoolExecutor(max_workers=min(PROBES_AT_ONCE, len(asked)))
        probes = [pool.submit(self._ask, instance) for instance in asked]
        rounds = -(-len(asked) // PROBES_AT_ONCE)
        wait(probes, rounds * self._config.probe_timeout + PROBE_SLACK)
        answers = [probe.result() if probe.done() else Health(NO_PROBE) for probe in probes]
        pool.shutdown(wait=False, cancel_futures=True)
        return answers

    def _due(self, instances: Iterable[Instance]) -> list[Instance]:
        """Return the instances to probe in this tick."""
        known = [one for one in instances if one.record is not None and (one.running or _ends(one))]
        steady = [one for one in known if one.ready_at is not None and not one.failures and not one.stalled]
        others = [one for one in known if one.ready_at is None or one.failures or one.stalled]
        turn, self._turn = self._turn, self._turn + MOST_PROBES
        return _in_turn(steady, turn) + _in_turn(others, turn)

    def _with_record(self, instance: Instance) -> Instance:
        """Read the job record, but only before the instance is ready and after a failed probe."""
        if not instance.running:
            return instance
        if instance.record is not None and instance.ready_at is not None and not instance.failures:
            return instance
        try:
            record = self._directories.record(instance)
        except RecordError as error:
            _tell_refused(instance, str(error))
            return with_refused_record(instance, str(error), self._clock())
        if record is not None:
            return published(instance, record)
        return replace(instance, refused="", refused_since=None) if instance.refused else instance

    def _compared(self, instance: Instance) -> Instance:
        """Check whether a serving instance's record file is still the accepted record; if not, log it once.

        The accepted record stays valid (see `published`). Somebody who edited the file must learn that.
        """
        if instance.ready_at is None or instance.failures:
            return instance
        problem = ""
        try:
            record = self._directories.record(instance)
            if record is not None and is_other_record(instance, record):
                problem = ANOTHER
        except RecordError as error:
            problem = str(error)
        if problem == instance.refused:
            return instance
        if problem:
            _tell_refused(instance, problem)
        return replace(instance, refused=problem, refused_since=None)

    def _ask(self, instance: Instance) -> Health:
        if instance.record is None:
            return Health("no record")
        return self._probe(instance.record, self._config.probe_timeout)

    def _probed(self, state: State, instance: Instance, health: Health) -> State:
        now = self._clock()
        if health.problem:
            if instance.ready_at is not None and instance.running:
                fields = {"instance": instance.id, "problem": health.problem}
                log.warning("front does not answer", extra=fields)
            followed = unanswered(instance, now)
        else:
            if instance.ready_at is None:
                state = _first_answer(state, instance, now)
            followed = answered(instance, now, health.stalled)
            if bool(health.stalled) != bool(instance.stalled):
                said = "engine has no output" if health.stalled else "engine has output again"
                log.warning(said, extra={"instance": instance.id, "seconds": health.stalled})
            if health.leaving and health.leaving != instance.leaving:
                log.info("front must end soon", extra={"instance": instance.id, "why": health.leaving})
                followed = replace(followed, leaving=health.leaving)
        if followed is instance:
            return state
        # In place: with thousands of instances, copying the dict for each one would take most of the tick.
        state.instances[instance.id] = followed
        return state


def _serves(instance: Instance, demand: Mapping[str, policy.TotalDemand], now: float) -> bool:
    """Whether relays got an answer from the instance lately: then a failed probe does not count."""
    if instance.ready_at is None or instance.model not in demand:
        return False
    return now - demand[instance.model].answered.get(instance.id, 0) < ANSWERED_LATELY


def _tell_refused(instance: Instance, problem: str) -> None:
    """Log, once for each problem, why a record file is not believed."""
    if problem == instance.refused:
        return
    fields = {"instance": instance.id, "problem": problem}
    if instance.ready_at is None:
        log.warning("job record refused", extra=fields)
    else:
        log.warning("job record was changed; the one that was read first stays valid", extra=fields)


def _first_answer(state: State, instance: Instance, now: float) -> State:
    """Remember how long the start took, and that the instance became ready on its nodes."""
    nodes = node_failures.served(state.nodes, instance, now)
    if instance.started is None:
        return replace(state, nodes=nodes)
    seconds = max(0.0, now - instance.started)
    log.info("ready", extra={"instance": instance.id, "job_id": instance.job_id, "seconds": seconds})
    before = state.memory.get(instance.model, policy.Memory())
    memory = {**state.memory, instance.model: policy.measured_load(before, seconds)}
    return replace(state, nodes=nodes, memory=memory)


def _queue_times(
    memory: dict[str, policy.Memory], before: Mapping[str, Instance], after: Mapping[str, Instance]
) -> dict[str, policy.Memory]:
    """Return the memory with the queue times of jobs that are seen running for the first time."""
    changed = dict(memory)
    for instance in after.values():
        old = before[instance.id]
        if not instance.running or old.started is not None or old.stale_record or instance.started is None:
            continue
        seconds = max(0.0, instance.started - instance.created)
        changed[instance.model] = policy.measured_queue(changed.get(instance.model, policy.Memory()), seconds)
    return changed


def _brought_forward(before: Instance, after: Instance, now: float) -> bool:
    """Whether Slurm moved the end of the same run forward, to very soon, as it does before a preemption."""
    if before.ends is None or after.ends is None or before.started != after.started:
        return False
    return before.ends - after.ends > FORWARD and after.ends - now < NEAR


def _ends(instance: Instance) -> bool:
    """Whether the job is ending but its front may still answer; it is probed until it does not."""
    return instance.job_state in COMPLETING and instance.ready_at is not None and not instance.sick


def _in_turn(found: Sequence[Instance], turn: int) -> list[Instance]:
    """Return at most MOST_PROBES of `found`, beginning at position `turn` of their order by id."""
    if len(found) <= MOST_PROBES:
        return list(found)
    ordered = sorted(found, key=lambda one: one.id)
    first = turn % len(ordered)
    return (ordered[first:] + ordered[:first])[:MOST_PROBES]


def models_stamp(directory: str) -> Stamp:
    """Return a value that changes whenever a file in the models' folder does; () if it cannot be read."""
    try:
        with os.scandir(directory) as entries:
            found = [(entry.name, entry.stat()) for entry in entries]
    except OSError:
        return ()
    return tuple(sorted((name, status.st_mtime_ns, status.st_ino) for name, status in found))


def _may_be_adopted(job: QueueJob) -> bool:
    """Whether a job has not ended and is not ending, as far as its state is known."""
    return bool(job.state) and job.state not in TERMINAL and job.state not in COMPLETING
