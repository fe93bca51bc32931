"""What one submission passes to sbatch: options, comment and environment. Pure.

What stands on sbatch's command line beats the script's own #SBATCH lines: so one script serves base and burst
instances, and what the model's entry asks for holds whatever a site's own template says.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sluice.contracts.models import ModelEntry, SlurmRequest
from sluice.scheduler.instances.instance import BASE, BURST

DIGEST = re.compile(r"[0-9a-f]{64}")
COMMENT = re.compile(r"sluice model=[A-Za-z0-9._-]{1,64} digest=([0-9a-f]{64})(?: kind=(base|burst))?")


@dataclass(frozen=True)
class Submission:
    """One sbatch: the script's text and what is said about it on the command line.

    `environment` is the job's; `options` are further options of sbatch.
    """

    name: str
    script: str
    comment: str
    directory: str
    environment: Mapping[str, str]
    options: tuple[str, ...] = ()


def comment(model: str, digest: str, kind: str = BASE) -> str:
    """Return a job's comment: by it the site's accounting tells models apart, and a lost state is rebuilt."""
    said = f"sluice model={model} digest={digest}"
    return said if kind == BASE else f"{said} kind={kind}"


def read_comment(text: str) -> tuple[str, str]:
    """Return digest ("" where there is none) and kind of a job by its comment.

    A bare digest is what earlier versions wrote.
    """
    if DIGEST.fullmatch(text):
        return text, BASE
    found = COMMENT.fullmatch(text)
    return ("", BASE) if found is None else (found[1], found[2] or BASE)


def charge(asked: SlurmRequest) -> str:
    """Return the account, partition and QOS of a base instance in words: what Slurm's limits are about.

    What none is named of is Slurm's default one, the same for all models that name none.
    """
    named = {"account": asked.account, "partition": asked.partition, "qos": asked.qos}
    for option in asked.extra:
        key, _, value = option[2:].partition("=")
        if option.startswith("--") and key in named:
            named[key] = value
    return " ".join(f"{key}={value or '(default)'}" for key, value in named.items())


def options(entry: ModelEntry, kind: str, exclude: Iterable[str] = ()) -> tuple[str, ...]:
    """Return the options of a base or burst instance, kept off the nodes in `exclude`."""
    asked, burst = entry.slurm, entry.burst if kind == BURST else None
    given: dict[str, str] = {}
    if burst is not None:
        given = {"partition": burst.partition, "account": burst.account, "qos": burst.qos}
        given["time"] = str(burst.time or "")
    reservation, nice, time_min = asked.reservation, asked.nice, asked.time_min
    requeue = asked.requeue
    if burst is not None:
        reservation, nice = burst.reservation or reservation, burst.nice or nice
        # A shorter time keeps the least time below it: sbatch refuses the pair otherwise.
        time_min, requeue = min(burst.time_min or time_min, burst.time or asked.time), burst.requeue
    given["reservation"] = reservation
    given["nice"] = str(nice or "")
    given["time-min"] = str(time_min or "")
    given["exclude"] = ",".join(exclude)
    said = tuple(f"--{name}={value}" for name, value in given.items() if value)
    return (*said, "--requeue" if requeue else "--no-requeue")
