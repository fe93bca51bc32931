"""Runs the scenarios in order and writes what they found."""

from __future__ import annotations

import argparse
import importlib
import sys
import time
import traceback
from pathlib import Path

from tests.bench import profile, report
from tests.bench.processes import BenchError
from tests.bench.report import Bench, Figure, Scenario

HERE = Path(__file__).resolve().parent


def scenarios(peers: bool) -> list[Scenario]:
    """Return the scenarios, throughput first since later ones break things; or those with peers."""
    if peers:
        return list(importlib.import_module("tests.bench.peers").SCENARIOS)
    names = sorted(path.stem for path in HERE.glob("scenarios*.py"))
    names.sort(key=lambda name: name != "scenarios_throughput")
    found: list[Scenario] = []
    for name in names:
        found += importlib.import_module(f"tests.bench.{name}").SCENARIOS
    return found


def run(arguments: argparse.Namespace) -> int:
    """Run what was asked for; return the exit status."""
    known = scenarios(arguments.peers)
    if arguments.profile:
        with Bench(arguments.out, quick=arguments.quick).closing() as bench:
            print(profile.run(bench, arguments.profile), end="")
        return 0
    if arguments.list:
        for scenario in known:
            print(f"{scenario.name:<16} {scenario.title}")
        return 0
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
            except (BenchError, OSError, AssertionError) as error:
                traceback.print_exception(error)
                failed.append(scenario.name)
                bench.renew()
            bench.say(f"{scenario.name}: {time.monotonic() - began:.0f} s")
    return groups, failed
