"""Runs one contestant over the simulated time; returns its costs and how long requests waited."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from lab.simulate.load import World
from lab.simulate.serving import Server, Waits, Worker
from lab.simulate.slurm import PENDING, RUNNING, Job, Slurm


class Contestant(Protocol):
    """A way to decide how many instances there are."""

    def tick(self, service: Service, now: float) -> None:
        """Look at the service and start, drain or end instances."""

    def changed(self, worker: Worker, now: float) -> None:
        """A worker's job started or ended, or it became ready."""


@dataclass(frozen=True)
class Result:
    """The result of a contestant; waits in seconds."""

    contestant: str
    setting: str
    gpu_hours: float
    p99: float
    p999: float
    mean: float
    delayed: float
    cut: int
    submissions: int
    preempted: int


@dataclass
class Service:
    """The models' instances on the cluster, as a contestant sees and changes them."""

    world: World
    slurm: Slurm
    waits: Waits = field(default_factory=Waits)
    servers: dict[str, Server] = field(default_factory=dict)
    gpu_seconds: float = 0.0
    submissions: int = 0
    preempted: int = 0
    _of_job: dict[int, Worker] = field(default_factory=dict)
    _loading: list[Worker] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.servers = {model.name: Server(model, self.waits) for model in self.world.models}

    def submit(self, model: str, now: float, *, burst: bool = False) -> Worker:
        """Submit one more instance of the model."""
        server, fleet = self.servers[model], self.world.parameters.fleet
        self.submissions += 1
        rng = random.Random(f"{self.world.parameters.seed} {model} {self.submissions}")
        job = self.slurm.sbatch(server.model.gpus, fleet.wall, now, preemptible=burst)
        load = server.model.load_median * math.exp(fleet.load_sigma * rng.gauss(0.0, 1.0))
        fails = load * rng.random() if rng.random() < fleet.start_failures else math.inf
        worker = Worker(f"{model}-{self.submissions:08x}", model, job, load, fails, burst)
        server.workers[worker.id] = worker
        self._of_job[job.id] = worker
        return worker

    def cancel(self, worker: Worker, now: float) -> None:
        """End the worker's job."""
        worker.cancelled = True
        self.slurm.scancel(worker.job, now)

    def advance(self, now: float) -> list[Worker]:
        """Advance Slurm and the loading engines to `now`; return the workers that changed."""
        changed = []
        for job in self.slurm.advance(now):
            worker = self._of_job[job.id]
            if job.state == RUNNING:
                self._loading.append(worker)
                changed.append(worker)
            elif not worker.dead:
                self._ended(worker, job)
                changed.append(worker)
        changed += self._loaded(now)
        return changed

    def close(self, until: float) -> None:
        """Count what still runs or waits at the end."""
        for server in self.servers.values():
            for worker in server.workers.values():
                if worker.job.state == RUNNING:
                    self.gpu_seconds += worker.job.gpus * (until - worker.job.started)
            server.finish(until)

    def _ended(self, worker: Worker, job: Job) -> None:
        worker.dead = True
        if job.node >= 0:
            self.gpu_seconds += job.gpus * (job.ended - job.started)
        self.preempted += job.state == "PREEMPTED"
        self.servers[worker.model].lose(worker)
        del self._of_job[job.id]

    def _loaded(self, now: float) -> list[Worker]:
        """Return the workers that became ready; end those whose start fails."""
        ready, still = [], []
        for worker in self._loading:
            if worker.dead or worker.job.state != RUNNING:
                continue
            ran = now - worker.job.started
            if ran >= min(worker.load, worker.fails_at):
                if worker.fails_at < worker.load:
                    self.slurm.fail(worker.job, now)
                    continue
                worker.ready_at = now
                ready.append(worker)
            else:
                still.append(worker)
        self._loading = still
        return ready


def simulate(world: World, contestant: Contestant, name: str, setting: str) -> Result:
    """Run one contestant over the world."""
    parameters = world.parameters
    slurm = Slurm(parameters.cluster, world.jobs, world.failures)
    service = Service(world, slurm)
    servers = list(service.servers.values())
    now, tick = 0.0, parameters.tick
    while now < parameters.span:
        for worker in service.advance(now):
            contestant.changed(worker, now)
        contestant.tick(service, now)
        until = now + tick
        for server in servers:
            if server.due(until):
                server.advance(now, until)
        now = until
    service.close(now)
    waits = service.waits
    requests = waits.at_once + len(waits.waited)
    return Result(
        name,
        setting,
        service.gpu_seconds / 3600,
        waits.quantile(0.99),
        waits.quantile(0.999),
        waits.mean(),
        len(waits.waited) / max(1, requests),
        waits.cut,
        service.submissions,
        service.preempted,
    )


def pareto(results: Sequence[Result]) -> list[Result]:
    """Return the results that no other one beats in both GPU-hours and p99 wait, by GPU-hours."""
    front: list[Result] = []
    for result in sorted(results, key=lambda result: (result.gpu_hours, result.p99)):
        if not front or result.p99 < front[-1].p99:
            front.append(result)
    return front


__all__ = ["PENDING", "Contestant", "Result", "Service", "pareto", "simulate"]
