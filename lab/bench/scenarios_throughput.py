"""Throughput: one closed loop of small requests through each path to the engine, in turns."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lab.bench import plot, wrk
from lab.bench.ceiling.bare import Bare
from lab.bench.per_request.design import PerRequest
from lab.bench.processes import BenchError, machine_busy
from lab.bench.report import Bench, Figure, Scenario, at_least, at_most, over_rounds
from lab.bench.stack import PLACES, Stack
from lab.bench.target import Target

CONNECTIONS = 64
ROUNDS = 7
SECONDS = 5
WARM_UP = 2

CPU_GOALS = {"vm": 300.0, "login": 90.0, "job": 120.0}
CPU_NAMES = {"vm": "VM (nginx, proxy)", "login": "login node (sshd, relay)", "job": "job (front)"}


@dataclass(frozen=True)
class Contestant:
    """One path to the engine; `cpu` returns the CPU seconds of its parts so far."""

    target: Target
    title: str
    cpu: Callable[[], dict[str, float]]


@dataclass(frozen=True)
class Turn:
    """One contestant's turn in one round: what wrk saw, and the CPU seconds by part.

    `strangers`: the share of the machine that other programs used.
    """

    loop: wrk.Loop
    cpu: dict[str, float]
    strangers: float

    def per_request(self, *parts: str) -> float:
        """Return the CPU microseconds per request of these parts together."""
        return sum(self.cpu[part] for part in parts) / max(self.loop.requests, 1) * 1e6


Turns = dict[str, list[Turn]]


@contextlib.contextmanager
def contestants(stack: Stack) -> Iterator[list[Contestant]]:
    """Start the other contestants beside the stack."""
    with PerRequest(stack) as per_request, Bare(stack) as bare:
        yield [
            Contestant(stack.target("direct"), "engine, asked directly", stack.cpu),
            Contestant(stack.target("nginx"), "nginx (TLS), engine", stack.cpu),
            Contestant(bare.target(), "bare ceiling", bare.cpu),
            Contestant(stack.target("sluice"), "Sluice, everything on", stack.cpu),
            Contestant(per_request.target(), "a process per request", per_request.cpu),
        ]


def take_turns(bench: Bench, racers: list[Contestant], rounds: int, seconds: int) -> Turns:
    """Run each contestant in each round, so that all have the same machine."""
    for racer in racers:
        wrk.run(racer.target, bench.directory, connections=CONNECTIONS, seconds=WARM_UP)
    turns: Turns = {racer.target.name: [] for racer in racers}
    for number in range(rounds):
        for racer in racers[number % len(racers) :] + racers[: number % len(racers)]:
            turns[racer.target.name].append(_turn(racer, racers, bench.directory, seconds))
        rates = ", ".join(f"{name} {found[-1].loop.rate:,.0f}/s" for name, found in turns.items())
        bench.say(f"round {number + 1} of {rounds}: {rates}")
    return turns


def _turn(racer: Contestant, racers: list[Contestant], directory: Path, seconds: int) -> Turn:
    busy, idle = machine_busy()
    own, before = _own(racers), racer.cpu()
    loop = wrk.run(racer.target, directory, connections=CONNECTIONS, seconds=seconds)
    after, spent = racer.cpu(), _own(racers) - own + loop.cpu
    later_busy, later_idle = machine_busy()
    time = max(later_busy - busy + later_idle - idle, 0.01)
    strangers = max(later_busy - busy - spent, 0.0) / time
    return Turn(loop, {part: after[part] - before[part] for part in after}, strangers)


def _own(racers: list[Contestant]) -> float:
    """Return the CPU seconds of all contestants so far; parts that several use count once."""
    return sum(sum(cpu().values()) for cpu in {racer.cpu for racer in racers})


def ratios(turns: Turns, over: str, under: str) -> list[float]:
    """Return the ratio of two contestants' requests/s for each round. Raises BenchError."""
    pairs = zip(turns[over], turns[under], strict=True)
    found = [one.loop.rate / other.loop.rate for one, other in pairs if other.loop.rate]
    if not found:
        raise BenchError(f"{under} answered nothing in any round; is the machine too busy?")
    return found


def run(bench: Bench) -> list[Figure]:
    """Measure."""
    stack = bench.stack()
    with contestants(stack) as racers:
        turns = take_turns(bench, racers, *((2, 2) if bench.quick else (ROUNDS, SECONDS)))
    plot.bars(
        bench.directory / "throughput.svg",
        f"Small requests a second, {CONNECTIONS} at a time (median of the rounds; the line is their spread)",
        [(racer.title, [turn.loop.rate for turn in turns[racer.target.name]]) for racer in racers],
    )
    return [*_rates(turns), *_ratios(turns), *_latencies(turns), *_cpu(turns), *_conditions(turns)]


def _rates(turns: Turns) -> Iterator[Figure]:
    for name, found in turns.items():
        yield over_rounds(f"requests/s, {name}", [turn.loop.rate for turn in found], "1/s")


def _ratios(turns: Turns) -> Iterator[Figure]:
    yield over_rounds(
        "requests/s, sluice against a process per request",
        ratios(turns, "sluice", "per-request"),
        "times",
        at_least(60),
    )
    of_bare = ratios(turns, "sluice", "bare")
    yield over_rounds("requests/s, sluice of the bare ceiling", of_bare, "%", at_least(60), 100)
    yield over_rounds("requests/s, sluice of nginx", ratios(turns, "sluice", "nginx"), "%", None, 100)


def _latencies(turns: Turns) -> Iterator[Figure]:
    for name, found in turns.items():
        for part in ("p50", "p95", "p99"):
            values = [float(getattr(turn.loop, part)) for turn in found]
            yield over_rounds(f"time of a request at {CONNECTIONS}, {part}, {name}", values, "ms")


def _cpu(turns: Turns) -> Iterator[Figure]:
    found = turns["sluice"]
    for place, parts in PLACES.items():
        values = [turn.per_request(*parts) for turn in found]
        yield over_rounds(f"CPU per request, {CPU_NAMES[place]}", values, "us", at_most(CPU_GOALS[place]))
    for part in ("nginx", "proxy", "ssh", "authority", "sshd", "relay", "front", "engine", "syslog"):
        values = [turn.per_request(part) for turn in found]
        if any(values):
            yield over_rounds(f"CPU per request, {part}", values, "us")
    for name, title in (("bare", "the bare ceiling"), ("per-request", "a process per request")):
        for part in ("vm", "login"):
            values = [turn.per_request(part) for turn in turns[name]]
            yield over_rounds(f"CPU per request, {part} of {title}", values, "us")


def _conditions(turns: Turns) -> Iterator[Figure]:
    for name, found in turns.items():
        failed = sum(turn.loop.failed for turn in found)
        yield Figure(f"requests that failed, {name}", failed, "requests", at_most(0))
    strangers = [turn.strangers for found in turns.values() for turn in found]
    yield over_rounds("share of the machine that went to something else", strangers, "%", None, 100)


SCENARIOS = (Scenario("throughput", "Small requests in a closed loop, contestants in turns", run),)
