"""Slurm's commands: argv lists in, Known or Unknown out.

Every exit status, time-out and unexpected answer is looked at; what cannot be understood as a whole is
Unknown, never "no jobs". Slurm's and the user's own settings (SLURM_*, SBATCH_*, SQUEUE_*, …) do not reach
the commands: they get a small environment of their own.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Union

from sluice.scheduler.instances.instance import QueueJob
from sluice.scheduler.slurm import programs, squeue
from sluice.scheduler.slurm.programs import MAX_MESSAGE, Finished, Known, Unknown
from sluice.scheduler.slurm.submission import Submission

INVALID_ID = "Invalid job id specified"
# What sbatch answers: the job's id, and with several clusters the one that it is on.
SUBMITTED = re.compile(r"([0-9]{1,10})(?:;([A-Za-z0-9._-]{1,80}))?")
CLUSTER_NAME = re.compile(r"^ClusterName\s*=\s*(\S+)\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Astray:
    """A job that landed on another cluster, where it must be cancelled."""

    job_id: str
    cluster: str


class Slurm:
    """The commands in `bin_dir`, each given `timeout` seconds; an empty `conf` leaves the choice to Slurm."""

    def __init__(self, bin_dir: str, conf: str, timeout: float) -> None:
        self._bin = Path(bin_dir)
        self._conf = conf
        self._timeout = timeout
        self._cluster = ""

    def queue(self) -> Union[Known[tuple[QueueJob, ...]], Unknown]:
        """Return this account's jobs, ended ones included while Slurm shows them, others' under its name too.

        One without a state is there and was not understood; one without an id too stands for any number.
        """
        mark = squeue.new_mark()
        finished = self._run(queue_command(mark))
        if isinstance(finished, Unknown):
            return finished
        if finished.status != 0:
            return Unknown(f"squeue: {finished.message()}")
        try:
            return Known(squeue.parse_queue(finished.output, mark))
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
            return Known(squeue.parse_job(finished.output, job_id))
        except ValueError as error:
            return Unknown(f"scontrol: {error}"[:MAX_MESSAGE])

    def submit(self, submission: Submission) -> Union[Known[str], Astray, Unknown]:
        """Submit a job and return its id.

        Unknown leaves open whether Slurm has it: sbatch may have been cut off after the controller took the
        job. The caller looks for the name in the queue before it submits again.
        """
        finished = self._run(submit_command(submission), submission.script, submission.environment)
        if isinstance(finished, Unknown):
            return finished
        if finished.status != 0:
            return Unknown(finished.message())
        found = SUBMITTED.fullmatch(finished.output.strip())
        if found is None:
            return Unknown(f"sbatch answered {finished.output[:80]!r} instead of a job id")
        job_id, cluster = found.groups()
        return Astray(job_id, cluster) if cluster and not self._ours(cluster) else Known(job_id)

    def cancel(self, job_id: str, name: str, cluster: str = "") -> Union[Known[None], Unknown]:
        """Ask Slurm to end a job. The name guards against an id that by now belongs to another job.

        It is "" for a job that was renamed, and seen under its id a moment ago. `cluster` is "" for ours.
        """
        finished = self._run(cancel_command(job_id, name, cluster))
        if isinstance(finished, Unknown):
            return finished
        if finished.status != 0 and INVALID_ID not in finished.errors:
            return Unknown(f"scancel: {finished.message()}")
        return Known(None)

    def _ours(self, cluster: str) -> bool:
        """Whether a cluster is the one that is asked when none is named; its name is looked up once."""
        if not self._cluster:
            finished = self._run(["scontrol", "show", "config"])
            found = None if isinstance(finished, Unknown) else CLUSTER_NAME.search(finished.output)
            self._cluster = "" if found is None else found[1].lower()
        # Where the name cannot be told a job is given up rather than lost.
        return cluster.lower() == self._cluster

    def _run(
        self, argv: Sequence[str], text: str = "", more: Optional[Mapping[str, str]] = None
    ) -> Union[Finished, Unknown]:
        """Run one command with `text` as its input and `more` variables in its environment."""
        try:
            variables = {**programs.environment(str(self._bin), self._conf), **(more or {})}
        except LookupError as error:
            return Unknown(str(error.args[0]))
        try:
            return programs.run([str(self._bin / argv[0]), *argv[1:]], text, variables, self._timeout)
        except OSError as error:
            return Unknown(f"{argv[0]}: {error.strerror}; is slurm_bin ({self._bin}) right?")


def queue_command(mark: str) -> list[str]:
    """Return the argv of the one squeue of a tick, whose texts are parted by `mark`."""
    # Without --local a federation that is displayed as one shows other clusters' jobs under their ids;
    # without --all jobs in partitions that are hidden are not shown to their own account.
    shown = ["--noheader", "--local", "--all", "--states=all", f"--user={os.getuid()}"]
    return ["squeue", *shown, f"--format={squeue.queue_format(mark)}"]


def cancel_command(job_id: str, name: str, cluster: str = "", account: Optional[int] = None) -> list[str]:
    """Return the argv of one scancel, for our own jobs unless `account` (an id) is another."""
    # A number: a name would have to be looked up.
    user = str(os.getuid() if account is None else account)
    given = {"clusters": cluster, "user": user, "name": name}
    return ["scancel", *(f"--{option}={value}" for option, value in given.items() if value), job_id]


def submit_command(submission: Submission) -> list[str]:
    """Return the argv of one sbatch; the script goes to its input, so that it is what was digested.

    The job gets sbatch's own small environment and the submission's variables. With any other --export Slurm
    would run the account's login profile on the node, and the job would start with all that it sets.
    """
    return [
        "sbatch",
        "--parsable",
        f"--job-name={submission.name}",
        f"--comment={submission.comment}",
        f"--chdir={submission.directory}",
        f"--output={submission.directory}/output",
        "--open-mode=append",
        "--export=ALL",
        *submission.options,
    ]
