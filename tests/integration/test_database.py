"""Both databases under load and under kills; PostgreSQL is a real server."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, func, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from sluice.contracts.usage import UsageRecord
from sluice.web.database import backup, health, locks, schema, upgrade
from sluice.web.database.tables import ApiKey, Database, SignedInBrowser, Usage, UsageDay, User
from sluice.web.people import directory, erasing, sign_ins
from sluice.web.usage import ledger
from tests.felt import Stopwatch
from tests.integration.postgres import PostgreSQL
from tests.unit.web import schemas
from tests.unit.web.usage.test_ledger import ALICE, BOB, NOON, record

ROOT = Path(__file__).parents[2]
ROWS = 30_000
WRITERS = 4
# How long a write may wait for a step of a migration of so many rows.
WAIT = 5.0


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'sluice.db'}"
    server: PostgreSQL = request.getfixturevalue("postgres")
    return server.fresh()


@pytest.fixture
def made(url: str) -> Iterator[Database]:
    """A database with its tables and two users with a key each."""
    database = Database(url)
    database.create()
    database.prepare()
    with database.write() as session:
        for name in (ALICE, BOB):
            user = User(
                pseudonym=name, kind="person", issuer="i", subject=name, name="", email="", groups=["users"],
                created=1.0, seen=1.0,
            )  # fmt: skip
            session.add(
                ApiKey(
                    id=f"key-{name}", user=user, name="", hint="", secret_id="1", stored=name, created=1.0,
                    expires=9e9,
                )
            )  # fmt: skip
    yield database
    database.close()


def sums(database: Database) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return requests and tokens, by the records and by the days."""
    with database.read() as session:
        records = session.execute(select(func.count(), func.sum(Usage.input_tokens + Usage.output_tokens)))
        tokens = UsageDay.input_tokens + UsageDay.output_tokens
        days = session.execute(select(func.sum(UsageDay.requests), func.sum(tokens)))
        (requests, used), (daily, daily_tokens) = records.one(), days.one()
        return (int(requests), int(used or 0)), (int(daily or 0), int(daily_tokens or 0))


def test_what_is_said_of_sqlite_is_true_of_postgresql(postgres: PostgreSQL) -> None:
    """The unit tests of everything that talks to the database, once more."""
    parts = (
        "test_authority", "keys/test_principals", "usage/test_reports", "database/test_stolen_database",
        "usage/test_ledger", "commands/test_users",
    )  # fmt: skip
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:schemathesis"]
    # How SQLite finds its rows, fails and is dumped is SQLite's.
    own = ("read_every_record", "authority_logs", "stored_under_the_new_secret_still", "dump_of_the_database")
    argv += ["-k", " and ".join(f"not {name}" for name in own)]
    argv += [str(ROOT / "tests" / "unit" / "web" / f"{part}.py") for part in parts]
    environment = {**os.environ, "SLUICE_TEST_DATABASE": postgres.fresh()}
    done = subprocess.run(argv, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout[-4000:]


# --- Settling -----------------------------------------------------------------------------------------


def test_records_that_come_several_times_at_once_count_once(made: Database) -> None:
    records = [record(n, (ALICE, BOB)[n % 2], model=f"m{n % 5}", project=f"p{n % 3}") for n in range(600)]

    def settle(seed: int) -> int:
        mine = records[:]
        random.Random(seed).shuffle(mine)
        new = 0
        for start in range(0, len(mine), 100):
            with made.write() as session:
                new += ledger.settle(session, made.dialect, mine[start : start + 100])
        return new

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(settle, range(8))) == 600
    assert sums(made) == ((600, 12_000), (600, 12_000))
    with made.read() as session:
        assert set(session.scalars(select(ApiKey.last_used))) == {NOON - 2.0}


def test_what_is_spent_is_told_while_others_settle(made: Database) -> None:
    done = threading.Event()

    def settle() -> None:
        for start in range(0, 400, 20):
            with made.write() as session:
                ledger.settle(session, made.dialect, [record(n) for n in range(start, start + 20)])
        done.set()

    seen = []
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(settle)
        while not done.is_set():
            with made.read() as session:
                (spent,) = ledger.spent(session, [(f"user:{ALICE}", "")], NOON)
            seen.append(spent.tokens_today)
        future.result()
    assert seen == sorted(seen)
    # Whole batches: a reader sees all of a transaction or nothing.
    assert {tokens % 400 for tokens in seen} == {0}
    with made.read() as session:
        (spent,) = ledger.spent(session, [(f"user:{ALICE}", "")], NOON)
    assert spent.tokens_today == 8_000
    assert spent.tokens == ((int(NOON), 8_000),)
    assert spent.requests == ((int(NOON) - 2, 400),)


def test_a_database_that_is_killed_loses_and_doubles_nothing(postgres: PostgreSQL) -> None:
    database = Database(postgres.fresh())
    database.create()
    database.prepare()
    stop = threading.Event()
    sent: list[UsageRecord] = []

    def deliver() -> None:
        """As the proxy does: the same batch again until it was taken."""
        number = 0
        while not stop.is_set():
            batch = [record(n) for n in range(number, number + 20)]
            while True:
                try:
                    with database.write() as session:
                        ledger.settle(session, database.dialect, batch)
                    break
                except DBAPIError:
                    time.sleep(0.05)
                    assert not stop.is_set()
            sent.extend(batch)
            number += 20

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(deliver)
        for _ in range(2):
            time.sleep(0.4)
            postgres.kill()
            postgres.start()
        time.sleep(0.4)
        stop.set()
        future.result(timeout=100)
    assert len(sent) > 40
    assert sums(database) == ((len(sent), 20 * len(sent)),) * 2
    database.close()


# --- Migrations ---------------------------------------------------------------------------------------


def test_revisions_and_metadata_make_the_same_tables(postgres: PostgreSQL) -> None:
    migrated, created = postgres.fresh(), postgres.fresh()
    schemas.make_first(migrated)
    assert upgrade.upgrade(migrated) == ("0001", schema.REVISION)
    assert upgrade.upgrade(created) == (None, schema.REVISION)
    assert schemas.layout(migrated) == schemas.layout(created)
    assert any("count_usage" in trigger for trigger in schemas.layout(created)["triggers"])


class OldService:
    """What the first services write, in their own words, from several threads."""

    INSERT = (
        'INSERT INTO usage (id, time, "user", key_id, model, cluster, instance, class, path, status, code,'
        " input_tokens, output_tokens, measured, wait, first_byte, duration, bytes_in, bytes_out)"
        " VALUES (:id, :time, 'u-old', 'key-old', 'm', 'c', '', 'api', '/v1/completions', 200, '', 12, 8,"
        " true, 0, null, 1, 10, 20) ON CONFLICT (id) DO NOTHING"
    )

    def __init__(self, url: str) -> None:
        self.url = url
        self.stop = threading.Event()
        self.records = self.keys = 0
        self.longest = 0.0
        self.faults: list[DBAPIError] = []
        self._lock = threading.Lock()

    def prepare(self, rows: int) -> None:
        """Make the tables of then, with so many records."""
        schemas.make_first(self.url)
        database = Database(self.url)
        with database.write() as session:
            connection = session.connection()
            connection.execute(
                text(
                    'INSERT INTO "user" (pseudonym, kind, issuer, subject, name, email, groups, created,'
                    " seen) VALUES ('u-old', 'person', 'i', 's', '', '', '[]', 1, 1)"
                )
            )
            rows_of = [{"id": f"old-{n}", "time": NOON - n} for n in range(rows)]
            connection.execute(text(self.INSERT), rows_of)
        database.close()
        self.records = rows

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Stop it at the end of the block, whatever happens there."""
        try:
            yield
        finally:
            self.stop.set()

    def _write(self, database: Database, name: str) -> None:
        with database.write() as session:
            batch = [{"id": f"new-{name}-{n}", "time": NOON} for n in range(10)]
            session.execute(text(self.INSERT), batch)
        with database.write() as session:
            key = {"id": f"key-{name}"}
            session.execute(
                text(
                    "INSERT INTO api_key (id, user_id, name, hint, secret_id, stored, created,"
                    " expires) VALUES (:id, 1, '', '', '1', :id, 1, 2)"
                ),
                key,
            )
            session.execute(text("UPDATE api_key SET last_used = 1 WHERE id = :id"), key)

    def run(self, name: int) -> None:
        """Settle batches, make keys and note their use, until told to stop."""
        database = Database(self.url)
        number = 0
        try:
            while not self.stop.is_set():
                number += 1
                with Stopwatch() as felt:
                    self._write(database, f"{name}-{number}")
                with self._lock:
                    self.longest = max(self.longest, felt.seconds)
                    self.records += 10
                    self.keys += 1
                time.sleep(0.002)
        except DBAPIError as fault:
            self.faults.append(fault)
        finally:
            database.close()


def test_old_services_write_on_while_the_tables_change(url: str) -> None:
    old = OldService(url)
    old.prepare(ROWS)
    with ThreadPoolExecutor(WRITERS) as pool:
        futures = [pool.submit(old.run, name) for name in range(WRITERS)]
        with old.stopped():
            time.sleep(0.3)
            assert upgrade.upgrade(url) == ("0001", schema.REVISION)
            time.sleep(0.3)
        for future in futures:
            future.result(timeout=100)
    assert old.faults == []
    assert old.longest < WAIT
    database = Database(url)
    database.prepare()
    assert old.records > ROWS + 100
    assert sums(database) == ((old.records, 20 * old.records),) * 2
    with database.read() as session:
        used = session.scalar(select(func.count()).where(ApiKey.last_used == 1.0, ApiKey.project == ""))
    assert used == old.keys
    database.close()


def test_an_upgrade_waits_for_a_long_reader_without_stopping_writers(postgres: PostgreSQL) -> None:
    url = postgres.fresh()
    old = OldService(url)
    old.prepare(100)
    engine = create_engine(url, poolclass=NullPool)
    with ThreadPoolExecutor(2) as pool:
        with old.stopped():
            with engine.connect() as reader:
                reader.execute(text("SELECT count(*) FROM usage"))
                upgraded = pool.submit(upgrade.upgrade, url)
                writer = pool.submit(old.run, 1)
                time.sleep(3.0)
                assert not upgraded.done()
            assert upgraded.result(timeout=100) == ("0001", schema.REVISION)
        writer.result(timeout=100)
    assert old.faults == []
    assert old.longest < WAIT
    database = Database(url)
    assert sums(database) == ((old.records, 20 * old.records),) * 2
    database.close()


def test_two_upgrades_at_once_are_one(url: str) -> None:
    schemas.make_first(url)
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(upgrade.upgrade, [url, url]))
    assert sorted(both) == [("0001", schema.REVISION), (schema.REVISION, schema.REVISION)]


# --- Backups ------------------------------------------------------------------------------------------


def test_a_backup_taken_under_load_holds_one_moment_and_can_be_put_back(
    made: Database, url: str, tmp_path: Path
) -> None:
    def settle() -> None:
        for start in range(0, 400, 10):
            with made.write() as session:
                ledger.settle(session, made.dialect, [record(n) for n in range(start, start + 10)])

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(settle)
        path = backup.backup(url, tmp_path / "backups", 3, NOON)
        future.result()
    with pytest.raises(locks.DatabaseInUse, match="stop the services first"):
        backup.restore(url, path, NOON)
    assert sums(made)[0][0] == 400
    made.close()
    assert "before" in backup.restore(url, path, NOON).lower()
    back = Database(url)
    back.prepare()
    records, days = sums(back)
    assert (records[0], int(records[1] or 0)) == days
    assert records[0] % 10 == 0
    with back.write() as session:
        assert ledger.settle(session, back.dialect, [record(n) for n in range(500, 503)]) == 3
    assert sums(back)[1] == (days[0] + 3, days[1] + 60)
    findings = {finding.name: finding for finding in health.check(back, None, tmp_path / "backups", NOON)}
    assert [name for name, finding in findings.items() if finding.remedy and name != "backup"] == []
    back.close()


def newer(path: Path, url: str) -> str:
    database = Database(url)
    with database.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    database.close()
    backup.backup(url, path.parent, 9, NOON + 60)
    with database.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = :now"), {"now": schema.REVISION})
    database.close()
    return backup.backups(path.parent)[0].name


def damaged(path: Path, _url: str) -> str:
    path.write_bytes(path.read_bytes()[:3000])
    return path.name


@pytest.mark.parametrize(("spoil", "words"), [(newer, "revision 9999"), (damaged, "pg_restore failed")])
def test_a_dump_that_cannot_be_used_changes_nothing(
    postgres: PostgreSQL, tmp_path: Path, spoil: Callable[[Path, str], str], words: str
) -> None:
    url = postgres.fresh()
    upgrade.upgrade(url)
    folder = tmp_path / "backups"
    name = spoil(backup.backup(url, folder, 9, NOON), url)
    before = schemas.layout(url)
    with pytest.raises(backup.BackupError, match=words) as refused:
        backup.restore(url, folder / name, NOON)
    assert postgres.password not in str(refused.value)
    assert schemas.layout(url) == before


def test_a_password_is_in_no_argument(
    postgres: PostgreSQL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []
    real: Any = subprocess.run

    def run(argv: list[str], **options: object) -> object:
        seen.append(argv)
        return real(argv, **options)

    monkeypatch.setattr(subprocess, "run", run)
    url = postgres.fresh()
    upgrade.upgrade(url)
    path = backup.backup(url, tmp_path / "backups", 1, NOON)
    backup.restore(url, path, NOON)
    assert [Path(argv[0]).name for argv in seen] == ["pg_dump", "pg_restore"]
    assert not any(postgres.password in word for argv in seen for word in argv)


def test_sqlite_survives_a_process_that_is_killed_within_a_transaction(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'sluice.db'}"
    upgrade.upgrade(url)
    # What a killed writer leaves: a log with a transaction that was never committed.
    with closing(sqlite3.connect(tmp_path / "sluice.db", isolation_level=None)) as killed:
        killed.execute("BEGIN IMMEDIATE")
        killed.execute("INSERT INTO stopped_model VALUES ('m', '', 1)")
    database = Database(url)
    with database.write() as session:
        ledger.settle(session, database.dialect, [record(1)])
    assert sums(database) == ((1, 20), (1, 20))
    findings = list(health.check(database, None, None, NOON))
    assert not any(finding.remedy for finding in findings)
    database.close()


def test_both_databases_tell_the_groups_of_users_in_the_same_way(made: Database) -> None:
    """Groups are read as text and not by the database's driver; neither may write them in another way."""
    odd = ['a"b', "back\\slash", "日本", "\n]"]
    with made.write() as session:
        for user, groups in zip(
            session.scalars(select(User).order_by(User.pseudonym)), (odd, []), strict=True
        ):
            user.groups = groups
        first, second = sorted((ALICE, BOB))
    with made.read() as session:
        assert directory.groups(session) == {first: odd, second: []}
        assert [one.groups for one in directory.listed(session, directory.Wanted())] in ([odd, []], [[], odd])
        assert len(directory.search(session, directory.Wanted(groups={"日本"}))) == 1


def test_who_signs_in_while_they_are_erased_is_erased_too(made: Database) -> None:
    def alice(session: Session) -> User:
        return session.scalars(select(User).where(User.subject == ALICE)).one()

    def erase() -> None:
        with made.write() as session:
            erasing.erase(session, "operator", alice(session), NOON)

    with ThreadPoolExecutor(1) as pool:
        with made.write() as session:
            sign_ins.begin(session, tag="t", user_id=alice(session).id, sid="", subject=ALICE, now=NOON)
            session.flush()
            erased = pool.submit(erase)
            # It gets as far as it can before the sign-in is stored.
            time.sleep(1.0)
        erased.result(30)
    with made.read() as session:
        assert session.scalars(select(User.subject)).all() == [BOB]
        assert session.scalars(select(SignedInBrowser)).all() == []
