"""Runs the scenarios in order and writes their results."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import importlib
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

from lab.bench import profile, report
from lab.bench.processes import BenchError
from lab.bench.report import Bench, Figure, Scenario

HERE = Path(__file__).resolve().parent
# One scenario's fault takes nothing from the others.
FAULTS = (BenchError, OSError, AssertionError, ArithmeticError, LookupError, subprocess.SubprocessError)


def scenarios(peers: bool) -> list[Scenario]:
    """Return the scenarios (throughput first, because later ones break things), or those with peers."""
    if peers:
        return list(importlib.import_module("lab.bench.peers").SCENARIOS)
    names = sorted(path.stem for path in HERE.glob("scenarios*.py"))
    names.sort(key=lambda name: name != "scenarios_throughput")
    found: list[Scenario] = []
    for name in names:
        found += importlib.import_module(f"lab.bench.{name}").SCENARIOS
    return found


def list_scenarios() -> None:
    """Print every scenario's name and title."""
    for scenario in (*scenarios(peers=False), *scenarios(peers=True)):
        print(f"{scenario.name:<16} {scenario.title}")


def run(arguments: argparse.Namespace) -> int:
    """Run the chosen scenarios; return the exit status."""
    with alone(arguments.out):
        return _profile(arguments) if arguments.profile else _measure(arguments)


@contextlib.contextmanager
def alone(directory: Path) -> Iterator[None]:
    """Lock the directory for this run; clear what a killed run left. Raises BenchError."""
    with (directory / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BenchError(f"another run writes to {directory}; name another with --out") from None
        for left in directory.glob("stack-*"):
            shutil.rmtree(left, ignore_errors=True)
        yield


def _profile(arguments: argparse.Namespace) -> int:
    with Bench(arguments.out, quick=arguments.quick).closing() as bench:
        print(profile.run(bench, arguments.profile), end="")
    return 0


def _measure(arguments: argparse.Namespace) -> int:
    known = scenarios(arguments.peers)
    wrong = set(arguments.only) - {scenario.name for scenario in known}
    if wrong:
        print(f"bench: there is no scenario {', '.join(sorted(wrong))}; see --list", file=sys.stderr)
        return 2
    chosen = [one for one in known if one.name in arguments.only or not arguments.only]
    head = report.machine()
    if arguments.quick:
        head.append("quick: short runs, not to be quoted")
    groups, failed = _run_all(Bench(arguments.out, quick=arguments.quick), chosen)
    whole = not arguments.only and not arguments.peers
    print("\n" + report.write(arguments.out, groups, head, keep=not whole), end="")
    print(f"{arguments.out}/table.txt, results.json and the plots hold this run")
    for name in failed:
        print(f"bench: {name} could not be measured", file=sys.stderr)
    return 1 if failed else 0


def _run_all(bench: Bench, chosen: list[Scenario]) -> tuple[list[tuple[Scenario, list[Figure]]], list[str]]:
    groups: list[tuple[Scenario, list[Figure]]] = []
    failed: list[str] = []
    with bench.closing():
        for scenario in chosen:
            bench.say(f"{scenario.name}: {scenario.title}")
            began = time.monotonic()
            try:
                groups.append((scenario, scenario.run(bench)))
            except FAULTS as error:
                traceback.print_exception(error)
                failed.append(scenario.name)
                bench.renew()
            bench.say(f"{scenario.name}: {time.monotonic() - began:.0f} s")
    return groups, failed
