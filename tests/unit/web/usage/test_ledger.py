"""Settling records, and what limits and reports get from them."""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text

from sluice.contracts.authority import Spent
from sluice.contracts.usage import UsageRecord
from sluice.web.database import health
from sluice.web.database.tables import ApiKey, Database, Usage, UsageDay, User
from sluice.web.usage import ledger

GOLDEN = Path(__file__).parents[3] / "golden" / "contracts" / "usage-record.json"
RECORD = UsageRecord.parse(json.loads(GOLDEN.read_text()))
ALICE, BOB = "u-a11ce", "u-b0b"
NOON = 1_795_003_200.0  # 18 November 2026, 12:00 UTC
DAY = 86_400.0


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A database of two users, one key each; Alice alone is in `staff`."""
    database = Database(database_url)
    database.create()
    with database.write() as session:
        for number, (name, groups) in enumerate(((ALICE, ["users", "staff"]), (BOB, ["users"]))):
            user = User(
                pseudonym=name, kind="person", issuer="i", subject=name, name="", email="", groups=groups,
                created=1.0, seen=1.0, blocked=None,
            )  # fmt: skip
            key = ApiKey(
                id=f"key-{name}", user=user, name="", hint="", secret_id="1", stored=f"{number}",
                created=1.0, expires=9e9,
            )  # fmt: skip
            session.add(key)
    yield database
    database.close()


def record(number: int, user: str = ALICE, settled: float = NOON, **fields: Any) -> UsageRecord:
    """A record of 20 tokens that took two seconds."""
    return dataclasses.replace(
        RECORD, id=f"req-{number:032x}", user=user, key_id=f"key-{user}", time=settled - 2.0, duration=2.0,
        **fields,
    )  # fmt: skip


def settle(database: Database, *records: UsageRecord) -> int:
    with database.write() as session:
        return ledger.settle(session, database.dialect, records)


def spent(database: Database, scope: str, model: str = "", now: float = NOON) -> Spent:
    with database.read() as session:
        (found,) = ledger.spent(session, [(scope, model)], now)
    return found


def days(database: Database) -> list[UsageDay]:
    with database.read() as session:
        return list(session.scalars(select(UsageDay).order_by(UsageDay.day, UsageDay.user, UsageDay.model)))


def test_every_field_of_a_record_is_stored(database: Database) -> None:
    settle(database, RECORD)
    with database.read() as session:
        row = session.get_one(Usage, RECORD.id)
    stored = {name: getattr(row, name) for name in vars(RECORD)}
    assert stored == vars(RECORD)


def test_a_record_counts_once_however_often_it_comes(database: Database) -> None:
    assert settle(database, record(1), record(2), record(1)) == 2
    assert settle(database, record(2), record(3)) == 1
    assert spent(database, "site").tokens_today == 60
    (day,) = days(database)
    assert (day.requests, day.input_tokens, day.output_tokens) == (3, 36, 24)


def test_requests_count_when_they_came_and_tokens_when_they_were_settled(database: Database) -> None:
    settle(database, record(1, settled=NOON - 5.5), record(2, settled=NOON - 5.25), record(3, settled=NOON))
    second = int(NOON)
    found = spent(database, f"user:{ALICE}", now=NOON + 0.9)
    assert found.requests == ((second - 8, 2), (second - 2, 1))
    assert found.tokens == ((second - 6, 40), (second, 20))


def test_a_request_that_was_sent_to_no_cluster_does_not_count(database: Database) -> None:
    settle(database, record(1, cluster=""))
    assert spent(database, "site").requests == ()


def test_usage_older_than_a_minute_is_not_returned(database: Database) -> None:
    settle(database, record(1, settled=NOON))
    assert spent(database, "site", now=NOON + 58.9).requests != ()
    assert spent(database, "site", now=NOON + 59.0).requests == ()
    assert spent(database, "site", now=NOON + 60.9).tokens != ()
    assert spent(database, "site", now=NOON + 61.0).tokens == ()


def test_a_long_stream_counts_for_the_minute_and_the_day_in_which_it_ended(database: Database) -> None:
    midnight = NOON + DAY / 2
    settle(database, dataclasses.replace(record(1), time=midnight - 3000.0, duration=3010.0))
    found = spent(database, "site", now=midnight + 20)
    assert found.requests == ()
    assert found.tokens == ((int(midnight) + 10, 20),)
    assert found.tokens_today == 20
    assert spent(database, "site", now=midnight - 1).tokens_today == 0


@pytest.mark.parametrize(
    ("scope", "model", "tokens"),
    [
        ("site", "", 100),
        ("site", "other", 20),
        (f"user:{ALICE}", "", 60),
        (f"user:{ALICE}", "other", 20),
        (f"key:key-{ALICE}", "", 40),
        (f"key:key-{BOB}", "", 40),
        ("key:key-unknown", "", 0),
        ("project:genomics", "", 80),
        ("project:physics", "", 20),
        ("group:users", "", 100),
        ("group:staff", "", 60),
        ("group:staff", "other", 20),
        ("group:taff", "", 0),
    ],
)
def test_a_bucket_holds_what_is_in_its_scope(database: Database, scope: str, model: str, tokens: int) -> None:
    settle(
        database,
        record(1),
        record(2, model="other"),
        record(3, class_="interactive"),
        record(4, BOB),
        record(5, BOB, project="physics"),
    )
    found = spent(database, scope, model)
    assert found.tokens_today == tokens
    if not scope.startswith("key:"):
        assert sum(count for _, count in found.tokens) == tokens
        assert 20 * sum(count for _, count in found.requests) == tokens


def test_usage_of_former_members_does_not_count_for_the_group(database: Database) -> None:
    settle(database, record(1))
    with database.write() as session:
        session.scalars(select(User).where(User.pseudonym == ALICE)).one().groups = ["users"]
    assert spent(database, "group:staff").tokens_today == 0
    assert spent(database, "group:users").tokens_today == 20


def test_a_day_sums_what_was_settled_on_it(database: Database) -> None:
    settle(
        database,
        record(1),
        record(2, status=502, measured=False),
        record(3, class_="interactive"),
        record(4, settled=NOON + DAY, cached_tokens=8),
    )
    page, api, later = sorted(days(database), key=lambda day: (day.day, day.key_id))
    assert (page.class_, page.key_id) == ("interactive", "")
    assert (api.requests, api.failed, api.estimated, api.seconds) == (2, 1, 1, 4.0)
    assert (api.day, later.day) == (datetime.date(2026, 11, 18), datetime.date(2026, 11, 19))
    assert later.cached_tokens == 8


@pytest.mark.parametrize("scope", ["site", f"user:{ALICE}", "project:genomics", f"key:key-{ALICE}"])
def test_no_bucket_makes_the_database_read_every_record(database: Database, scope: str) -> None:
    settle(database, record(1))
    statements: list[str] = []
    with database.read() as session:
        connection = session.connection().connection.driver_connection
        assert connection is not None
        connection.set_trace_callback(statements.append)
        ledger.spent(session, [(scope, ""), (scope, "other")], NOON)
        connection.set_trace_callback(None)
        plans = [
            str(row.detail)
            for statement in statements
            if statement.startswith("SELECT")
            for row in session.execute(text(f"EXPLAIN QUERY PLAN {statement}"))
        ]
    assert len(plans) >= 6
    assert [plan for plan in plans if plan.startswith("SCAN")] == []


@pytest.mark.parametrize("short", [0.000_001, 0.000_4, 0.000_6, 0.4, 0.6])
def test_the_last_moment_of_a_day_counts_to_that_day(database: Database, short: float) -> None:
    """SQLite rounds to milliseconds, PostgreSQL to microseconds: both would count it for the next day."""
    midnight = NOON + DAY / 2
    settle(database, record(1, settled=midnight - short), record(2, settled=midnight))
    assert [day.requests for day in days(database)] == [1, 1]
    assert spent(database, "site", now=midnight - short).tokens_today == 20
    (sums,) = [one for one in health.check(database, None, None, midnight) if one.name == "sums"]
    assert sums.remedy == ""
