"""Slurm's commands: argv lists in, Known or Unknown out.

Every exit status, time-out and unexpected answer is checked. An answer that cannot be understood as a whole
is Unknown, never "no jobs". The commands get a small environment of their own: SLURM_*, SBATCH_*, SQUEUE_*
and other variables of the account do not reach them.
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
# What sbatch --parsable prints: the job's id and, with several clusters, the cluster that took it.
SUBMITTED = re.compile(r"([0-9]{1,10})(?:;([A-Za-z0-9._-]{1,80}))?")
CLUSTER_NAME = re.compile(r"^ClusterName\s*=\s*(\S+)\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Astray:
    """A job that was submitted to another cluster, where it must be cancelled."""

    job_id: str
    cluster: str


class Slurm:
    """The commands in `bin_dir`, with `timeout` seconds for each; an empty `conf` leaves SLURM_CONF unset."""

    def __init__(self, bin_dir: str, conf: str, timeout: float) -> None:
        self._bin = Path(bin_dir)
        self._conf = conf
        self._timeout = timeout
        self._cluster = ""

    def queue(self) -> Union[Known[tuple[QueueJob, ...]], Unknown]:
        """Return all jobs of this account, also those that Sluice did not submit, and ended ones still shown.

        A job whose line was not understood has no state. One that has no id either stands for any number.
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
        """Return one job, or Known(None) if Slurm says that there is no such job."""
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

        After Unknown, Slurm may have the job or not: sbatch may have been killed after the controller
        accepted it. The caller looks for the name in the queue before it submits again.
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
        """Ask Slurm to cancel a job. The name protects another job that may have got the same id.

        The name is "" for a renamed job, which was just seen under its id. `cluster` is "" for our own.
        """
        finished = self._run(cancel_command(job_id, name, cluster))
        if isinstance(finished, Unknown):
            return finished
        if finished.status != 0 and INVALID_ID not in finished.errors:
            return Unknown(f"scancel: {finished.message()}")
        return Known(None)

    def _ours(self, cluster: str) -> bool:
        """Whether this is the name of our own cluster; that name is looked up once."""
        if not self._cluster:
            finished = self._run(["scontrol", "show", "config"])
            found = None if isinstance(finished, Unknown) else CLUSTER_NAME.search(finished.output)
            self._cluster = "" if found is None else found[1].lower()
        # If our own name is not known, the answer is no: the job is cancelled rather than lost.
        return cluster.lower() == self._cluster

    def _run(
        self, argv: Sequence[str], text: str = "", more: Optional[Mapping[str, str]] = None
    ) -> Union[Finished, Unknown]:
        """Run one command with `text` as its input and the variables in `more` added to its environment."""
        try:
            variables = {**programs.environment(str(self._bin), self._conf), **(more or {})}
        except LookupError as error:
            return Unknown(str(error.args[0]))
        try:
            return programs.run([str(self._bin / argv[0]), *argv[1:]], text, variables, self._timeout)
        except OSError as error:
            return Unknown(f"{argv[0]}: {error.strerror}; is slurm_bin ({self._bin}) right?")


def queue_command(mark: str) -> list[str]:
    """Return the argv of a tick's one squeue, with `mark` between the text fields."""
    # Without --local, a federated view shows other clusters' jobs under their ids. Without --all, jobs in
    # hidden partitions are not shown even to their own account.
    shown = ["--noheader", "--local", "--all", "--states=all", f"--user={os.getuid()}"]
    return ["squeue", *shown, f"--format={squeue.queue_format(mark)}"]


def cancel_command(job_id: str, name: str, cluster: str = "", account: Optional[int] = None) -> list[str]:
    """Return the argv of one scancel; `account` is the id of the jobs' account, ours by default."""
    # As a number, because looking up a name may fail.
    user = str(os.getuid() if account is None else account)
    given = {"clusters": cluster, "user": user, "name": name}
    return ["scancel", *(f"--{option}={value}" for option, value in given.items() if value), job_id]


def submit_command(submission: Submission) -> list[str]:
    """Return the argv of one sbatch; it reads the script from its input, so it is the one with the digest.

    The job gets sbatch's own small environment with the submission's variables. With any other --export Slurm
    would run the account's login profile on the node and give the job all the variables set there.
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
