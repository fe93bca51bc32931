"""One instance as the scheduler remembers it, and how each observation changes it. Pure.

UNKNOWN is not GONE: an instance is gone only when a terminal state of its job was seen, or when the job was
absent from two successful squeue answers, `scontrol show job` calls its id invalid, and its front does not
answer. No weaker reason makes an instance gone.
"""

from __future__ import annotations

import enum
import hashlib
import json
from dataclasses import dataclass, replace
from typing import Optional

from sluice.contracts.jobs import JobRecord
from sluice.scheduler.instances.reasons import Treatment, treatment

# Slurm's job states, grouped by what they mean here. A job in any other state waits in the queue; `reasons`
# says how it is treated.
TERMINAL = frozenset(
    (
        "BOOT_FAIL",
        "CANCELLED",
        "COMPLETED",
        "DEADLINE",
        "FAILED",
        "NODE_FAIL",
        "OUT_OF_MEMORY",
        "PREEMPTED",
        "REVOKED",
        "TIMEOUT",
    )
)
RUNNING = frozenset(("RUNNING", "SIGNALING", "RESIZING"))
# The job keeps its nodes, but its processes are stopped: it answers nobody, and may be continued later.
SUSPENDED = frozenset(("SUSPENDED", "STOPPED"))
# The job's processes are ending or gone; Slurm has not cleaned up yet.
COMPLETING = frozenset(("COMPLETING", "STAGE_OUT"))
# Ends that are not the model's fault: Slurm took the resources back, or the node failed.
NOT_THE_MODELS_FAULT = frozenset(("BOOT_FAIL", "NODE_FAIL", "PREEMPTED", "REVOKED"))
# How an instance was submitted: by the model's `slurm` field, or by its `burst` field.
BASE, BURST = "base", "burst"

ABSENT_ANSWERS = 2
# A busy engine may miss a probe or two: only several failures in a row, over some time, make it sick.
SICK_AFTER = 3
SICK_FOR = 20.0


class Phase(enum.Enum):
    """The phase of an instance's life. Draining is not a phase: see `Instance.draining_since`."""

    SUBMITTING = "submitting"
    PENDING = "pending"
    STARTING = "starting"
    READY = "ready"
    SICK = "sick"
    ENDING = "ending"
    GONE = "gone"


@dataclass(frozen=True)
class QueueJob:
    """One job as squeue or scontrol shows it; times in seconds since the epoch.

    For a pending job, `started` is Slurm's estimate of its start. `nodes` holds the allocated nodes' names.
    `digest` and `kind` come from our comment, "" and `base` if it has none. `directory` is the working
    directory. Name, reason, comment and directory are text that others may change. `state` is "" for a job
    whose line was not understood; `job_id` is "" too if even the id could not be read.
    """

    job_id: str
    name: str
    state: str
    reason: str = ""
    digest: str = ""
    kind: str = BASE
    submitted: Optional[float] = None
    started: Optional[float] = None
    ends: Optional[float] = None
    nodes: tuple[str, ...] = ()
    directory: str = ""


@dataclass(frozen=True)
class Instance:
    """What is known of one submission, from before its sbatch until its job is seen to have ended.

    Times are in seconds since the epoch. `created` is the time of the intent, which is saved before sbatch;
    `job_id` is "" until Slurm has told it. `digest` is that of the entry it was started from, "" if an
    adopted job does not say it. `started` and `ends` belong to the current run; `expected_start` is Slurm's
    estimate while pending. `record` is the accepted job record of the current run, `stale_record` the
    fingerprint of the last run's. `refused` says why the file in the record's place is not believed,
    `refused_since` since when (None for a serving instance: its accepted record stays valid).
    `failures` counts failed probes in a row since `failing_since`; enough of them make it `sick`. `absent`
    counts successful squeue answers in a row that did not list the job; `invalid`: whether scontrol called
    its id invalid this time. `concurrency` is the one its front was started with, 0 if an adopted job does
    not say it. `kind`: `base`, or `burst` if Slurm may take its resources back. `gpus` and `asked_nodes` are
    those of the whole job. `leaving`: why its front announced that it must end soon ("" if it did not); it
    takes no new requests. `hindered_since`: since when its job waits for something that may never happen.
    `stalled`: for how many seconds its engine has given nothing to anybody, nor to its front's own question,
    by the front's last answer. `renamed`: whether somebody gave its job another name. `astray`: this
    submission's job on another cluster, as `id;cluster`, until it is cancelled there. `slurm_scope`: the
    account, partition and QOS that it was submitted to.
    """

    id: str
    model: str
    nonce: str
    digest: str
    created: float
    job_id: str = ""
    submit_error: str = ""
    job_state: str = ""
    reason: str = ""
    nodes: tuple[str, ...] = ()
    started: Optional[float] = None
    ends: Optional[float] = None
    expected_start: Optional[float] = None
    absent: int = 0
    invalid: bool = False
    record: Optional[JobRecord] = None
    stale_record: str = ""
    ready_at: Optional[float] = None
    failures: int = 0
    failing_since: Optional[float] = None
    sick: bool = False
    draining_since: Optional[float] = None
    drain_reason: str = ""
    cancelled_at: Optional[float] = None
    cancel_reason: str = ""
    concurrency: int = 0
    kind: str = BASE
    gpus: int = 0
    asked_nodes: int = 1
    leaving: str = ""
    refused: str = ""
    refused_since: Optional[float] = None
    hindered_since: Optional[float] = None
    renamed: bool = False
    astray: str = ""
    slurm_scope: str = ""
    stalled: int = 0

    @property
    def name(self) -> str:
        """The Slurm job's name."""
        return job_name(self.id)

    @property
    def running(self) -> bool:
        """Whether the job ran by Slurm's last answer."""
        return self.job_state in RUNNING

    @property
    def over(self) -> bool:
        """Whether the job has ended or is ending, so that there is no front to ask."""
        return self.job_state in TERMINAL or self.job_state in COMPLETING


def job_name(instance_id: str) -> str:
    """Return the name under which an instance's job is submitted."""
    return f"sluice:{instance_id}"


def phase(instance: Instance) -> Phase:
    """Return the instance's phase, derived only from what was observed."""
    if gone(instance):
        return Phase.GONE
    if instance.cancelled_at is not None or instance.job_state in COMPLETING:
        return Phase.ENDING
    if not instance.job_id:
        return Phase.SUBMITTING
    if instance.job_state in SUSPENDED:
        return Phase.SICK
    if not instance.running:
        return Phase.PENDING
    if instance.ready_at is None:
        return Phase.STARTING
    return Phase.SICK if instance.sick else Phase.READY


def gone(instance: Instance) -> bool:
    """Whether the instance's job has certainly ended or, without a job id, was never created."""
    if instance.job_state in TERMINAL:
        return True
    if instance.absent < ABSENT_ANSWERS or instance.astray:
        return False
    if not instance.job_id:
        return True
    silent = instance.record is None or instance.failures > 0
    return instance.invalid and silent


def only_completing(instance: Instance) -> bool:
    """Whether the job will never serve again but Slurm has not cleaned up: COMPLETING, and its front silent.

    This can last as long as a node does not answer. The job still holds its nodes, but no longer counts
    among its model's instances.
    """
    return instance.job_state in COMPLETING and (instance.ready_at is None or instance.sick)


def hung(instance: Instance, stall_timeout: float) -> bool:
    """Whether a ready instance has been stalled for `stall_timeout` seconds or more (0: never)."""
    return bool(stall_timeout) and instance.stalled >= stall_timeout and phase(instance) is Phase.READY


def routable(instance: Instance) -> bool:
    """Whether relays may use it: it is ready and answers, draining or not."""
    return phase(instance) is Phase.READY and instance.record is not None


def treatment_of(instance: Instance) -> Treatment:
    """Return how the instance is treated for its job's state and reason (see `reasons`)."""
    if not instance.job_id or not instance.job_state:
        return Treatment.FOLLOWS
    return treatment(instance.job_state, instance.reason)


def held_by_slurm(instance: Instance) -> str:
    """Return why Slurm itself holds a job, which nobody will release; "" if it does not.

    A job that a person holds (JobHeldAdmin, JobHeldUser) does not count: it is left alone.
    """
    if treatment_of(instance) is not Treatment.ENDS:
        return ""
    return instance.reason if instance.reason not in ("", "None") else instance.job_state


def hindered(instance: Instance, now: float) -> Instance:
    """Note since when the job waits for what may never happen; return the same object if nothing changed."""
    waits = treatment_of(instance) is Treatment.GIVES_UP
    if waits == (instance.hindered_since is not None):
        return instance
    return replace(instance, hindered_since=now if waits else None)


def seen(instance: Instance, job: QueueJob) -> Instance:
    """Fold in what squeue (or scontrol) says of its job; return the same object if nothing changed.

    A requeued job runs again under the same id with a new front: the old record is dropped at once.
    """
    if _no_news(instance, job):
        return instance
    found = replace(
        instance,
        job_id=job.job_id,
        job_state=job.state,
        reason=job.reason,
        absent=0,
        invalid=False,
        submit_error="",
        renamed=job.name != instance.name,
    )
    if job.state in RUNNING or job.state in SUSPENDED:
        if instance.started is not None and job.started is not None and instance.started != job.started:
            found = without_run(found)
        nodes = job.nodes or found.nodes
        return replace(found, started=job.started, ends=job.ends, nodes=nodes, expected_start=None)
    if job.state in COMPLETING or job.state in TERMINAL:
        return _ended(found, job)
    return replace(without_run(found), expected_start=job.started)


def _no_news(instance: Instance, job: QueueJob) -> bool:
    """Whether the job runs or waits exactly as before."""
    same = (
        instance.job_state == job.state
        and instance.reason == job.reason
        and instance.job_id == job.job_id
        and instance.renamed == (job.name != instance.name)
        and not (instance.absent or instance.invalid or instance.submit_error)
    )
    if not same:
        return False
    if job.state in RUNNING:
        return (instance.started, instance.ends, instance.nodes) == (job.started, job.ends, job.nodes)
    return job.state == "PENDING" and instance.expected_start == job.started and instance.started is None


def _ended(instance: Instance, job: QueueJob) -> Instance:
    """Fold in nodes and times of a run that was so short that no answer showed it running."""
    if instance.started is not None or not job.nodes:
        return instance
    return replace(instance, started=job.started, ends=job.ends, nodes=job.nodes, expected_start=None)


def without_run(instance: Instance) -> Instance:
    """Forget everything about the job's previous run except the fingerprint of its record."""
    stale = instance.stale_record if instance.record is None else fingerprint(instance.record)
    return replace(
        instance,
        stale_record=stale,
        nodes=(),
        started=None,
        ends=None,
        record=None,
        ready_at=None,
        failures=0,
        failing_since=None,
        sick=False,
        leaving="",
        refused="",
        refused_since=None,
        stalled=0,
    )


def fingerprint(record: JobRecord) -> str:
    """Return a record's SHA-256 (hex), which differs between runs."""
    return hashlib.sha256(json.dumps(record.dump(), sort_keys=True).encode()).hexdigest()


def published(instance: Instance, record: JobRecord) -> Instance:
    """Fold in a valid record that was read from the job directory.

    The last run's record is ignored, however late the file system still shows it. Once the run's front has
    answered, any other record is ignored too: a front publishes once, but jobs share an account, so a
    hostile engine on the same node could write its own record here to receive this instance's requests.
    """
    if not is_other_record(instance, record):
        return instance
    if instance.record is not None and instance.ready_at is not None:
        return instance
    accepted = replace(instance, record=record, refused="", refused_since=None)
    return replace(accepted, ready_at=None, failures=0, failing_since=None, sick=False)


def is_other_record(instance: Instance, record: JobRecord) -> bool:
    """Whether a record is neither the accepted one nor the last run's."""
    return record != instance.record and fingerprint(record) != instance.stale_record


def with_refused_record(instance: Instance, problem: str, now: float) -> Instance:
    """Fold in a record that must not be believed. `refused_since` shows whether it is only a late old one."""
    since = now if instance.refused_since is None else instance.refused_since
    return replace(instance, refused=problem, refused_since=since)


def missing(instance: Instance, asked_at: float, grace: float) -> Instance:
    """Fold in a successful squeue answer, asked for at `asked_at`, that does not list the job.

    Without a job id, answers within `grace` seconds of the intent do not count: the sbatch may still be on
    its way to the controller.
    """
    if not instance.job_id and asked_at < instance.created + grace:
        return instance
    return replace(instance, absent=instance.absent + 1, invalid=False)


def answered(instance: Instance, now: float, stalled: int = 0) -> Instance:
    """Fold in a probe that the front answered with 200; return the same object if nothing changed."""
    well = instance.ready_at is not None and not instance.failures and not instance.sick
    if well and instance.stalled == stalled:
        return instance
    ready_at = now if instance.ready_at is None else instance.ready_at
    return replace(instance, ready_at=ready_at, failures=0, failing_since=None, sick=False, stalled=stalled)


def unanswered(instance: Instance, now: float) -> Instance:
    """Fold in a failed probe; before the first success it only means "not ready yet"."""
    since = now if instance.failing_since is None else instance.failing_since
    failures = instance.failures + 1
    sick = failures >= SICK_AFTER and now - since >= SICK_FOR
    return replace(instance, failures=failures, failing_since=since, sick=sick)
