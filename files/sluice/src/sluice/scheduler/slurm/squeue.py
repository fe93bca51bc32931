"""The questions to squeue and scontrol about jobs, and how to read their answers. Pure.

Names, comments and reasons are free text: jobs, plugins and administrators can write anything into them, also
line ends and separators, and squeue prints it unchanged. So each query uses a new random mark around every
text field: only what lies between two marks is text, whatever it looks like. The fields about a job's state
come before its first mark, and only Slurm writes those.

A job that is not understood is returned without a state; the other jobs are not affected. A job that has no
id either stands for any number of jobs that could not be read.
"""

from __future__ import annotations

import datetime
import functools
import re
import secrets
from collections.abc import Mapping
from typing import Optional

from sluice.contracts.values import JOB_ID
from sluice.scheduler.instances.instance import QueueJob
from sluice.scheduler.slurm.hostlist import expand
from sluice.scheduler.slurm.submission import read_comment

# squeue cuts the texts to these lengths. Ours are shorter (a name has at most 80 bytes, a comment 160).
FACTS = "%A|%T|%V|%S|%e|%N"
TEXTS = ("%200r", "%200k", "%Z", "%100j")
STATE = re.compile(r"[A-Z_]{2,40}")
TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}")
NO_TIME = ("N/A", "Unknown", "NONE", "None", "(null)", "")
# The fields read from scontrol's answer. Every version prints each once; free text may contain it again.
READ = ("JobId", "JobName", "JobState", "Reason", "StartTime", "EndTime", "NodeList", "WorkDir")


def new_mark() -> str:
    """Return a random mark; no text can contain it, because it was created after the text."""
    return secrets.token_hex(8)


def queue_format(mark: str) -> str:
    """Return the value of squeue's --format."""
    between = _between(mark)
    return f"{FACTS}{between}{between.join(TEXTS)}{_end(mark)}"


def _between(mark: str) -> str:
    return f"|{mark}|"


def _end(mark: str) -> str:
    return f"|{mark}."


def parse_queue(text: str, mark: str) -> tuple[QueueJob, ...]:
    """Return all jobs in squeue's answer to a query with this mark.

    Raises ValueError for an answer that has no job but something else.
    """
    *pieces, rest = text.split(_end(mark))
    jobs = [_job(piece, mark) for piece in pieces]
    noise = rest.strip() or any(
        piece.partition(_between(mark))[0].strip("\n").count("\n") for piece in pieces
    )
    if noise and not jobs:
        raise ValueError(f"answer not understood: {text[:120]!r}")
    # The answer was cut off, or has other text between the lines: there may be more jobs than are listed.
    return (*jobs, QueueJob("", "", "")) if noise else tuple(jobs)


def _job(piece: str, mark: str) -> QueueJob:
    """Read one job; the piece may begin with other text."""
    facts, *texts = piece.split(_between(mark))
    # The fields that only Slurm writes contain no line end.
    job_id, *fields = facts.rpartition("\n")[2].split("|")
    if not JOB_ID.fullmatch(job_id) or len(texts) != len(TEXTS):
        return QueueJob("", "", "")
    reason, comment, directory, name = (one.rstrip(" ") for one in texts)
    digest, kind = read_comment(comment)
    try:
        state, submitted, started, ends, nodes = fields
        return QueueJob(
            job_id=job_id,
            name=name,
            state=_state(state),
            reason=reason,
            digest=digest,
            kind=kind,
            submitted=parse_time(submitted),
            started=parse_time(started),
            ends=parse_time(ends),
            nodes=_nodes(nodes),
            directory=directory,
        )
    except ValueError:
        return QueueJob(job_id, name, "", directory=directory)


def parse_job(text: str, job_id: str) -> QueueJob:
    """Read the answer of `scontrol --oneliner show job`.

    Raises ValueError if it is about another job, or if free text in it looks like a field that is read.
    """
    fields = _fields(text)
    if fields.get("JobId") != job_id:
        raise ValueError(f"answer not understood: {text[:120]!r}")
    return QueueJob(
        job_id=job_id,
        name=fields.get("JobName", ""),
        state=_state(fields.get("JobState", "")),
        reason=fields.get("Reason", ""),
        started=parse_time(fields.get("StartTime", "")),
        ends=parse_time(fields.get("EndTime", "")),
        nodes=_nodes(fields.get("NodeList", "")),
        directory=fields.get("WorkDir", ""),
    )


def _fields(text: str) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for word in text.split():
        key, separator, value = word.partition("=")
        if not separator or key not in READ:
            continue
        if key in found:
            # Nobody can tell which of the two Slurm wrote: a job's name comes before its state.
            raise ValueError(f"answer not understood: {key} appears twice")
        found[key] = value
    return found


# Cached: a few thousand jobs have the same times in every answer.
@functools.lru_cache(maxsize=16_384)
def parse_time(text: str) -> Optional[float]:
    """Return a time that Slurm printed with TZ=UTC, in seconds since the epoch; None for none.

    Raises ValueError.
    """
    if text in NO_TIME:
        return None
    if not TIME.fullmatch(text):
        raise ValueError(f"time not understood: {text[:40]!r}")
    return datetime.datetime.fromisoformat(f"{text}+00:00").timestamp()


def _state(text: str) -> str:
    if not STATE.fullmatch(text):
        raise ValueError(f"job state not understood: {text[:40]!r}")
    return text


@functools.lru_cache(maxsize=4096)
def _nodes(text: str) -> tuple[str, ...]:
    if text in ("", "(null)", "None assigned", "n/a"):
        return ()
    try:
        return expand(text)
    except ValueError:
        # The job stays known, but its record will not be accepted.
        return ()
