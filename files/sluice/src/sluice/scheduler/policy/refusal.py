"""What sbatch's refusals mean: their cause, and so which models wait. Pure.

A limit that the service has reached, or a controller that does not answer, is not a failure of the model that
happened to be next. The words are those of Slurm 20.11 to 25.05; a site's job_submit plugin can print any.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from sluice.scheduler.instances.instance import Instance
from sluice.scheduler.policy.memory import Backoff, doubled


class Cause(enum.Enum):
    """Why sbatch accepted no job.

    SITE: the whole cluster has as many jobs as its limit allows. LIMIT: an account, a partition or a QOS has
    as many jobs as its limit allows. TRANSIENT: the controller did not answer, or cannot accept jobs now.
    MODEL: Slurm accepts no job like this one now (a plugin, a limit of its QOS on a job's size, a partition
    that is down). INVALID: Slurm never will, until the model's definition or the site changes.
    """

    SITE = "site limit"
    LIMIT = "limit of an account, partition or QOS"
    TRANSIENT = "transient"
    MODEL = "this model"
    INVALID = "invalid"


@dataclass(frozen=True)
class Refusal:
    """One refusal: its cause, and sbatch's message for people."""

    cause: Cause
    reason: str


# Searched in this order: a message has the limit's own name first, then a general sentence.
WORDS: tuple[tuple[Cause, tuple[str, ...]], ...] = (
    (
        Cause.SITE,
        (
            "maxjobcount",
            "temporarily unable to accept job",
            "resource temporarily unavailable",
        ),
    ),
    (
        Cause.LIMIT,
        (
            "maxsubmitjob",
            "grpsubmitjob",
            "job submit limit",
            "usage threshold",
        ),
    ),
    (
        Cause.TRANSIENT,
        (
            "timed out",
            "no answer within",
            "rate limit exceeded",
            "unable to create job record",
            "unable to contact slurm controller",
            "connection refused",
            "connection reset",
            "standby mode",
            "zero bytes were transmitted",
            "communication connection failure",
            "slurmctld is not responding",
            "i/o error writing script",
            "authentication",
            "munge",
            "slurmdbd",
            "no such file or directory",
            "temporary failure in name resolution",
        ),
    ),
    (
        Cause.MODEL,
        (
            "job_submit",
            "job submit plugin",
            "unspecified error",
            "accounting/qos policy",
            "partition not available",
            "partition configuration not available",
            "node not available",
            "not usable now",
            "maximum number of steps",
            "burst buffer",
            "licenses",
        ),
    ),
)
# Words in the names of limits on a job's size: their messages have the same general sentence as limits on
# the number of jobs.
SIZE_WORDS = ("cpu", "node", "mem", "tres", "wall", "gres", "minutes", "mins")


def parse_refusal(message: str) -> Refusal:
    """Return what a message of sbatch means; an unknown message is INVALID and counts against the model."""
    text = " ".join(message.split())[:300]
    low = text.lower()
    cause = next((cause for cause, words in WORDS if any(word in low for word in words)), Cause.INVALID)
    return Refusal(Cause.MODEL if cause is Cause.LIMIT and _of_size(low) else cause, text)


def _of_size(low: str) -> bool:
    """Whether the limit's own name is about a job's size, although the general sentence is about numbers."""
    named = [word for word in low.split() if word.startswith(("qos", "assoc", "maxjob"))]
    return any(size in word for word in named for size in SIZE_WORDS)


def backoff_after(
    backoff: Backoff, submissions: Iterable[Instance], causes: Collection[Cause], first: float, now: float
) -> Backoff:
    """Return the back-off after the outcome of the submissions that it does not know yet.

    It begins with `first` seconds and doubles with each further refusal for one of `causes`. A submission
    that Slurm accepted ends it.
    """
    told = [one for one in submissions if one.created > backoff.at and (one.submit_error or backoff.count)]
    if not told:
        return backoff
    since = sorted(
        (one for one in told if one.job_id or one.submit_error),
        key=lambda one: (one.created, one.id),
    )
    if backoff.count and any(one.job_id for one in since):
        backoff = Backoff(at=since[-1].created)
    refusals = [parse_refusal(one.submit_error) for one in since if not one.job_id]
    ours = [refusal for refusal in refusals if refusal.cause in causes]
    if not ours:
        return backoff
    count = backoff.count + 1
    return replace(
        backoff,
        count=count,
        at=since[-1].created,
        until=now + doubled(first, count),
        reason=f"Slurm accepts no submission now: {ours[-1].reason}",
    )
