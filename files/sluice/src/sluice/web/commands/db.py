"""`sluice db`: upgrade, check, back up, restore and prune the database, on the gateway VM."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from sqlalchemy import make_url

from sluice.web.commands import common
from sluice.web.database import backup, health, schema
from sluice.web.database.upgrade import upgrade
from sluice.web.settings.config import WebConfig, load
from sluice.web.usage import retention

BACKUPS = "/var/lib/sluice-web/backups"
KEEP = 14
UNWELL = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the actions."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    bring_up = actions.add_parser(
        "upgrade", help="upgrade the tables to this version while services of the previous version run"
    )
    look = actions.add_parser(
        "check", help="check integrity, sums, backups and free space; exit status 1 if something is wrong"
    )
    look.add_argument(
        "--dir", type=Path, default=Path(BACKUPS), help="folder of the backups (default: %(default)s)"
    )
    save = actions.add_parser("backup", help="write a backup while the services run, and print its path")
    save.add_argument(
        "--dir", type=Path, default=Path(BACKUPS), help="folder of the backups (default: %(default)s)"
    )
    save.add_argument(
        "--keep",
        type=common.whole_number(1, 10_000),
        default=KEEP,
        help="how many to keep (default: %(default)s)",
    )
    put_back = actions.add_parser(
        "restore",
        help="replace the database with a backup; the old database is kept; the services must be stopped",
    )
    put_back.add_argument("backup", type=Path, help="a file that `backup` wrote")
    prune = actions.add_parser("prune", help="remove records older than usage_days and audit_days")
    for action in (bring_up, save, put_back, prune):
        common.add_common(action, as_json=False)
    common.add_common(look)


def run(args: argparse.Namespace) -> int:
    """Run one action. Return 0 on success, 1 if `check` found something wrong."""
    actions: dict[str, Callable[[argparse.Namespace], int]] = {
        "upgrade": _upgrade,
        "check": _check,
        "backup": _backup,
        "restore": _restore,
        "prune": _prune,
    }
    return actions[args.action](args)


def _upgrade(args: argparse.Namespace) -> int:
    before, after = upgrade(_as_owner(args).database)
    if before == after:
        print(f"nothing to do: the tables have revision {after}")
    elif before is None:
        print(f"upgraded: created the tables of revision {after}")
    else:
        print(f"upgraded: from revision {before} to {after}")
    return 0


def _check(args: argparse.Namespace) -> int:
    with common.open_context(args.config) as context:
        place = make_url(context.settings.database)
        file = Path(place.database) if place.get_backend_name() == "sqlite" and place.database else None
        findings = [health.Finding("revision", schema.REVISION)]
        findings += health.check(context.database, file, args.dir, time.time())
    well = not any(finding.remedy for finding in findings)
    if args.json:
        common.print_json({"well": well, "findings": [asdict(finding) for finding in findings]})
    else:
        rows = [(item.name, "ok" if not item.remedy else "WRONG", item.found) for item in findings]
        common.print_table(("CHECK", "STATE", "FOUND"), rows)
        for finding in findings:
            if finding.remedy:
                print(f"{finding.name}: {finding.remedy}")
    return 0 if well else UNWELL


def _backup(args: argparse.Namespace) -> int:
    print(backup.backup(_as_owner(args).database, args.dir, args.keep, time.time()))
    return 0


def _restore(args: argparse.Namespace) -> int:
    aside = backup.restore(_as_owner(args).database, args.backup, time.time())
    print(f"restored {args.backup}; the old data: {aside}")
    print("next: sluice db upgrade, then start web and authority")
    return 0


def _prune(args: argparse.Namespace) -> int:
    with common.open_context(args.config) as context:
        settings = context.settings
        removed = retention.prune(context.database, settings.usage_days, settings.audit_days, time.time())
    print(
        f"removed {removed.records} usage records and {removed.audit} entries of the audit log; "
        f"removed users from {removed.days} daily sums"
    )
    return 0


def _as_owner(args: argparse.Namespace) -> WebConfig:
    settings = load(args.config)
    common.become_owner(settings.session_dir)
    return settings
