"""The steps of revisions: each can be repeated, and is a short transaction of its own.

A revision may be interrupted after any step (a kill, a full disk); its next run does the rest.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.exc import OperationalError
from sqlalchemy.schema import SchemaItem

# How long to wait for a table's lock on PostgreSQL. All others queue behind this wait, so it ends soon.
LOCK_WAIT = "2s"
ATTEMPTS = 60
PAUSE = 0.5
# The longest pause between two steps on SQLite, in seconds.
MAX_YIELD = 0.3
# lock_not_available, deadlock_detected.
_TRY_AGAIN = ("55P03", "40P01")


@contextmanager
def _yielding() -> Iterator[None]:
    """Pause as long as the step took: SQLite's writers do not queue, they poll."""
    started = time.monotonic()
    yield
    if not on_postgresql():
        time.sleep(min(MAX_YIELD, time.monotonic() - started))


def on_postgresql() -> bool:
    """Return True for PostgreSQL, False for SQLite."""
    return bool(op.get_bind().dialect.name == "postgresql")


def run(*steps: Callable[[], None]) -> None:
    """Run each step in a transaction of its own."""
    for step in steps:
        with _yielding():
            _try(step)


def _try(step: Callable[[], None]) -> None:
    for attempt in range(1, ATTEMPTS + 1):
        if _done(step, last=attempt == ATTEMPTS):
            break
        time.sleep(PAUSE)


def _done(step: Callable[[], None], last: bool) -> bool:
    # On SQLite, take the write lock at once: a transaction that takes it later may fail at any time-out.
    op.execute("BEGIN" if on_postgresql() else "BEGIN IMMEDIATE")
    try:
        if on_postgresql():
            op.execute(f"SET LOCAL lock_timeout = '{LOCK_WAIT}'")
        step()
    except OperationalError as error:
        op.execute("ROLLBACK")
        if last or getattr(error.orig, "sqlstate", "") not in _TRY_AGAIN:
            raise
        return False
    except BaseException:
        op.execute("ROLLBACK")
        raise
    op.execute("COMMIT")
    return True


def has_table(name: str) -> bool:
    """Tell whether the table exists."""
    return sa.inspect(op.get_bind()).has_table(name)


def create_table(name: str, *parts: SchemaItem) -> None:
    """Create a table with its indexes, unless it exists."""
    if not has_table(name):
        op.create_table(name, *parts)


def add_columns(table: str, *columns: sa.Column[Any]) -> None:
    """Add the columns that the table does not have; each must be nullable or have a server default."""
    present = {column["name"] for column in sa.inspect(op.get_bind()).get_columns(table)}
    for column in columns:
        if column.name not in present:
            op.add_column(table, column)


def make_index(name: str, table: str, columns: str) -> None:
    """Create an index while others write; do not call it within `run`."""
    if on_postgresql():
        # An interrupted run leaves an invalid index.
        op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
        op.execute(f"CREATE INDEX CONCURRENTLY {name} ON {table} ({columns})")
    else:
        with _yielding():
            op.execute(f"CREATE INDEX IF NOT EXISTS {name} ON {table} ({columns})")


def drop_index(name: str) -> None:
    """Drop an index while others write; do not call it within `run`."""
    op.execute(f"DROP INDEX {'CONCURRENTLY ' if on_postgresql() else ''}IF EXISTS {name}")
