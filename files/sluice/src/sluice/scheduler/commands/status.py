"""`sluice status`: models, instances, demand and expected times as tables, on the login node, as root."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, Optional

from sluice import config, terminal
from sluice.scheduler.commands.overview import read_overview
from sluice.scheduler.commands.scheduler import CONFIG
from sluice.scheduler.config import SchedulerConfig
from sluice.scheduler.policy.policy import ORDERED

MODEL_COLUMNS = (
    "MODEL",
    "STATUS",
    "READY",
    "COMING",
    "WANTED",
    "MIN",
    "MAX",
    "RUNNING",
    "WAITING",
    "EXPECTED",
)
INSTANCE_COLUMNS = ("INSTANCE", "JOB", "KIND", "STATE", "SLURM", "ADDRESS", "SUBMITTED", "ENDS", "REASON")
BOUNDS = {
    "max_instances": "instances",
    "max_gpus": "GPUs",
    "max_nodes": "nodes",
    "gpu_hours_per_day": "GPU-hours today",
    "cold_starts_per_hour": "cold starts within the hour",
}
WATCH_EVERY = 2.0
WATCH_FOR = 86_400.0
COMING = ("submitting", "pending", "held", "starting")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `sluice status`."""
    parser.add_argument(
        "--config", default=CONFIG, help="the scheduler's configuration (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument(
        "--watch",
        nargs="?",
        type=seconds,
        const=WATCH_EVERY,
        metavar="SECONDS",
        help="print it again every SECONDS (default 2) until Ctrl-C, for at most a day",
    )


def seconds(text: str) -> float:
    """Return the seconds of --watch, from 1 to 3600. Raises ArgumentTypeError."""
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 1.0 <= found <= 3600.0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 1 to 3600")
    return found


def run(arguments: argparse.Namespace) -> int:
    """Print the status once, or with --watch until Ctrl-C or until the pipe's reader ends; return 0."""
    settings = config.load(SchedulerConfig, arguments.config)
    deadline = time.monotonic() + WATCH_FOR
    try:
        _print_status(settings, arguments.json, clear=False)
        while arguments.watch is not None and time.monotonic() < deadline:
            time.sleep(arguments.watch)
            _print_status(settings, arguments.json, clear=sys.stdout.isatty())
    except BrokenPipeError:
        # Otherwise the interpreter would write the rest of its buffer at exit and fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        if arguments.watch is None:
            raise
    return 0


def _print_status(settings: SchedulerConfig, as_json: bool, clear: bool) -> None:
    document = read_overview(settings).document()
    if clear:
        terminal.clear()
    if as_json:
        print(json.dumps(document, sort_keys=True))
    else:
        print_overview(document)
    sys.stdout.flush()


def print_overview(document: Mapping[str, Any]) -> None:
    """Print the overview's document as tables."""
    tick = document["last_tick"]
    if tick is None:
        print("The scheduler has not ticked yet. Check its launcher with: sluice doctor")
    else:
        print(f"Cluster {document['cluster']}, last tick {max(0.0, time.time() - tick):.0f} s ago")
    if document["squeue_failing"]:
        print(f"squeue failed {document['squeue_failing']} times in a row: nothing is started or ended")
    for line in _service(document):
        print(line)
    print()
    print_models(document["models"])
    rows = [_instance_row(one) for model in document["models"].values() for one in model["instances"]]
    if rows:
        print()
        print_table(INSTANCE_COLUMNS, rows)


def _service(document: Mapping[str, Any]) -> list[str]:
    """Return lines about the whole service: what it uses of its bounds, Slurm's limits, excluded nodes."""
    used = [
        f"{one['used']:g}{'' if one['bound'] is None else ' of ' + format(one['bound'], 'g')} {BOUNDS[name]}"
        for name, one in document["bounds"].items()
        if one["bound"] is not None or one["used"]
    ]
    lines = [f"Taken: {', '.join(used)}"]
    if document["limits"] is not None:
        until = moment(document["limits"]["until"])
        lines.append(f"Slurm accepts no jobs, next attempt at {until}: {document['limits']['reason']}")
    for scope, found in document["charges"].items():
        until = moment(found["until"])
        lines.append(f"Slurm accepts no jobs of {scope}, next attempt at {until}: {found['reason']}")
    excluded = [f"{name} (until {moment(until)})" for name, until in document["excluded_nodes"].items()]
    if excluded:
        lines.append(f"Excluded nodes, because starts failed there: {', '.join(excluded)}")
    for model, nodes in document["excluded_for"].items():
        single = [f"{name} (until {moment(until)})" for name, until in nodes.items()]
        lines.append(
            f"Nodes excluded only for {model}, which was not ready on any node yet: {', '.join(single)}"
        )
    if excluded or document["excluded_for"]:
        lines.append("See: sluice nodes list. To readmit: sluice nodes readmit")
    return lines


def print_models(models: Mapping[str, Mapping[str, Any]]) -> None:
    """Print one row per model, then problems and remarks."""
    print_table(MODEL_COLUMNS, [_model_row(name, model) for name, model in models.items()])
    for name, model in models.items():
        for line in _remarks(model):
            print(f"{name}: {line}")


def print_failed_start(found: Optional[Mapping[str, Any]]) -> None:
    """Print what the job of the last failed start wrote."""
    if found is None:
        return
    words = f"Last failed start: {found['instance']}, job {found['job_id'] or '-'}"
    print(f"\n{words}{'; it wrote' if found['lines'] else '; it wrote nothing that can be shown'}")
    for line in found["lines"]:
        print(f"    {line}")


def _remarks(model: Mapping[str, Any]) -> list[str]:
    remarks = [f"the entry is not used: {model['held']}" if model["held"] else model["problem"]]
    remarks.append(model["obstacle"])
    rollout = model["rollout"]
    if rollout is not None:
        words = {
            "rolling": "being replaced",
            "failing": "being replaced; the last start failed and is tried again; the old instances stay",
            "failed": "not replaced: the rollout failed and the old instances stay; see: sluice models show",
        }[rollout["state"]]
        remarks.append(f"{rollout['old']} of the old instances ({rollout['new']} new ready) {words}")
    if model["service"] != "in service":
        by = model["orders"]["by"]
        remarks.append(
            f"{model['service']}{(f' by {by}' if by else '')}; to return it to service: sluice models resume"
        )
    return [line for line in remarks if line]


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows below their headings, one line each; a column is as wide as its longest cell."""
    table = [tuple(terminal.line(word) for word in row) for row in (columns, *rows)]
    widths = [max(len(row[index]) for row in table) for index in range(len(columns))]
    for row in table:
        print("  ".join(word.ljust(width) for word, width in zip(row, widths)).rstrip())


def _model_row(name: str, model: Mapping[str, Any]) -> tuple[str, ...]:
    states = [one["state"] for one in model["instances"]]
    return (
        name,
        model["status"] if model["service"] == "in service" else f"{model['service']} (by admin)",
        str(states.count("ready")),
        str(sum(state in COMING for state in states)),
        *(_number(model[key]) for key in ("wanted", "min")),
        _number(model["max"]) + (f"+{model['burst']}" if model["burst"] else ""),
        *(_number(model[key]) for key in ("running", "waiting")),
        moment(model["expected_ready"]),
    )


def _instance_row(instance: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        instance["id"],
        instance["job_id"] or "-",
        instance["kind"],
        f"{instance['state']} (by admin)" if _ordered(instance) else instance["state"],
        instance["job_state"] or "-",
        instance["address"] or "-",
        moment(instance["submitted"]),
        moment(instance["ends"]),
        instance["reason"] if instance["reason"] not in ("", "None") else "-",
    )


def _ordered(instance: Mapping[str, Any]) -> bool:
    return bool(instance["state"] == "draining" and instance["reason"] == ORDERED)


def _number(value: Optional[int]) -> str:
    return "-" if value is None else str(value)


def moment(value: Optional[float]) -> str:
    """Return a time (seconds since the epoch) in local time, as YYYY-MM-DD HH:MM:SS; "-" for None."""
    return "-" if value is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(value))
