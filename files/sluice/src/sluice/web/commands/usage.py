"""`sluice usage`: sums for people, records for programs, as CSV or JSON."""

from __future__ import annotations

import argparse
import csv
import datetime
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from sluice.web.commands import common
from sluice.web.database.tables import User
from sluice.web.usage import exports, reports
from sluice.web.usage.exports import PERSONAL_COLUMNS, Pseudonymiser
from sluice.web.words.tables import guarded

NUMBERS = ("requests", "failed", "estimated", "input_tokens", "output_tokens", "cached_tokens", "seconds")
# The values of `--pseudonymised`.
_PSEUDONYMISERS = {"stable": lambda: exports.stable_pseudonyms, "random": exports.random_pseudonyms}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `usage report` and `usage export`."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    report = actions.add_parser("report", help="print sums: a table, or --csv, or --json")
    report.add_argument(
        "--by",
        type=_dimensions,
        default=("user",),
        metavar="LIST",
        help=f"what to sum by, such as month,project; from {', '.join(reports.DIMENSIONS)} (default: user)",
    )
    report.add_argument(
        "--limit", type=common.whole_number(1, common.MAX_ROWS), default=None, help="maximum number of rows"
    )
    report.add_argument("--csv", action="store_true", help="print CSV, with a header")
    csv_only = "begin CSV with a byte order mark, so that Excel reads UTF-8"
    report.add_argument("--bom", action="store_true", help=csv_only)
    export = actions.add_parser("export", help="print single records, one for each request: CSV, or --json")
    export.add_argument("--bom", action="store_true", help=csv_only)
    for action in (report, export):
        _add_filters(action)
        common.add_common(action)


def run(args: argparse.Namespace) -> int:
    """Run one action. Return 0."""
    wanted = reports.UsageQuery(
        since=args.since,
        # There is no day after date.max; nothing is left out then.
        until=args.until + datetime.timedelta(1) if args.until not in (None, datetime.date.max) else None,
        user=args.user,
        project=args.project,
        model=args.model,
        class_=args.class_,
    )
    pseudonymise = _PSEUDONYMISERS[args.pseudonymised]() if args.pseudonymised else None
    with (
        common.until_the_pipe_closes(),
        common.open_context(args.config) as context,
        context.database.read() as session,
    ):
        if args.action == "report":
            _report(session, args, wanted, pseudonymise)
        else:
            _export(session, args, wanted, pseudonymise)
    return 0


def _add_filters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--from", dest="since", type=_day, help="first day (UTC), such as 2026-11-01")
    parser.add_argument("--to", dest="until", type=_day, help="last day (UTC), included")
    parser.add_argument("--user", default="", help="only this user (pseudonym)")
    parser.add_argument("--project", default="", help="only this project")
    parser.add_argument("--model", default="", help="only this model")
    parser.add_argument(
        "--class",
        dest="class_",
        default="",
        choices=["", "interactive", "api", "batch"],
        help="only requests of the page (interactive), of keys (api) or of batches",
    )
    parser.add_argument(
        "--pseudonymised",
        nargs="?",
        const="stable",
        default="",
        choices=sorted(_PSEUDONYMISERS),
        help=(
            "no names or mail addresses: the pseudonyms that the cluster sees (stable, the default), or "
            "new ones only for this output (random)"
        ),
    )


# --- Reports ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Table:
    header: tuple[str, ...]
    rows: Iterator[dict[str, Any]]


def _report(
    session: Session,
    args: argparse.Namespace,
    wanted: reports.UsageQuery,
    pseudonymise: Pseudonymiser | None,
) -> None:
    personal = PERSONAL_COLUMNS if "user" in args.by and pseudonymise is None else ()
    rows = (
        _named(session, args.by, row, pseudonymise)
        for row in reports.summed(session, args.by, wanted, limit=args.limit)
    )
    table = _Table((*args.by, *personal, *NUMBERS), rows)
    if args.json:
        common.print_rows([("rows", table.rows)])
    elif args.csv:
        _print_csv(table, args.bom)
    else:
        cells = [[_short(row[name]) for name in table.header] for row in table.rows]
        common.print_table([name.upper() for name in table.header], cells)


def _named(
    session: Session, by: Sequence[str], row: reports.UsageSum, pseudonymise: Pseudonymiser | None
) -> dict[str, Any]:
    found: dict[str, Any] = dict(zip(by, row.group, strict=True))
    if pseudonymise is not None:
        for name in ("user", "key"):
            if name in found and found[name] != reports.PAGE_KEY:
                found[name] = pseudonymise(found[name])
    elif "user" in found:
        query = select(User.name, User.email).where(User.pseudonym == found["user"])
        person = session.execute(query).one_or_none()
        found.update(zip(PERSONAL_COLUMNS, person or ("", ""), strict=True))
    return {**found, **{name: getattr(row, name) for name in NUMBERS}}


def _short(value: object) -> str:
    return f"{value:.0f}" if isinstance(value, float) else str(value)


# --- Exports ------------------------------------------------------------------------------------------


def _export(
    session: Session,
    args: argparse.Namespace,
    wanted: reports.UsageQuery,
    pseudonymise: Pseudonymiser | None,
) -> None:
    rows = exports.records(session, wanted, pseudonymise)
    if args.json:
        common.print_rows([("records", rows)])
    else:
        _print_csv(_Table(exports.header(pseudonymised=pseudonymise is not None), rows), args.bom)


# --- Printing -----------------------------------------------------------------------------------------


def _print_csv(table: _Table, bom: bool) -> None:
    if bom:
        sys.stdout.write("\ufeff")
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(table.header)
    for row in table.rows:
        writer.writerow(_cell(name, row[name]) for name in table.header)


def _cell(name: str, value: object) -> object:
    if value is None:
        return ""
    # The provider may send any name.
    return guarded(value) if name in PERSONAL_COLUMNS else value


# --- Arguments ----------------------------------------------------------------------------------------


def _dimensions(text: str) -> tuple[str, ...]:
    found = tuple(text.split(","))
    for name in found:
        if name not in reports.DIMENSIONS:
            raise argparse.ArgumentTypeError(f"{name!r} is not one of {', '.join(reports.DIMENSIONS)}")
    if len(set(found)) < len(found):
        raise argparse.ArgumentTypeError("names something twice")
    return found


def _day(text: str) -> datetime.date:
    try:
        return datetime.date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a day such as 2026-11-01") from None
