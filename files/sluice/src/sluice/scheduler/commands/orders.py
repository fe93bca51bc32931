"""`sluice models drain | resume | restart`: an administrator's orders, given on the login node, as root.

A command writes the order and ends. The scheduler follows it within a few seconds, also after a restart of
scheduler or login node. With `--wait` the command ends when the order was followed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from typing import Any, Callable

from sluice import administrator
from sluice.contracts.orders import MAX_ORDERED, ModelOrders
from sluice.errors import EXIT_FAILURE, SluiceError
from sluice.scheduler.commands.overview import Overview, read_overview
from sluice.scheduler.config import SchedulerConfig
from sluice.scheduler.models import orders

ACTIONS = ("drain", "resume", "restart")
LOOK_EVERY = 1.0
LONGEST_WAIT = 86_400.0

Adder = Callable[[str, str], argparse.ArgumentParser]


def add_arguments(add: Adder) -> None:
    """Add the three subcommands."""
    drain = add("drain", "send a model no new requests and let the open ones end, until it is resumed")
    resume = add("resume", "return a drained model to service, or try a failed one again now")
    restart = add(
        "restart", "replace a model's instances one at a time; each new one is ready before its old one ends"
    )
    for parser in (drain, resume, restart):
        parser.add_argument("name", help="the model")
        parser.set_defaults(instance="")
        parser.add_argument("--wait", action="store_true", help="wait until it is done, and print progress")
        parser.add_argument(
            "--timeout", type=_timeout, default=1800.0, help="maximum seconds to wait (default: %(default)s)"
        )
    restart.add_argument("--instance", default="", metavar="ID", help="replace only this instance")


def _timeout(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0 <= found <= LONGEST_WAIT:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0 to {LONGEST_WAIT:g}")
    return found


def run(settings: SchedulerConfig, arguments: argparse.Namespace) -> int:
    """Give one order and, with --wait, wait until it was followed; return the exit status."""
    overview = read_overview(settings)
    name = arguments.name
    overview.require_model(name)
    before = overview.catalogue.orders.get(name, ModelOrders(name))
    given = _given(overview, arguments)
    after = orders.change(settings.models_dir, name, given)
    changed = after != before or name in overview.catalogue.unusable
    if not arguments.json:
        print(_sentence(arguments, changed))
    done, problem = (True, "") if not arguments.wait else _wait(settings, arguments)
    if arguments.json:
        document = {"version": 1, "name": name, "changed": changed, "orders": after.dump(), "done": done}
        print(json.dumps(document if arguments.wait else {**document, "done": None}, sort_keys=True))
    if problem:
        print(f"sluice: {problem}", file=sys.stderr)
    return 0 if done else EXIT_FAILURE


def _given(overview: Overview, arguments: argparse.Namespace) -> Callable[[ModelOrders], ModelOrders]:
    """Return the function that changes the model's orders. Raises SluiceError for a senseless order."""
    now, by, name = overview.now, administrator.name(), arguments.name
    if arguments.action == "drain":
        return lambda found: found if found.drained is not None else replace(found, drained=now, by=by)
    if arguments.action == "resume":
        failing = overview.model(name)["failures"] > 0
        return lambda found: (
            replace(found, drained=None, resumed=now, by=by)
            if found.drained is not None or failing
            else found
        )
    if overview.drained(name):
        raise SluiceError("invalid_request", f"{name} is drained; see: sluice models resume {name}")
    known = [one["id"] for one in overview.model(name)["instances"]]
    single = arguments.instance
    if not single:
        return lambda found: replace(found, restart=now, replace=(), by=by)
    if single not in known:
        listed = ", ".join(known) or "none"
        raise SluiceError("invalid_request", f"{single!r} is not an instance of {name}, which has: {listed}")
    return lambda found: _single(found, single, known, by)


def _single(found: ModelOrders, instance: str, known: list[str], by: str) -> ModelOrders:
    if instance in found.replace:
        return found
    # Instances that are gone have been replaced.
    left = [one for one in found.replace if one in known][-(MAX_ORDERED - 1) :]
    return replace(found, replace=(*left, instance), by=by)


def _sentence(arguments: argparse.Namespace, changed: bool) -> str:
    name = arguments.name
    if not changed:
        return f"{name}: {'drained already' if arguments.action == 'drain' else 'nothing to be done'}"
    return {
        "drain": (
            f"{name}: accepts no new requests; it stays out of service until: sluice models resume {name}"
        ),
        "resume": f"{name}: in service again",
        "restart": f"{name}: {arguments.instance or 'every instance'} will be replaced",
    }[str(arguments.action)]


def _wait(settings: SchedulerConfig, arguments: argparse.Namespace) -> tuple[bool, str]:
    """Wait until the order was followed; return (True, "").

    If the model failed or the time-out passed, return False and the problem.
    """
    began = time.monotonic()
    said = ""
    while True:
        overview = read_overview(settings)
        model = overview.model(arguments.name)
        if _done(overview, arguments):
            return True, ""
        progress = _progress(model)
        if progress != said and not arguments.json:
            print(f"  {progress}", file=sys.stderr, flush=True)
            said = progress
        waited = time.monotonic() - began
        if _hopeless(overview, arguments):
            return False, f"{arguments.name}: {model['problem']}; see: sluice models show {arguments.name}"
        if waited >= arguments.timeout:
            words = f"not done after {waited:.0f} s ({progress}); the order stays in force"
            return False, f"{arguments.name}: {words}; see: sluice status"
        time.sleep(min(LOOK_EVERY, max(0.05, arguments.timeout - waited)))


def _done(overview: Overview, arguments: argparse.Namespace) -> bool:
    name = arguments.name
    if arguments.action == "drain":
        return overview.service(name) == "drained" and overview.model(name)["status"] == "drained"
    if arguments.action == "resume":
        return overview.serves(name) or overview.asleep(name)
    return overview.rollout(name) is None


def _hopeless(overview: Overview, arguments: argparse.Namespace) -> bool:
    name = arguments.name
    if arguments.action == "restart":
        rollout = overview.rollout(name)
        return rollout is not None and rollout["state"] == "failed"
    return arguments.action == "resume" and overview.failed(name) and not _afresh(overview, name)


def _afresh(overview: Overview, name: str) -> bool:
    """Whether the scheduler has not followed the last order yet, so that the failed state may be old."""
    found = overview.catalogue.orders.get(name)
    memory = overview.state.memory.get(name)
    return found is not None and (memory is None or memory.ordered < orders.for_policy(found).given)


def _progress(model: dict[str, Any]) -> str:
    states = [one["state"] for one in model["instances"]]
    counts = [f"{states.count(state)} {state}" for state in sorted(set(states))]
    words = ", ".join(counts) or "no instances"
    running = f"; {model['running']} requests running" if model["running"] else ""
    return f"{model['status']}: {words}{running}"
