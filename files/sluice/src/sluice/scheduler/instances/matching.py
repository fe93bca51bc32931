"""Finds the job in the queue that belongs to an instance. Pure.

A job is followed by the id that Slurm gave it. Its name is text, which an administrator may change: it
tells whose a job is only while the id is not known, after a crash or a lost answer of sbatch. That an id has
come to another job (a controller that lost its state begins anew) is told by name and folder together.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Optional

from sluice.contracts.words import INSTANCE_ID
from sluice.scheduler.instances.instance import TERMINAL, Instance, QueueJob

JOB_PREFIX = "sluice:"
# It is there, or may be, and how it is cannot be told.
UNREADABLE = QueueJob("", "", "")


class QueueJobs:
    """The jobs of one answer of squeue; job folders lie in `root`, `known` are the ids of our instances."""

    def __init__(self, found: Iterable[QueueJob], root: str, known: Collection[str]) -> None:
        self._root = root
        self._by_id: dict[str, list[QueueJob]] = {}
        self._by_instance: dict[str, list[QueueJob]] = {}
        self._whole = True
        for job in found:
            self._whole = self._whole and bool(job.job_id)
            self._by_id.setdefault(job.job_id, []).append(job)
            for name in self._names(job, known):
                self._by_instance.setdefault(name, []).append(job)

    def named(self) -> Mapping[str, Sequence[QueueJob]]:
        """Return the jobs that bear our prefix or begin in an instance's folder, by the instance's id."""
        return self._by_instance

    @property
    def clear(self) -> bool:
        """Whether everything in the answer was understood."""
        return self._whole and all(job.state for found in self._by_instance.values() for job in found)

    def of(self, instance: Instance) -> Optional[QueueJob]:
        """Return the instance's job, UNTOLD where that cannot be told, or None where there is none."""
        if instance.job_id:
            found = [job for job in self._by_id.get(instance.job_id, ()) if not self._anothers(job, instance)]
            own = [job for job in found if job.state and self.owns(instance, job)]
        else:
            found = list(self._by_instance.get(instance.id, ()))
            own = [job for job in found if job.state]
        if own:
            return own_job(instance, own)
        return None if self._whole and not found else UNREADABLE

    def owns(self, instance: Instance, job: QueueJob) -> bool:
        """Whether a job that has the instance's id is the one that was submitted for it."""
        return job.name == instance.name or self._folder(job) == instance.id

    def _anothers(self, job: QueueJob, instance: Instance) -> bool:
        """Whether the id has come to the job of another of our instances."""
        return _named(job) not in ("", instance.id) and not self.owns(instance, job)

    def _names(self, job: QueueJob, known: Collection[str]) -> set[str]:
        folder = self._folder(job)
        names = {folder} if folder in known else set()
        return names | {job.name[len(JOB_PREFIX) :]} if job.name.startswith(JOB_PREFIX) else names

    def _folder(self, job: QueueJob) -> str:
        """Return the instance in whose folder a job begins, or ""."""
        root, _, name = job.directory.rpartition("/")
        return name if root == self._root.rstrip("/") and INSTANCE_ID.fullmatch(name) else ""


def _named(job: QueueJob) -> str:
    """Return the instance whose name a job bears to the letter, or ""."""
    prefix, rest = job.name[: len(JOB_PREFIX)], job.name[len(JOB_PREFIX) :]
    return rest if prefix == JOB_PREFIX and INSTANCE_ID.fullmatch(rest) else ""


def own_job(instance: Instance, found: Sequence[QueueJob]) -> Optional[QueueJob]:
    """Return the instance's job out of those that may be: the one with its id, if that is known.

    Before the id is known a job that has not ended is preferred, then the first submitted.
    """
    candidates = [job for job in found if instance.job_id in ("", job.job_id)]
    if len(candidates) > 1:
        candidates.sort(key=lambda job: (job.state in TERMINAL, int(job.job_id)))
    return candidates[0] if candidates else None
