"""SQLAlchemy's engines for SQLite and PostgreSQL. `timeouts` bounds how long they wait for the database."""

from __future__ import annotations

import math
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooLate
from pathlib import Path
from typing import Any, LiteralString, TypeVar

import psycopg
from sqlalchemy import URL, create_engine, event, make_url
from sqlalchemy.engine import Connection, Engine, ExceptionContext
from sqlalchemy.exc import DisconnectionError, SQLAlchemyError

from sluice.errors import ConfigError
from sluice.web.database import timeouts

# The execution option of an engine whose transactions write.
WRITE = "sluice_write"

# The application_name of our connections in PostgreSQL.
APPLICATION = "sluice"

# One connection for each of gunicorn's threads: none waits for another.
_POOL: dict[str, Any] = {"pool_size": 5, "max_overflow": 11, "pool_timeout": timeouts.REQUEST_SECONDS}

# How many connections to PostgreSQL may be opened at the same time: one for each thread, and abandoned ones,
# for example while a name resolves slowly.
_CONNECTING = 32
# How often a wait on the socket checks its timeout, in seconds.
_INTERVAL = 0.1
# libpq has no shorter time-out; the thread that waits for the connection gives up earlier.
_CONNECT_SECONDS = 5
# How long nobody tries again after the server did not answer in time.
_AWAY_SECONDS = 1.0

# `timeouts.REQUEST_SECONDS`, in milliseconds.
_LOCKS = "SET lock_timeout = 1500"

_NOT_IN_ADDRESS = ("autocommit", "row_factory", "cursor_factory", "context")

T = TypeVar("T")


def parts(address: str | URL) -> tuple[URL, dict[str, Any]]:
    """Return an address for SQLAlchemy, and the driver's options that must be objects, not text.

    Raises ConfigError. Its message does not quote the address, which may contain a password.
    """
    try:
        url = make_url(address)
        return _options(url) if url.get_backend_name() == "postgresql" else (url, {})
    except (SQLAlchemyError, psycopg.Error, ValueError) as error:
        raise ConfigError(
            f"database: the address cannot be used ({type(error).__name__}): a password's special characters "
            "are written as %40 for @, a port is a number, and after ? only options that the driver knows"
        ) from None


def make(address: str, *, serving: bool) -> Engine:
    """Return an engine. `serving`: for a service, whose requests wait for a lock only for a bounded time.

    Raises ConfigError.
    """
    url, own = parts(address)
    try:
        if url.get_backend_name() == "postgresql":
            return _postgresql(url, own, serving)
        return _sqlite(url)
    except (SQLAlchemyError, ImportError, ValueError, TypeError) as error:
        raise ConfigError(f"database: the address cannot be used ({type(error).__name__})") from None


# --- SQLite ---------------------------------------------------------------------------------------------


def _sqlite(url: URL) -> Engine:
    in_memory = url.database in (None, "", ":memory:")
    engine = create_engine(url, **({} if in_memory else _POOL))
    _count_failures(engine)
    _refuse_replaced_file(engine)

    @event.listens_for(engine, "connect")
    def on_connect(connection: Any, _record: object) -> None:
        # The driver's own transaction handling begins transactions too late; see on_begin.
        connection.isolation_level = None
        with timeouts.current().waiting() as seconds:
            connection.execute(_busy(seconds))
            for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
                connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        # A transaction that reads first and takes the write lock later fails at once, whatever the time-out,
        # if another one has written in between. So it takes the lock first.
        writes = connection.get_execution_options().get(WRITE)
        with timeouts.current().waiting() as seconds:
            # Set only when the rounded value changes: most requests never wait.
            wanted = math.ceil(seconds * 10) / 10
            if connection.info.get("busy") != wanted:
                connection.exec_driver_sql(_busy(wanted))
                connection.info["busy"] = wanted
            connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _busy(seconds: float) -> str:
    return f"PRAGMA busy_timeout={int(seconds * 1000)}"


def _refuse_replaced_file(engine: Engine) -> None:
    """Refuse connections whose file was deleted or replaced: what they write would be lost."""
    path = engine.url.database
    if not path or path == ":memory:" or path.startswith("file:"):
        return

    @event.listens_for(engine, "connect")
    def on_connect(_connection: Any, record: Any) -> None:
        record.info["file"] = _identity(path)

    @event.listens_for(engine, "checkout")
    def on_checkout(_connection: Any, record: Any, _proxy: object) -> None:
        if record.info.get("file") != _identity(path):
            raise DisconnectionError("the file was replaced")


def require_file(engine: Engine) -> None:
    """From now on, do not create a missing SQLite file: an empty one would look like a loss of all data."""
    path = engine.url.database or ""

    @event.listens_for(engine, "do_connect")
    def on_do_connect(_dialect: object, _record: object, _args: object, _named: object) -> None:
        if not Path(path).exists():
            raise sqlite3.OperationalError("there is no such file")


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)  # noqa: PTH116  # Runs at each checkout; pathlib takes twice as long.
    except OSError:
        return None
    return found.st_dev, found.st_ino


# --- PostgreSQL -----------------------------------------------------------------------------------------


class TimedConnection(psycopg.Connection[Any]):
    """A connection whose waits are bounded, even if the server is frozen or the network is cut."""

    limit: float | None = None

    def wait(
        self, gen: Generator[Any, Any, T], interval: float = _INTERVAL, timeout: float | None = None
    ) -> T:
        """Wait for the server's answer to one message; close the connection if none came in time."""
        limit = timeout or self.limit
        if limit is None and timeouts.in_request():
            limit = timeouts.STATEMENT_SECONDS
        began = time.monotonic()
        try:
            return super().wait(gen, interval, limit)
        except psycopg.OperationalError:
            if limit is not None and time.monotonic() - began >= limit:
                self.pgconn.finish()
            raise


def _postgresql(url: URL, own: dict[str, Any], serving: bool) -> Engine:
    connecting = _Connector()
    told = {"connect_timeout": _CONNECT_SECONDS, "application_name": APPLICATION, **own}
    engine = create_engine(url, connect_args=told, **_POOL)
    _count_failures(engine)

    @event.listens_for(engine, "do_connect")
    def on_do_connect(_dialect: object, _record: object, args: list[Any], named: dict[str, Any]) -> Any:
        return connecting.connect(lambda: TimedConnection.connect(*args, **named))

    @event.listens_for(engine, "connect")
    def on_connect(connection: TimedConnection, _record: object) -> None:
        if serving:
            _ask(connection, _LOCKS)

    @event.listens_for(engine, "checkout")
    def on_checkout(connection: TimedConnection, record: Any, _proxy: object) -> None:
        if not record.info.setdefault("used", False):
            record.info["used"] = True
            return
        # The server may have restarted or stopped since the connection was last used.
        try:
            _ask(connection, "SELECT 1")
        except psycopg.Error as error:
            raise DisconnectionError(type(error).__name__) from None

    return engine


def _ask(connection: TimedConnection, statement: LiteralString) -> None:
    """Run a statement outside a transaction, within the remaining wait of the request."""
    with timeouts.current().waiting() as seconds:
        connection.limit = max(seconds, 0.01)
        try:
            connection.autocommit = True
            connection.execute(statement)
            connection.autocommit = False
        finally:
            connection.limit = None


class _Connector:
    """Connects in threads of its own, because no time-out bounds how long a name takes to resolve."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_CONNECTING, thread_name_prefix="database")
        self._lock = threading.Lock()
        self._waiting = 0
        self._away_until = 0.0

    def connect(self, connect: Callable[[], TimedConnection]) -> TimedConnection:
        """Return a connection. Raises psycopg's OperationalError if there is none in time."""
        with self._lock:
            if time.monotonic() < self._away_until or self._waiting >= _CONNECTING:
                raise psycopg.OperationalError("the server did not answer a moment ago")
            self._waiting += 1
        future = self._threads.submit(self._counted, connect)
        with timeouts.current().waiting() as seconds:
            try:
                return future.result(seconds)
            except TooLate:
                self._away_until = time.monotonic() + _AWAY_SECONDS
                future.add_done_callback(_close)
                raise psycopg.OperationalError("the server does not answer") from None

    def _counted(self, connect: Callable[[], TimedConnection]) -> TimedConnection:
        try:
            return connect()
        finally:
            with self._lock:
                self._waiting -= 1


def _close(future: Any) -> None:
    if future.exception() is None:
        future.result().close()


def _options(url: URL) -> tuple[URL, dict[str, Any]]:
    """Return the address without the options that psycopg needs as objects, and these. Raises ValueError."""
    query: Mapping[str, Any] = url.query
    for name in _NOT_IN_ADDRESS:
        if name in query:
            raise ValueError(f"{name} is not an option of a URL")
    own: dict[str, Any] = {}
    if "prepare_threshold" in query:
        text = str(query["prepare_threshold"])
        own["prepare_threshold"] = None if text.lower() == "none" else int(text)
    rest = {name: value for name, value in query.items() if name not in own}
    # Raises psycopg's ProgrammingError for an option that libpq does not know.
    psycopg.conninfo.make_conninfo("", **{name: str(value) for name, value in rest.items()})
    return url.set(query=rest), own


# --- both -----------------------------------------------------------------------------------------------


def _count_failures(engine: Engine) -> None:
    @event.listens_for(engine, "handle_error")
    def on_error(context: ExceptionContext) -> None:
        # A violated constraint does not mean that the database is unavailable.
        if isinstance(context.original_exception, sqlite3.OperationalError | psycopg.OperationalError):
            timeouts.current().give_up()
