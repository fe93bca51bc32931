"""Checks the database: complete, of the right revision, with correct sums and free space."""

from __future__ import annotations

import datetime
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Date, Select, cast, func, select, text
from sqlalchemy.orm import Session

from sluice.web.database import backup
from sluice.web.database.tables import Base, Database, Usage, UsageDay, settled

# SQLite writes its log back into the file by itself. A long log means that a reader never ends.
MAX_WAL = 256 << 20
MIN_FREE = 1 << 30
OLDEST_BACKUP = 2 * 86_400.0
# How many days' sums are compared with their records.
_DAYS = 2


@dataclass(frozen=True)
class Finding:
    """The result of one check; `remedy` is "" if nothing is wrong."""

    name: str
    found: str
    remedy: str = ""


def check(database: Database, file: Path | None, backups: Path | None, now: float) -> Iterator[Finding]:
    """Run all checks. `file` is SQLite's file, `backups` the folder of backups; None skips their checks.

    The tables' revision was checked when `database` was opened. `now` is in seconds since the epoch.
    """
    with database.read() as session:
        if database.dialect == "sqlite":
            yield from _integrity(session)
        else:
            yield _server(session)
        yield _foreign_keys(session)
        yield _sums(session, now)
        yield _rows(session)
    if file is not None:
        yield from _files(file)
    if backups is not None:
        yield _newest_backup(backups, now)


def _integrity(session: Session) -> Iterator[Finding]:
    answers = [str(row[0]) for row in session.execute(text("PRAGMA integrity_check(5)"))]
    well = answers == ["ok"]
    remedy = "" if well else "stop the services and restore the newest backup: sluice db restore"
    yield Finding("integrity", "whole" if well else "; ".join(answers), remedy)
    mode = session.scalar(text("PRAGMA journal_mode")), session.scalar(text("PRAGMA synchronous"))
    well = mode == ("wal", 2)
    remedy = (
        ""
        if well
        else ("let only Sluice's own programs open it: otherwise a power cut could lose settled usage")
    )
    yield Finding("durability", f"journal {mode[0]}, synchronous {mode[1]}", remedy)


def _server(session: Session) -> Finding:
    version = session.scalar(text("SHOW server_version"))
    asked = ("fsync", "synchronous_commit", "full_page_writes")
    off = [name for name in asked if session.scalar(text(f"SHOW {name}")) == "off"]
    remedy = f"set {' and '.join(off)} = on: otherwise a power cut could lose settled usage" if off else ""
    return Finding("durability", f"PostgreSQL {version}", remedy)


def _foreign_keys(session: Session) -> Finding:
    """Count rows that reference a row that does not exist."""
    broken = 0
    for table in Base.metadata.sorted_tables:
        for key in table.foreign_keys:
            there = select(key.column).where(key.column == key.parent).exists()
            missing = select(func.count()).select_from(table).where(key.parent.is_not(None), ~there)
            broken += session.scalar(missing) or 0
    remedy = "restore the newest backup that has them: sluice db restore" if broken else ""
    return Finding("foreign keys", f"{broken} broken", remedy)


def _sums(session: Session, now: float) -> Finding:
    """Compare the sums of the last days with their records: nothing is lost or counted twice."""
    today = datetime.datetime.fromtimestamp(now, datetime.timezone.utc).date()
    wrong = []
    for back in range(_DAYS):
        day = today - datetime.timedelta(back)
        start = datetime.datetime.combine(day, datetime.time(), datetime.timezone.utc).timestamp()
        # The range uses the index; then the exact day, computed as the trigger does, from whole seconds.
        near = (settled() >= start - 1) & (settled() < start + 86_401) & _settled_on(session, day)
        records = _counts(func.count(), Usage.input_tokens + Usage.output_tokens).where(near)
        tokens = UsageDay.input_tokens + UsageDay.output_tokens
        days = _counts(func.sum(UsageDay.requests), tokens).where(UsageDay.day == day)
        if tuple(session.execute(records).one()) != tuple(session.execute(days).one()):
            wrong.append(day.isoformat())
    remedy = "tell Sluice's developers; do not trust reports of these days" if wrong else ""
    return Finding(
        "sums", f"wrong on {', '.join(wrong)}" if wrong else "those of the last days are correct", remedy
    )


def _settled_on(session: Session, day: datetime.date) -> ColumnElement[bool]:
    if session.get_bind().dialect.name == "postgresql":
        return cast(func.timezone("UTC", func.to_timestamp(func.floor(settled()))), Date) == day
    return func.date(cast(settled(), BigInteger), "unixepoch") == day.isoformat()


def _counts(requests: ColumnElement[Any], tokens: ColumnElement[Any]) -> Select[Any, Any]:
    return select(func.coalesce(requests, 0), func.coalesce(func.sum(tokens), 0))


def _rows(session: Session) -> Finding:
    counts = (
        f"{session.scalar(select(func.count()).select_from(table))} {table.name}"
        for table in Base.metadata.sorted_tables
        if table.name in ("user", "api_key", "usage", "usage_day", "audit_entry")
    )
    return Finding("rows", ", ".join(counts))


def _files(file: Path) -> Iterator[Finding]:
    wal = file.with_name(f"{file.name}-wal")
    size = wal.stat().st_size if wal.exists() else 0
    remedy = "" if size <= MAX_WAL else "end the long-running reader; restarting web and authority does this"
    yield Finding(
        "log", f"{_mebibytes(size)} not yet in the file of {_mebibytes(file.stat().st_size)}", remedy
    )
    free = shutil.disk_usage(file.parent).free
    least = max(MIN_FREE, 2 * file.stat().st_size)
    remedy = "" if free >= least else f"free some space: at least {_mebibytes(least)} are needed"
    yield Finding("room", f"{_mebibytes(free)} free in {file.parent}", remedy)
    others = file.stat().st_mode & 0o077
    remedy = f"run: chmod 0600 {file}" if others else ""
    yield Finding("owner", f"uid {file.stat().st_uid}, mode {file.stat().st_mode & 0o777:04o}", remedy)


def _newest_backup(folder: Path, now: float) -> Finding:
    found = backup.backups(folder)
    if not found:
        return Finding("backup", f"none in {folder}", "see: systemctl status sluice-web-nightly")
    age = now - found[0].stat().st_mtime
    remedy = "" if age <= OLDEST_BACKUP else "see: systemctl status sluice-web-nightly"
    return Finding("backup", f"{found[0].name}, {age / 3600:.0f} hours old, {len(found)} in all", remedy)


def _mebibytes(size: int) -> str:
    return f"{size / (1 << 20):.0f} MiB"
