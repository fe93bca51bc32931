"""What the pages show about usage, from the reports: totals, days without a gap, users of a limit."""

from __future__ import annotations

import datetime
from typing import NamedTuple

from sqlalchemy import distinct, func, select
from sqlalchemy.orm import Session

from sluice.web.database.tables import UsageDay
from sluice.web.settings.rules import Holder
from sluice.web.usage.reports import PAGE_KEY, Choice, Row, summed

DAY = datetime.timedelta(days=1)


class Share(NamedTuple):
    """The tokens of one day that one holder of limits had of one model."""

    holder: Holder
    model: str
    tokens: int


def last_days(now: float, days: int, *, user: str = "", project: str = "") -> Choice:
    """Return the choice of the `days` days (UTC) that end with the day of `now`."""
    until = datetime.datetime.fromtimestamp(now, datetime.timezone.utc).date() + DAY
    return Choice(since=until - days * DAY, until=until, user=user, project=project)


def nothing(name: str) -> Row:
    """Return the sum of no request."""
    return Row((name,), 0, 0, 0, 0, 0, 0, 0.0)


def total(session: Session, choice: Choice) -> Row:
    """Return the sum of everything chosen."""
    return next(summed(session, (), choice))


def by(session: Session, dimension: str, choice: Choice, most: int) -> list[Row]:
    """Return the sums by one of `reports.DIMENSIONS`, those with the most tokens first."""
    return list(summed(session, (dimension,), choice, limit=most))


def daily(session: Session, choice: Choice) -> list[Row]:
    """Return one sum for each day of a choice that has a first and a last day, in their order."""
    if choice.since is None or choice.until is None:
        raise ValueError("days without a first and a last one are not to be counted")
    found = {row.group[0]: row for row in summed(session, ("day",), choice)}
    names = [str(choice.since + at * DAY) for at in range((choice.until - choice.since).days)]
    return [found.get(name, nothing(name)) for name in names]


def users(session: Session, choice: Choice) -> int:
    """Return how many users there were in the days of a choice."""
    within = (UsageDay.day >= choice.since, UsageDay.day < choice.until, UsageDay.user != "")
    return session.scalar(select(func.count(distinct(UsageDay.user))).where(*within)) or 0


def shares(session: Session, choice: Choice, groups: dict[str, list[str]]) -> list[Share]:
    """Return who took what, as limits count it; `groups` of each user, by pseudonym."""
    found = []
    for row in summed(session, ("user", "project", "key", "model"), choice):
        user, project, key, model = row.group
        holder = Holder(user, groups.get(user, []), project, "" if key == PAGE_KEY else key)
        found.append(Share(holder, model, row.tokens))
    return found
