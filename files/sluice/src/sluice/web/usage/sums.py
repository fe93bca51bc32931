"""What the pages show about usage, from the reports: totals, days without a gap, users of a limit."""

from __future__ import annotations

import datetime
from typing import NamedTuple

from sqlalchemy import distinct, func, select
from sqlalchemy.orm import Session

from sluice.web.database.tables import UsageDay
from sluice.web.settings.rules import Holder
from sluice.web.usage.reports import PAGE_KEY, UsageFilter, UsageSum, summed

DAY = datetime.timedelta(days=1)


class TokensUsed(NamedTuple):
    """The tokens of one day that one holder of limits had of one model."""

    holder: Holder
    model: str
    tokens: int


def last_days(now: float, days: int, *, user: str = "", project: str = "") -> UsageFilter:
    """Return the choice of the `days` days (UTC) that end with the day of `now`."""
    until = datetime.datetime.fromtimestamp(now, datetime.timezone.utc).date() + DAY
    return UsageFilter(since=until - days * DAY, until=until, user=user, project=project)


def zero(name: str) -> UsageSum:
    """Return the sum of no request."""
    return UsageSum((name,), 0, 0, 0, 0, 0, 0, 0.0)


def total(session: Session, wanted: UsageFilter) -> UsageSum:
    """Return the sum of everything chosen."""
    return next(summed(session, (), wanted))


def by(session: Session, dimension: str, wanted: UsageFilter, most: int) -> list[UsageSum]:
    """Return the sums by one of `reports.DIMENSIONS`, those with the most tokens first."""
    return list(summed(session, (dimension,), wanted, limit=most))


def daily(session: Session, wanted: UsageFilter) -> list[UsageSum]:
    """Return one sum for each day of a choice that has a first and a last day, in their order."""
    if wanted.since is None or wanted.until is None:
        raise ValueError("days without a first and a last one are not to be counted")
    found = {row.group[0]: row for row in summed(session, ("day",), wanted)}
    names = [str(wanted.since + at * DAY) for at in range((wanted.until - wanted.since).days)]
    return [found.get(name, zero(name)) for name in names]


def users(session: Session, wanted: UsageFilter) -> int:
    """Return how many users there were in the days of a choice."""
    within = (UsageDay.day >= wanted.since, UsageDay.day < wanted.until, UsageDay.user != "")
    return session.scalar(select(func.count(distinct(UsageDay.user))).where(*within)) or 0


def tokens_used(session: Session, wanted: UsageFilter, groups: dict[str, list[str]]) -> list[TokensUsed]:
    """Return who took what, as limits count it; `groups` of each user, by pseudonym."""
    found = []
    for row in summed(session, ("user", "project", "key", "model"), wanted):
        user, project, key, model = row.group
        holder = Holder(user, groups.get(user, []), project, "" if key == PAGE_KEY else key)
        found.append(TokensUsed(holder, model, row.tokens))
    return found
