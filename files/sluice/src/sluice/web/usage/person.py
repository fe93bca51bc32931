"""All that the database has of one person, for their request about their data."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Any

from sqlalchemy import ColumnElement, inspect, select
from sqlalchemy.orm import Session

from sluice.web.database.tables import (
    ApiKey,
    AuditEntry,
    Base,
    LimitRow,
    SignedInBrowser,
    Usage,
    UsageDay,
    User,
)
from sluice.web.people import erasing

# How many rows are in memory at once.
_AT_ONCE = 1_000
# With these somebody could come in, or compare: they say nothing about the person.
_LEFT_OUT = frozenset(("stored", "secret_id", "tag", "user_id"))
# Who else acted on the person is that one's data.
_ANOTHER = "an administrator"
# So is on whom the person acted, as an administrator.
_ON_ANOTHER = "another user"
# How an object of the audit log begins that is a user, a key, or a limit of one.
_USERS = ("u-", "key-", "user:", "key:")

Row = dict[str, Any]


def tables(session: Session, user: User) -> Iterator[tuple[str, Iterator[Row]]]:
    """Return the rows of each table that are about `user`, by the table's name in the export."""
    keys = erasing.key_ids(session, user)
    found: tuple[tuple[str, type[Base], ColumnElement[bool]], ...] = (
        ("account", User, User.id == user.id),
        ("keys", ApiKey, ApiKey.user_id == user.id),
        ("sign_ins", SignedInBrowser, SignedInBrowser.user_id == user.id),
        ("limits", LimitRow, LimitRow.scope.in_(erasing.scopes(user, keys))),
        ("audit", AuditEntry, erasing.about(user, keys)),
        ("usage_days", UsageDay, UsageDay.user == user.pseudonym),
        ("usage", Usage, Usage.user == user.pseudonym),
    )
    for name, table, condition in found:
        yield name, (_told(row, user, keys) for row in _rows(session, table, condition))


def _rows(session: Session, table: type[Base], condition: ColumnElement[bool]) -> Iterator[Row]:
    columns = [column for column in inspect(table).columns if column.name not in _LEFT_OUT]
    query = select(*columns).where(condition).order_by(*inspect(table).primary_key)
    for row in session.execute(query, execution_options={"yield_per": _AT_ONCE}):
        yield {column.name: value for column, value in zip(columns, row, strict=True)}


def _told(row: Row, user: User, keys: list[str]) -> Row:
    if "actor" in row:
        if row["actor"] != user.pseudonym:
            row["actor"] = _ANOTHER
        # The name of a limit has the model after the scope.
        what = row["object"].partition(" ")[0]
        theirs = (user.pseudonym, *keys, *erasing.scopes(user, keys))
        if what.startswith(_USERS) and what not in theirs:
            row |= {"object": _ON_ANOTHER, "before": None, "after": None}
    return {
        name: value.isoformat() if isinstance(value, datetime.date) else value for name, value in row.items()
    }
