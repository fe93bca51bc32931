"""What sbatch's refusals mean: what caused them, and so which models wait. Pure.

A limit that the service has reached, or a controller that cannot be asked, is no failure of the model that
happened to be next. Words are Slurm's own, 20.11 to 25.05; sites' job_submit plugins say what they like.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from sluice.scheduler.instances.instance import Instance
from sluice.scheduler.policy.memory import Backoff, doubled


class Cause(enum.Enum):
    """Why sbatch took no job.

    SITE: a limit of the whole cluster on how many jobs there may be, whoever's the next is. LIMIT: one of an
    account, a partition or a QOS on how many jobs it may have. TRANSIENT: the controller could not be asked,
    or cannot take jobs now. MODEL: Slurm takes none like this one now (a plugin, a limit of its QOS on a
    job's size, a partition that is down). INVALID: it never will, until the model's definition or the site
    changes.
    """

    SITE = "site limit"
    LIMIT = "limit of an account, partition or QOS"
    TRANSIENT = "transient"
    MODEL = "this model"
    INVALID = "invalid"


@dataclass(frozen=True)
class Refusal:
    """One refusal: its cause, and what to tell people."""

    cause: Cause
    reason: str


# In the order in which they are looked for: a limit's own name comes with a general sentence behind it.
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
# A limit on the size of a job, told with the same general sentence as limits on their number.
SIZE_WORDS = ("cpu", "node", "mem", "tres", "wall", "gres", "minutes", "mins")


def parse_refusal(message: str) -> Refusal:
    """Return what a refusal means, of sbatch's own words; what is not known counts against the model."""
    text = " ".join(message.split())[:300]
    low = text.lower()
    cause = next((cause for cause, words in WORDS if any(word in low for word in words)), Cause.INVALID)
    return Refusal(Cause.MODEL if cause is Cause.LIMIT and _of_size(low) else cause, text)


def _of_size(low: str) -> bool:
    """Whether the limit's own name speaks of a job's size, and the general sentence of numbers is an echo."""
    named = [word for word in low.split() if word.startswith(("qos", "assoc", "maxjob"))]
    return any(size in word for word in named for size in SIZE_WORDS)


def backoff_after(
    backoff: Backoff, submissions: Iterable[Instance], causes: Collection[Cause], first: float, now: float
) -> Backoff:
    """Return the back-off after what became of the submissions since the last one that it knows of.

    It begins with `first` seconds and doubles for each further refusal of these causes; a submission that
    Slurm took ends it.
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
