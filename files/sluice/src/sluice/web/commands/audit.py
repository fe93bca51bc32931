"""`sluice audit`: shows the audit log."""

from __future__ import annotations

import argparse
import json
from typing import Any

from sluice.web.admin import audit
from sluice.web.commands import common
from sluice.web.commands.common import Context, refuse
from sluice.web.database.tables import AuditEntry
from sluice.web.words import times
from sluice.web.words.validation import ValidationError

_TIME = "in UTC, such as 2026-11-22 or 2026-11-22T18:30"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the action."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="list what administrators and operators did, newest first")
    listing.add_argument("--actor", default="", help="only by this actor: a pseudonym, or operator")
    listing.add_argument("--what", default="", help="only this action, such as user.block")
    listing.add_argument("--object", default="", help="only this object: a pseudonym, a key's id, a model, …")
    listing.add_argument("--since", default="", help=f"not before this time, {_TIME}")
    listing.add_argument("--until", default="", help=f"before this time, {_TIME}")
    listing.add_argument(
        "--most",
        type=common.whole_number(1, common.MAX_ROWS),
        default=100,
        help="maximum number of entries (default: %(default)s)",
    )
    common.add_common(listing)


def run(args: argparse.Namespace) -> int:
    """List entries. Return 0 on success, 2 for a wrong argument."""
    try:
        since, until = times.read(args.since), times.read(args.until)
    except ValidationError as error:
        return refuse("audit list", error)
    actors, objects = (tuple(filter(None, [text])) for text in (args.actor, args.object))
    wanted = audit.Filter(actors, args.what, objects, since, until)
    with common.open_context(args.config) as context:
        return _list(args, context, wanted)


def _list(args: argparse.Namespace, context: Context, wanted: audit.Filter) -> int:
    with context.database.read() as session:
        rows = audit.entries(session, wanted, most=max(args.most, 0))
    if args.json:
        common.print_json({"entries": [_document(row) for row in rows]})
        return 0
    cells = [
        (times.written(row.time), row.actor, row.action, row.object, _shown(row.before), _shown(row.after))
        for row in rows
    ]
    common.print_table(("TIME", "WHO", "WHAT", "TO WHAT", "BEFORE", "AFTER"), cells)
    return 0


def _document(row: AuditEntry) -> dict[str, Any]:
    return {
        "id": row.id,
        "time": row.time,
        "actor": row.actor,
        "action": row.action,
        "object": row.object,
        "before": row.before,
        "after": row.after,
    }


def _shown(side: dict[str, Any] | None) -> str:
    """Return the values before or after a change as one cell, without empty values."""
    told = {name: value for name, value in (side or {}).items() if value not in (None, "")}
    return json.dumps(told, ensure_ascii=False) if told else "-"
