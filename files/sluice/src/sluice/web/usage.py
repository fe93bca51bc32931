"""Settling usage records: at least once from the proxy, exactly once in the table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from sluice.authority import UsageRecord
from sluice.web.credentials import note_use
from sluice.web.database import Usage

_INSERTS: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


def settle(session: Session, dialect: str, records: Sequence[UsageRecord]) -> int:
    """Insert the records that are new; a known id changes nothing. Return how many were new."""
    if not records:
        return 0
    insert = _INSERTS[dialect](Usage.__table__).on_conflict_do_nothing(index_elements=["id"])
    # On the connection, not the session: the mapper would spend more on a row than the database does.
    new = session.connection().execute(insert, [_row(record) for record in records]).rowcount
    last_used: dict[str, float] = {}
    for record in records:
        last_used[record.key_id] = max(record.time, last_used.get(record.key_id, 0.0))
    note_use(session, last_used)
    return new


def _row(record: UsageRecord) -> dict[str, Any]:
    row = dict(vars(record))
    row["class"] = row.pop("class_")
    return row
