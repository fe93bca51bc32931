"""Slurm's commands: argv lists in, Known or Unknown out.

Every exit status, time-out and unexpected answer is looked at; what cannot be understood as a whole is
Unknown, never "no jobs". Slurm's and the user's own settings (SLURM_*, SBATCH_*, SQUEUE_*, …) do not reach
the commands: they get a small environment of their own.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import os
import pwd
import re
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Optional, TypeVar, Union

from sluice.records import JOB_ID
from sluice.scheduler.instance import QueueJob
from sluice.scheduler.nodes import expand
from sluice.scheduler.submission import Submission, read_comment

T = TypeVar("T")

JOB_PREFIX = "sluice:"
# Job name last: what stands before the last bar cannot change it, whatever reason and comment contain.
QUEUE_FORMAT = "%A|%T|%V|%S|%e|%N|%r|%k|%j"
STATE = re.compile(r"[A-Z_]{2,40}")
TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}")
NO_TIME = ("N/A", "Unknown", "NONE", "None", "(null)", "")
INVALID_ID = "Invalid job id specified"
MAX_OUTPUT = 16 * 1024 * 1024
MAX_MESSAGE = 300


@dataclass(frozen=True)
class Known(Generic[T]):
    """Slurm answered, and the answer was understood."""

    value: T


@dataclass(frozen=True)
class Unknown:
    """Slurm did not answer, or not in a way that can be relied on; `reason` is for people."""

    reason: str


@dataclass(frozen=True)
class Finished:
    """A command that ended by itself."""

    status: int
    output: str
    errors: str

    def message(self) -> str:
        """Return one line for people: the status and the last of what was said."""
        said = " ".join((self.errors or self.output).split())
        return f"exit status {self.status}: {said}"[:MAX_MESSAGE]


class Slurm:
    """The commands in `bin_dir`, each given `timeout` seconds; an empty `conf` leaves the choice to Slurm."""

    def __init__(self, bin_dir: str, conf: str, timeout: float) -> None:
        self._bin = Path(bin_dir)
        self._conf = conf
        self._timeout = timeout

    def queue(self) -> Union[Known[tuple[QueueJob, ...]], Unknown]:
        """Return this account's jobs that bear our prefix, ended ones included while Slurm shows them."""
        # Without --local a federation that is displayed as one shows other clusters' jobs under their ids.
        shown = ["--noheader", "--local", "--states=all", f"--user={os.getuid()}"]
        argv = ["squeue", *shown, f"--format={QUEUE_FORMAT}"]
        finished = self._run(argv)
        if isinstance(finished, Unknown):
            return finished
        if finished.status != 0:
            return Unknown(f"squeue: {finished.message()}")
        try:
            return Known(parse_queue(finished.output))
        except ValueError as error:
            return Unknown(f"squeue: {error}"[:MAX_MESSAGE])

    def show(self, job_id: str) -> Union[Known[Optional[QueueJob]], Unknown]:
        """Return one job, or Known(None) when Slurm says that there is no such job."""
        finished = self._run(["scontrol", "--oneliner", "show", "job", job_id])
        if isinstance(finished, Unknown):
            return finished
        if finished.status != 0:
            if INVALID_ID in finished.errors + finished.output:
                return Known(None)
            return Unknown(f"scontrol: {finished.message()}")
        try:
            return Known(parse_job(finished.output, job_id))
        except ValueError as error:
            return Unknown(f"scontrol: {error}"[:MAX_MESSAGE])

    def submit(self, submission: Submission) -> Union[Known[str], Unknown]:
        """Submit a job and return its id.

        Unknown leaves open whether Slurm has it: sbatch may have been cut off after the controller took the
        job. The caller looks for the name in the queue before it submits again.
        """
        finished = self._run(submit_command(submission), submission.script)
        if isinstance(finished, Unknown):
            return finished
        if finished.status != 0:
            return Unknown(finished.message())
        # With several clusters the answer is "id;cluster".
        job_id = finished.output.strip().split(";")[0]
        if not JOB_ID.fullmatch(job_id):
            return Unknown(f"sbatch answered {finished.output[:80]!r} instead of a job id")
        return Known(job_id)

    def cancel(self, job_id: str, name: str) -> Union[Known[None], Unknown]:
        """Ask Slurm to end a job. The name guards against an id that by now belongs to another job."""
        finished = self._run(["scancel", f"--user={_account()}", f"--name={name}", job_id])
        if isinstance(finished, Unknown):
            return finished
        if finished.status != 0 and INVALID_ID not in finished.errors:
            return Unknown(f"scancel: {finished.message()}")
        return Known(None)

    def _run(self, argv: Sequence[str], text: str = "") -> Union[Finished, Unknown]:
        """Run one command with `text` as its input; after the time-out its whole process group is killed."""
        program = argv[0]
        try:
            process = subprocess.Popen(
                [str(self._bin / program), *argv[1:]],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=command_environment(str(self._bin), self._conf),
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            return Unknown(f"{program}: {error.strerror}; is slurm_bin ({self._bin}) right?")
        try:
            output, errors = process.communicate(text.encode(), timeout=self._timeout)
        except subprocess.TimeoutExpired:
            _kill_group(process)
            return Unknown(f"{program}: no answer within {self._timeout:g} s")
        if len(output) > MAX_OUTPUT:
            return Unknown(f"{program}: answer larger than {MAX_OUTPUT} bytes")
        return Finished(
            process.returncode, output.decode("utf-8", "replace"), errors.decode("utf-8", "replace")
        )


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    # A process in uninterruptible sleep is left to the kernel: waiting for it would stop the scheduler.
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=2)
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()


def _account() -> str:
    return pwd.getpwuid(os.getuid()).pw_name


def command_environment(bin_dir: str, conf: str) -> dict[str, str]:
    """Return the whole environment of a Slurm command.

    Times are printed in the client's time zone: UTC makes them readable without doubt.
    """
    home = pwd.getpwuid(os.getuid()).pw_dir
    environment = {"PATH": f"{bin_dir}:/usr/bin:/bin", "HOME": home, "LC_ALL": "C", "TZ": "UTC"}
    if conf:
        environment["SLURM_CONF"] = conf
    return environment


def submit_command(submission: Submission) -> list[str]:
    """Return the argv of one sbatch; the script goes to its input, so that it is what was digested."""
    for name, value in submission.environment.items():
        if "," in value or "=" in name:
            raise ValueError(f"{name}: {value!r} cannot be handed to a job, for its comma")
    export = ",".join(f"{name}={value}" for name, value in sorted(submission.environment.items()))
    return [
        "sbatch",
        "--parsable",
        f"--job-name={submission.name}",
        f"--comment={submission.comment}",
        f"--chdir={submission.directory}",
        f"--output={submission.directory}/output",
        "--open-mode=append",
        f"--export={export}",
        *submission.options,
    ]


def parse_queue(text: str) -> tuple[QueueJob, ...]:
    """Read squeue's answer. Raises ValueError if any line is not one of ours to the letter of the format."""
    jobs = []
    for line in text.split("\n"):
        if not line.strip():
            continue
        if line.count("|") < QUEUE_FORMAT.count("|"):
            raise ValueError(f"line not understood: {line[:120]!r}")
        job_id, state, submitted, started, ends, nodes, rest = line.split("|", 6)
        reason, comment, name = rest.rsplit("|", 2)
        if not name.startswith(JOB_PREFIX):
            continue
        digest, kind = read_comment(comment)
        jobs.append(
            QueueJob(
                job_id=_job_id(job_id),
                name=name,
                state=_state(state),
                reason=reason[:200],
                digest=digest,
                kind=kind,
                submitted=parse_time(submitted),
                started=parse_time(started),
                ends=parse_time(ends),
                nodes=_nodes(nodes),
            )
        )
    return tuple(jobs)


def parse_job(text: str, job_id: str) -> QueueJob:
    """Read `scontrol --oneliner show job` for one job. Raises ValueError if it is not that job."""
    fields: dict[str, str] = {}
    for word in text.split():
        key, separator, value = word.partition("=")
        if separator:
            # The first wins: later words may come from free text, such as a command line.
            fields.setdefault(key, value)
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
    )


# A few thousand jobs repeat their times from answer to answer.
@functools.lru_cache(maxsize=16_384)
def parse_time(text: str) -> Optional[float]:
    """Read a time as Slurm prints it for TZ=UTC; None where it has none. Raises ValueError."""
    if text in NO_TIME:
        return None
    if not TIME.fullmatch(text):
        raise ValueError(f"time not understood: {text[:40]!r}")
    return datetime.datetime.fromisoformat(f"{text}+00:00").timestamp()


def _job_id(text: str) -> str:
    if not JOB_ID.fullmatch(text):
        raise ValueError(f"job id not understood: {text[:40]!r}")
    return text


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
