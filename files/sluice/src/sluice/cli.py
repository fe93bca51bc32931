"""The command line on the gateway VM (wheel) and on the cluster (zipapp).

A command's module is imported only when the command is run: the zipapp does not contain the gateway's
parts, and Python 3.9 could not read them.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import importlib
import os
import sys
from dataclasses import dataclass
from typing import Optional

from sluice import terminal
from sluice.errors import EXIT_CONFIG, RecordError, SluiceError
from sluice.version import version

# The status that a shell gives to a program that SIGPIPE ended.
EXIT_PIPE = 141
# Errors of writing standard output to a full or broken disk.
OUTPUT_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EIO)


@dataclass(frozen=True)
class Command:
    """A subcommand: the module that has its `add_arguments(parser)` and `run(arguments) -> exit status`."""

    module: str
    help: str


COMMANDS = {
    "proxy": Command("sluice.proxy.command", "the gateway's data plane (runs as a service)"),
    "keys": Command("sluice.web.commands.keys", "create, list, rotate and revoke API keys on the gateway"),
    "users": Command("sluice.web.commands.users", "list, show, block and unblock users of the gateway"),
    "usage": Command("sluice.web.commands.usage", "report usage at this gateway: sums and records"),
    "db": Command("sluice.web.commands.db", "upgrade, check, back up and restore the gateway's database"),
    "limits": Command("sluice.web.commands.limits", "list, set and remove limits at this gateway"),
    "admission": Command("sluice.web.commands.admission", "stop and resume models at this gateway"),
    "announcements": Command(
        "sluice.web.commands.announcements", ("show texts above every page of the gateway")
    ),
    "audit": Command("sluice.web.commands.audit", "show what administrators did at this gateway"),
    "relay": Command("sluice.relay.command", "the relay, which sshd starts for the gateway's key"),
    "front": Command("sluice.front.command", "the listener inside a job"),
    "box": Command("sluice.box.command", "run a job's engine in its box (the job's script does)"),
    "scheduler": Command(
        "sluice.scheduler.commands.scheduler", "keep the models' instances running (its launcher starts it)"
    ),
    "models": Command(
        "sluice.scheduler.commands.models", "list, show, apply, drain, resume, restart and remove models"
    ),
    "nodes": Command(
        "sluice.scheduler.commands.nodes",
        ("list and readmit nodes that are excluded because starts failed on them"),
    ),
    "weights": Command(
        "sluice.scheduler.commands.weights", "write and check the manifest of a model's weights"
    ),
    "address": Command(
        "sluice.front.address", ("print the address by which a job's node reaches another of its nodes")
    ),
    "status": Command(
        "sluice.scheduler.commands.status", "show models, instances and demand of this cluster"
    ),
    "doctor": Command("sluice.scheduler.commands.doctor", "check what Sluice assumes about the site"),
}


def main(argv: Optional[list[str]] = None) -> int:
    """Run one command and return its exit status; errors are one line on standard error."""
    arguments = sys.argv[1:] if argv is None else argv
    try:
        try:
            return _run_shielded(arguments)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # The reader has closed the pipe, as `| head` does.
        _close_output()
        return EXIT_PIPE
    except OSError as error:
        if error.errno not in OUTPUT_ERRORS:
            raise
        _close_output()
        print(f"sluice: {error.strerror}: the output is incomplete", file=sys.stderr)
        return SluiceError.exit_code


def _close_output() -> None:
    """Discard what is still buffered: Python would try to write it again when it exits."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run_shielded(arguments: list[str]) -> int:
    command = COMMANDS.get(next((word for word in arguments if not word.startswith("-")), ""))
    # These commands print texts from Slurm, from jobs and from other people.
    if command is not None and command.module.startswith("sluice.scheduler."):
        with terminal.safe_output():
            return _main(arguments)
    return _main(arguments)


def _main(arguments: list[str]) -> int:
    parser = _parser(arguments)
    parsed = parser.parse_args(arguments)
    try:
        return int(parsed.run(parsed))
    except SluiceError as error:
        print(f"sluice: {error.message}", file=sys.stderr)
        return error.exit_code
    except RecordError as error:
        print(f"sluice: {error}", file=sys.stderr)
        return EXIT_CONFIG
    except UnicodeEncodeError:
        print(
            "sluice: an argument or this terminal's encoding is not UTF-8: set LANG=C.UTF-8",
            file=sys.stderr,
        )
        return EXIT_CONFIG
    except KeyboardInterrupt:
        return 130


def _parser(arguments: list[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sluice", description=__doc__.splitlines()[0])
    parser.add_argument("--version", action="version", version=f"sluice {version()}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    wanted = next((argument for argument in arguments if not argument.startswith("-")), "")
    for name, command in COMMANDS.items():
        subparser = subparsers.add_parser(name, help=command.help, description=command.help)
        if name == wanted:
            _load(command, subparser)
    return parser


def _load(command: Command, parser: argparse.ArgumentParser) -> None:
    try:
        module = importlib.import_module(command.module)
    except ModuleNotFoundError as error:
        if error.name is None or not command.module.startswith(error.name):
            raise
        raise SystemExit(_missing_part(command)) from None
    module.add_arguments(parser)
    parser.set_defaults(run=module.run)


def _missing_part(command: Command) -> str:
    part = command.module.split(".")[1]
    return (
        f"sluice: this copy does not contain {part} (the wheel has proxy and web, the zipapp has the "
        "cluster's parts)"
    )
