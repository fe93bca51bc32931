"""Requests on instances: each waits, first come first served, for a free place on a ready instance."""

from __future__ import annotations

import heapq
from array import array
from collections import deque
from dataclasses import dataclass, field

from lab.simulate.load import Model
from lab.simulate.slurm import Job

# A wait shorter than this is none: no user sees it, and a tick is longer.
AT_ONCE = 0.5


@dataclass
class Worker:
    """One instance of a model: its job, and the requests that run on it."""

    id: str
    model: str
    job: Job
    load: float
    fails_at: float
    burst: bool = False
    ready_at: float | None = None
    running: int = 0
    draining: bool = False
    cancelled: bool = False
    dead: bool = False


@dataclass
class Waits:
    """How long requests waited; those that did not are only counted."""

    at_once: int = 0
    waited: array[float] = field(default_factory=lambda: array("d"))
    cut: int = 0

    def quantile(self, share: float, more: int = 0) -> float:
        """Return the wait that this share of the requests did not exceed; `more` others did not wait."""
        total = self.at_once + more + len(self.waited)
        place = int(share * total) - (self.at_once + more)
        return 0.0 if place < 0 else sorted(self.waited)[min(place, len(self.waited) - 1)]

    def mean(self) -> float:
        """Return the mean wait of all requests."""
        return sum(self.waited) / max(1, self.at_once + len(self.waited))


class Server:
    """One model's requests and instances; `advance` carries them through one tick."""

    def __init__(self, model: Model, waits: Waits) -> None:
        self.model = model
        self.workers: dict[str, Worker] = {}
        self.last = 0.0
        self.running = 0
        self._waits = waits
        self._next = 0
        self._waiting: deque[int] = deque()
        self._ends: list[tuple[float, str]] = []

    @property
    def waiting(self) -> int:
        """Requests that wait for a place."""
        return len(self._waiting)

    @property
    def quiet(self) -> bool:
        """Whether there is no request and no instance."""
        return not (self.running or self._waiting or self.workers)

    @property
    def calm(self) -> bool:
        """Whether no request waits, and every instance is ready and not draining."""
        settled = all(one.ready_at is not None and not one.draining for one in self.workers.values())
        return settled and bool(self.workers) and not self._waiting

    def due(self, until: float) -> bool:
        """Whether anything can happen before that time."""
        arrivals = self.model.arrivals
        arrives = self._next < len(arrivals) and arrivals[self._next] < until
        return arrives or bool(self._ends) or bool(self._waiting)

    def advance(self, now: float, until: float) -> None:
        """Carry the requests from `now` to `until`; instances do not change in between."""
        usable = [w for w in self.workers.values() if w.ready_at is not None and not w.draining]
        self._serve_waiting(usable, now)
        arrivals, ends = self.model.arrivals, self._ends
        size = len(arrivals)
        while True:
            arrival = arrivals[self._next] if self._next < size else until
            if ends and ends[0][0] <= arrival:
                at, who = ends[0]
                if at >= until:
                    return
                heapq.heappop(ends)
                self.running -= 1
                worker = self.workers.get(who)
                if worker is not None:
                    worker.running -= 1
                    if self._waiting and not worker.draining and worker.ready_at is not None:
                        self._start(self._waiting.popleft(), worker, at)
            elif arrival < until:
                self.last = arrival
                request = self._next
                self._next += 1
                chosen = self._choose(usable)
                if chosen is None:
                    self._waiting.append(request)
                else:
                    self._start(request, chosen, arrival)
            else:
                return

    def lose(self, worker: Worker) -> None:
        """Remove an instance; its requests are cut off."""
        self.workers.pop(worker.id, None)
        if worker.running:
            self._waits.cut += worker.running
            self.running -= worker.running
            self._ends = [end for end in self._ends if end[1] != worker.id]
            heapq.heapify(self._ends)
            worker.running = 0

    def finish(self, until: float) -> None:
        """Count the requests that still wait at the end, with their wait so far."""
        for request in self._waiting:
            self._waits.waited.append(until - self.model.arrivals[request])
        self._waiting.clear()

    def _serve_waiting(self, usable: list[Worker], now: float) -> None:
        while self._waiting:
            chosen = self._choose(usable)
            if chosen is None:
                return
            self._start(self._waiting.popleft(), chosen, now)

    def _choose(self, usable: list[Worker]) -> Worker | None:
        """Return the least loaded instance with a free place."""
        best, least = None, self.model.concurrency
        for worker in usable:
            if worker.running < least:
                best, least = worker, worker.running
        return best

    def _start(self, request: int, worker: Worker, at: float) -> None:
        wait = at - self.model.arrivals[request]
        if wait < AT_ONCE:
            self._waits.at_once += 1
        else:
            self._waits.waited.append(wait)
        worker.running += 1
        self.running += 1
        heapq.heappush(self._ends, (at + self.model.durations[request], worker.id))
