"""`sluice keys`: API keys of service accounts, made on the gateway VM without a browser."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from sluice.records import GROUP
from sluice.web import credentials
from sluice.web.accounts import remember_service
from sluice.web.config import DEFAULT_PATH, WebConfig, load
from sluice.web.database import SERVICE, Database, User

_USER = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `keys create`, `keys list` and `keys revoke`."""
    actions = parser.add_subparsers(dest="action", required=True)
    create = actions.add_parser("create", help="make a key and print it, this once, on standard output")
    create.add_argument("--groups", required=True, help="groups of the service account, as in users,admins")
    create.add_argument("--name", required=True, help="what the key is for")
    create.add_argument("--days", type=int, default=None, help="days until it expires (default: key_days)")
    create.add_argument("--json", action="store_true", help="print a JSON document with key, key_id and user")
    listing = actions.add_parser("list", help="list a service account's keys")
    revoke = actions.add_parser("revoke", help="revoke a key")
    revoke.add_argument("--key-id", required=True, help="as `list` shows it")
    for action in (create, listing, revoke):
        action.add_argument("--user", required=True, help="the service account, as in demo")
        action.add_argument(
            "--config", default=DEFAULT_PATH, help="web's configuration (default: %(default)s)"
        )


def run(args: argparse.Namespace) -> int:
    """Carry out one action; 0 when done, 2 for a wrong argument, 1 for a key that is not there."""
    groups = args.groups.split(",") if args.action == "create" else []
    wrong = [group for group in groups if not GROUP.fullmatch(group)]
    if wrong or not _USER.fullmatch(args.user):
        name = f"--groups: {wrong[0]!r}" if wrong else f"--user: {args.user!r}"
        print(f"sluice keys: {name} must consist of a-z, 0-9 and -", file=sys.stderr)
        return 2
    settings = load(args.config)
    _become_owner(settings.session_dir)
    database = Database(settings.database)
    database.prepare()
    actions = {"create": _create, "list": _list, "revoke": _revoke}
    try:
        return actions[args.action](args, database, settings)
    finally:
        database.close()


def _create(args: argparse.Namespace, database: Database, settings: WebConfig) -> int:
    now = time.time()
    with database.write() as session:
        user = remember_service(session, name=args.user, groups=args.groups.split(","), now=now)
        days = args.days or settings.key_days
        wanted = credentials.KeySettings(args.name, days)
        new = credentials.make_key(session, settings.key_secret, user, wanted, now)
    print(
        json.dumps({"key": new.text, "key_id": new.row.id, "user": user.pseudonym}) if args.json else new.text
    )
    return 0


def _list(args: argparse.Namespace, database: Database, _settings: WebConfig) -> int:
    now = time.time()
    with database.read() as session:
        user = _service(session, args.user)
        rows = credentials.list_keys(session, user.id) if user else []
    for row in rows:
        state = "live" if credentials.is_live(row, now) else "ended"
        expires = time.strftime("%Y-%m-%d", time.gmtime(row.expires))
        print(f"{row.id}  {row.hint}...  {state:5}  until {expires}  {row.name}")
    return 0


def _revoke(args: argparse.Namespace, database: Database, _settings: WebConfig) -> int:
    with database.write() as session:
        user = _service(session, args.user)
        done = user is not None and credentials.revoke_key(session, user.id, args.key_id, time.time())
    if not done:
        print(f"sluice keys: {args.user} has no key {args.key_id}; see: sluice keys list", file=sys.stderr)
    return 0 if done else 1


def _service(session: Session, name: str) -> User | None:
    return session.scalar(select(User).where(User.kind == SERVICE, User.subject == name))


def _become_owner(directory: str) -> None:
    """As root, go on as the account that owns the web state: files that root makes would lock it out."""
    if os.geteuid() != 0:
        return
    owner = Path(directory).stat()
    os.setgroups([])
    os.setgid(owner.st_gid)
    os.setuid(owner.st_uid)
