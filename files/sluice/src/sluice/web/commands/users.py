"""`sluice users`: people and service accounts on the gateway VM. Each change is written to the audit log."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, or_, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from sluice import terminal
from sluice.web.admin import audit
from sluice.web.commands import common
from sluice.web.commands.common import NOT_FOUND, WRONG_ARGUMENT, Context, refuse
from sluice.web.database.tables import PERSON, SERVICE, SignedInBrowser, User
from sluice.web.keys import credentials
from sluice.web.people import accounts, erasing
from sluice.web.settings import access
from sluice.web.settings.config import WebConfig
from sluice.web.usage import nameless, person

_NO_PERSON = (
    "{} is a service account, not a person; to end its use: sluice users block, sluice keys revoke-all"
)

_UNFINISHED = "{} is erased, but not yet taken off all usage (database: {}); give the same command again"
NOT_FINISHED = 1


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
    export = actions.add_parser(
        "export", help="print all that is stored of a person, as JSON: for their request about their data"
    )
    erase = actions.add_parser("erase", help="erase a person; their usage stays, without a name")
    erase.add_argument("--yes", action="store_true", help="do it; without this, only say what would be done")
    for action in (show, block, unblock, export, erase):
        action.add_argument("user", help="pseudonym as `list` shows it, or the name of a service account")
    for action in (listing, show, block, unblock, erase):
        common.add_common(action)
    common.add_common(export, as_json=False)


def run(args: argparse.Namespace) -> int:
    """Run one action. Return 0, 1 for an unknown user or an unfinished erasure, 2 for one without `--yes`."""
    actions = {
        "list": _list,
        "show": _show,
        "block": _block,
        "unblock": _block,
        "export": _export,
        "erase": _erase,
    }
    return common.run_action(args, actions)


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
            audit.add(session, context.actor, f"user.{args.action}", row.pseudonym, before, after, now)
    if args.json:
        common.print_json({"user": row.pseudonym, "blocked": row.blocked})
    return 0


def _export(args: argparse.Namespace, context: Context) -> int:
    with context.database.write() as session:
        row = accounts.find(session, args.user)
        if row is None:
            return _no_user(args)
        audit.add(session, context.actor, "user.export", row.pseudonym, None, None, time.time())
    with common.until_the_pipe_closes(), context.database.read() as session:
        common.print_rows(person.tables(session, row))
    return 0


def _erase(args: argparse.Namespace, context: Context) -> int:
    pseudonym, found = args.user, None
    with context.database.write() as session:
        row = accounts.find(session, args.user)
        # An erasure that was interrupted has deleted the account first.
        if row is None and args.user not in nameless.late(session):
            return _no_user(args)
        if row is None and not args.yes:
            return refuse("users erase", f"{args.user} is erased but still has usage; add --yes to finish it")
        if row is not None:
            if row.kind == SERVICE:
                return refuse("users erase", _NO_PERSON.format(row.name))
            pseudonym, found = row.pseudonym, erasing.held(session, row)
            if not args.yes:
                return _ask(args, row, found)
            erasing.erase(session, context.actor, row, time.time())
    try:
        usage = nameless.make(context.database, pseudonym)
    except SQLAlchemyError as error:
        # Not the message of `open_context`, that nothing was changed.
        why = type(getattr(error, "orig", None) or error).__name__
        return refuse("users erase", _UNFINISHED.format(pseudonym, why), NOT_FINISHED)
    if args.json:
        common.print_json({"user": pseudonym, "erased": True, **vars(usage)})
    else:
        print(
            f"{pseudonym} is erased; {usage.records} records and {usage.days} sums of usage lost their user"
        )
        print("backups have this person until they are removed; what else has: docs/administration.md")
    return 0


def _ask(args: argparse.Namespace, row: User, found: erasing.Held) -> int:
    """Say what an erasure would do."""
    if args.json:
        common.print_json({"user": row.pseudonym, "erased": False, **vars(found)})
        return WRONG_ARGUMENT
    name = terminal.line(f"{row.name} <{row.email}>")
    print(f"{row.pseudonym}, {name}: this would be done, and cannot be undone")
    print(f"  deleted: account, {found.keys} keys, {found.sign_ins} sign-ins, {found.limits} limits")
    print(f"  kept, under the pseudonym alone: {found.audit} entries of the audit log")
    print("  kept, without user and key: all usage")
    return refuse("users erase", "nothing was changed; add --yes to do it")


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
