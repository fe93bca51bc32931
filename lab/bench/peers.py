"""Throughput compared with other gateways, in turns as in scenarios_throughput: `make bench-peers`."""

from __future__ import annotations

import contextlib

from lab.bench import litellm, plot
from lab.bench.report import Bench, Figure, Scenario, at_least, over_rounds
from lab.bench.scenarios_throughput import Contestant, ratios, take_turns

ROUNDS = 5
SECONDS = 6
GOALS = {1: 50.0, 2: 30.0}


def run(bench: Bench) -> list[Figure]:
    """Measure."""
    bench.say("installing LiteLLM from its package, unless it is there")
    programs = litellm.environment(bench.directory)
    stack = bench.stack()
    racers = [Contestant(stack.target(name), name, stack.cpu) for name in ("direct", "sluice")]
    with contextlib.ExitStack() as ending:
        for workers in GOALS:
            peer = litellm.LiteLlm(stack.directory / f"litellm-{workers}")
            ending.callback(peer.stop)
            peer.start(programs, stack.engine, workers)
            racers.append(Contestant(peer.target(), peer.target().name, peer.cpu))
        turns = take_turns(bench, racers, *((2, 3) if bench.quick else (ROUNDS, SECONDS)))
    title = "Small requests a second, 64 at a time (median of the rounds; the line is their spread)"
    rows = [(name, [turn.loop.rate for turn in found]) for name, found in turns.items()]
    plot.bars(bench.directory / "peers.svg", title, rows)
    figures = [over_rounds(f"requests/s beside peers, {name}", rates, "1/s") for name, rates in rows]
    for workers, goal in GOALS.items():
        name = f"litellm-{workers}"
        plural = "worker" if workers == 1 else "workers"
        title = f"requests/s, sluice against LiteLLM with {workers} {plural}"
        figures.append(over_rounds(title, ratios(turns, "sluice", name), "times", at_least(goal)))
        values = [turn.per_request("litellm") for turn in turns[name]]
        figures.append(over_rounds(f"CPU per request, LiteLLM with {workers} {plural}", values, "us"))
        failed = sum(turn.loop.failed for turn in turns[name])
        figures.append(Figure(f"requests that failed, LiteLLM with {workers} {plural}", failed, "requests"))
    return figures


SCENARIOS = (Scenario("peers", "The same closed loop against other gateways, in turns", run),)
