"""`sluice keys`: API keys on the gateway VM, without a browser. Each change is written to the audit log."""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session, contains_eager

from sluice.contracts.authority import LIMITED
from sluice.contracts.values import GROUP
from sluice.web.admin import audit
from sluice.web.commands import common
from sluice.web.commands.common import NOT_FOUND, Context, refuse
from sluice.web.database.tables import ApiKey, User
from sluice.web.keys import actions as key_actions
from sluice.web.keys import credentials, forms
from sluice.web.keys.credentials import NewKey
from sluice.web.keys.forms import FieldError
from sluice.web.people import accounts
from sluice.web.settings.access import projects_of
from sluice.web.settings.config import WebConfig
from sluice.web.settings.rules import numbers_of
from sluice.web.words.validation import ValidationError

_USER = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
# The form of pseudonyms. A service account with such a name could be mistaken for a person.
_PSEUDONYM = re.compile(r"u-[0-9a-f]{16}")

_SEE = "see: sluice keys list"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the actions."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    create = actions.add_parser(
        "create", help="create a key for a service account and print it, only once, on standard output"
    )
    create.add_argument(
        "--user", required=True, help="the service account, such as demo; it is created if it is new"
    )
    create.add_argument("--groups", required=True, help="all groups of the account, such as users,admins")
    create.add_argument("--name", required=True, help="what the key is for")
    create.add_argument("--days", default="", help="days until it expires (default and maximum: key_days)")
    create.add_argument("--project", default="", help="project for which its use counts (default: none)")
    create.add_argument("--models", default="", help="the only models for which it may be used, such as a,b")
    for name in LIMITED:
        option = f"--{name.replace('_', '-')}"
        create.add_argument(option, default="", metavar="N", help="limit of this key (default: none)")
    listing = actions.add_parser("list", help="list the keys of one user, or all working keys")
    listing.add_argument("--user", default="", help="service account, or the pseudonym of anybody")
    show = actions.add_parser("show", help="show what a key may do and when it was used")
    rotate = actions.add_parser(
        "rotate", help="create a new key with the settings of a service account's key and print it, only once"
    )
    rotate.add_argument("--grace", default="0", help="days for which the old key keeps working (default: 0)")
    revoke = actions.add_parser("revoke", help="revoke anybody's key")
    for action in (show, rotate, revoke):
        action.add_argument("--key-id", required=True, help="as `list` shows it")
        action.add_argument("--user", default="", help="the user to whom the key must belong")
    revoke_all = actions.add_parser(
        "revoke-all", help="revoke all keys of a user, and end their sign-ins and page bearers"
    )
    revoke_all.add_argument("--user", required=True, help="service account, or the pseudonym of anybody")
    for action in (create, listing, show, rotate, revoke, revoke_all):
        common.add_common(action)


def run(args: argparse.Namespace) -> int:
    """Run one action. Return 0 on success, 2 for a wrong argument, 1 for an unknown key or user."""
    problem = _bad_names(args)
    if problem:
        return refuse("keys", problem)
    try:
        return common.run_action(args, _ACTIONS)
    except ValidationError as error:
        return refuse(f"keys {args.action}", error)


def _bad_names(args: argparse.Namespace) -> str:
    user = getattr(args, "user", "")
    if user and not _USER.fullmatch(user):
        return f"--user: {user!r} must consist of a-z, 0-9 and -"
    if args.action != "create":
        return ""
    if _PSEUDONYM.fullmatch(user):
        return f"--user: {user} has the form of a person's pseudonym; give the service account another name"
    for group in args.groups.split(","):
        if not GROUP.fullmatch(group):
            return f"--groups: {group!r} must consist of a-z, 0-9, dots, _ and -"
    return ""


def _create(args: argparse.Namespace, context: Context) -> int:
    groups, now = args.groups.split(","), time.time()
    given = {field: getattr(args, field) for field in forms.FIELDS}
    reading = forms.read(given, context.settings.key_days, projects_of(groups, context.settings.access))
    if reading.settings is None:
        return _refuse_fields(reading.errors)
    with context.database.write() as session:
        user = _service(session, context.actor, args.user, groups, now)
        new = key_actions.create(session, context.settings, context.actor, user, reading.settings, now)
    return _print_new(args, new, user)


def _service(session: Session, actor: str, name: str, groups: list[str], now: float) -> User:
    """Return the service account, created or with changed groups; the audit log gets an entry about it."""
    before = accounts.find(session, name)
    had = None if before is None else list(before.groups)
    user = accounts.upsert_service_account(session, name=name, groups=groups, now=now)
    if had != groups:
        action = "user.create" if had is None else "user.change"
        old = None if had is None else {"groups": had}
        audit.add(session, actor, action, user.pseudonym, old, {"name": name, "groups": groups}, now)
    return user


def _list(args: argparse.Namespace, context: Context) -> int:
    now = time.time()
    query = select(ApiKey).join(ApiKey.user).options(contains_eager(ApiKey.user))
    with context.database.read() as session:
        user = accounts.find(session, args.user) if args.user else None
        if args.user and user is None:
            return refuse("keys list", f"there is no user {args.user}; see: sluice users list", NOT_FOUND)
        if user is None:
            query = query.where(ApiKey.revoked.is_(None), ApiKey.expires > now)
        else:
            query = query.where(ApiKey.user_id == user.id)
        rows = session.scalars(query.order_by(User.name, ApiKey.created.desc(), ApiKey.id)).all()
    if args.json:
        common.print_json({"keys": [_document(row, context.settings, now) for row in rows]})
    else:
        _print_list(rows, context.settings, now)
    return 0


def _show(args: argparse.Namespace, context: Context) -> int:
    with context.database.read() as session:
        row = _key(session, args)
        if row is None:
            return _no_key(args)
    document = _document(row, context.settings, time.time())
    if args.json:
        common.print_json({"key": document})
    else:
        common.print_fields(document)
    return 0


def _rotate(args: argparse.Namespace, context: Context) -> int:
    try:
        grace = forms.read_grace(args.grace)
    except ValidationError as error:
        return _refuse_fields([FieldError("grace", error)])
    with context.database.write() as session:
        row = _key(session, args)
        if row is None:
            return _no_key(args)
        new = key_actions.rotate(session, context.settings, context.actor, row, grace, time.time())
    return _print_new(args, new, row.user)


def _revoke(args: argparse.Namespace, context: Context) -> int:
    with context.database.write() as session:
        row = _key(session, args)
        if row is None:
            return _no_key(args)
        key_actions.revoke(session, context.actor, row, time.time())
    if args.json:
        common.print_json({"revoked": [row.id]})
    return 0


def _revoke_all(args: argparse.Namespace, context: Context) -> int:
    with context.database.write() as session:
        user = accounts.find(session, args.user)
        if user is None:
            return refuse(
                "keys revoke-all", f"there is no user {args.user}; see: sluice users list", NOT_FOUND
            )
        number = key_actions.revoke_all(session, context.actor, user, time.time())
    if args.json:
        common.print_json({"user": user.pseudonym, "revoked": number})
    else:
        print(f"{number} keys revoked; sign-ins and page bearers ended")
    return 0


def _key(session: Session, args: argparse.Namespace) -> ApiKey | None:
    row = session.get(ApiKey, args.key_id)
    if row is None or not args.user:
        return row
    user = accounts.find(session, args.user)
    return row if user is not None and user.id == row.user_id else None


def _no_key(args: argparse.Namespace) -> int:
    whose = f"{args.user} has" if args.user else "there is"
    return refuse(f"keys {args.action}", f"{whose} no key {args.key_id}; {_SEE}", NOT_FOUND)


def _refuse_fields(errors: Sequence[FieldError]) -> int:
    for field, error in errors:
        status = refuse("keys", f"--{field.replace('_', '-')}: {common.error_text(error)}")
    return status


def _print_new(args: argparse.Namespace, new: NewKey, user: User) -> int:
    if args.json:
        common.print_json({"key": new.text, "key_id": new.row.id, "user": user.pseudonym})
    else:
        print(new.text)
    return 0


def _print_list(rows: Sequence[ApiKey], settings: WebConfig, now: float) -> None:
    cells = [
        (
            row.id,
            f"{row.hint}...",
            row.user.name,
            _state(row, settings, now),
            common.day(row.expires),
            common.day(row.last_used),
            row.project or "-",
            row.name,
        )
        for row in rows
    ]
    common.print_table(("KEY", "BEGINS", "USER", "STATE", "UNTIL", "USED", "PROJECT", "NAME"), cells)


def _document(row: ApiKey, settings: WebConfig, now: float) -> dict[str, Any]:
    """Return a key for `--json`; `secret` is the id of the key secret under which it is stored."""
    return {
        "key_id": row.id,
        "begins": row.hint,
        "user": row.user.pseudonym,
        "user_name": row.user.name,
        "name": row.name,
        "state": _state(row, settings, now),
        "created": row.created,
        "expires": row.expires,
        "revoked": row.revoked,
        "last_used": row.last_used,
        "project": row.project,
        "models": row.models,
        **numbers_of(row),
        "secret": row.secret_id,
    }


def _state(row: ApiKey, settings: WebConfig, now: float) -> str:
    """Return `live` for a key that works, else why it does not."""
    if not credentials.is_live(row, now):
        return "revoked" if row.revoked is not None else "expired"
    if row.user.blocked is not None:
        return "blocked"
    if row.project and row.project not in projects_of(row.user.groups, settings.access):
        return "left project"
    known = {settings.key_secret.id, *(secret.id for secret in settings.old_key_secrets)}
    return "live" if row.secret_id in known else "unknown secret"


_ACTIONS = {
    "create": _create,
    "list": _list,
    "show": _show,
    "rotate": _rotate,
    "revoke": _revoke,
    "revoke-all": _revoke_all,
}
