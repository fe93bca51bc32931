"""What one submission passes to sbatch: options, comment and environment. Pure.

Options on sbatch's command line override the script's #SBATCH lines. So one script serves base and burst
instances, and the model's entry decides, whatever a site's own template contains.
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
    """One call of sbatch: the script's text, and what the command line says about it.

    `environment`: the job's variables. `options`: further options of sbatch.
    """

    name: str
    script: str
    comment: str
    directory: str
    environment: Mapping[str, str]
    options: tuple[str, ...] = ()


def comment(model: str, digest: str, kind: str = BASE) -> str:
    """Return a job's comment. Slurm's accounting shows models by it, and a lost state is rebuilt from it."""
    said = f"sluice model={model} digest={digest}"
    return said if kind == BASE else f"{said} kind={kind}"


def read_comment(text: str) -> tuple[str, str]:
    """Return the digest ("" if there is none) and the kind in a job's comment.

    Earlier versions wrote only the digest.
    """
    if DIGEST.fullmatch(text):
        return text, BASE
    found = COMMENT.fullmatch(text)
    return ("", BASE) if found is None else (found[1], found[2] or BASE)


def slurm_scope(asked: SlurmRequest) -> str:
    """Return the scope of Slurm's limits on a base instance: its account, partition and QOS, as one text.

    A missing one is written as `(default)`, which is the same for all models that name none.
    """
    named = {"account": asked.account, "partition": asked.partition, "qos": asked.qos}
    for option in asked.extra:
        key, _, value = option[2:].partition("=")
        if option.startswith("--") and key in named:
            named[key] = value
    return " ".join(f"{key}={value or '(default)'}" for key, value in named.items())


def options(entry: ModelEntry, kind: str, exclude: Iterable[str] = ()) -> tuple[str, ...]:
    """Return sbatch's options for a base or burst instance that must not run on the nodes in `exclude`."""
    asked, burst = entry.slurm, entry.burst if kind == BURST else None
    given: dict[str, str] = {}
    if burst is not None:
        given = {"partition": burst.partition, "account": burst.account, "qos": burst.qos}
        given["time"] = str(burst.time or "")
    reservation, nice, time_min = asked.reservation, asked.nice, asked.time_min
    requeue = asked.requeue
    if burst is not None:
        reservation, nice = burst.reservation or reservation, burst.nice or nice
        # sbatch refuses a job whose --time-min is above its --time.
        time_min, requeue = min(burst.time_min or time_min, burst.time or asked.time), burst.requeue
    given["reservation"] = reservation
    given["nice"] = str(nice or "")
    given["time-min"] = str(time_min or "")
    given["exclude"] = ",".join(exclude)
    said = tuple(f"--{name}={value}" for name, value in given.items() if value)
    return (*said, "--requeue" if requeue else "--no-requeue")
