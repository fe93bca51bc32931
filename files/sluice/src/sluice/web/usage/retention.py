"""How long data is kept: single usage records, the users in a day's sums, the audit log."""

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
# Others write in between: one transaction removes no more than this.
AT_ONCE = 5_000

# No object of this session stands for what is removed.
_UNSEEN = {"synchronize_session": False}

_SUMS = ("requests", "failed", "estimated", "input_tokens", "output_tokens", "cached_tokens", "seconds")
_COLUMNS = (UsageDay.project, UsageDay.model, UsageDay.class_, *(getattr(UsageDay, name) for name in _SUMS))


@dataclass(frozen=True)
class Removed:
    """How many rows went: records, days' rows whose user and key were taken off, entries of the audit log."""

    records: int
    days: int
    audit: int


def prune(database: Database, usage_days: int, audit_days: int, now: float) -> Removed:
    """Remove what is older than so many days.

    Of a record remains its part of the day's sum; of that sum, once it is as old, what was used of which
    model for which project, but no longer by whom.
    """
    limit = now - usage_days * DAY
    # A whole day at a time: nothing is added to it any more.
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
    """Merge the rows of the oldest day that still says who used what."""
    named = (UsageDay.user != "") & (UsageDay.day < before)
    day = session.scalar(select(func.min(UsageDay.day)).where(named))
    if day is None:
        return 0
    # What is removed is what is summed, whoever else adds to the day just now. Rows without a name, made
    # before a record that came late, are summed up with the rest.
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
