"""Sums of usage by day, month, user, project, model, class and key, from the table `usage_day`."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, String, case, cast, func, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from sluice.web.database.tables import Usage, UsageDay

# What to sum by; the `key` of all requests of the chat page is `page`.
DIMENSIONS = ("day", "month", "user", "project", "model", "class", "key")
PAGE_KEY = "page"

_NUMBERS = ("requests", "failed", "estimated", "input_tokens", "output_tokens", "cached_tokens")
# How many rows are in memory at once.
_AT_ONCE = 1_000


@dataclass(frozen=True)
class UsageSum:
    """One sum; `group` has the values of the requested dimensions, in their order.

    Days are `YYYY-MM-DD`, months `YYYY-MM` (UTC, when requests were settled), users are pseudonyms ("" for
    usage older than `usage_days`). `failed`: requests with a status of 400 or more; `estimated`: those whose
    tokens were counted by chunks; `seconds`: the sum of their durations.
    """

    group: tuple[str, ...]
    requests: int
    failed: int
    estimated: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    seconds: float

    @property
    def tokens(self) -> int:
        """Input and output together."""
        return self.input_tokens + self.output_tokens


@dataclass(frozen=True)
class UsageQuery:
    """Which usage to include; None and "" match all. Days (UTC): `since` <= day < `until`."""

    since: datetime.date | None = None
    until: datetime.date | None = None
    user: str = ""
    project: str = ""
    model: str = ""
    class_: str = ""


EVERYTHING = UsageQuery()


def start_of_day(day: datetime.date) -> float:
    """Return the start of a day (UTC) in seconds since the epoch."""
    return datetime.datetime.combine(day, datetime.time(), datetime.timezone.utc).timestamp()


def summed(
    session: Session, by: Sequence[str], wanted: UsageQuery = EVERYTHING, *, limit: int | None = None
) -> Iterator[UsageSum]:
    """Return one sum for each combination of the DIMENSIONS in `by`, with few rows in memory at once.

    Ordered by time if `by` begins with `day` or `month`, else most tokens first; at most `limit` sums.
    Without dimensions, one sum of everything.
    """
    groups = [_dimension(session, name) for name in by]
    numbers = [func.coalesce(func.sum(getattr(UsageDay, name)), 0) for name in _NUMBERS]
    query = select(*groups, *numbers, func.coalesce(func.sum(UsageDay.seconds), 0.0)).group_by(*groups)
    tokens = func.sum(UsageDay.input_tokens + UsageDay.output_tokens).desc()
    if by and by[0] not in ("day", "month"):
        query = query.order_by(tokens, *groups)
    else:
        query = query.order_by(*groups)
    result = session.execute(_chosen(query, wanted).limit(limit), execution_options={"yield_per": _AT_ONCE})
    width = len(groups)
    for row in result:
        counts = dict(zip(_NUMBERS, (int(number) for number in row[width:]), strict=False))
        yield UsageSum(tuple(str(value) for value in row[:width]), seconds=float(row[-1]), **counts)


def _chosen(query: Select[Any], wanted: UsageQuery) -> Select[Any]:
    if wanted.since is not None:
        query = query.where(UsageDay.day >= wanted.since)
    if wanted.until is not None:
        query = query.where(UsageDay.day < wanted.until)
    return filtered(query, UsageDay, wanted)


def filtered(query: Select[Any], table: type[Usage | UsageDay], wanted: UsageQuery) -> Select[Any]:
    """Add the conditions of `wanted` to a query of `table`, except for the days."""
    for column, value in (
        (table.user, wanted.user),
        (table.project, wanted.project),
        (table.model, wanted.model),
        (table.class_, wanted.class_),
    ):
        if value:
            query = query.where(column == value)
    return query


def _dimension(session: Session, name: str) -> ColumnElement[Any] | InstrumentedAttribute[Any]:
    columns: dict[str, InstrumentedAttribute[Any]] = {
        "day": UsageDay.day,
        "user": UsageDay.user,
        "project": UsageDay.project,
        "model": UsageDay.model,
        "class": UsageDay.class_,
    }
    if name == "month":
        if session.get_bind().dialect.name == "postgresql":
            return func.to_char(UsageDay.day, "YYYY-MM")
        # SQLite stores dates as text, such as 2026-11-18.
        return func.substr(cast(UsageDay.day, String), 1, 7)
    if name == "key":
        return case((UsageDay.key_id == "", PAGE_KEY), else_=UsageDay.key_id)
    return columns[name]
