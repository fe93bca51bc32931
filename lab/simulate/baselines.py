"""The contestants that hold a target number of instances: fixed, and the moving average."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from lab.simulate.serving import Server, Worker
from lab.simulate.simulation import Service
from lab.simulate.slurm import RUNNING

# A successor is submitted this long before a job's wall time, as SAIA's `job_expiry_time` (9 min) does.
EXPIRY = 540.0


@dataclass
class Keeper:
    """Brings each model to its target: submits what is missing, drains or cancels what is too much."""

    targets: dict[str, int] = field(default_factory=dict)

    def changed(self, worker: Worker, now: float) -> None:
        """Nothing is remembered of single workers."""

    def keep(self, service: Service, server: Server, target: int, now: float) -> None:
        """Bring one model to its target."""
        active, ready = [], 0
        for worker in list(server.workers.values()):
            if worker.draining:
                continue
            job = worker.job
            if job.state == RUNNING and now >= job.started + job.seconds - EXPIRY:
                continue
            active.append(worker)
            ready += worker.ready_at is not None
        if len(active) < target:
            self._more(service, server, target - len(active), now)
        elif len(active) > target:
            active.sort(key=lambda worker: (worker.ready_at is not None, worker.running, -worker.job.id))
            for worker in active[: len(active) - target]:
                if worker.ready_at is None:
                    service.cancel(worker, now)
                else:
                    worker.draining = True
        for worker in list(server.workers.values()):
            if worker.draining and not worker.running and not worker.cancelled:
                service.cancel(worker, now)

    def _more(self, service: Service, server: Server, missing: int, now: float) -> None:
        for worker in server.workers.values():
            if missing and worker.draining and not worker.cancelled:
                worker.draining = False
                missing -= 1
        for _ in range(missing):
            service.submit(server.model.name, now)


@dataclass
class Fixed(Keeper):
    """(a) The same number of instances all the time, in proportion to each model's mean load."""

    head_room: float = 1.0

    def tick(self, service: Service, now: float) -> None:
        """Keep the number of instances that was calculated at the start."""
        span = service.world.parameters.span
        for server in service.servers.values():
            model = server.model
            if model.name not in self.targets:
                mean = sum(model.durations) / span / model.concurrency
                self.targets[model.name] = min(model.max, math.ceil(mean * self.head_room))
            self.keep(service, server, self.targets[model.name], now)


@dataclass
class Average(Keeper):
    """(b) The moving average of concurrent requests, as SAIA's scheduler has it.

    Every 5 s the average becomes (10 x itself + 2 x the requests now) / 12. The target is the average divided
    by the requests per instance, rounded up. SAIA never ends a job early: it stays until its wall time. With
    `patience`, instances that the target has not required for so many seconds are drained instead.
    """

    least: int = 0
    fill: float = 1.0
    patience: float = math.inf
    _averages: dict[str, float] = field(default_factory=dict)
    _needed: dict[str, list[float]] = field(default_factory=dict)

    def tick(self, service: Service, now: float) -> None:
        """Follow the average."""
        steps = max(1, round(service.world.parameters.tick / 5))
        keep = (10 / 12) ** steps
        for name, server in service.servers.items():
            asked = server.running + server.waiting
            old = self._averages.get(name, 0.0)
            if not asked and not old and server.quiet and not self.least:
                continue
            average = old * keep + asked * (1 - keep)
            average = round(average, 4)
            self._averages[name] = average
            per = server.model.concurrency * self.fill
            target = math.floor((average + per - 0.001) / per) if average > 0.001 else 0
            most = server.model.max + server.model.burst
            target = min(most, max(self.least, target))
            self.keep(service, server, self._patient(name, server, target, now), now)

    def _patient(self, name: str, server: Server, target: int, now: float) -> int:
        """Return the target, not below what was needed within `patience` seconds."""
        if math.isinf(self.patience):
            # Running instances count until their wall time: none is ended early.
            return max(target, self._active(server, now))
        needed = self._needed.setdefault(name, [])
        while len(needed) < target:
            needed.append(now)
        for level in range(target):
            needed[level] = now
        while needed and now - needed[-1] >= max(self.patience, 1e-9):
            needed.pop()
        return max(target, len(needed))

    @staticmethod
    def _active(server: Server, now: float) -> int:
        return sum(
            not (w.job.state == RUNNING and now >= w.job.started + w.job.seconds - EXPIRY)
            for w in server.workers.values()
        )
