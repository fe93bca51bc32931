"""A stateful fake Slurm in virtual time: nodes with GPUs, a queue, preemption, failures, wall times.

It keeps the order of submission, starts whatever fits (as backfill does), and keeps a node free for the
oldest job once that job has waited long. Preemptible jobs end at once if others need their nodes.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from lab.simulate.load import Failure, RegularJob
from lab.simulate.parameters import Cluster

PENDING, RUNNING = "PENDING", "RUNNING"
COMPLETED, CANCELLED, TIMEOUT = "COMPLETED", "CANCELLED", "TIMEOUT"
NODE_FAIL, PREEMPTED, FAILED = "NODE_FAIL", "PREEMPTED", "FAILED"


@dataclass
class Job:
    """One job; `node` is -1 while it has none, `seconds` how long it runs if nothing ends it."""

    id: int
    gpus: int
    seconds: float
    submitted: float
    service: bool
    preemptible: bool = False
    state: str = PENDING
    node: int = -1
    started: float = 0.0
    ended: float = 0.0


class Slurm:
    """The cluster; time passes only in `advance`."""

    def __init__(self, cluster: Cluster, jobs: Sequence[RegularJob], failures: Sequence[Failure]) -> None:
        self.cluster = cluster
        self.free = [cluster.gpus_per_node] * cluster.nodes
        self.down: dict[int, float] = {}
        self.jobs: dict[int, Job] = {}
        self.pending: list[Job] = []
        self.on_node: list[set[int]] = [set() for _ in range(cluster.nodes)]
        self.service_gpus = 0
        self._regular, self._next_regular = jobs, 0
        self._failures, self._next_failure = failures, 0
        self._ends: list[tuple[float, int]] = []
        self._reserved: tuple[int, int] | None = None
        self._last_id = 0
        self._changed = True
        self._told: list[Job] = []

    def sbatch(
        self,
        gpus: int,
        seconds: float,
        now: float,
        *,
        preemptible: bool = False,
        service: bool = True,
    ) -> Job:
        """Add a job to the queue; `seconds` is its wall time, or when it ends by itself."""
        self._last_id += 1
        job = Job(self._last_id, gpus, seconds, now, service, preemptible)
        self.jobs[job.id] = job
        self.pending.append(job)
        self._changed = True
        return job

    def scancel(self, job: Job, now: float) -> None:
        """End a job, whether it runs or not; one that ended stays as it is."""
        if job.state in (PENDING, RUNNING):
            self._end(job, CANCELLED, now)

    def fail(self, job: Job, now: float) -> None:
        """End a running job because its program failed."""
        if job.state == RUNNING:
            self._end(job, FAILED, now)

    def advance(self, now: float) -> list[Job]:
        """Let everything happen up to `now`; return the service's jobs that started or ended."""
        while self._ends and self._ends[0][0] <= now:
            at, identity = heapq.heappop(self._ends)
            job = self.jobs.get(identity)
            if job is not None and job.state == RUNNING and job.started + job.seconds <= now:
                self._end(job, TIMEOUT if job.service else COMPLETED, at)
        for node in [node for node, until in self.down.items() if until <= now]:
            del self.down[node]
            self.free[node] = self.cluster.gpus_per_node
            self._changed = True
        while self._next_failure < len(self._failures) and self._failures[self._next_failure].at <= now:
            self._lose(self._failures[self._next_failure].node, now)
            self._next_failure += 1
        while self._next_regular < len(self._regular) and self._regular[self._next_regular].submitted <= now:
            found = self._regular[self._next_regular]
            self.sbatch(found.gpus, found.seconds, found.submitted, service=False)
            self._next_regular += 1
        if self._changed and self.pending:
            self._start_jobs(now)
        self._changed = False
        told, self._told = self._told, []
        return told

    def _start_jobs(self, now: float) -> None:
        """Start what fits, oldest first."""
        self._keep_free(now)
        waiting: list[Job] = []
        too_large = self.cluster.gpus_per_node + 1
        for job in sorted(self.pending, key=lambda job: job.preemptible):
            own = self._reserved is not None and self._reserved[0] == job.id
            limited = job.service and self.service_gpus + job.gpus > self.cluster.service_gpus
            if limited or (job.gpus >= too_large and not own):
                waiting.append(job)
                continue
            node = self._place(job, now)
            if node < 0:
                waiting.append(job)
                too_large = min(too_large, job.gpus)
            else:
                self._start(job, node, now)
        waiting.sort(key=lambda job: job.id)
        self.pending = waiting

    def _keep_free(self, now: float) -> None:
        """Reserve a node for the oldest job once it has waited long; small ones would starve large ones."""
        if self._reserved is not None and self.jobs[self._reserved[0]].state != PENDING:
            self._reserved = None
        if self._reserved is not None:
            return
        oldest = next((job for job in self.pending if not job.service), None)
        if oldest is not None and now - oldest.submitted > self.cluster.reserve_after:
            up = [node for node in range(self.cluster.nodes) if node not in self.down]
            if up:
                self._reserved = oldest.id, max(up, key=lambda node: self.free[node])

    def _place(self, job: Job, now: float) -> int:
        """Return the fullest node where the job fits, with preemption if that helps; -1 if there is none."""
        kept = -1
        if self._reserved is not None and self._reserved[0] != job.id:
            kept = self._reserved[1]
        best, best_free = -1, self.cluster.gpus_per_node + 1
        for node, free in enumerate(self.free):
            if job.gpus <= free < best_free and node != kept:
                best, best_free = node, free
        if best >= 0 or job.preemptible:
            return best
        for node in range(self.cluster.nodes):
            victims = [self.jobs[one] for one in self.on_node[node] if self.jobs[one].preemptible]
            if victims and node != kept and self.free[node] + sum(v.gpus for v in victims) >= job.gpus:
                for victim in sorted(victims, key=lambda victim: -victim.id):
                    if self.free[node] < job.gpus:
                        self._end(victim, PREEMPTED, now)
                return node
        return -1

    def _start(self, job: Job, node: int, now: float) -> None:
        job.state, job.node, job.started = RUNNING, node, now
        self.free[node] -= job.gpus
        self.on_node[node].add(job.id)
        heapq.heappush(self._ends, (now + job.seconds, job.id))
        if job.service:
            self.service_gpus += job.gpus
            self._told.append(job)

    def _end(self, job: Job, state: str, now: float) -> None:
        if job.state == RUNNING:
            self.free[job.node] += job.gpus
            self.on_node[job.node].discard(job.id)
            if job.service:
                self.service_gpus -= job.gpus
        elif job in self.pending:
            self.pending.remove(job)
        job.state, job.ended = state, now
        self._changed = True
        del self.jobs[job.id]
        if self._reserved is not None and self._reserved[0] == job.id:
            self._reserved = None
        if job.service:
            self._told.append(job)

    def _lose(self, node: int, now: float) -> None:
        """A node goes down: its jobs end, and it is missing until it is repaired."""
        for identity in sorted(self.on_node[node]):
            self._end(self.jobs[identity], NODE_FAIL, now)
        self.free[node] = 0
        self.down[node] = now + self.cluster.repair
