"""Finds the job in the queue that belongs to an instance. Pure.

A job is followed by the id that Slurm gave it. Its name is text that an administrator may change, so it
counts only while the id is not known: after a crash, or when sbatch's answer was lost. A controller that
lost its state may give the same id to another job; name and working directory together show that.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Optional

from sluice.contracts.values import INSTANCE_ID
from sluice.scheduler.instances.instance import TERMINAL, Instance, QueueJob

JOB_PREFIX = "sluice:"
# Stands for a job that is, or may be, in the queue and whose state cannot be read.
UNREADABLE = QueueJob("", "", "")


class QueueJobs:
    """The jobs of one squeue answer; job directories are below `root`, `known` are our instances' ids."""

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
        """Return, by instance id, the jobs with our name prefix or a known instance's working directory."""
        return self._by_instance

    @property
    def clear(self) -> bool:
        """Whether everything in the answer was understood."""
        return self._whole and all(job.state for found in self._by_instance.values() for job in found)

    def of(self, instance: Instance) -> Optional[QueueJob]:
        """Return the instance's job, UNREADABLE if its state cannot be read, or None if it has none."""
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
        """Whether a job with the instance's job id is the one that was submitted for it."""
        return job.name == instance.name or self._folder(job) == instance.id

    def _anothers(self, job: QueueJob, instance: Instance) -> bool:
        """Whether Slurm gave the id to the job of another of our instances."""
        return _named(job) not in ("", instance.id) and not self.owns(instance, job)

    def _names(self, job: QueueJob, known: Collection[str]) -> set[str]:
        folder = self._folder(job)
        names = {folder} if folder in known else set()
        return names | {job.name[len(JOB_PREFIX) :]} if job.name.startswith(JOB_PREFIX) else names

    def _folder(self, job: QueueJob) -> str:
        """Return the instance whose directory is the job's working directory, or ""."""
        root, _, name = job.directory.rpartition("/")
        return name if root == self._root.rstrip("/") and INSTANCE_ID.fullmatch(name) else ""


def _named(job: QueueJob) -> str:
    """Return the instance that a job's name states in our exact form, or ""."""
    prefix, rest = job.name[: len(JOB_PREFIX)], job.name[len(JOB_PREFIX) :]
    return rest if prefix == JOB_PREFIX and INSTANCE_ID.fullmatch(rest) else ""


def own_job(instance: Instance, found: Sequence[QueueJob]) -> Optional[QueueJob]:
    """Return the instance's job among several candidates: the one with its id, if that is known.

    While the id is not known, a job that has not ended is preferred, then the one submitted first.
    """
    candidates = [job for job in found if instance.job_id in ("", job.job_id)]
    if len(candidates) > 1:
        candidates.sort(key=lambda job: (job.state in TERMINAL, int(job.job_id)))
    return candidates[0] if candidates else None
