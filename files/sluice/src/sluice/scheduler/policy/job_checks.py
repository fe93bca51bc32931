"""What one instance's job shows: whether it failed, waits permanently, is held, or was preempted. Pure."""

from __future__ import annotations

from sluice.scheduler.instances.instance import BURST, NOT_THE_MODELS_FAULT, Instance, treatment_of
from sluice.scheduler.instances.reasons import Treatment
from sluice.scheduler.policy.refusal import Cause, parse_refusal

# A start that stays up this long counts as good, and one that ends sooner as failed.
STEADY = 60.0
# Slurm's reason for a job that it has put back into its queue, with a start that it set itself.
REQUEUED = "BeginTime"


def held_by_person(instance: Instance) -> bool:
    """Whether a person holds the job in Slurm's queue: it is left alone, and nothing takes its place."""
    return treatment_of(instance) is Treatment.LEFT


def waiting_for(instance: Instance) -> str:
    """Return what Slurm says of a job that waits: its reason, and its state where that is not PENDING."""
    words = (instance.job_state if instance.job_state != "PENDING" else "", instance.reason)
    return " ".join(word for word in words if word not in ("", "None"))


def queue_obstacle(instance: Instance) -> str:
    """Return what people should know of a job that waits in Slurm's queue, "" where nothing is amiss."""
    found = treatment_of(instance)
    if found is Treatment.LEFT:
        return f"job {instance.job_id} is held ({instance.reason}): scontrol release {instance.job_id}"
    if found in (Treatment.TELLS, Treatment.GIVES_UP):
        return f"job {instance.job_id} waits in Slurm's queue: {waiting_for(instance)}"
    return ""


def requeued(instance: Instance) -> bool:
    """Whether Slurm requeued the job of a base instance that had come up: for minutes it may not start.

    One that never published a record may have been submitted with a start of its own.
    """
    return instance.reason == REQUEUED and bool(instance.stale_record) and instance.kind != BURST


def ended_by_others(instance: Instance) -> bool:
    """Whether a gone instance's job was ended by others before it was ready."""
    ours = instance.cancelled_at is not None or instance.draining_since is not None
    return bool(instance.job_id) and instance.ready_at is None and not ours


def failure(instance: Instance, now: float) -> str:
    """Return why a gone instance counts as a failed start, or "" if it does not.

    An instance that we cancelled was counted when it was cancelled, if at all. A submission whose sbatch was
    never seen to fail (the scheduler was killed), or that a limit refused, is nobody's fault; nor is a job
    that Slurm took back, or whose node broke.
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
