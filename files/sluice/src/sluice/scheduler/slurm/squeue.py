"""The questions to squeue and scontrol about jobs, and how to read their answers. Pure.

Names, comments and reasons are free text: jobs, plugins and operators write what they like into them, line
ends and separators too, and squeue prints it as it is. So each question has a mark of its own, random and
new, around every text: what lies between two marks is text, whatever it looks like, and nothing else is.
What says how a job is comes before its first mark, and only Slurm writes that.

One job that is not understood is that job's matter: it is given back without a state. A job without an id too
stands for whatever could not be told at all.
"""

from __future__ import annotations

import datetime
import functools
import re
import secrets
from collections.abc import Mapping
from typing import Optional

from sluice.contracts.words import JOB_ID
from sluice.scheduler.instances.instance import QueueJob
from sluice.scheduler.slurm.hostlist import expand
from sluice.scheduler.slurm.submission import read_comment

# Texts are cut: ours are shorter (a name has 80 bytes at most, a comment 160), and nobody's fills the answer.
FACTS = "%A|%T|%V|%S|%e|%N"
TEXTS = ("%200r", "%200k", "%Z", "%100j")
STATE = re.compile(r"[A-Z_]{2,40}")
TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}")
NO_TIME = ("N/A", "Unknown", "NONE", "None", "(null)", "")
# What is read of scontrol's answer. Each is there once in every version; free text may hold it once more.
READ = ("JobId", "JobName", "JobState", "Reason", "StartTime", "EndTime", "NodeList", "WorkDir")


def new_mark() -> str:
    """Return a mark that no text can hold, since it was not there when the text was written."""
    return secrets.token_hex(8)


def queue_format(mark: str) -> str:
    """Return the format that squeue is asked with."""
    between = _between(mark)
    return f"{FACTS}{between}{between.join(TEXTS)}{_end(mark)}"


def _between(mark: str) -> str:
    return f"|{mark}|"


def _end(mark: str) -> str:
    return f"|{mark}."


def parse_queue(text: str, mark: str) -> tuple[QueueJob, ...]:
    """Read squeue's answer to a question with this mark; each job of the account is there.

    Raises ValueError for an answer in which there is no job but something else.
    """
    *pieces, rest = text.split(_end(mark))
    jobs = [_job(piece, mark) for piece in pieces]
    noise = rest.strip() or any(
        piece.partition(_between(mark))[0].strip("\n").count("\n") for piece in pieces
    )
    if noise and not jobs:
        raise ValueError(f"answer not understood: {text[:120]!r}")
    # Cut off, or something else between the lines: who is not there may yet be.
    return (*jobs, QueueJob("", "", "")) if noise else tuple(jobs)


def _job(piece: str, mark: str) -> QueueJob:
    """Read one job, with whatever came before it."""
    facts, *texts = piece.split(_between(mark))
    # Nothing that Slurm alone writes holds a line end.
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
    """Read `scontrol --oneliner show job` for one job.

    Raises ValueError if it is not that job, or if free text in it looks like what is read.
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
            # Which of the two is Slurm's cannot be told: a job's name comes before its state.
            raise ValueError(f"answer not understood: {key} appears twice")
        found[key] = value
    return found


# A few thousand jobs repeat their times from answer to answer.
@functools.lru_cache(maxsize=16_384)
def parse_time(text: str) -> Optional[float]:
    """Read a time as Slurm prints it for TZ=UTC; None where it has none. Raises ValueError."""
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
        # A job whose nodes cannot be told stays known; its record will not be accepted.
        return ()
