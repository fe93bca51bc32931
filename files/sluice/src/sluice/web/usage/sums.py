"""Sums of usage for the pages: totals, all days of a period, tokens for limits."""

from __future__ import annotations

import datetime
from typing import NamedTuple

from sqlalchemy import distinct, func, select
from sqlalchemy.orm import Session

from sluice.web.database.tables import UsageDay
from sluice.web.settings.rules import Holder
from sluice.web.usage.reports import PAGE_KEY, UsageQuery, UsageSum, summed

DAY = datetime.timedelta(days=1)


class TokensUsed(NamedTuple):
    """The tokens that one holder has used of one model."""

    holder: Holder
    model: str
    tokens: int


def last_days(now: float, days: int, *, user: str = "", project: str = "") -> UsageQuery:
    """Return a filter for the `days` days (UTC) that end with the day of `now` (seconds since the epoch)."""
    until = datetime.datetime.fromtimestamp(now, datetime.timezone.utc).date() + DAY
    return UsageQuery(since=until - days * DAY, until=until, user=user, project=project)


def zero(name: str) -> UsageSum:
    """Return a sum of 0 requests for the group `name`."""
    return UsageSum((name,), 0, 0, 0, 0, 0, 0, 0.0)


def total(session: Session, wanted: UsageQuery) -> UsageSum:
    """Return the sum of all usage that matches `wanted`."""
    return next(summed(session, (), wanted))


def by(session: Session, dimension: str, wanted: UsageQuery, most: int) -> list[UsageSum]:
    """Return at most `most` sums by one of `reports.DIMENSIONS`, most tokens first."""
    return list(summed(session, (dimension,), wanted, limit=most))


def daily(session: Session, wanted: UsageQuery) -> list[UsageSum]:
    """Return a sum for each day of `wanted`, also for days without usage, in order.

    Raises ValueError if `wanted` has no first or no last day.
    """
    if wanted.since is None or wanted.until is None:
        raise ValueError("a filter by day needs a first and a last day")
    found = {row.group[0]: row for row in summed(session, ("day",), wanted)}
    names = [str(wanted.since + at * DAY) for at in range((wanted.until - wanted.since).days)]
    return [found.get(name, zero(name)) for name in names]


def users(session: Session, wanted: UsageQuery) -> int:
    """Return how many users there were on the days of `wanted`."""
    within = (UsageDay.day >= wanted.since, UsageDay.day < wanted.until, UsageDay.user != "")
    return session.scalar(select(func.count(distinct(UsageDay.user))).where(*within)) or 0


def tokens_used(session: Session, wanted: UsageQuery, groups: dict[str, list[str]]) -> list[TokensUsed]:
    """Return the tokens used by each holder and model; `groups` are those of each user, by pseudonym."""
    found = []
    for row in summed(session, ("user", "project", "key", "model"), wanted):
        user, project, key, model = row.group
        holder = Holder(user, groups.get(user, []), project, "" if key == PAGE_KEY else key)
        found.append(TokensUsed(holder, model, row.tokens))
    return found
