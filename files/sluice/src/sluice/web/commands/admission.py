"""`sluice admission`: stops and resumes a model at this gateway."""

from __future__ import annotations

import argparse
import time

from sluice.contracts.values import MODEL_NAME
from sluice.web.admin import stopped_models
from sluice.web.commands import common
from sluice.web.commands.common import NOT_FOUND, Context, refuse
from sluice.web.words import times
from sluice.web.words.validation import ValidationError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the actions."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="list the models that are stopped at this gateway")
    stop = actions.add_parser(
        "stop",
        help="refuse new requests for a model; open requests continue",
        description=(
            "Refuse new requests for a model within seconds; open requests continue. This does not "
            "affect its instances on the cluster: see `sluice models drain` on the login node."
        ),
    )
    stop.add_argument("--message", default="", help="message for its users, in one line")
    stop.add_argument(
        "--new", action="store_true", help="allow a model that nobody has used at this gateway yet"
    )
    resume = actions.add_parser("resume", help="accept requests for a model again")
    for action in (stop, resume):
        action.add_argument("model", help="name of the model")
    for action in (listing, stop, resume):
        common.add_common(action)


def run(args: argparse.Namespace) -> int:
    """Run one action. Return 0 on success, 2 for a wrong argument, 1 for an unknown model."""
    return common.run_action(args, {"list": _list, "stop": _stop, "resume": _resume})


def _list(args: argparse.Namespace, context: Context) -> int:
    with context.database.read() as session:
        rows = stopped_models.stopped(session)
    if args.json:
        stopped = [{"model": row.model, "since": row.since, "message": row.message} for row in rows]
        common.print_json({"stopped": stopped})
    else:
        cells = [(row.model, times.written(row.since), row.message or "-") for row in rows]
        common.print_table(("STOPPED", "SINCE", "MESSAGE"), cells)
    return 0


def _stop(args: argparse.Namespace, context: Context) -> int:
    try:
        with context.database.write() as session:
            problem = "" if args.new else stopped_models.unknown_model_problem(session, args.model)
            # An invalid name is reported as such, not as an unknown model.
            if not problem or not MODEL_NAME.fullmatch(args.model):
                stopped_models.stop(session, context.actor, args.model, args.message, time.time())
    except ValidationError as error:
        return refuse("admission stop", error)
    if problem:
        words = f"{problem}; nothing was stopped. To stop it anyway, add --new"
        return refuse("admission stop", words, NOT_FOUND)
    if args.json:
        common.print_json({"stopped": {"model": args.model, "message": args.message}})
    return 0


def _resume(args: argparse.Namespace, context: Context) -> int:
    with context.database.write() as session:
        done = stopped_models.resume(session, context.actor, args.model, time.time())
    if not done:
        problem = f"{args.model} is not stopped; see: sluice admission list"
        return refuse("admission resume", problem, NOT_FOUND)
    if args.json:
        common.print_json({"resumed": args.model})
    return 0
