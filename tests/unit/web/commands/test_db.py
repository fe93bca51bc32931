"""`sluice db`: complete backups, restores that lose nothing, checks that find faults."""

from __future__ import annotations

import json
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import func, select, text

from sluice.cli import main
from sluice.web.admin import audit
from sluice.web.database import backup, health
from sluice.web.database.tables import AuditEntry, Database, Usage, UsageDay
from sluice.web.settings.config import WebConfig
from sluice.web.usage import ledger, reports, retention
from tests.unit.web.settings.test_config import write
from tests.unit.web.usage.test_ledger import ALICE, BOB, DAY, NOON, record


class Commands:
    """`sluice db` on one site."""

    def __init__(self, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.config = config
        self.out = self.err = ""
        self._capsys = capsys

    def __call__(self, *arguments: str | Path) -> int:
        status = main(["db", *(str(word) for word in arguments), "--config", str(self.config)])
        self.out, self.err = self._capsys.readouterr()
        return status


@pytest.fixture
def db(tmp_path: Path, settings: WebConfig, capsys: pytest.CaptureFixture[str]) -> Commands:
    return Commands(write(tmp_path / "web.json", settings), capsys)


@pytest.fixture
def live(settings: WebConfig) -> Iterator[Database]:
    """The site's database, in use."""
    database = Database(settings.database)
    database.prepare()
    yield database
    database.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "backups"


@pytest.fixture
def file(settings: WebConfig) -> Path:
    return Path(settings.database.removeprefix("sqlite:///"))


def settle(database: Database, *numbers: int, settled: float = NOON, user: str = ALICE) -> None:
    with database.write() as session:
        ledger.settle(
            session, database.dialect, [record(number, user, settled=settled) for number in numbers]
        )


def count(database: Database) -> int:
    with database.read() as session:
        return session.scalar(select(func.count()).select_from(Usage)) or 0


# --- Backups ------------------------------------------------------------------------------------------


def test_a_backup_is_one_complete_file_that_only_its_owner_can_read(
    db: Commands, live: Database, folder: Path
) -> None:
    settle(live, 1, 2)
    assert db("backup", "--dir", folder) == 0
    (path,) = folder.iterdir()
    assert db.out == f"{path}\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    with closing(sqlite3.connect(path)) as copy:
        assert copy.execute("SELECT count(*) FROM usage").fetchone() == (2,)


def test_only_the_newest_backups_stay_and_nothing_else_is_touched(
    settings: WebConfig, live: Database, folder: Path
) -> None:
    folder.mkdir()
    (folder / "sluice-mine.db").touch()
    made = [backup.backup(settings.database, folder, 2, NOON + hour * 3600) for hour in range(4)]
    assert backup.backups(folder) == [made[3], made[2]]
    assert sorted(folder.iterdir()) == sorted([made[2], made[3], folder / "sluice-mine.db"])


def test_a_backup_that_fails_leaves_nothing(
    db: Commands, file: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_bytes(file.read_bytes()[:4096] + b"\xff" * 8192)
    assert db("backup", "--dir", folder) == 2
    assert "could not be copied" in db.err or "is damaged" in db.err
    assert list(folder.iterdir()) == []


def test_a_restore_brings_back_the_old_data_and_keeps_the_current_data(
    db: Commands, settings: WebConfig, file: Path, folder: Path
) -> None:
    database = Database(settings.database)
    settle(database, 1)
    path = backup.backup(settings.database, folder, 1, NOON)
    settle(database, 2, 3)
    database.close()
    assert db("restore", path) == 0
    database = Database(settings.database)
    database.prepare()
    assert count(database) == 1
    database.close()
    (aside,) = (
        found
        for found in file.parent.glob("sluice.db.before-*")
        if found.suffix not in (".db-wal", ".db-shm")
    )
    assert str(aside) in db.out
    before = Database(f"sqlite:///{aside}")
    assert count(before) == 3
    before.close()


def test_a_restore_refuses_while_anybody_uses_the_database(
    db: Commands, settings: WebConfig, live: Database, folder: Path
) -> None:
    path = backup.backup(settings.database, folder, 1, NOON)
    settle(live, 1)
    assert db("restore", path) == 2
    assert "in use: stop the services first, for example with systemctl stop sluice-web" in db.err
    assert count(live) == 1
    live.close()
    assert db("restore", path) == 0


def newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as copy:
        copy.execute("UPDATE alembic_version SET version_num = '9999'")
        copy.commit()


def damaged(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def foreign(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as copy:
        copy.execute("CREATE TABLE cheese (name TEXT)")
        copy.commit()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (newer, "install the version that wrote it"),
        (damaged, "is not a backup of a SQLite database"),
        (foreign, "does not have Sluice's tables"),
        (Path.unlink, "cannot be read"),
        (lambda path: path.write_text("hello"), "is not a backup of a SQLite database"),
    ],
)
def test_a_restore_of_an_unusable_file_changes_nothing(
    db: Commands, settings: WebConfig, file: Path, folder: Path, spoil: Callable[[Path], object], words: str
) -> None:
    path = backup.backup(settings.database, folder, 1, NOON)
    before = file.read_bytes()
    spoil(path)
    assert db("restore", path) == 2
    assert words in db.err
    assert file.read_bytes() == before
    assert set(file.parent.glob("sluice.db.*")) <= {file.with_name("sluice.db.lock")}


# --- Checks -------------------------------------------------------------------------------------------


def test_a_healthy_database_passes_all_checks(
    db: Commands, settings: WebConfig, live: Database, folder: Path, file: Path
) -> None:
    file.chmod(0o600)
    settle(live, 1)
    assert db("backup", "--dir", folder) == 0
    assert db("check", "--dir", folder, "--json") == 0
    document = json.loads(db.out)
    assert document["well"] is True
    names = [finding["name"] for finding in document["findings"]]
    assert names == [
        *(
            "revision",
            "integrity",
            "durability",
            "foreign keys",
            "sums",
            "rows",
            "log",
            "room",
            "owner",
            "backup",
        )
    ]
    assert db("check", "--dir", folder) == 0
    assert "WRONG" not in db.out


def test_sqlite_is_written_so_that_a_power_cut_loses_nothing(live: Database) -> None:
    with live.write() as session:
        assert session.scalar(text("PRAGMA synchronous")) == 2
        assert session.scalar(text("PRAGMA journal_mode")) == "wal"


def test_a_check_finds_what_is_wrong_and_says_what_to_do(
    settings: WebConfig, live: Database, file: Path, folder: Path
) -> None:
    settle(live, 1)
    with closing(sqlite3.connect(file)) as other:
        other.execute("UPDATE usage_day SET requests = 2")
        other.execute("INSERT INTO used_token VALUES ('x', 1)")
        other.execute(
            "INSERT INTO page_bearer VALUES ('b', 77, 't', '1', 's', 1, 2)",
        )
        other.commit()
    file.chmod(0o644)
    wrong = {
        finding.name: finding
        for finding in health.check(live, file, folder, NOON)
        if finding.remedy
    }  # fmt: skip
    assert wrong["sums"].found == "wrong on 2026-11-18"
    assert wrong["foreign keys"].found == "1 broken"
    assert wrong["owner"].remedy == f"run: chmod 0600 {file}"
    assert wrong["backup"].found == f"none in {folder}"
    backup.backup(settings.database, folder, 1, NOON)
    found = list(health.check(live, file, folder, backup.backups(folder)[0].stat().st_mtime + 3 * DAY))
    assert "72 hours old" in found[-1].found
    assert found[-1].remedy


def test_a_check_refuses_a_newer_revision(db: Commands, file: Path) -> None:
    newer(file)
    assert db("check") == 2
    assert "has revision 9999" in db.err


# --- Pruning ----------------------------------------------------------------------------


def test_old_records_are_deleted_and_their_sums_stay_without_users(live: Database) -> None:
    old = NOON - 401 * DAY
    settle(live, 1, 2, settled=old)
    settle(live, 3, settled=old, user=BOB)
    settle(live, 4)
    with live.write() as session:
        audit.add(session, "operator", "user.block", "u-1", None, None, old)
        audit.add(session, "operator", "user.block", "u-2", None, None, NOON)
    assert retention.prune(live, 400, 400, NOON) == retention.Removed(records=3, days=2, audit=1)
    assert retention.prune(live, 400, 400, NOON) == retention.Removed(0, 0, 0)
    with live.read() as session:
        assert list(session.scalars(select(Usage.id))) == [record(4).id]
        rows = session.execute(
            select(UsageDay.user, UsageDay.key_id, UsageDay.requests).order_by(UsageDay.day)
        )
        assert [tuple(row) for row in rows] == [("", "", 3), (ALICE, f"key-{ALICE}", 1)]
        assert [entry.object for entry in session.scalars(select(AuditEntry))] == ["u-2"]
        (row,) = reports.summed(session, ())
    assert (row.requests, row.tokens) == (4, 80)


def test_a_late_record_is_merged_into_the_sum_of_its_day(live: Database) -> None:
    old = NOON - 401 * DAY
    settle(live, 1, settled=old)
    retention.prune(live, 400, 400, NOON)
    settle(live, 2, settled=old)
    assert retention.prune(live, 400, 400, NOON) == retention.Removed(records=1, days=2, audit=0)
    with live.read() as session:
        (row,) = session.scalars(select(UsageDay))
    assert (row.user, row.requests) == ("", 2)


def test_records_are_kept_to_the_second(live: Database) -> None:
    settle(live, 1, settled=NOON - 400 * DAY + 1)
    assert retention.prune(live, 400, 400, NOON).records == 0
    assert retention.prune(live, 400, 400, NOON + 2).records == 1


def test_the_command_prunes_by_the_settings(db: Commands, live: Database) -> None:
    settle(live, 1, settled=1_000_000_000.0)
    assert db("prune") == 0
    assert db.out.startswith("removed 1 usage records and 0 entries of the audit log")


def test_many_old_records_are_deleted_in_short_transactions(
    live: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "AT_ONCE", 3)
    settle(live, *range(10), settled=NOON - 500 * DAY)
    assert retention.prune(live, 400, 400, NOON).records == 10
    assert count(live) == 0


def test_a_backup_can_be_restored_without_an_existing_database(
    db: Commands, settings: WebConfig, file: Path, folder: Path
) -> None:
    path = backup.backup(settings.database, folder, 1, NOON)
    file.unlink()
    assert db("restore", path) == 0
    assert "nothing, because there was no database" in db.out
