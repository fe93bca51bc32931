"""Settling usage records: at least once from the proxy, exactly once in the table."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from sluice.records import UsageRecord
from sluice.web.credentials import note_use
from sluice.web.database import Usage

_INSERTS: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


def settle(session: Session, dialect: str, records: Sequence[UsageRecord]) -> int:
    """Insert the records that are new; a known id changes nothing. Return how many were new."""
    if not records:
        return 0
    rows = [dataclasses.asdict(record) for record in records]
    insert = _INSERTS[dialect](Usage).on_conflict_do_nothing(index_elements=["id"]).returning(Usage.id)
    new = session.scalars(insert, rows).all()
    last_used: dict[str, float] = {}
    for record in records:
        last_used[record.key_id] = max(record.time, last_used.get(record.key_id, 0.0))
    note_use(session, last_used)
    return len(new)
