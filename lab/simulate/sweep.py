"""Runs every contestant over its settings, and compares the curves."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

from lab.simulate import clairvoyant
from lab.simulate.baselines import Average, Fixed
from lab.simulate.load import World, build
from lab.simulate.parameters import Parameters
from lab.simulate.simulation import Contestant, Result, pareto, simulate
from lab.simulate.sluice_policy import Sluice

OURS, AVERAGE, FIXED, CLAIRVOYANT = "sluice", "moving average", "fixed", "clairvoyant"
BOUNDS = (0.0, 30.0, 60.0, 120.0, 240.0, 480.0)


@dataclass(frozen=True)
class Sweep:
    """Which settings are tried; `average` holds (min, fill, patience)."""

    ours: tuple[float, ...]
    average: tuple[tuple[int, float, float], ...]
    fixed: tuple[float, ...]


FULL = Sweep(
    ours=(10.0, 60.0, 240.0, 900.0, 1800.0, 3600.0, 7200.0, 14400.0),
    average=(
        (0, 1.0, math.inf),
        (1, 1.0, math.inf),
        (1, 1.0, 300.0),
        *((0, 1.0, patience) for patience in (0.0, 120.0, 300.0, 900.0, 3600.0, 7200.0)),
        *((0, 0.7, patience) for patience in (0.0, 300.0, 3600.0)),
    ),
    fixed=(2.0, 4.0),
)
QUICK = Sweep(
    ours=(10.0, 30.0, 60.0, 120.0, 240.0, 900.0, 1800.0, 3600.0, 7200.0, 14400.0),
    average=tuple(
        (0, fill, wait) for fill in (1.0, 0.7) for wait in (0.0, 120.0, 300.0, 900.0, 1800.0, 3600.0)
    ),
    fixed=(2.0,),
)


def run(parameters: Parameters, sweep: Sweep, workers: int) -> Iterator[Result]:
    """Run everything, in order; with one worker in this process."""
    jobs = [partial(_ours, parameters, idle_stop) for idle_stop in sweep.ours]
    jobs += [partial(_average, parameters, *settings) for settings in sweep.average]
    jobs += [partial(_fixed, parameters, head_room) for head_room in sweep.fixed]
    jobs += [partial(_clairvoyant, parameters, bound) for bound in BOUNDS]
    if workers <= 1:
        yield from (job() for job in jobs)
        return
    with ProcessPoolExecutor(workers) as pool:
        yield from pool.map(_call, jobs)


def _call(job: Callable[[], Result]) -> Result:
    return job()


# Drawn once in each process: the world of a week takes seconds.
_worlds: dict[Parameters, World] = {}


def _world(parameters: Parameters) -> World:
    if parameters not in _worlds:
        _worlds.clear()
        _worlds[parameters] = build(parameters)
    return _worlds[parameters]


def _run(parameters: Parameters, contestant: Contestant, name: str, setting: str) -> Result:
    return simulate(_world(parameters), contestant, name, setting)


def _ours(parameters: Parameters, idle_stop: float) -> Result:
    return _run(parameters, Sluice(idle_stop), OURS, f"idle_stop {idle_stop:g}")


def _average(parameters: Parameters, least: int, fill: float, patience: float) -> Result:
    ends = "to the wall time" if math.isinf(patience) else f"{patience:g} s longer"
    return _run(
        parameters,
        Average(least=least, fill=fill, patience=patience),
        AVERAGE,
        f"min {least}, fill {fill:g}, {ends}",
    )


def _fixed(parameters: Parameters, head_room: float) -> Result:
    return _run(parameters, Fixed(head_room=head_room), FIXED, f"{head_room:g} x mean load")


def _clairvoyant(parameters: Parameters, bound: float) -> Result:
    return clairvoyant.plan(_world(parameters), bound)


def gpu_hours_at(curve: Sequence[Result], p99: float) -> float:
    """Return the GPU-hours at which a curve has this p99 wait; infinite if its wait is never so short.

    Between two settings, this is a straight line; beyond the cheapest setting, that setting's GPU-hours.
    """
    front = pareto(curve)
    if p99 >= front[0].p99:
        return front[0].gpu_hours
    for dear, cheap in zip(front[1:], front):
        if dear.p99 <= p99:
            share = (p99 - dear.p99) / (cheap.p99 - dear.p99)
            return dear.gpu_hours + share * (cheap.gpu_hours - dear.gpu_hours)
    return math.inf


def p99_at(curve: Sequence[Result], gpu_hours: float) -> float:
    """Return the p99 wait of a curve at these GPU-hours; infinite if it never takes so few."""
    front = pareto(curve)
    if gpu_hours >= front[-1].gpu_hours:
        return front[-1].p99
    for cheap, dear in zip(front, front[1:]):
        if cheap.gpu_hours <= gpu_hours <= dear.gpu_hours:
            share = (gpu_hours - cheap.gpu_hours) / (dear.gpu_hours - cheap.gpu_hours)
            return cheap.p99 + share * (dear.p99 - cheap.p99)
    return math.inf


@dataclass(frozen=True)
class Comparison:
    """Our curve against another: the worst ratio over the points of the other's curve."""

    gpu_hours: float
    p99: float


def against(ours: Sequence[Result], other: Sequence[Result]) -> Comparison:
    """Compare with another curve: GPU-hours at its p99 waits, and p99 waits at its GPU-hours."""
    points = pareto(other)
    return Comparison(
        max(gpu_hours_at(ours, point.p99) / point.gpu_hours for point in points),
        max(p99_at(ours, point.gpu_hours) / point.p99 for point in points if point.p99 > 0),
    )
