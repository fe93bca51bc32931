"""`sluice users`: people and service accounts on the gateway VM. Each change is written to the audit log."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from sluice.web.admin import audit
from sluice.web.admin.audit import OPERATOR
from sluice.web.commands import common
from sluice.web.commands.common import NOT_FOUND, Context, refuse
from sluice.web.database.tables import PERSON, SERVICE, SignedInBrowser, User
from sluice.web.keys import credentials
from sluice.web.people import accounts
from sluice.web.settings import access
from sluice.web.settings.config import WebConfig


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the actions."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="list people and service accounts")
    listing.add_argument("--kind", choices=(PERSON, SERVICE), help="only these")
    listing.add_argument("--blocked", action="store_true", help="only blocked ones")
    listing.add_argument("--search", default="", help="only those with this text in name, mail or pseudonym")
    show = actions.add_parser("show", help="show a user's groups, projects, keys and sign-ins")
    block = actions.add_parser(
        "block", help="block a user: sign-ins end, and keys do not work until the user is unblocked"
    )
    unblock = actions.add_parser(
        "unblock", help="unblock a user: they can sign in again, and their keys work"
    )
    for action in (show, block, unblock):
        action.add_argument("user", help="pseudonym as `list` shows it, or the name of a service account")
    for action in (listing, show, block, unblock):
        common.add_common(action)


def run(args: argparse.Namespace) -> int:
    """Run one action. Return 0 on success, 1 for an unknown user."""
    return common.run_action(args, {"list": _list, "show": _show, "block": _block, "unblock": _block})


def _list(args: argparse.Namespace, context: Context) -> int:
    query = select(User).order_by(User.kind, User.name, User.id)
    if args.kind:
        query = query.where(User.kind == args.kind)
    if args.blocked:
        query = query.where(User.blocked.is_not(None))
    if args.search:
        columns = (User.name, User.email, User.pseudonym)
        query = query.where(or_(*(column.icontains(args.search, autoescape=True) for column in columns)))
    with context.database.read() as session:
        rows = session.scalars(query).all()
    if args.json:
        common.print_json({"users": [_document(row, context.settings) for row in rows]})
    else:
        _print_list(rows)
    return 0


def _show(args: argparse.Namespace, context: Context) -> int:
    with context.database.read() as session:
        row = accounts.find(session, args.user)
        if row is None:
            return _no_user(args)
        document = {**_document(row, context.settings), **_holds(session, row)}
    if args.json:
        common.print_json({"user": document})
    else:
        common.print_fields(document)
    return 0


def _block(args: argparse.Namespace, context: Context) -> int:
    now, wanted = time.time(), args.action == "block"
    with context.database.write() as session:
        row = accounts.find(session, args.user)
        if row is None:
            return _no_user(args)
        was = row.blocked is not None
        if wanted:
            accounts.block(session, row, now)
        else:
            accounts.unblock(session, row)
        if was != wanted:
            before, after = {"blocked": was}, {"blocked": wanted}
            audit.add(session, OPERATOR, f"user.{args.action}", row.pseudonym, before, after, now)
    if args.json:
        common.print_json({"user": row.pseudonym, "blocked": row.blocked})
    return 0


def _no_user(args: argparse.Namespace) -> int:
    return refuse(f"users {args.action}", f"there is no user {args.user}; see: sluice users list", NOT_FOUND)


def _print_list(rows: Sequence[User]) -> None:
    cells = [
        (
            row.pseudonym,
            row.kind,
            "blocked" if row.blocked is not None else "-",
            common.day(row.seen),
            ",".join(row.groups) or "-",
            row.name,
        )
        for row in rows
    ]
    common.print_table(("USER", "KIND", "BLOCKED", "SEEN", "GROUPS", "NAME"), cells)


def _document(row: User, settings: WebConfig) -> dict[str, Any]:
    return {
        "user": row.pseudonym,
        "kind": row.kind,
        "name": row.name,
        "email": row.email,
        "groups": row.groups,
        "role": access.role_of(row.groups, settings.access),
        "projects": list(access.projects_of(row.groups, settings.access)),
        "created": row.created,
        "seen": row.seen,
        "blocked": row.blocked,
    }


def _holds(session: Session, row: User) -> dict[str, int]:
    now = time.time()
    sign_ins = select(func.count()).where(SignedInBrowser.user_id == row.id)
    return {
        "live_keys": sum(
            1 for key in credentials.list_keys(session, row.id) if credentials.is_live(key, now)
        ),
        "sign_ins": session.scalar(sign_ins) or 0,
    }
