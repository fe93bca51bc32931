"""`sluice users export` and `erase`: what a person may ask for."""

from __future__ import annotations

import datetime
import json
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from sluice.cli import main
from sluice.web.admin import audit
from sluice.web.database.tables import ApiKey, Base, Database, LimitRow, Usage, UsageDay, User
from sluice.web.keys import actions, credentials
from sluice.web.people import accounts, sign_ins
from sluice.web.settings.config import WebConfig
from sluice.web.usage import ledger, nameless, reports, retention
from tests.unit.web.settings.test_config import write
from tests.unit.web.usage.test_ledger import DAY, NOON, record

# What only a request about Ada may show, and nothing after her erasure.
PERSONAL = ("Ada Lovelace", "ada@example.org", "subject-of-ada", "adas laptop", "adas sid")
# Tables without anything about a person.
NOBODYS = {"page_bearer", "used_token", "stopped_model", "announcement"}


class Killed(BaseException):
    """The end of the process."""


def killed(*_: object) -> nameless.Nameless:
    """Die instead of taking the user off their usage."""
    raise Killed


class Site:
    """A gateway where Ada and Bob have keys, sign-ins, limits and usage."""

    def __init__(self, config: Path, settings: WebConfig, capsys: pytest.CaptureFixture[str]) -> None:
        self.database = Database(settings.database)
        self._config, self._settings, self._capsys = config, settings, capsys
        self.out = self.err = ""
        self.ada, self.ada_key = self._person("Ada Lovelace", "ada")
        self.bob, self.bob_key = self._person("Bob", "bob")
        with self.database.write() as session:
            for scope in (f"user:{self.ada}", f"key:{self.ada_key}", f"user:{self.bob}"):
                session.add(LimitRow(scope=scope, model="", concurrent=3, changed=1.0))

    def _person(self, name: str, short: str) -> tuple[str, str]:
        now = time.time()
        with self.database.write() as session:
            user = accounts.upsert_person(
                session, issuer="https://idp", subject=f"subject-of-{short}", name=name,
                email=f"{short}@example.org", groups=["physics"], now=now,
            )  # fmt: skip
            sign_ins.begin(
                session, tag=f"tag-{short}", user_id=user.id, sid=f"{short}s sid",
                subject=f"subject-of-{short}", now=now,
            )  # fmt: skip
            secret = self._settings.key_secret
            credentials.create_bearer(session, secret, user.id, f"tag-{short}", 600, now)
            wanted = credentials.KeySettings(f"{short}s laptop", 90)
            old = credentials.create_key(session, secret, user, wanted, now).row
            actions.revoke(session, "u-admin", old, now)
            key = credentials.create_key(session, secret, user, wanted, now).row
            audit.add(session, user.pseudonym, "limit.set", f"user:{user.pseudonym}", None, {}, now)
            audit.add(session, "u-admin", "user.block", user.pseudonym, None, None, now)
        return user.pseudonym, key.id

    def settle(self, user: str, *numbers: int, settled: float = NOON, **fields: Any) -> None:
        with self.database.write() as session:
            rows = [record(number, user, settled=settled, **fields) for number in numbers]
            ledger.settle(session, self.database.dialect, rows)

    def run(self, *arguments: str) -> int:
        status = main(["users", *arguments, "--config", str(self._config)])
        self.out, self.err = self._capsys.readouterr()
        return status

    def everything(self) -> str:
        """All rows of all tables, as text."""
        with self.database.read() as session:
            return "\n".join(
                f"{name} {tuple(row)}"
                for name, table in Base.metadata.tables.items()
                for row in session.execute(select(table))
            )

    def sums(self, *by: str) -> list[Any]:
        with self.database.read() as session:
            return list(reports.summed(session, by))


@pytest.fixture
def site(tmp_path: Path, settings: WebConfig, capsys: pytest.CaptureFixture[str]) -> Iterator[Site]:
    Path(settings.session_dir).mkdir(exist_ok=True)
    found = Site(write(tmp_path / "web.json", settings), settings, capsys)
    yield found
    found.database.close()


# --- Export -------------------------------------------------------------------------------------------


def test_an_export_has_all_that_is_stored_of_a_person_and_nobody_else(site: Site) -> None:
    site.settle(site.ada, 1, 2)
    site.settle(site.bob, 3)
    assert site.run("export", site.ada) == 0
    told = json.loads(site.out)
    assert told["version"] == 1
    assert told["account"] == [
        {
            "id": told["account"][0]["id"],
            "pseudonym": site.ada,
            "kind": "person",
            "issuer": "https://idp",
            "subject": "subject-of-ada",
            "name": "Ada Lovelace",
            "email": "ada@example.org",
            "groups": ["physics"],
            "blocked": None,
            "page_project": "",
            **{name: told["account"][0][name] for name in ("created", "seen")},
        }
    ]
    counts = {name: len(rows) for name, rows in told.items() if name != "version"}
    # Of the audit log: a revoked key, a limit that she set, a block; and this export.
    assert counts == {
        "account": 1,
        "keys": 2,
        "sign_ins": 1,
        "limits": 2,
        "audit": 4,
        "usage_days": 1,
        "usage": 2,
    }
    assert [row["id"] for row in told["usage"]] == [record(1).id, record(2).id]
    for text in PERSONAL:
        assert text in site.out
    for text in (site.bob, site.bob_key, "Bob", "operator", "u-admin"):
        assert text not in site.out


def test_an_export_of_an_administrator_says_nothing_of_those_on_whom_they_acted(site: Site) -> None:
    with site.database.write() as session:
        bobs = session.get_one(ApiKey, site.bob_key)
        actions.revoke(session, site.ada, bobs, time.time())
        for scope in (
            f"user:{site.bob}",
            f"key:{site.bob_key} large",
            f"user:{site.ada} large",
            "project:lattice",
        ):
            audit.add(session, site.ada, "limit.set", scope, None, {"concurrent": 7}, 1.0)
        audit.add(session, site.ada, "user.block", site.bob, {"blocked": False}, {"blocked": True}, 1.0)
    assert site.run("export", site.ada) == 0
    for text in (site.bob, site.bob_key, "bobs laptop"):
        assert text not in site.out
    acts = [row for row in json.loads(site.out)["audit"] if row["actor"] == site.ada]
    assert [(row["action"], row["object"], row["after"]) for row in acts] == [
        ("limit.set", f"user:{site.ada}", {}),
        ("key.revoke", "another user", None),
        ("limit.set", "another user", None),
        ("limit.set", "another user", None),
        ("limit.set", f"user:{site.ada} large", {"concurrent": 7}),
        ("limit.set", "project:lattice", {"concurrent": 7}),
        ("user.block", "another user", None),
    ]


def test_an_export_has_no_digest_of_a_secret(site: Site) -> None:
    assert site.run("export", site.ada) == 0
    with site.database.read() as session:
        for row in session.execute(select(Base.metadata.tables["api_key"].c.stored)):
            assert row.stored not in site.out
    assert "tag-ada" not in site.out


def test_every_table_is_exported_or_known_to_have_nothing_about_people(site: Site) -> None:
    """Who adds a table decides which of both it is."""
    assert site.run("export", site.ada) == 0
    names = {"account": "user", "keys": "api_key", "sign_ins": "signed_in_browser", "limits": "limit"}
    names |= {"audit": "audit_entry", "usage_days": "usage_day"}
    exported = {names.get(name, name) for name in json.loads(site.out) if name != "version"}
    assert exported | NOBODYS == set(Base.metadata.tables)
    assert not exported & NOBODYS


def test_an_export_is_in_the_audit_log(site: Site) -> None:
    assert site.run("export", site.ada) == 0
    with site.database.read() as session:
        newest = audit.entries(session, most=1)[0]
    assert (newest.actor, newest.action, newest.object) == ("operator:ada", "user.export", site.ada)


# --- Erasure ------------------------------------------------------------------------------------------


def test_an_erasure_first_says_what_it_would_do_and_changes_nothing(site: Site) -> None:
    before = site.everything()
    assert site.run("erase", site.ada) == 2
    assert site.out.splitlines() == [
        f"{site.ada}, Ada Lovelace <ada@example.org>: this would be done, and cannot be undone",
        "  deleted: account, 2 keys, 1 sign-ins, 2 limits",
        "  kept, under the pseudonym alone: 3 entries of the audit log",
        "  kept, without user and key: all usage",
    ]
    assert site.err == "sluice users erase: nothing was changed; add --yes to do it\n"
    assert site.run("erase", site.ada, "--json") == 2
    assert json.loads(site.out)["erased"] is False
    assert site.everything() == before


def test_after_an_erasure_no_table_has_the_person_and_all_sums_stay(site: Site) -> None:
    site.settle(site.ada, 1, 2, project="lattice")
    site.settle(site.ada, 3, settled=NOON - DAY, class_="interactive")
    site.settle(site.bob, 4)
    before = [site.sums(*by) for by in (("project",), ("model",), ("class",), ("day",), ())]
    assert site.run("erase", site.ada, "--yes") == 0
    assert f"{site.ada} is erased; 3 records and 2 sums of usage lost their user" in site.out
    left = site.everything()
    for text in PERSONAL:
        assert text not in left
    assert {line.split()[0] for line in left.splitlines() if site.ada in line} == {"audit_entry"}
    assert {line.split()[0] for line in left.splitlines() if site.ada_key in line} == set()
    assert [site.sums(*by) for by in (("project",), ("model",), ("class",), ("day",), ())] == before
    with site.database.read() as session:
        assert session.scalars(select(User.pseudonym)).all() == [site.bob]
        assert session.scalars(select(Usage.user).where(Usage.id == record(4).id)).all() == [site.bob]


def test_a_second_erasure_adds_to_the_same_nameless_sums(site: Site) -> None:
    site.settle(site.ada, 1)
    site.settle(site.bob, 2)
    assert site.run("erase", site.ada, "--yes") == 0
    assert site.run("erase", site.bob, "--yes", "--json") == 0
    assert json.loads(site.out) == {"version": 1, "user": site.bob, "erased": True, "records": 1, "days": 1}
    with site.database.read() as session:
        (row,) = session.scalars(select(UsageDay)).all()
    assert (row.user, row.key_id, row.requests, row.input_tokens + row.output_tokens) == ("", "", 2, 40)


def test_an_interrupted_erasure_is_finished_by_the_same_command(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.settle(site.ada, 1)
    with monkeypatch.context() as patch:
        patch.setattr(nameless, "make", killed)
        with pytest.raises(Killed):
            site.run("erase", site.ada, "--yes")
    assert f"usage ('{record(1).id}'" in site.everything()
    before = site.everything()
    assert site.run("erase", site.ada) == 2
    assert site.everything() == before
    assert site.run("erase", site.ada, "--yes") == 0
    with site.database.read() as session:
        assert session.scalars(select(Usage.user)).all() == [""]
    assert site.run("erase", site.ada, "--yes") == 1


def test_an_erasure_that_the_database_ends_says_what_is_left_to_do(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.settle(site.ada, 1)

    def locked(*_: object) -> nameless.Nameless:
        raise OperationalError("UPDATE usage", None, sqlite3.OperationalError("database is locked"))

    with monkeypatch.context() as patch:
        patch.setattr(nameless, "make", locked)
        assert site.run("erase", site.ada, "--yes") == 1
    assert "is erased, but not yet taken off all usage" in site.err
    assert "nothing was changed" not in site.err
    assert site.run("erase", site.ada, "--yes") == 0


def test_records_that_come_after_the_erasure_lose_their_user_in_the_night(site: Site) -> None:
    assert site.run("erase", site.ada, "--yes") == 0
    site.settle(site.ada, 1)
    site.settle(site.bob, 2)
    removed = retention.prune(site.database, 400, 400, NOON)
    assert removed == retention.Removed(records=0, days=0, audit=0, late=2)
    with site.database.read() as session:
        assert set(session.scalars(select(Usage.user))) == {"", site.bob}
        assert set(session.scalars(select(UsageDay.user))) == {"", site.bob}


def test_a_record_that_comes_during_the_erasure_loses_its_user_too(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without its sum, nothing would find it later."""
    site.settle(site.ada, 1)
    looked: list[Any] = []

    def then_settle(database: Database, step: Any, pseudonym: str) -> Any:
        done = one_step(database, step, pseudonym)
        looked.append(done)
        if done == 0:
            site.settle(site.ada, 2)
        return done

    one_step = nameless._in_one_transaction
    monkeypatch.setattr(nameless, "_in_one_transaction", then_settle)
    assert site.run("erase", site.ada, "--yes") == 0
    assert looked == [1, 0, (1, 1)]
    with site.database.read() as session:
        assert set(session.scalars(select(Usage.user))) == {""}
        assert set(session.scalars(select(UsageDay.user))) == {""}


def test_who_is_erased_and_comes_back_is_somebody_new(site: Site) -> None:
    assert site.run("erase", site.ada, "--yes") == 0
    with site.database.write() as session:
        new = accounts.upsert_person(
            session, issuer="https://idp", subject="subject-of-ada", name="Ada", email="", groups=[], now=2.0
        )
    assert new.pseudonym != site.ada


@pytest.mark.parametrize("action", ["export", "erase"])
@pytest.mark.parametrize("name", ["u-0123456789abcdef", "", "nobody", "u-%", "x" * 300])
def test_nobody_is_told_so(site: Site, action: str, name: str) -> None:
    before = site.everything()
    assert site.run(action, name) == 1
    assert "see: sluice users list" in site.err
    assert site.everything() == before


def test_a_service_account_is_not_a_person(site: Site) -> None:
    with site.database.write() as session:
        accounts.upsert_service_account(session, name="nightly", groups=["physics"], now=1.0)
    before = site.everything()
    assert site.run("erase", "nightly", "--yes") == 2
    assert "is a service account, not a person" in site.err
    assert site.everything() == before


def test_all_operators_are_found_together(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ada", "bob"):
        monkeypatch.setenv("SUDO_USER", name)
        assert site.run("block", site.bob) == 0
        assert site.run("unblock", site.bob) == 0
    with site.database.write() as session:
        audit.add(session, "operator", "user.block", site.bob, None, None, 1.0)
    with site.database.read() as session:
        together = audit.entries(session, audit.Filter(actors=("operator",)))
        of_bob = audit.entries(session, audit.Filter(actors=("operator:bob",)))
    assert [len(together), len(of_bob)] == [5, 2]


def test_days_of_an_export_are_written_as_days(site: Site) -> None:
    site.settle(site.ada, 1)
    assert site.run("export", site.ada) == 0
    day = json.loads(site.out)["usage_days"][0]["day"]
    assert datetime.date.fromisoformat(day)
