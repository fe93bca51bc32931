"""Revisions of the tables: created, recognised, upgraded, refused."""

from __future__ import annotations

import datetime
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from alembic import command, op
from alembic.script import ScriptDirectory
from sqlalchemy import select, text

from sluice.cli import main
from sluice.web.database import schema, upgrade
from sluice.web.database.tables import Base, Database, Usage, UsageDay
from sluice.web.settings.config import WebConfig
from sluice.web.usage import ledger
from sluice.web.wsgi import authority, web
from tests.unit.web import schemas
from tests.unit.web.settings.test_config import write
from tests.unit.web.usage.test_ledger import NOON, record


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'sluice.db'}"


def make(url: str) -> None:
    database = Database(url)
    database.create()
    database.close()


def fill_first(url: str, number: int = 3) -> None:
    """Insert records as the first services did."""
    with schemas.connect(url) as connection:
        for index in range(number):
            connection.execute(
                text(
                    'INSERT INTO usage (id, time, "user", key_id, model, cluster, instance, class, path,'
                    " status, code, input_tokens, output_tokens, measured, wait, first_byte, duration,"
                    " bytes_in, bytes_out) VALUES (:id, :time, 'u-old', :key, 'm', 'c', '', :class,"
                    " '/v1/completions', :status, '', 7, 4, true, 0, null, 1.5, 10, 20)"
                ),
                {
                    "id": f"req-old-{index}",
                    "time": NOON,
                    "key": "key-1" if index else "page-1",
                    "class": "api" if index else "interactive",
                    "status": 500 if index == 1 else 200,
                },
            )


def days(url: str) -> list[tuple[object, ...]]:
    database = Database(url)
    database.prepare()
    with database.read() as session:
        rows = session.scalars(select(UsageDay).order_by(UsageDay.class_)).all()
    database.close()
    return [
        (row.day, row.user, row.key_id, row.class_, row.requests, row.failed, row.input_tokens, row.seconds)
        for row in rows
    ]


OF_FIRST = [
    (datetime.date(2026, 11, 18), "u-old", "key-1", "api", 2, 1, 14, 3.0),
    (datetime.date(2026, 11, 18), "u-old", "", "interactive", 1, 0, 7, 1.5),
]


def test_the_code_knows_the_newest_revision_and_all_older_ones() -> None:
    scripts = ScriptDirectory.from_config(upgrade.configuration())
    found = [script.revision for script in scripts.walk_revisions()]
    assert found == [schema.REVISION, *reversed(schema.OLDER)]


def test_revisions_and_metadata_create_the_same_tables(url: str, tmp_path: Path) -> None:
    schemas.make_first(url)
    assert upgrade.upgrade(url) == ("0001", schema.REVISION)
    made = f"sqlite:///{tmp_path / 'made.db'}"
    make(made)
    assert schemas.layout(url) == schemas.layout(made)
    assert set(schemas.layout(made)["tables"]) == {*Base.metadata.tables, "alembic_version"}


def test_the_first_revision_equals_the_tables_from_before_revisions(url: str, tmp_path: Path) -> None:
    schemas.make_first(url)
    revision = f"sqlite:///{tmp_path / 'revision.db'}"
    with upgrade._engine(revision).connect() as connection:
        command.upgrade(upgrade.configuration(connection), "0001")
    made = schemas.layout(revision)
    del made["tables"]["alembic_version"]
    assert made == schemas.layout(url)


def test_a_database_without_tables_gets_them(url: str) -> None:
    assert upgrade.upgrade(url) == (None, schema.REVISION)
    assert upgrade.upgrade(url) == (schema.REVISION, schema.REVISION)
    assert days(url) == []


def test_existing_records_are_summed_up_once(url: str) -> None:
    schemas.make_first(url)
    fill_first(url)
    upgrade.upgrade(url)
    upgrade.upgrade(url)
    assert days(url) == OF_FIRST


def test_an_upgrade_that_was_interrupted_anywhere_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = op.execute
    first = tmp_path / "first.db"
    schemas.make_first(f"sqlite:///{first}")
    fill_first(f"sqlite:///{first}")
    for cut in range(1, 50):
        url = f"sqlite:///{shutil.copy(first, tmp_path / f'{cut}.db')}"
        calls = iter(range(1, 1_000))

        def execute(statement: str, calls: Iterator[int] = calls, cut: int = cut) -> None:
            # The statements between are one transaction, which is rolled back.
            if statement.startswith(("COMMIT", "CREATE INDEX", "DROP INDEX")) and next(calls) == cut:
                raise KeyboardInterrupt
            real(statement)

        monkeypatch.setattr(op, "execute", execute)
        try:
            upgrade.upgrade(url)
        except KeyboardInterrupt:
            monkeypatch.setattr(op, "execute", real)
            upgrade.upgrade(url)
            assert days(url) == OF_FIRST, cut
        else:
            break
    assert 8 < cut < 20


def test_code_of_the_first_revision_can_still_write_to_the_new_tables(url: str) -> None:
    schemas.make_first(url)
    upgrade.upgrade(url)
    fill_first(url)
    assert days(url) == OF_FIRST
    database = Database(url)
    with database.read() as session:
        row = session.get_one(Usage, "req-old-1")
    database.close()
    assert (row.project, row.cached_tokens) == ("", 0)


@pytest.mark.parametrize("found", ["0004", "ae1027a6acf"])
def test_an_unknown_revision_is_refused(url: str, found: str) -> None:
    make(url)
    with schemas.connect(url) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :found"), {"found": found})
    with pytest.raises(schema.WrongSchema, match=f"revision {found}, but .* none after {schema.REVISION}"):
        upgrade.upgrade(url)
    with pytest.raises(schema.WrongSchema, match="install the version that wrote it"):
        Database(url).prepare()


@pytest.mark.parametrize("start", [web, authority])
def test_services_refuse_tables_of_another_revision_and_say_what_to_run(
    settings: WebConfig, tmp_path: Path, start: Callable[[str], object], quiet_logging: None
) -> None:
    file = tmp_path / "sluice.db"
    config = write(tmp_path / "web.json", settings)
    file.unlink()
    with pytest.raises(schema.WrongSchema, match=r"has no tables yet, .* run sluice db upgrade"):
        start(str(config))
    assert upgrade.upgrade(settings.database) == (None, schema.REVISION)
    file.unlink()
    schemas.make_first(settings.database)
    with pytest.raises(schema.WrongSchema, match=r"has revision 0001, .* run sluice db upgrade"):
        start(str(config))


def test_a_missing_database_is_named_without_its_password(tmp_path: Path) -> None:
    database = Database("postgresql+psycopg://sluice:hunter2@127.0.0.1:1/sluice")
    with pytest.raises(schema.WrongSchema) as refused:
        database.prepare()
    assert "127.0.0.1:1/sluice cannot be opened" in str(refused.value)
    assert "hunter2" not in str(refused.value)
    assert refused.value.__cause__ is None
    database.close()


def test_the_command_upgrades_and_says_so(
    settings: WebConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write(tmp_path / "web.json", settings)
    (tmp_path / "sluice.db").unlink()
    schemas.make_first(settings.database)
    assert main(["db", "upgrade", "--config", str(config)]) == 0
    assert main(["db", "upgrade", "--config", str(config)]) == 0
    assert capsys.readouterr().out == (
        f"upgraded: from revision 0001 to {schema.REVISION}\n"
        f"nothing to do: the tables have revision {schema.REVISION}\n"
    )


def test_new_code_settles_on_upgraded_tables(url: str) -> None:
    schemas.make_first(url)
    upgrade.upgrade(url)
    database = Database(url)
    database.prepare()
    with database.write() as session:
        assert ledger.settle(session, database.dialect, [record(1), record(2)]) == 2
    database.close()
    assert [day[4] for day in days(url)] == [2]


@pytest.mark.parametrize(
    "url", ["sqlite:////nowhere/at/all/sluice.db", "postgresql+psycopg://sluice:secret@127.0.0.1:9/sluice"]
)
def test_a_database_that_cannot_be_opened_is_named_without_its_password(url: str) -> None:
    with pytest.raises(schema.WrongSchema, match="cannot be opened") as raised:
        upgrade.upgrade(url)
    assert "secret" not in str(raised.value)


def test_only_its_owner_can_read_a_new_database_whatever_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "sluice.db"
    before = os.umask(0o022)
    try:
        upgrade.upgrade(f"sqlite:///{path}")
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600
