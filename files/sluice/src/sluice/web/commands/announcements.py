"""`sluice announcements`: texts above every page."""

from __future__ import annotations

import argparse
import time
from typing import Any

from sluice.web.admin import announcements
from sluice.web.commands import common
from sluice.web.commands.common import NOT_FOUND, Context, refuse
from sluice.web.database.tables import Announcement
from sluice.web.words import times
from sluice.web.words.validation import ValidationError

_TIME = "in UTC, such as 2026-11-22 or 2026-11-22T18:30"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the actions."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="list announcements, the latest first")
    listing.add_argument(
        "--most",
        type=common.whole_number(1, common.MAX_ROWS),
        default=100,
        help="maximum number of entries (default: %(default)s)",
    )
    add = actions.add_parser(
        "add",
        help="show a text above every page",
        description="Show a text above every page, also before sign-in. Write only what everybody may read.",
    )
    add.add_argument("text", help="one line")
    add.add_argument("--level", choices=announcements.LEVELS, default="info", help="(default: %(default)s)")
    add.add_argument("--starts", default="", help=f"when it starts, {_TIME} (default: now)")
    add.add_argument("--ends", default="", help=f"when it ends, {_TIME} (default: when it is removed)")
    remove = actions.add_parser("remove", help="end an announcement now; it stays in the list")
    remove.add_argument("id", type=common.whole_number(1, common.LARGEST_ID), help="as `list` shows it")
    for action in (listing, add, remove):
        common.add_common(action)


def run(args: argparse.Namespace) -> int:
    """Run one action. Return 0 on success, 2 for a wrong argument, 1 if no such announcement can be ended."""
    return common.run_action(args, {"list": _list, "add": _add, "remove": _remove})


def _list(args: argparse.Namespace, context: Context) -> int:
    now = time.time()
    with context.database.read() as session:
        rows = announcements.listed(session, most=max(args.most, 0))
    if args.json:
        common.print_json({"announcements": [_document(row, now) for row in rows]})
        return 0
    cells = [
        (
            row.id,
            announcements.state(row, now),
            row.level,
            times.written(row.starts),
            "-" if row.ends is None else times.written(row.ends),
            row.text,
        )
        for row in rows
    ]
    common.print_table(("ID", "STATE", "LEVEL", "STARTS", "ENDS", "TEXT"), cells)
    return 0


def _add(args: argparse.Namespace, context: Context) -> int:
    now = time.time()
    try:
        starts, ends = times.read(args.starts), times.read(args.ends)
        starts = now if starts is None else starts
        with context.database.write() as session:
            row = announcements.add(session, context.actor, args.text, args.level, starts, ends, now)
    except ValidationError as error:
        return refuse("announcements add", error)
    if args.json:
        common.print_json({"announcement": _document(row, now)})
    else:
        print(row.id)
    return 0


def _remove(args: argparse.Namespace, context: Context) -> int:
    with context.database.write() as session:
        done = announcements.end(session, context.actor, args.id, time.time())
    if not done:
        problem = f"announcement {args.id} is neither shown nor planned; see: sluice announcements list"
        return refuse("announcements remove", problem, NOT_FOUND)
    if args.json:
        common.print_json({"ended": args.id})
    return 0


def _document(row: Announcement, now: float) -> dict[str, Any]:
    return {
        "id": row.id,
        "state": announcements.state(row, now),
        "level": row.level,
        "starts": row.starts,
        "ends": row.ends,
        "text": row.text,
    }
