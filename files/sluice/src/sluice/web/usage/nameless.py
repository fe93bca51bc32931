"""Takes the user off usage records and daily sums: the numbers of projects, models and days stay the same."""

from __future__ import annotations

import datetime
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from sluice.web.database.tables import AuditEntry, Database, Usage, UsageDay
from sluice.web.people import erasing
from sluice.web.usage import ledger

# The most records that one transaction changes: others must be able to write in between.
AT_ONCE = 5_000

T = TypeVar("T")

SUMS = ("requests", "failed", "estimated", "input_tokens", "output_tokens", "cached_tokens", "seconds")
COLUMNS = (UsageDay.project, UsageDay.model, UsageDay.class_, *(getattr(UsageDay, name) for name in SUMS))

# The session has no objects of the changed rows.
UNSEEN = {"synchronize_session": False}


@dataclass(frozen=True)
class Nameless:
    """How much lost its user: records, and daily sums as they were before they were summed up."""

    records: int
    days: int


def make(database: Database, pseudonym: str) -> Nameless:
    """Take a user off all their usage, in short transactions. After an interruption, it can be repeated."""
    records = 0
    # The sums last: who still has sums is found again (`late`).
    while changed := _in_one_transaction(database, _records, pseudonym):
        records += changed
    last, days = _in_one_transaction(database, _last, pseudonym)
    return Nameless(records + last, days)


def late(session: Session) -> Sequence[str]:
    """Return the pseudonyms of erased people that have usage again: records of theirs were on their way."""
    erased = select(AuditEntry.object).where(AuditEntry.action == erasing.ACTION)
    return session.scalars(select(UsageDay.user).distinct().where(UsageDay.user.in_(erased))).all()


def add_day(session: Session, dialect: str, day: datetime.date, removed: Sequence[Any]) -> None:
    """Add sums that were removed from `day` (rows of COLUMNS) to those of that day without user and key."""
    merged: dict[tuple[str, str, str], list[Any]] = {}
    for project, model, class_, *numbers in removed:
        sums = merged.setdefault((project, model, class_), [0] * len(SUMS))
        merged[project, model, class_] = [a + b for a, b in zip(sums, numbers, strict=True)]
    for (project, model, class_), sums in merged.items():
        numbers_ = dict(zip(SUMS, sums, strict=True))
        place = {"day": day, "user": "", "project": project, "key_id": "", "model": model, "class": class_}
        row = ledger.INSERTS[dialect](UsageDay.__table__).values(place | numbers_)
        both = {name: getattr(UsageDay, name) + row.excluded[name] for name in SUMS}
        session.execute(row.on_conflict_do_update(index_elements=list(place), set_=both))


def _in_one_transaction(database: Database, step: Callable[[Session, str, str], T], pseudonym: str) -> T:
    with database.write() as session:
        ledger.one_at_a_time(session, database.dialect)
        return step(session, database.dialect, pseudonym)


def _records(session: Session, _dialect: str, pseudonym: str) -> int:
    some = select(Usage.id).where(Usage.user == pseudonym).limit(AT_ONCE)
    statement = update(Usage).where(Usage.id.in_(some)).values(user="", key_id="")
    # On the connection, because the session's result has no row count.
    return session.connection().execute(statement).rowcount


def _last(session: Session, dialect: str, pseudonym: str) -> tuple[int, int]:
    # Together: a record that came since the last look would keep its user, and without its sum `late`
    # would not find it.
    return _records(session, dialect, pseudonym), _sums(session, dialect, pseudonym)


def _sums(session: Session, dialect: str, pseudonym: str) -> int:
    # All days at once: without an index on the user, each look at the table reads all of it.
    theirs = delete(UsageDay).where(UsageDay.user == pseudonym).returning(UsageDay.day, *COLUMNS)
    removed = session.execute(theirs, execution_options=UNSEEN).all()
    days = defaultdict(list)
    for day, *row in removed:
        days[day].append(row)
    for day, rows in days.items():
        add_day(session, dialect, day, rows)
    return len(removed)
