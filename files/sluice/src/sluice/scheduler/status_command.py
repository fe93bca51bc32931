"""`sluice status`: models, instances, demand and expectations as a table, on the login node, as root."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any, Optional

from sluice import config
from sluice.scheduler.command import CONFIG
from sluice.scheduler.config import SchedulerConfig
from sluice.scheduler.overview import look

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
INSTANCE_COLUMNS = ("INSTANCE", "JOB", "STATE", "SLURM", "ADDRESS", "SUBMITTED", "ENDS", "REASON")
COMING = ("submitting", "pending", "starting")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `sluice status`."""
    parser.add_argument(
        "--config", default=CONFIG, help="the scheduler's configuration (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def run(arguments: argparse.Namespace) -> int:
    """Print the status; return 0."""
    document = look(config.load(SchedulerConfig, arguments.config)).document()
    if arguments.json:
        print(json.dumps(document, sort_keys=True))
    else:
        print_overview(document)
    return 0


def print_overview(document: Mapping[str, Any]) -> None:
    """Print the overview's document as tables."""
    tick = document["last_tick"]
    if tick is None:
        print("The scheduler has not ticked yet: is cron running it?")
    else:
        print(f"Cluster {document['cluster']}, last tick {max(0.0, time.time() - tick):.0f} s ago")
    if document["squeue_failing"]:
        print(f"squeue failed {document['squeue_failing']} times in a row: nothing is started or ended")
    print()
    print_models(document["models"])
    rows = [_instance_row(one) for model in document["models"].values() for one in model["instances"]]
    if rows:
        print()
        print_table(INSTANCE_COLUMNS, rows)


def print_models(models: Mapping[str, Mapping[str, Any]]) -> None:
    """Print one line per model, and what is wrong with it."""
    print_table(MODEL_COLUMNS, [_model_row(name, model) for name, model in models.items()])
    for name, model in models.items():
        if model["problem"]:
            print(f"{name}: {model['problem']}")


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows below their headings, each column as wide as its widest word."""
    widths = [max(len(row[index]) for row in (columns, *rows)) for index in range(len(columns))]
    for row in (columns, *rows):
        print("  ".join(word.ljust(width) for word, width in zip(row, widths)).rstrip())


def _model_row(name: str, model: Mapping[str, Any]) -> tuple[str, ...]:
    states = [one["state"] for one in model["instances"]]
    return (
        name,
        model["status"],
        str(states.count("ready")),
        str(sum(state in COMING for state in states)),
        *(_number(model[key]) for key in ("wanted", "min", "max", "running", "waiting")),
        _moment(model["expected_ready"]),
    )


def _instance_row(instance: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        instance["id"],
        instance["job_id"] or "-",
        instance["state"],
        instance["job_state"] or "-",
        instance["address"] or "-",
        _moment(instance["submitted"]),
        _moment(instance["ends"]),
        instance["reason"] if instance["reason"] not in ("", "None") else "-",
    )


def _number(value: Optional[int]) -> str:
    return "-" if value is None else str(value)


def _moment(value: Optional[float]) -> str:
    return "-" if value is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(value))
