"""Backups of the database while it is in use, and restoring one."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL, Connection
from sqlalchemy.pool import NullPool

from sluice.errors import ConfigError
from sluice.web.database import engines, locks, schema

_NAME = re.compile(r"sluice-[0-9]{8}T[0-9]{6}Z\.(?:db|pgdump)")
_SUFFIX = {"sqlite": "db", "postgresql": "pgdump"}
# The environment variables of PostgreSQL's programs, by connection parameter.
_ENVIRONMENT = {
    "host": "PGHOST",
    "port": "PGPORT",
    "user": "PGUSER",
    "password": "PGPASSWORD",
    "dbname": "PGDATABASE",
    "sslmode": "PGSSLMODE",
    "sslrootcert": "PGSSLROOTCERT",
    "sslcert": "PGSSLCERT",
    "sslkey": "PGSSLKEY",
}
_SIDE_FILES = ("-wal", "-shm")
_SECONDS = 6 * 3600


class BackupError(ConfigError):
    """A backup or a restore failed, and nothing was changed. The message says why and what to do."""


def backup(url: str, folder: Path, keep: int, now: float) -> Path:
    """Write a backup into `folder`, remove all but the `keep` newest, and return its path.

    The backup is consistent, and writers do not wait for it. It is complete or does not exist. `now` is in
    seconds since the epoch. Raises BackupError and ConfigError.
    """
    place, _own = engines.parts(url)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    path = folder / f"sluice-{stamp}.{_SUFFIX[place.get_backend_name()]}"
    unfinished = path.with_suffix(".unfinished")
    os.close(os.open(unfinished, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600))
    try:
        if place.get_backend_name() == "sqlite":
            _copy_sqlite(_file_of(place), unfinished)
        else:
            _run_postgresql(
                place,
                ["pg_dump", "--format=custom", "--schema=public", "--no-owner", "--no-acl"],
                ["--file", unfinished],
            )
        _sync_and_rename(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
    for old in backups(folder)[keep:]:
        old.unlink(missing_ok=True)
    return path


def backups(folder: Path) -> list[Path]:
    """Return the backups in `folder`, the newest first."""
    if not folder.is_dir():
        return []
    return sorted((path for path in folder.iterdir() if _NAME.fullmatch(path.name)), reverse=True)


def restore(url: str, source: Path, now: float) -> str:
    """Replace the database with the backup `source`, and return where the old data is kept.

    Raises BackupError for a backup that is damaged or has a newer revision than this version knows, and
    DatabaseInUse for a database in use. Then nothing has changed.
    """
    try:
        with source.open("rb"):
            pass
    except OSError as error:
        raise BackupError(
            f"{source} cannot be read ({error.strerror}): name a backup of sluice db backup that "
            "web's account can read"
        ) from None
    place, _own = engines.parts(url)
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    if place.get_backend_name() == "sqlite":
        return _restore_sqlite(_file_of(place), source, stamp)
    return _restore_postgresql(place, source, stamp)


def _file_of(place: URL) -> Path:
    if not place.database:
        raise BackupError("the database is in memory: web.json has no file to back up")
    return Path(place.database)


def _sync_and_rename(unfinished: Path, path: Path) -> None:
    """Sync a file to disk, then rename it."""
    with unfinished.open("rb") as file:
        os.fsync(file.fileno())
    unfinished.rename(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


# --- SQLite -------------------------------------------------------------------------------------------


def _copy_sqlite(file: Path, target: Path) -> None:
    if not file.is_file():
        raise BackupError(f"there is no database {file}: run sluice db upgrade first")
    try:
        with (
            closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as live,
            closing(sqlite3.connect(target)) as copy,
        ):
            live.backup(copy)
            # The copy takes over WAL mode; a backup must be one file without a log beside it.
            copy.execute("PRAGMA journal_mode=DELETE")
            _expect_whole(copy, target)
    except sqlite3.Error as error:
        raise BackupError(f"the database {file} could not be copied to {target.parent}: {error}") from None


def _expect_whole(connection: sqlite3.Connection, path: Path) -> None:
    (answer,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    if answer != "ok":
        raise BackupError(f"{path} is damaged ({answer}): use an older backup")


def _restore_sqlite(file: Path, source: Path, stamp: str) -> str:
    with locks.exclusive_lock(str(file)):
        arriving = file.with_name(f"{file.name}.arriving")
        shutil.copyfile(source, arriving)
        arriving.chmod(0o600)
        try:
            _expect_known(arriving, source)
            aside = _set_aside(file, stamp)
            _sync_and_rename(arriving, file)
        finally:
            arriving.unlink(missing_ok=True)
    return str(aside) if aside else "nothing, because there was no database"


def _expect_known(copy: Path, source: Path) -> None:
    try:
        with closing(sqlite3.connect(copy)) as connection:
            _expect_whole(connection, source)
    except sqlite3.Error as error:
        raise BackupError(f"{source} is not a backup of a SQLite database: {error}") from None
    engine = create_engine(f"sqlite:///{copy}", poolclass=NullPool)
    with engine.connect() as connection:
        _expect_revision(connection, source)


def _expect_revision(connection: Connection, source: Path) -> None:
    found = schema.revision(connection)
    if found is None:
        raise BackupError(f"{source} does not have Sluice's tables: name a backup of sluice db backup")
    if found not in (schema.REVISION, *schema.OLDER):
        raise BackupError(f"{source} cannot be restored: {schema.newer_message(found)}")


def _set_aside(file: Path, stamp: str) -> Path | None:
    """Rename the database with its side files; it stays usable under the new name."""
    if not file.exists():
        return None
    aside = file.with_name(f"{file.name}.before-{stamp}")
    for suffix in ("", *_SIDE_FILES):
        part = Path(f"{file}{suffix}")
        if part.exists():
            part.rename(f"{aside}{suffix}")
    return aside


# --- PostgreSQL ---------------------------------------------------------------------------------------


def _run_postgresql(place: URL, command: Sequence[str], rest: Sequence[str | Path]) -> None:
    """Run one of PostgreSQL's programs; address and password are in its environment."""
    program = shutil.which(command[0])
    if program is None:
        raise BackupError(f"{command[0]} is missing: install Debian's package postgresql-client")
    argv = [program, *command[1:], *(str(word) for word in rest)]
    done = subprocess.run(
        argv, env=_environment(place), capture_output=True, text=True, timeout=_SECONDS, check=False
    )
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise BackupError(f"{command[0]} failed: {lines[-1] if lines else 'without a message'}")


def _environment(place: URL) -> dict[str, str]:
    _, parameters = place.get_dialect()().create_connect_args(place)
    unknown = sorted(set(parameters) - set(_ENVIRONMENT))
    if unknown:
        raise BackupError(f"web.json: database: {unknown[0]} cannot be passed to PostgreSQL's programs")
    found = {_ENVIRONMENT[name]: str(value) for name, value in parameters.items()}
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8", **found}


def _restore_postgresql(place: URL, source: Path, stamp: str) -> str:
    aside = f"before_{stamp.lower()}"
    engine = create_engine(place, poolclass=NullPool, execution_options={"isolation_level": "AUTOCOMMIT"})
    try:
        with engine.connect() as connection:
            _expect_alone(connection)
            # The old tables are kept in a renamed schema; the backup is restored into an empty one.
            _swap(connection, f"ALTER SCHEMA public RENAME TO {aside}", "CREATE SCHEMA public")
            try:
                options = ["--single-transaction", "--exit-on-error", "--no-owner", "--no-acl"]
                _run_postgresql(
                    place, ["pg_restore", *options, "--schema=public"], [*_database_of(place), source]
                )
                _expect_revision(connection, source)
            except BackupError:
                back = f"ALTER SCHEMA {aside} RENAME TO public"
                _swap(connection, "DROP SCHEMA public CASCADE", back)
                raise
    finally:
        engine.dispose()
    return f"the schema {aside} of the same database"


def _database_of(place: URL) -> tuple[str, str]:
    return ("--dbname", place.database or "")


def _swap(connection: Connection, *statements: str) -> None:
    connection.exec_driver_sql("BEGIN")
    for statement in statements:
        connection.exec_driver_sql(statement)
    connection.exec_driver_sql("COMMIT")


def _expect_alone(connection: Connection) -> None:
    others = connection.scalar(
        text(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
            "AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )
    )
    if others:
        raise locks.DatabaseInUse(
            f"{others} other connections use the database: stop the services first, for example with "
            "systemctl stop sluice-web sluice-authority"
        )
