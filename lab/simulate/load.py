"""The week's requests, the fleet's models, the cluster's regular work and its failures, by seed."""

from __future__ import annotations

import math
import random
from array import array
from dataclasses import dataclass

from lab.simulate.parameters import DAY, HOUR, Load, Parameters


@dataclass(frozen=True)
class Model:
    """A model, and all its requests: when each arrives, in order, and how long its answer takes."""

    name: str
    gpus: int
    concurrency: int
    max: int
    burst: int
    load_median: float
    arrivals: array[float]
    durations: array[float]


@dataclass(frozen=True)
class RegularJob:
    """One job of the cluster's other users."""

    submitted: float
    gpus: int
    seconds: float


@dataclass(frozen=True)
class Failure:
    """A node that goes down at a time; its jobs end."""

    at: float
    node: int


@dataclass(frozen=True)
class World:
    """All that is the same for every contestant."""

    parameters: Parameters
    models: tuple[Model, ...]
    jobs: tuple[RegularJob, ...]
    failures: tuple[Failure, ...]

    @property
    def requests(self) -> int:
        """How many requests there are."""
        return sum(len(model.arrivals) for model in self.models)


def build(parameters: Parameters) -> World:
    """Draw the world from the seed."""
    seeds = random.Random(parameters.seed)
    return World(
        parameters,
        _models(parameters, random.Random(seeds.random())),
        _regular(parameters, random.Random(seeds.random())),
        _failures(parameters, random.Random(seeds.random())),
    )


def _models(parameters: Parameters, rng: random.Random) -> tuple[Model, ...]:
    load, fleet = parameters.load, parameters.fleet
    weights = [1.0 / (rank + 1) ** load.popularity for rank in range(parameters.models)]
    total = load.requests_per_week * parameters.span / (7 * DAY)
    found = []
    for rank, weight in enumerate(weights):
        gpus = rng.choices(fleet.gpus, fleet.gpus_share)[0]
        arrivals, durations = _requests(parameters, total * weight / sum(weights), rng)
        found.append(
            Model(
                name=f"m{rank:03d}",
                gpus=gpus,
                concurrency=fleet.concurrency,
                max=fleet.max_instances,
                burst=fleet.burst_instances if rank < fleet.burst_models else 0,
                load_median=fleet.load_median[fleet.gpus.index(gpus)],
                arrivals=arrivals,
                durations=durations,
            )
        )
    return tuple(found)


def _requests(parameters: Parameters, count: float, rng: random.Random) -> tuple[array[float], array[float]]:
    load = parameters.load
    times: list[float] = []
    hours = math.ceil(parameters.span / HOUR)
    curve = [
        _curve(load, hour) * rng.gammavariate(load.hour_shape, 1 / load.hour_shape) for hour in range(hours)
    ]
    mean_burst = load.burst_least * load.burst_tail / (load.burst_tail - 1)
    per_session = (1 - load.burst_share) * load.turns + load.burst_share * mean_burst
    expected = sum(_curve(load, hour) for hour in range(hours))
    for hour, share in enumerate(curve):
        for _ in range(_poisson(count / per_session * share / expected, rng)):
            _session(load, (hour + rng.random()) * HOUR, rng, times)
    kept = sorted(time for time in times if time < parameters.span)
    mu = math.log(load.duration_median)
    durations = (
        min(load.duration_most, math.exp(mu + load.duration_sigma * rng.gauss(0.0, 1.0))) for _ in kept
    )
    return array("d", kept), array("d", durations)


def _curve(load: Load, hour: int) -> float:
    """Return the load of an hour; the week begins on a Monday."""
    return load.day[hour % 24] * (load.weekend if hour // 24 % 7 >= 5 else 1.0)


def _session(load: Load, start: float, rng: random.Random, times: list[float]) -> None:
    """Add one conversation, or one burst of a program."""
    now = start
    if rng.random() < load.burst_share:
        size = min(load.burst_most, load.burst_least * rng.paretovariate(load.burst_tail))
        for _ in range(int(size)):
            times.append(now)
            now += rng.expovariate(1 / load.burst_gap)
        return
    while True:
        times.append(now)
        if rng.random() < 1 / load.turns:
            return
        # The next question comes after the answer was read.
        now += load.duration_median + math.exp(
            math.log(load.pause_median) + load.pause_sigma * rng.gauss(0.0, 1.0)
        )


def _poisson(mean: float, rng: random.Random) -> int:
    if mean > 50:
        return max(0, round(rng.gauss(mean, math.sqrt(mean))))
    left, count = math.exp(-mean), 0
    product = rng.random()
    while product > left:
        count += 1
        product *= rng.random()
    return count


def _regular(parameters: Parameters, rng: random.Random) -> tuple[RegularJob, ...]:
    cluster = parameters.cluster
    mu = math.log(cluster.job_median)

    def seconds() -> float:
        return min(cluster.job_most, math.exp(mu + cluster.job_sigma * rng.gauss(0.0, 1.0)))

    mean_gpus = sum(g * share for g, share in zip(cluster.job_gpus, cluster.job_gpus_share))
    sample = sum(seconds() for _ in range(20000)) / 20000
    size = cluster.nodes / 192
    rate = cluster.regular_gpus * size / (mean_gpus * sample)
    jobs = []
    # A cluster is never found empty: the first jobs are those that run when the week begins.
    for _ in range(int(cluster.regular_gpus * size / mean_gpus)):
        jobs.append(RegularJob(0.0, rng.choices(cluster.job_gpus, cluster.job_gpus_share)[0], seconds() * 4))
    now = 0.0
    while now < parameters.span:
        now += rng.expovariate(rate)
        wave = 1 + cluster.job_day * math.sin((now / DAY - 0.3) * 2 * math.pi)
        if rng.random() < wave / (1 + cluster.job_day):
            gpus = rng.choices(cluster.job_gpus, cluster.job_gpus_share)[0]
            jobs.append(RegularJob(now, gpus, seconds() * (1 + cluster.job_day)))
    return tuple(jobs)


def _failures(parameters: Parameters, rng: random.Random) -> tuple[Failure, ...]:
    cluster = parameters.cluster
    rate = cluster.nodes * cluster.node_failures_per_day / DAY
    found, now = [], rng.expovariate(rate)
    while now < parameters.span:
        found.append(Failure(now, rng.randrange(cluster.nodes)))
        now += rng.expovariate(rate)
    return tuple(found)
