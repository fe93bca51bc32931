"""`sluice models`: list, show, apply, remove, wait for and ask models, on the login node, as root.

`drain`, `resume` and `restart` are in `orders`.
"""

from __future__ import annotations

import argparse
import difflib
import json
import sys
import time
from pathlib import Path
from typing import Any

from sluice import config, terminal
from sluice.contracts.files import read_json
from sluice.contracts.routing import RoutingTable
from sluice.errors import EXIT_FAILURE, SluiceError
from sluice.scheduler.commands import orders
from sluice.scheduler.commands.overview import did_you_mean, read_overview
from sluice.scheduler.commands.scheduler import CONFIG
from sluice.scheduler.commands.status import print_failed_start, print_models, print_overview
from sluice.scheduler.config import SchedulerConfig
from sluice.scheduler.models import registration
from sluice.scheduler.models.catalogue import Allowed
from sluice.scheduler.models.registration import Change
from sluice.scheduler.outside.probe import answers

LOOK_EVERY = 1.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands of `sluice models`."""
    parser.add_argument(
        "--config", default=CONFIG, help="the scheduler's configuration (default: %(default)s)"
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    _add(actions, "list", "list registered models and their state")
    show = _add(actions, "show", "show one model with its entry and instances")
    show.add_argument("name", help="the model")
    apply = _add(actions, "apply", "register a model's entry and script")
    apply.add_argument("--entry", type=Path, required=True, help="model entry (JSON)")
    apply.add_argument("--script", type=Path, required=True, help="rendered sbatch script")
    remove = _add(actions, "remove", "remove a model; its instances are drained and ended")
    remove.add_argument("name", help="the model")
    for one in (apply, remove):
        one.add_argument("--check", action="store_true", help="change nothing; print what would change")
    wait = _add(actions, "wait", "wait until a model's current entry is served, or sleeps as intended")
    wait.add_argument("name", help="the model")
    wait.add_argument("--timeout", type=float, default=900.0, help="seconds (default: %(default)s)")
    asked = _add(actions, "ask", "ask each ready instance of a model for one token")
    asked.add_argument("name", help="the model")
    asked.add_argument("--timeout", type=float, default=60.0, help="seconds (default: %(default)s)")
    orders.add_arguments(lambda name, text: _add(actions, name, text))


def _add(actions: Any, name: str, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(name, help=text, description=text)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Carry out one action; return the exit status."""
    settings = config.load(SchedulerConfig, arguments.config)
    actions = {"list": _list, "show": _show, "apply": _apply, "remove": _remove, "wait": _wait, "ask": _ask}
    if arguments.action in orders.ACTIONS:
        return orders.run(settings, arguments)
    return actions[arguments.action](settings, arguments)


def _list(settings: SchedulerConfig, arguments: argparse.Namespace) -> int:
    document = read_overview(settings).document()
    if arguments.json:
        return _print_json(document)
    print_models(document["models"])
    return 0


def _show(settings: SchedulerConfig, arguments: argparse.Namespace) -> int:
    overview = read_overview(settings)
    document = overview.document()
    if arguments.name not in document["models"]:
        overview.require_model(arguments.name)
    document["models"] = {arguments.name: document["models"][arguments.name]}
    listed = overview.catalogue.listed.get(arguments.name)
    document["entry"] = None if listed is None else listed.entry.dump()
    if arguments.json:
        return _print_json(document)
    print_overview(document)
    print_failed_start(document["models"][arguments.name]["failed_start"])
    if listed is not None:
        print("\n" + registration.entry_text(listed.entry), end="")
    return 0


def _apply(settings: SchedulerConfig, arguments: argparse.Namespace) -> int:
    change = registration.prepare(
        settings.models_dir, arguments.entry, arguments.script, Allowed.from_config(settings)
    )
    return _change(settings, arguments, change)


def _remove(settings: SchedulerConfig, arguments: argparse.Namespace) -> int:
    change = registration.removal(settings.models_dir, arguments.name)
    overview = read_overview(settings)
    if not change.changed and not arguments.json and arguments.name not in overview.document()["models"]:
        # A playbook that removes an absent model is done; a person probably mistyped the name.
        overview.require_model(arguments.name)
    return _change(settings, arguments, change)


def _change(settings: SchedulerConfig, arguments: argparse.Namespace, change: Change) -> int:
    if change.changed and not arguments.check:
        try:
            registration.carry_out(settings.models_dir, change)
        except OSError as error:
            raise SluiceError(
                "internal_error", f"{settings.models_dir}: {error.strerror}; run this as root"
            ) from None
    if arguments.json:
        return _print_json(change.document())
    print(f"{change.name}: changed {'yes' if change.changed else 'no'}")
    for kind in ("entry", "script"):
        before, after = (getattr(files, kind) or "" for files in (change.before, change.after))
        sys.stdout.writelines(
            difflib.unified_diff(
                before.splitlines(keepends=True),
                after.splitlines(keepends=True),
                f"{kind} before",
                f"{kind} after",
            )
        )
    return 0


def _wait(settings: SchedulerConfig, arguments: argparse.Namespace) -> int:
    began = time.monotonic()
    while True:
        overview = read_overview(settings)
        name = arguments.name
        overview.require_model(name)
        done = overview.serves(name) or overview.asleep(name) or overview.drained(name)
        waited = time.monotonic() - began
        if done or overview.failed(name) or waited >= arguments.timeout:
            break
        time.sleep(min(LOOK_EVERY, max(0.05, arguments.timeout - waited)))
    model = overview.model(name)
    document = {"version": 1, "name": name, "ready": done, "waited": round(waited, 1), "model": model}
    if arguments.json:
        _print_json(document)
    elif done:
        print(f"{name}: {model['status']} after {waited:.0f} s")
    if done:
        return 0
    why = model["problem"] or model["obstacle"]
    problem = f" ({why})" if why else ""
    print(
        f"sluice: {name} is {model['status']} after {waited:.0f} s{problem}; see: sluice status",
        file=sys.stderr,
    )
    return EXIT_FAILURE


def _ask(settings: SchedulerConfig, arguments: argparse.Namespace) -> int:
    try:
        table = RoutingTable.parse(read_json(settings.routing_table))
    except FileNotFoundError:
        raise SluiceError("no_instance", "there is no routing table: the scheduler has not ticked") from None
    except OSError as error:
        raise SluiceError("internal_error", f"{settings.routing_table}: {error.strerror}") from None
    name = arguments.name
    if name not in table.models:
        meant = did_you_mean(name, table.models)
        raise SluiceError("model_not_found", f"no model {name} is routed{meant}; see: sluice models list")
    model = table.models[name]
    ready = [one for one in model.instances if one.state == "ready"]
    found = [(one.id, terminal.line(answers(name, model, one, arguments.timeout))) for one in ready]
    if arguments.json:
        instances = [{"id": identifier, "problem": problem} for identifier, problem in found]
        return _print_json({"version": 1, "name": name, "status": model.status, "instances": instances})
    for identifier, problem in found:
        print(f"{identifier}: {problem or 'answers'}")
    if not found:
        print(f"{name}: {model.status}, no ready instance")
    well = bool(found) or model.status in ("sleeping", "drained")
    return EXIT_FAILURE if not well or any(problem for _, problem in found) else 0


def _print_json(document: object) -> int:
    print(json.dumps(document, sort_keys=True))
    return 0
