"""Deletes old data: usage records, the users in daily sums, entries of the audit log."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.engine import CursorResult
from sqlalchemy.orm import Session

from sluice.web.admin import audit
from sluice.web.database.tables import Database, Usage, UsageDay, settled

DAY = 86_400.0
# The most rows that one transaction removes: others must be able to write in between.
AT_ONCE = 5_000

# The session has no objects of the removed rows.
_UNSEEN = {"synchronize_session": False}

_SUMS = ("requests", "failed", "estimated", "input_tokens", "output_tokens", "cached_tokens", "seconds")
_COLUMNS = (UsageDay.project, UsageDay.model, UsageDay.class_, *(getattr(UsageDay, name) for name in _SUMS))


@dataclass(frozen=True)
class Removed:
    """How many rows were removed: records, daily sums with users, entries of the audit log."""

    records: int
    days: int
    audit: int


def prune(database: Database, usage_days: int, audit_days: int, now: float) -> Removed:
    """Remove data that is older than these numbers of days; `now` is in seconds since the epoch.

    Records are deleted; they remain in the daily sums. Daily sums of the same age lose user and key; they
    keep project, model and class.
    """
    limit = now - usage_days * DAY
    # Only whole days, to which nothing is added any more.
    day = datetime.datetime.fromtimestamp(limit, datetime.timezone.utc).date()
    return Removed(
        records=_repeat(database, lambda session: _remove_records(session, limit)),
        days=_repeat(database, lambda session: _remove_names(session, day)),
        audit=_repeat(database, lambda session: audit.forget(session, now - audit_days * DAY), once=True),
    )


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
    result = session.execute(delete(Usage).where(Usage.id.in_(old)), execution_options=_UNSEEN)
    return result.rowcount if isinstance(result, CursorResult) else 0


def _remove_names(session: Session, before: datetime.date) -> int:
    """Merge the sums of the oldest day that still has users; return how many rows there were."""
    named = (UsageDay.user != "") & (UsageDay.day < before)
    day = session.scalar(select(func.min(UsageDay.day)).where(named))
    if day is None:
        return 0
    # The deleted rows are exactly those that are summed, even if others add to the day now. Rows without a
    # user, which an earlier run left before a late record came, are merged too.
    removed = session.execute(
        delete(UsageDay).where(UsageDay.day == day).returning(*_COLUMNS), execution_options=_UNSEEN
    ).all()
    merged: dict[tuple[str, str, str], list[Any]] = {}
    for project, model, class_, *numbers in removed:
        sums = merged.setdefault((project, model, class_), [0] * len(_SUMS))
        merged[project, model, class_] = [a + b for a, b in zip(sums, numbers, strict=True)]
    for (project, model, class_), sums in merged.items():
        session.add(
            UsageDay(
                day=day,
                user="",
                project=project,
                key_id="",
                model=model,
                class_=class_,
                **dict(zip(_SUMS, sums, strict=True)),
            )
        )
    return len(removed)
