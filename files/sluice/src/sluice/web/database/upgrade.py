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

# How long to wait for another upgrade to end, in seconds.
WAIT = 300.0
_PAUSE = 0.2
# The number of our advisory lock in PostgreSQL.
_LOCK = 7_551_423


class UpgradeRunning(schema.WrongSchema):
    """Another upgrade is still running."""


def upgrade(url: str) -> tuple[str | None, str]:
    """Upgrade the tables to REVISION; return the revision before (None: there were no tables) and after.

    Safe to repeat, also after an interruption or while another upgrade runs. Raises UpgradeRunning, and
    WrongSchema for an unknown revision or a database that cannot be opened.
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
    """Return Alembic's configuration: where the revisions are, and the connection to use."""
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
    # Does nothing if the tables already have a recorded revision.
    command.stamp(config, before)
    command.upgrade(config, schema.REVISION)


def _engine(url: str) -> Engine:
    """Return an engine that commits each statement, as the revisions expect."""
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
    """Yield a connection that holds the lock of upgrades."""
    if engine.dialect.name == "postgresql":
        with _connected(engine) as connection:
            # Polled: a wait inside the database is a transaction, and CREATE INDEX CONCURRENTLY waits for
            # every transaction.
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
        # Lock before opening: if two processes turn on WAL at once, SQLite fails one, whatever its time-out.
        _until(lambda: _flock(folder))
        if engine.url.database:
            _make_private(engine.url.database)
        with _connected(engine) as connection:
            yield connection
    finally:
        os.close(folder)


def _make_private(file: str) -> None:
    """Create the file with mode 0600 if it does not exist: SQLite would use the umask."""
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
