"""`python -m lab.soak [--cases 2000000] [--seed N] [--target NAME]`: bad input by the million.

Two processes at a time. Ends with 1 if an input crashed, hung or leaked; its seed and number repeat it.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import secrets
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed

from lab.soak.run import Outcome, run
from lab.soak.targets import TARGETS

# A million for the data plane, a million for what the scheduler reads.
CASES = 2_000_000
# Cases of one process: a leak shows within so many, and both processes end at about the same time.
BATCH = 25_000


def main() -> int:
    """Run all targets; print the counts of each."""
    options = _options()
    jobs = [
        (name, options.seed + number, size)
        for name in ([options.target] if options.target else TARGETS)
        for number, size in enumerate(_batches(_share(name, options)))
    ]
    print(
        f"soak: seed {options.seed}, {sum(size for _, _, size in jobs)} inputs, {options.jobs} at a time",
        flush=True,
    )
    began = time.monotonic()
    outcomes: list[Outcome] = []
    context = multiprocessing.get_context("spawn")
    # Not a multiprocessing pool: that waits for ever where a process dies.
    with ProcessPoolExecutor(options.jobs, mp_context=context, max_tasks_per_child=1) as pool:
        for waits in as_completed([pool.submit(run, *job) for job in jobs]):
            outcome = waits.result()
            outcomes.append(outcome)
            print(f"soak: {outcome.target}: {outcome.cases} inputs, {outcome.problem or 'well'}", flush=True)
    return _report(outcomes, time.monotonic() - began)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="lab.soak", description="Bad input by the million.")
    parser.add_argument(
        "--cases", type=int, default=CASES, help="inputs over all targets (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1 << 30), help="repeats a run")
    parser.add_argument("--target", choices=TARGETS, help="this one alone")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1), help="processes at a time")
    return parser.parse_args()


def _share(name: str, options: argparse.Namespace) -> int:
    if options.target:
        return int(options.cases)
    share, whole = TARGETS[name][0], sum(weight for weight, _ in TARGETS.values())
    return -(-options.cases * share // whole)


def _batches(cases: int) -> list[int]:
    return [min(BATCH, cases - begin) for begin in range(0, cases, BATCH)]


def _report(outcomes: list[Outcome], seconds: float) -> int:
    print(f"{'TARGET':<26}{'INPUTS':>9}{'SECONDS':>8}{'CPU ms':>10}{'OBJECTS':>9}{'KIB':>7}")
    for name in dict.fromkeys(outcome.target for outcome in outcomes):
        found = [outcome for outcome in outcomes if outcome.target == name]
        print(
            f"{name:<26}{sum(o.cases for o in found):>9}{sum(o.seconds for o in found):>8.0f}"
            f"{max(o.worst for o in found) * 1000:>10.0f}{max(o.grown_objects for o in found):>9}"
            f"{max(o.grown_kib for o in found):>7}"
        )
    problems = [f"{outcome.target}: {outcome.problem}" for outcome in outcomes if outcome.problem]
    for problem in problems:
        print(f"soak: {problem}", file=sys.stderr)
    total = sum(outcome.cases for outcome in outcomes)
    print(f"soak: {total} inputs in {seconds:.0f} s, {len(problems)} targets failed")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
