"""Sums of usage."""

from __future__ import annotations

import datetime
from collections.abc import Iterator

import pytest

from sluice.web.database.tables import Database
from sluice.web.usage import ledger, reports
from tests.unit.web.usage.test_ledger import ALICE, BOB, DAY, NOON, record

NOVEMBER_18 = datetime.date(2026, 11, 18)


@pytest.fixture
def used(database_url: str) -> Iterator[Database]:
    """Four requests of Alice and two of Bob, in November and December."""
    database = Database(database_url)
    database.create()
    records = [
        record(1),
        record(2, model="other", cached_tokens=5),
        record(3, class_="interactive", status=499, measured=False),
        record(4, settled=NOON + DAY),
        record(5, BOB, project=""),
        record(6, BOB, settled=NOON + 14 * DAY),
    ]
    with database.write() as session:
        ledger.settle(session, database.dialect, records)
    yield database
    database.close()


def summed(
    database: Database, *by: str, choice: reports.UsageQuery = reports.EVERYTHING, limit: int | None = None
) -> list[tuple[object, ...]]:
    with database.read() as session:
        return [(*row.group, row.requests) for row in reports.summed(session, by, choice, limit=limit)]


def test_sums_by_one_and_several_dimensions(used: Database) -> None:
    assert summed(used) == [(6,)]
    assert summed(used, "user") == [(ALICE, 4), (BOB, 2)]
    assert summed(used, "month") == [("2026-11", 5), ("2026-12", 1)]
    assert summed(used, "day", "class") == [
        ("2026-11-18", "api", 3),
        ("2026-11-18", "interactive", 1),
        ("2026-11-19", "api", 1),
        ("2026-12-02", "api", 1),
    ]
    assert summed(used, "key") == [(f"key-{ALICE}", 3), (f"key-{BOB}", 2), ("page", 1)]
    assert summed(used, "project", "model") == [
        ("genomics", RECORD_MODEL, 4), ("", RECORD_MODEL, 1), ("genomics", "other", 1)
    ]  # fmt: skip


RECORD_MODEL = record(0).model


def test_a_sum_has_every_number(used: Database) -> None:
    with used.read() as session:
        (row,) = reports.summed(session, ())
    assert row == reports.UsageSum((), 6, 1, 1, 72, 48, 5 + 5 * record(0).cached_tokens, 12.0)
    assert row.tokens == 120


def test_without_usage_the_sum_is_zero(used: Database) -> None:
    with used.read() as session:
        (row,) = reports.summed(session, (), reports.UsageQuery(user="u-nobody"))
        assert (row.requests, row.tokens, row.seconds) == (0, 0, 0.0)
        assert list(reports.summed(session, ("user",), reports.UsageQuery(user="u-nobody"))) == []


@pytest.mark.parametrize(
    ("choice", "requests"),
    [
        (reports.UsageQuery(since=NOVEMBER_18 + datetime.timedelta(1)), 2),
        (reports.UsageQuery(until=NOVEMBER_18 + datetime.timedelta(1)), 4),
        (reports.UsageQuery(user=BOB), 2),
        (reports.UsageQuery(project="genomics"), 5),
        (reports.UsageQuery(model="other"), 1),
        (reports.UsageQuery(class_="interactive"), 1),
    ],
)
def test_a_filter_leaves_out_the_rest(used: Database, choice: reports.UsageQuery, requests: int) -> None:
    assert summed(used, choice=choice) == [(requests,)]


def test_a_limit_keeps_those_with_the_most_tokens(used: Database) -> None:
    assert summed(used, "user", limit=1) == [(ALICE, 4)]
