"""`sluice nodes list | readmit`: nodes on which starts failed, on the login node, as root.

`readmit` writes an order and ends; the scheduler follows it at its next tick.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from typing import Any, Callable

from sluice import administrator, config
from sluice.contracts.orders import MAX_ORDERED, NodeOrders
from sluice.errors import SluiceError
from sluice.scheduler.commands.overview import Overview, did_you_mean, read_overview
from sluice.scheduler.commands.scheduler import CONFIG
from sluice.scheduler.commands.status import moment, print_table
from sluice.scheduler.config import SchedulerConfig
from sluice.scheduler.models import orders

COLUMNS = ("NODE", "LAST JOB", "FAILED STARTS", "EXCLUDED UNTIL", "FOR")
EVERYBODY = "all models"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands of `sluice nodes`."""
    parser.add_argument(
        "--config", default=CONFIG, help="the scheduler's configuration (default: %(default)s)"
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listed = "list nodes that ran a job of the service, with their failed starts"
    listing = actions.add_parser("list", help=listed, description=listed)
    text = "readmit nodes that are excluded because starts failed there"
    readmit = actions.add_parser("readmit", help=text, description=text)
    readmit.add_argument(
        "nodes", nargs="*", metavar="NODE", help="a node's name, as sluice nodes list has it"
    )
    readmit.add_argument("--all", action="store_true", help="all nodes")
    for one in (listing, readmit):
        one.add_argument("--json", action="store_true", help="print one JSON document")


def run(arguments: argparse.Namespace) -> int:
    """Carry out one action; return the exit status."""
    settings = config.load(SchedulerConfig, arguments.config)
    if arguments.action == "list":
        return _list(read_overview(settings), arguments.json)
    return _readmit(settings, read_overview(settings), arguments)


def _list(overview: Overview, as_json: bool) -> int:
    nodes = overview.nodes()
    if as_json:
        print(json.dumps({"version": 1, "nodes": nodes}, sort_keys=True))
        return 0
    print_table(COLUMNS, [_row(name, node) for name, node in nodes.items()])
    return 0


def _row(name: str, node: dict[str, Any]) -> tuple[str, ...]:
    whose = EVERYBODY if node["left_out"] else ", ".join(node["left_out_for"])
    return name, moment(node["seen"]), str(node["failures"]), moment(node["until"]), whose or "-"


def _readmit(settings: SchedulerConfig, overview: Overview, arguments: argparse.Namespace) -> int:
    known = overview.nodes()
    names = _named(known, arguments)
    blamed = [name for name in names if known[name]["failures"]]
    if blamed:
        orders.change_nodes(settings.models_dir, _given(overview, blamed, arguments.all))
    if arguments.json:
        print(json.dumps({"version": 1, "changed": bool(blamed), "readmitted": blamed}, sort_keys=True))
        return 0
    for name in names if not arguments.all else blamed:
        print(f"{name}: {'readmitted' if name in blamed else 'it has no failed starts'}")
    if arguments.all and not blamed:
        print("no node has failed starts")
    return 0


def _named(known: dict[str, dict[str, Any]], arguments: argparse.Namespace) -> list[str]:
    """Return the names of the nodes to readmit. Raises SluiceError for unknown names."""
    if arguments.all and arguments.nodes:
        raise SluiceError("invalid_request", "give either names of nodes or --all, not both")
    if arguments.all:
        return list(known)
    if not arguments.nodes:
        raise SluiceError("invalid_request", "give names of nodes, or --all; see: sluice nodes list")
    names = list(dict.fromkeys(arguments.nodes))
    for name in names:
        if name not in known:
            words = f"no job of the service ran on a node {name!r}{did_you_mean(name, known)}"
            raise SluiceError("invalid_request", f"{words}; nothing was changed; see: sluice nodes list")
    if len(names) > MAX_ORDERED:
        raise SluiceError("invalid_request", f"more than {MAX_ORDERED} nodes at once: use --all")
    return names


def _given(overview: Overview, names: list[str], everywhere: bool) -> Callable[[NodeOrders], NodeOrders]:
    now, by = overview.now, administrator.name()
    if everywhere:
        return lambda _: NodeOrders(all=now, by=by)

    def alter(found: NodeOrders) -> NodeOrders:
        # Older readmissions are kept as long as there is room: they do no harm.
        kept = [item for item in found.nodes.items() if item[0] not in names]
        room = MAX_ORDERED - len(names)
        newest = sorted(kept, key=lambda item: item[1])[-room:] if room else []
        return replace(found, nodes={**dict(newest), **dict.fromkeys(names, now)}, by=by)

    return alter
