"""What an instance's job tells: whether it is held, waits for something, was requeued, or failed. Pure."""

from __future__ import annotations

from sluice.scheduler.instances.instance import BURST, NOT_THE_MODELS_FAULT, Instance, treatment_of
from sluice.scheduler.instances.reasons import Treatment
from sluice.scheduler.policy.refusal import Cause, parse_refusal

# An instance that stays ready for so long proves its model good; one that ends sooner is a failed start.
STEADY = 60.0
# Slurm's reason for a job that it requeued and that may start only at a later time.
REQUEUED = "BeginTime"


def held_by_person(instance: Instance) -> bool:
    """Whether a person holds the job in Slurm's queue: it is left alone and not replaced."""
    return treatment_of(instance) is Treatment.LEFT


def waiting_for(instance: Instance) -> str:
    """Return why a job waits, as Slurm says: its state if that is not PENDING, and its reason."""
    words = (instance.job_state if instance.job_state != "PENDING" else "", instance.reason)
    return " ".join(word for word in words if word not in ("", "None"))


def queue_obstacle(instance: Instance) -> str:
    """Return the obstacle that a job in Slurm's queue shows, for people; "" if it only waits its turn."""
    found = treatment_of(instance)
    if found is Treatment.LEFT:
        return f"job {instance.job_id} is held ({instance.reason}): scontrol release {instance.job_id}"
    if found in (Treatment.TELLS, Treatment.GIVES_UP):
        return f"job {instance.job_id} waits in Slurm's queue: {waiting_for(instance)}"
    return ""


def requeued(instance: Instance) -> bool:
    """Whether Slurm requeued a base instance's job that had started: it may not start again for minutes.

    A job that never published a record may have been submitted with a start time of its own.
    """
    return instance.reason == REQUEUED and bool(instance.stale_record) and instance.kind != BURST


def ended_by_others(instance: Instance) -> bool:
    """Whether a gone instance's job ended before it was ready, and we did not end it."""
    ours = instance.cancelled_at is not None or instance.draining_since is not None
    return bool(instance.job_id) and instance.ready_at is None and not ours


def failure(instance: Instance, now: float) -> str:
    """Return why a gone instance counts as a failed start, or "" if it does not.

    An instance that we cancelled was counted when it was cancelled, if at all. These do not count: a
    submission whose sbatch answer was lost because the scheduler was killed, one that a limit refused, a job
    that Slurm preempted, and a job whose node failed.
    """
    if instance.cancelled_at is not None or instance.draining_since is not None:
        return ""
    if not instance.job_id:
        invalid = instance.submit_error and parse_refusal(instance.submit_error).cause is Cause.INVALID
        return f"sbatch: {instance.submit_error}" if invalid else ""
    state = instance.job_state or "lost"
    if state in NOT_THE_MODELS_FAULT or instance.leaving not in ("", "warned"):
        return ""
    if instance.ready_at is None:
        return f"job {instance.job_id} ended ({state}) before it was ready"
    if now - instance.ready_at < STEADY:
        return f"job {instance.job_id} ended ({state}) soon after it was ready"
    return ""
