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

from sluice.records import JobRecord

# Slurm's words for a job that has ended for good, and for one that may still (or again) run.
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
        "TIMEOUT",
    )
)
RUNNING = frozenset(("RUNNING", "SIGNALING", "RESIZING", "STAGE_OUT"))
COMPLETING = "COMPLETING"

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
    """

    job_id: str
    name: str
    state: str
    reason: str = ""
    comment: str = ""
    submitted: Optional[float] = None
    started: Optional[float] = None
    ends: Optional[float] = None
    nodes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Instance:
    """What is known of one submission, from before its sbatch until its job is seen to have ended.

    `created` is the time of the intent, written down before sbatch; `job_id` is "" until Slurm told it.
    `digest` is that of the entry it was started from, "" where an adopted job does not say it.
    `started`, `ends`: of the current run; `expected_start`: Slurm's estimate while pending.
    `record` is the accepted job record of the current run; `stale_record` the fingerprint of the last run's.
    `failures` counts failed probes in a row since `failing_since`, enough of which make it `sick`;
    `absent` the successful squeue answers in a row that did not name the job; `invalid` says whether
    scontrol called its id invalid this time. `concurrency` is what its front was told to bear, 0 where an
    adopted job does not say it. `kind` is how it was asked for: `base`, or `burst` where Slurm may take it
    back. `gpus` and `asked_nodes` are what the whole job takes. `leaving` says why its front announced that
    it must end soon ("" while it has not): it takes no new requests.
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

    @property
    def name(self) -> str:
        """The Slurm job's name."""
        return job_name(self.id)

    @property
    def running(self) -> bool:
        """Whether Slurm last said that the job runs."""
        return self.job_state in RUNNING


def job_name(instance_id: str) -> str:
    """Return the name under which an instance's job is submitted."""
    return f"sluice:{instance_id}"


def phase(instance: Instance) -> Phase:
    """Return the instance's phase, from nothing but what was observed."""
    if gone(instance):
        return Phase.GONE
    if instance.cancelled_at is not None or instance.job_state == COMPLETING:
        return Phase.ENDING
    if not instance.job_id:
        return Phase.SUBMITTING
    if not instance.running:
        return Phase.PENDING
    if instance.ready_at is None:
        return Phase.STARTING
    return Phase.SICK if instance.sick else Phase.READY


def gone(instance: Instance) -> bool:
    """Whether the instance's job has certainly ended, or (without a job id) never came to be."""
    if instance.job_state in TERMINAL:
        return True
    if instance.absent < ABSENT_ANSWERS:
        return False
    if not instance.job_id:
        return True
    silent = instance.record is None or instance.failures > 0
    return instance.invalid and silent


def routable(instance: Instance) -> bool:
    """Whether relays may use it: ready and answering, draining or not."""
    return phase(instance) is Phase.READY and instance.record is not None


def seen(instance: Instance, job: QueueJob) -> Instance:
    """Fold in what squeue (or scontrol) says of its job.

    A job that runs anew under the same id (requeued) has a new front: the old record is dropped at once.
    """
    found = replace(
        instance,
        job_id=job.job_id,
        job_state=job.state,
        reason=job.reason,
        absent=0,
        invalid=False,
        submit_error="",
    )
    if job.state in RUNNING:
        if instance.started is not None and job.started is not None and instance.started != job.started:
            found = without_run(found)
        nodes = job.nodes or found.nodes
        return replace(found, started=job.started, ends=job.ends, nodes=nodes, expected_start=None)
    if job.state == COMPLETING or job.state in TERMINAL:
        return found
    return replace(without_run(found), expected_start=job.started)


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
    if record == instance.record or fingerprint(record) == instance.stale_record:
        return instance
    if instance.record is not None and instance.ready_at is not None:
        return instance
    return replace(instance, record=record, ready_at=None, failures=0, failing_since=None, sick=False)


def missing(instance: Instance, asked_at: float, settle: float) -> Instance:
    """Fold in a successful squeue answer, asked for at `asked_at`, that does not name the job.

    An answer younger than `settle` seconds after the intent says nothing about a submission whose job id
    is not known: the sbatch may still be on its way.
    """
    if not instance.job_id and asked_at < instance.created + settle:
        return instance
    return replace(instance, absent=instance.absent + 1, invalid=False)


def answered(instance: Instance, now: float) -> Instance:
    """Fold in a probe that the front answered with 200."""
    ready_at = now if instance.ready_at is None else instance.ready_at
    return replace(instance, ready_at=ready_at, failures=0, failing_since=None, sick=False)


def unanswered(instance: Instance, now: float) -> Instance:
    """Fold in a probe that failed; before the first success it says only "not yet"."""
    since = now if instance.failing_since is None else instance.failing_since
    failures = instance.failures + 1
    sick = failures >= SICK_AFTER and now - since >= SICK_FOR
    return replace(instance, failures=failures, failing_since=since, sick=sick)
