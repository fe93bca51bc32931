"""Settles usage records: the proxy sends them at least once, the table counts them exactly once."""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Select, cast, false, func, select, true
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import InstrumentedAttribute, Session

from sluice.contracts.authority import Spent
from sluice.contracts.usage import UsageRecord
from sluice.web.database.tables import ApiKey, Usage, UsageDay, User, settled
from sluice.web.keys.credentials import note_use

MINUTE = 60

# The number of our advisory lock in PostgreSQL.
_SETTLING = 7_551_424

# By dialect: only these inserts can say what happens on a conflict.
INSERTS: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


def settle(session: Session, dialect: str, records: Sequence[UsageRecord]) -> int:
    """Insert new records, ignore records with a known id; return how many were new."""
    if not records:
        return 0
    insert = INSERTS[dialect](Usage.__table__).on_conflict_do_nothing(index_elements=["id"])
    one_at_a_time(session, dialect)
    rows = [_row(record) for record in records]
    # On the connection, not the session: the mapper would need more time per row than the database.
    connection = session.connection()
    if dialect == "postgresql":
        # psycopg does not count the rows of executemany.
        new = len(connection.execute(insert.returning(Usage.id), rows).all())
    else:
        new = connection.execute(insert, rows).rowcount
    last_used: dict[str, float] = {}
    for record in records:
        last_used[record.key_id] = max(record.time, last_used.get(record.key_id, 0.0))
    note_use(session, dict(sorted(last_used.items())))
    return new


def one_at_a_time(session: Session, dialect: str) -> None:
    """Let no other transaction settle or change usage before this one ends.

    SQLite writes one at a time anyway. On PostgreSQL, two that share records or days would lock them in
    different orders.
    """
    if dialect == "postgresql":
        session.execute(select(func.pg_advisory_xact_lock(_SETTLING)))


def _row(record: UsageRecord) -> dict[str, Any]:
    row = dict(vars(record))
    row["class"] = row.pop("class_")
    return row


def spent(session: Session, buckets: Iterable[tuple[str, str]], now: float) -> list[Spent]:
    """Return what each bucket (`Limit.bucket`) used in the minute before `now` and on its day, in order.

    Only requests that were sent to a cluster count. For a group, the usage of its current members counts.
    """
    return [_spent_of(session, scope, model, now) for scope, model in buckets]


def _spent_of(session: Session, scope: str, model: str, now: float) -> Spent:
    second = math.floor(now)
    first = second - MINUTE
    came, done = _second(session, Usage.time), _second(session, settled())
    tokens = func.sum(Usage.input_tokens + Usage.output_tokens)
    # A request that came within the minute was also settled in it, so one index finds both.
    recent = _within(session, scope, model, Usage).where(settled() >= first)
    sent = recent.where(Usage.time >= first, Usage.cluster != "")
    of_requests = sent.add_columns(came, func.count()).group_by(came)
    of_tokens = recent.add_columns(done, tokens).group_by(done)
    return Spent(
        scope=scope,
        model=model,
        requests=_pairs(session, of_requests, second),
        tokens=_pairs(session, of_tokens, second),
        tokens_today=_tokens_of_day(session, scope, model, now),
    )


def _tokens_of_day(session: Session, scope: str, model: str, now: float) -> int:
    day = datetime.datetime.fromtimestamp(now, datetime.timezone.utc).date()
    query = _within(session, scope, model, UsageDay).where(UsageDay.day == day)
    total = query.add_columns(func.sum(UsageDay.input_tokens + UsageDay.output_tokens))
    return int(session.scalar(total) or 0)


def _pairs(session: Session, query: Select[Any], last: int) -> tuple[tuple[int, int], ...]:
    pairs = ((int(second), int(count)) for second, count in session.execute(query) if second <= last)
    return tuple(sorted(pair for pair in pairs if pair[1] > 0))


def _second(
    session: Session, time: ColumnElement[float] | InstrumentedAttribute[float]
) -> ColumnElement[int]:
    # A cast rounds on PostgreSQL and truncates on SQLite, where floor() may be missing.
    whole = func.floor(time) if session.get_bind().dialect.name == "postgresql" else time
    return cast(whole, BigInteger)


def _within(session: Session, scope: str, model: str, table: type[Usage | UsageDay]) -> Select[Any]:
    """Return a query of the rows of one bucket, without columns yet."""
    query = select().select_from(table).where(_of_scope(session, scope, table))
    return query.where(table.model == model) if model else query


def _of_scope(session: Session, scope: str, table: type[Usage | UsageDay]) -> ColumnElement[bool]:
    kind, _, name = scope.partition(":")
    if kind == "site":
        return true()
    if kind == "user":
        return table.user == name
    if kind == "project":
        return table.project == name
    if kind == "key":
        # With the owner, because the indexes begin with the user.
        owner = select(User.pseudonym).join(ApiKey).where(ApiKey.id == name).scalar_subquery()
        return (table.user == owner) & (table.key_id == name)
    if kind == "group":
        return table.user.in_(select(User.pseudonym).where(_in_group(session, name)))
    return false()


def _in_group(session: Session, group: str) -> ColumnElement[bool]:
    if session.get_bind().dialect.name == "postgresql":
        member: ColumnElement[bool] = cast(User.groups, postgresql.JSONB).has_key(group)
        return member
    each = func.json_each(User.groups).table_valued("value")
    return select(each.c.value).where(each.c.value == group).exists()
