"""`make simulate`: our policy beside others over a simulated week; outputs below build/simulate/."""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

from lab.simulate import outputs, parameters, sweep
from lab.simulate.load import build

ROOT = Path(__file__).resolve().parents[2]


def main(arguments: list[str]) -> int:
    """Run the simulation and print its table; return 0, whatever the results are."""
    parser = argparse.ArgumentParser(prog="python -m lab.simulate", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a day of 40 models: to see that it works")
    parser.add_argument("--seed", type=int, help="another week, drawn anew")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (all CPUs)")
    parser.add_argument(
        "--output", type=Path, default=ROOT / "build" / "simulate", help="folder for the outputs"
    )
    options = parser.parse_args(arguments)
    chosen = parameters.QUICK if options.quick else parameters.FULL
    if options.seed is not None:
        chosen = replace(chosen, seed=options.seed)
    began = time.monotonic()
    world = build(chosen)
    head = [
        f"{chosen.models} models, {chosen.span / parameters.DAY:g} days, {world.requests:,} requests,"
        f" {len(world.jobs):,} regular jobs on {chosen.cluster.nodes} nodes, {len(world.failures)} node"
        f" failures, seed {chosen.seed}"
    ]
    print(head[0], flush=True)
    results = []
    for result in sweep.run(chosen, sweep.QUICK if options.quick else sweep.FULL, options.workers):
        results.append(result)
        print(
            f"[simulate {time.monotonic() - began:5.0f} s] {result.contestant}, {result.setting}:"
            f" {result.gpu_hours:,.0f} GPU-hours, p99 wait {result.p99:.0f} s",
            flush=True,
        )
    print(outputs.write(options.output, results, head), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
