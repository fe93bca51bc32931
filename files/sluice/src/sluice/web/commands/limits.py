"""`sluice limits`: lists the limits of the inventory and of administrators, sets and removes the latter."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable
from typing import Any

from sluice.contracts.authority import LIMITED
from sluice.contracts.values import LARGEST
from sluice.web.commands import common
from sluice.web.commands.common import NOT_FOUND, Context, refuse
from sluice.web.limits import admin_limits
from sluice.web.settings.config import LimitRule
from sluice.web.settings.rules import Rule, numbers_of
from sluice.web.words.validation import ValidationError

_SCOPE = (
    "to whom it applies: site, project:NAME, group:NAME (all members together), member:GROUP (each "
    "member separately), user:PSEUDONYM, key:ID, or user:*, key:*, project:*, group:* (each "
    "separately)"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the actions."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="list all limits, also those of the inventory")
    put = actions.add_parser(
        "set",
        help="set a limit, with all its numbers",
        description=(
            "Set a limit with all its numbers; a number that you leave out is not limited. The tightest "
            "limit wins, so this can only be stricter than the inventory."
        ),
    )
    remove = actions.add_parser(
        "remove", help="remove a limit that was set with this command or on the pages"
    )
    for action in (put, remove):
        action.add_argument("scope", help=_SCOPE)
        action.add_argument("--model", default="", help="only for this model (default: all models together)")
    for name in LIMITED:
        # The limit itself checks the range and explains it.
        number = common.whole_number(-LARGEST, LARGEST)
        put.add_argument(f"--{name.replace('_', '-')}", type=number, default=None, metavar="N")
    for action in (listing, put, remove):
        common.add_common(action)


def run(args: argparse.Namespace) -> int:
    """Run one action. Return 0 on success, 2 for an invalid limit, 1 for one that does not exist."""
    return common.run_action(args, {"list": _list, "set": _set, "remove": _remove})


def _list(args: argparse.Namespace, context: Context) -> int:
    with context.database.read() as session:
        own = admin_limits.listed(session)
    rules: list[tuple[str, Rule]] = [("inventory", rule) for rule in context.settings.limits]
    rules += [("here", row) for row in own]
    if args.json:
        common.print_json({"limits": [{"from": origin, **_document(rule)} for origin, rule in rules]})
    else:
        _print(rules)
    return 0


def _set(args: argparse.Namespace, context: Context) -> int:
    rule = LimitRule(args.scope, args.model, **{name: getattr(args, name) for name in LIMITED})
    try:
        with context.database.write() as session:
            admin_limits.put(session, context.settings, context.actor, rule, time.time())
    except ValidationError as error:
        return refuse("limits set", error)
    if args.json:
        common.print_json({"limit": _document(rule)})
    else:
        _print([("here", rule)])
    return 0


def _remove(args: argparse.Namespace, context: Context) -> int:
    with context.database.write() as session:
        done = admin_limits.remove(session, context.actor, args.scope, args.model, time.time())
    if not done:
        name = admin_limits.name_of(args.scope, args.model)
        problem = f"no limit for {name} was set here; see: sluice limits list"
        return refuse("limits remove", problem, NOT_FOUND)
    if args.json:
        common.print_json({"removed": {"scope": args.scope, "model": args.model}})
    return 0


def _document(rule: Rule) -> dict[str, Any]:
    return {"scope": rule.scope, "model": rule.model, **numbers_of(rule)}


def _print(rules: Iterable[tuple[str, Rule]]) -> None:
    cells = [
        (
            rule.scope,
            rule.model or "-",
            *("-" if number is None else number for number in numbers_of(rule).values()),
            origin,
        )
        for origin, rule in rules
    ]
    header = ("SCOPE", "MODEL", *(name.upper().replace("_", " ") for name in LIMITED), "FROM")
    common.print_table(header, cells)
