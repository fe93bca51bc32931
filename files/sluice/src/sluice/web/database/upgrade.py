"""Upgrades the tables to this version's revision while services of the previous version run."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, event, text
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from sluice.web.database import engines, schema
from sluice.web.database.tables import Database, unreachable

# How long to wait for another upgrade to end.
WAIT = 300.0
_PAUSE = 0.2
# PostgreSQL's advisory locks have numbers; this one is ours.
_LOCK = 7_551_423


class UpgradeRunning(schema.WrongSchema):
    """Another upgrade is still going on."""


def upgrade(url: str) -> tuple[str | None, str]:
    """Bring the tables up to REVISION; return the revision before (None: there were no tables) and after.

    Safe to repeat, also after it was cut off, and beside another one. Raises WrongSchema for tables of a
    revision that this version does not know, and for a database that cannot be opened.
    """
    engine = _engine(url)
    try:
        with _alone(engine) as connection:
            before = schema.revision(connection)
            if before is None:
                _create(url)
            elif before in schema.OLDER:
                _migrate(connection, before)
            elif before != schema.REVISION:
                raise schema.WrongSchema(schema.newer_message(before))
    finally:
        engine.dispose()
    return before, schema.REVISION


def configuration(connection: Connection | None = None) -> Config:
    """Return Alembic's settings: where the revisions are, and what to carry them out on."""
    config = Config()
    config.set_main_option("script_location", "sluice.web.database:migrations")
    config.attributes["connection"] = connection
    return config


def _create(url: str) -> None:
    database = Database(url)
    try:
        database.create()
    finally:
        database.close()


def _migrate(connection: Connection, before: str) -> None:
    config = configuration(connection)
    # Does nothing to tables that were marked already.
    command.stamp(config, before)
    command.upgrade(config, schema.REVISION)


def _engine(url: str) -> Engine:
    """Return an engine that commits each statement, as the revisions expect it."""
    place, own = engines.parts(url)
    options = {"isolation_level": "AUTOCOMMIT"}
    engine = create_engine(place, poolclass=NullPool, execution_options=options, connect_args=own)
    if engine.dialect.name == "sqlite":

        @event.listens_for(engine, "connect")
        def on_connect(connection: Any, _record: object) -> None:
            connection.isolation_level = None
            for pragma in ("busy_timeout=60000", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
                connection.execute(f"PRAGMA {pragma}")

    return engine


@contextmanager
def _alone(engine: Engine) -> Iterator[Connection]:
    """Return a connection that holds the lock of upgrades."""
    if engine.dialect.name == "postgresql":
        with _connected(engine) as connection:
            # Asked for again and again: one that waits in the database is a transaction, and making an index
            # without stopping writers waits for every transaction.
            _until(lambda: bool(connection.scalar(text(f"SELECT pg_try_advisory_lock({_LOCK})"))))
            yield connection
            connection.execute(text(f"SELECT pg_advisory_unlock({_LOCK})"))
        return
    place = Path(engine.url.database or ".").absolute().parent
    try:
        folder = os.open(place, os.O_RDONLY)
    except OSError as error:
        raise schema.WrongSchema(f"{place} cannot be opened ({error.strerror}): run the playbook") from None
    try:
        # Locked before it is opened: where two turn on WAL at once, SQLite fails one, whatever its time-out.
        _until(lambda: _flock(folder))
        if engine.url.database:
            _make_private(engine.url.database)
        with _connected(engine) as connection:
            yield connection
    finally:
        os.close(folder)


def _make_private(file: str) -> None:
    """Make a file that nobody else may read, unless there is one: SQLite would make it as the umask says."""
    try:
        os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise schema.WrongSchema(f"{file} cannot be written ({error.strerror}): check its owner") from None


def _connected(engine: Engine) -> Connection:
    try:
        return engine.connect()
    except DBAPIError as error:
        raise schema.WrongSchema(unreachable(engine, error)) from None


def _flock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _until(take: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT
    while not take():
        if time.monotonic() > end:
            raise UpgradeRunning(
                "another sluice db upgrade has not ended: check what it waits for, or end it by its pid"
            )
        time.sleep(_PAUSE)
