"""`sluice db`: the database's tables, health, backups and age, on the gateway VM."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from sluice.web import terminal
from sluice.web.config import load
from sluice.web.upgrade import upgrade


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the actions."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    bring_up = actions.add_parser(
        "upgrade", help="bring the tables up to this version, while services of the one before go on"
    )
    terminal.add_common(bring_up, as_json=False)


def run(args: argparse.Namespace) -> int:
    """Carry out one action; 0 when done and well."""
    actions: dict[str, Callable[[argparse.Namespace], int]] = {"upgrade": _upgrade}
    return actions[args.action](args)


def _upgrade(args: argparse.Namespace) -> int:
    settings = load(args.config)
    terminal.become_owner(settings.session_dir)
    before, after = upgrade(settings.database)
    if before == after:
        print(f"nothing to do: the tables are of revision {after}")
    elif before is None:
        print(f"upgraded: made the tables of revision {after}")
    else:
        print(f"upgraded: from revision {before} to {after}")
    return 0
