"""One instance as the scheduler remembers it, and how each observation changes it. Pure.

UNKNOWN is not GONE: an instance is gone only when a terminal state of its job was seen, or when the job was
absent from two successful squeue answers, `scontrol show job` calls its id invalid, and its front does not
answer. Nothing here forgets an instance for any weaker reason.
"""

from __future__ import annotations

import enum
import hashlib
import json
from dataclasses import dataclass, replace
from typing import Optional

from sluice.contracts.jobs import JobRecord
from sluice.scheduler.instances.reasons import Treatment, treatment

# Slurm's words for a job's state, by what they mean here. What is in none of these lists waits in the queue;
# how such a job is treated says `reasons`.
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
# The job keeps its nodes, its processes are stopped: it answers nobody, and may go on where it was.
SUSPENDED = frozenset(("SUSPENDED", "STOPPED"))
# The job's processes are ended or gone; Slurm has yet to clear up.
COMPLETING = frozenset(("COMPLETING", "STAGE_OUT"))
# Ends that say nothing against the model: Slurm took the job back, or its node broke.
NOT_THE_MODELS_FAULT = frozenset(("BOOT_FAIL", "NODE_FAIL", "PREEMPTED", "REVOKED"))
# How an instance was asked for: as the model's `slurm` says, or as its `burst` does.
BASE, BURST = "base", "burst"

ABSENT_ANSWERS = 2
# A busy engine may miss a probe or two: only a row of failures over some time speaks against it.
SICK_AFTER = 3
SICK_FOR = 20.0


class Phase(enum.Enum):
    """Where an instance stands in its life; draining is told apart by `Instance.draining_since`."""

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

    For a pending job `started` is Slurm's estimate of its start. `nodes` holds the allocated nodes' names.
    `digest` and `kind` are what our comment says, "" and `base` where it does not. `directory` is where the
    job begins. Name, reason, comment and directory are text, which others may change. `state` is "" for a
    job that is there and was not understood, `job_id` too where not even that could be told.
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

    `created` is the time of the intent, written down before sbatch; `job_id` is "" until Slurm told it.
    `digest` is that of the entry it was started from, "" where an adopted job does not say it.
    `started`, `ends`: of the current run; `expected_start`: Slurm's estimate while pending.
    `record` is the accepted job record of the current run; `stale_record` the fingerprint of the last run's;
    `refused` says why what lies in the record's place is not believed, `refused_since` since when (of one
    that serves, whose accepted record counts all the same, None).
    `failures` counts failed probes in a row since `failing_since`, enough of which make it `sick`;
    `absent` the successful squeue answers in a row that did not name the job; `invalid` says whether
    scontrol called its id invalid this time. `concurrency` is what its front was told to bear, 0 where an
    adopted job does not say it. `kind` is how it was asked for: `base`, or `burst` where Slurm may take it
    back. `gpus` and `asked_nodes` are what the whole job takes. `leaving` says why its front announced that
    it must end soon ("" while it has not): it takes no new requests. `hindered_since`: since when its job
    waits for what may never come. `stalled`: for how many seconds its engine has given nothing to anybody,
    nor to its front's own question, as the front said last. `renamed`: whether somebody gave its job another
    name.
    `astray`: the job of this submission on another cluster, as `id;cluster`, until it is cancelled there.
    `charge` is the account, partition and QOS that it was submitted to.
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
    charge: str = ""
    stalled: int = 0

    @property
    def name(self) -> str:
        """The Slurm job's name."""
        return job_name(self.id)

    @property
    def running(self) -> bool:
        """Whether Slurm last said that the job runs."""
        return self.job_state in RUNNING

    @property
    def over(self) -> bool:
        """Whether the job has ended or is ending: there is no front to ask."""
        return self.job_state in TERMINAL or self.job_state in COMPLETING


def job_name(instance_id: str) -> str:
    """Return the name under which an instance's job is submitted."""
    return f"sluice:{instance_id}"


def phase(instance: Instance) -> Phase:
    """Return the instance's phase, from nothing but what was observed."""
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
    """Whether the instance's job has certainly ended, or (without a job id) never came to be."""
    if instance.job_state in TERMINAL:
        return True
    if instance.absent < ABSENT_ANSWERS or instance.astray:
        return False
    if not instance.job_id:
        return True
    silent = instance.record is None or instance.failures > 0
    return instance.invalid and silent


def only_completing(instance: Instance) -> bool:
    """Whether the job's work is over for good while Slurm has yet to clear up: COMPLETING, its front silent.

    It may stay so for as long as a node does not answer. Its nodes are still taken, its model's place is not.
    """
    return instance.job_state in COMPLETING and (instance.ready_at is None or instance.sick)


def hung(instance: Instance, stall_timeout: float) -> bool:
    """Whether a ready instance has given nothing for so long that it is replaced (0: never)."""
    return bool(stall_timeout) and instance.stalled >= stall_timeout and phase(instance) is Phase.READY


def routable(instance: Instance) -> bool:
    """Whether relays may use it: ready and answering, draining or not."""
    return phase(instance) is Phase.READY and instance.record is not None


def treatment_of(instance: Instance) -> Treatment:
    """Return what becomes of the instance for its job's state and reason (`reasons`)."""
    if not instance.job_id or not instance.job_state:
        return Treatment.FOLLOWS
    return treatment(instance.job_state, instance.reason)


def held_by_slurm(instance: Instance) -> str:
    """Return Slurm's reason for holding a job that nobody will release, or "".

    A job that a person holds (JobHeldAdmin, JobHeldUser) is not stuck: it is left alone.
    """
    if treatment_of(instance) is not Treatment.ENDS:
        return ""
    return instance.reason if instance.reason not in ("", "None") else instance.job_state


def hindered(instance: Instance, now: float) -> Instance:
    """Note since when the job waits for what may never come; the very same instance where that is no news."""
    waits = treatment_of(instance) is Treatment.GIVES_UP
    if waits == (instance.hindered_since is not None):
        return instance
    return replace(instance, hindered_since=now if waits else None)


def seen(instance: Instance, job: QueueJob) -> Instance:
    """Fold in what squeue (or scontrol) says of its job; the very same instance where that is no news.

    A job that runs anew under the same id (requeued) has a new front: the old record is dropped at once.
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
    """Whether the job still runs, or still waits, as it did."""
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
    """Fold in where and when the last run was, for one so short that no answer showed it running."""
    if instance.started is not None or not job.nodes:
        return instance
    return replace(instance, started=job.started, ends=job.ends, nodes=job.nodes, expected_start=None)


def without_run(instance: Instance) -> Instance:
    """Forget everything that belonged to the job's previous run, but for the fingerprint of its record."""
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
    """Return what tells one run's record from another's (SHA-256, hex)."""
    return hashlib.sha256(json.dumps(record.dump(), sort_keys=True).encode()).hexdigest()


def published(instance: Instance, record: JobRecord) -> Instance:
    """Fold in a valid record that was read from the job directory.

    The last run's record is ignored, however late the file system still shows it. So is any other one once
    the run's front has answered: a front publishes once, but jobs share an account, and a hostile engine on
    the same node could lay a record of its own here to be sent this instance's requests.
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
    """Fold in a record that must not be believed. It may be an earlier run's, seen late: time tells."""
    since = now if instance.refused_since is None else instance.refused_since
    return replace(instance, refused=problem, refused_since=since)


def missing(instance: Instance, asked_at: float, settle: float) -> Instance:
    """Fold in a successful squeue answer, asked for at `asked_at`, that does not name the job.

    An answer younger than `settle` seconds after the intent says nothing about a submission whose job id
    is not known: the sbatch may still be on its way.
    """
    if not instance.job_id and asked_at < instance.created + settle:
        return instance
    return replace(instance, absent=instance.absent + 1, invalid=False)


def answered(instance: Instance, now: float, stalled: int = 0) -> Instance:
    """Fold in a probe that the front answered with 200; the very same instance where that is no news."""
    well = instance.ready_at is not None and not instance.failures and not instance.sick
    if well and instance.stalled == stalled:
        return instance
    ready_at = now if instance.ready_at is None else instance.ready_at
    return replace(instance, ready_at=ready_at, failures=0, failing_since=None, sick=False, stalled=stalled)


def unanswered(instance: Instance, now: float) -> Instance:
    """Fold in a probe that failed; before the first success it says only "not yet"."""
    since = now if instance.failing_since is None else instance.failing_since
    failures = instance.failures + 1
    sick = failures >= SICK_AFTER and now - since >= SICK_FOR
    return replace(instance, failures=failures, failing_since=since, sick=sick)
