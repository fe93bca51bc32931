"""Deletes old data: usage records, the users in daily sums, entries of the audit log."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import delete, func, select
from sqlalchemy.engine import CursorResult
from sqlalchemy.orm import Session

from sluice.web.admin import audit
from sluice.web.database.tables import Database, Usage, UsageDay, settled
from sluice.web.usage import nameless
from sluice.web.usage.nameless import AT_ONCE, COLUMNS, UNSEEN

DAY = 86_400.0


@dataclass(frozen=True)
class Removed:
    """How many rows were removed: records, daily sums with users, entries of the audit log.

    `late`: how many records and daily sums of erased users came after the users were erased, and lost them.
    """

    records: int
    days: int
    audit: int
    late: int = 0


def prune(database: Database, usage_days: int, audit_days: int, now: float) -> Removed:
    """Remove data that is older than these numbers of days; `now` is in seconds since the epoch.

    Records are deleted; they remain in the daily sums. Daily sums of the same age lose user and key; they
    keep project, model and class. Records of erased users that came late lose user and key.
    """
    limit = now - usage_days * DAY
    # Only whole days, to which nothing is added any more.
    day = datetime.datetime.fromtimestamp(limit, datetime.timezone.utc).date()
    return Removed(
        records=_repeat(database, lambda session: _remove_records(session, limit)),
        days=_repeat(database, lambda session: _remove_names(session, database.dialect, day)),
        audit=_repeat(database, lambda session: audit.forget(session, now - audit_days * DAY), once=True),
        late=_remove_late(database),
    )


def _remove_late(database: Database) -> int:
    with database.read() as session:
        erased = nameless.late(session)
    done = [nameless.make(database, pseudonym) for pseudonym in erased]
    return sum(one.records + one.days for one in done)


def _repeat(database: Database, step: Callable[[Session], int], once: bool = False) -> int:
    total = 0
    while True:
        with database.write() as session:
            done = step(session)
        total += done
        if once or not done:
            return total


def _remove_records(session: Session, limit: float) -> int:
    old = select(Usage.id).where(settled() < limit).limit(AT_ONCE)
    result = session.execute(delete(Usage).where(Usage.id.in_(old)), execution_options=UNSEEN)
    return result.rowcount if isinstance(result, CursorResult) else 0


def _remove_names(session: Session, dialect: str, before: datetime.date) -> int:
    """Merge the sums of the oldest day that still has users; return how many rows there were."""
    named = (UsageDay.user != "") & (UsageDay.day < before)
    day = session.scalar(select(func.min(UsageDay.day)).where(named))
    if day is None:
        return 0
    # The deleted rows are exactly those that are summed, even if others add to the day now. Rows without a
    # user, which an earlier run left before a late record came, are merged too.
    removed = session.execute(
        delete(UsageDay).where(UsageDay.day == day).returning(*COLUMNS), execution_options=UNSEEN
    ).all()
    nameless.add_day(session, dialect, day, removed)
    return len(removed)
