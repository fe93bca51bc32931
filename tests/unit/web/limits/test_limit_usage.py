"""What is left of a user's limits, and who is close to a limit."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from flask.testing import FlaskClient

from sluice.web.database.tables import Database, User
from sluice.web.keys import credentials
from sluice.web.keys.credentials import KeySettings
from sluice.web.limits import admin_limits, limit_usage
from sluice.web.limits.limit_usage import nearest_limits
from sluice.web.settings.config import LimitRule, WebConfig
from sluice.web.settings.rules import Holder, RuleIndex
from sluice.web.usage import ledger, sums
from sluice.web.usage.sums import TokensUsed
from tests.unit.web.views.test_admin_pages import used
from tests.unit.web.visitor import get, sign_in

ANN = Holder("u-ann", ("bio",), "genomics", "")
BEN = Holder("u-ben", ("bio", "sky"), "", "key-1")


def rule(scope: str, tokens: int | None, model: str = "") -> LimitRule:
    return LimitRule(scope, model, None, None, tokens)


def test_the_limit_with_the_highest_share_comes_first_and_each_holder_counts_separately() -> None:
    taken = [TokensUsed(ANN, "a", 60), TokensUsed(ANN, "b", 30), TokensUsed(BEN, "a", 50)]
    found = nearest_limits([rule("user:*", 100), rule("group:bio", 1000), rule("user:*", 80, "a")], taken, 10)
    assert [(one.scope, one.rule.model, one.tokens, one.bound) for one in found] == [
        ("user:u-ann", "", 90, 100),
        ("user:u-ann", "a", 60, 80),
        ("user:u-ben", "a", 50, 80),
        ("user:u-ben", "", 50, 100),
        ("group:bio", "", 140, 1000),
    ]


def test_of_several_limits_of_one_holder_the_tightest_counts() -> None:
    rules = [rule("user:*", 500), rule("member:sky", 100), rule("user:u-ben", 900), rule("member:sky", 300)]
    (found,) = nearest_limits(rules, [TokensUsed(BEN, "a", 50)], 10)
    assert (found.rule.scope, found.bound, found.percent) == ("member:sky", 100, 50.0)


def test_a_limit_of_zero_is_full_and_rules_without_tokens_are_ignored() -> None:
    found = nearest_limits([rule("site", 0), rule("key:*", None)], [TokensUsed(BEN, "a", 5)], 10)
    assert [(one.scope, one.percent) for one in found] == [("site", 100.0)]


def test_at_most_the_requested_number_is_returned() -> None:
    taken = [TokensUsed(Holder(f"u-{number}", (), "", ""), "a", number) for number in range(9)]
    assert [one.scope for one in nearest_limits([rule("user:*", 10)], taken, 2)] == ["user:u-8", "user:u-7"]


def test_trying_many_users_and_rules_stays_quick() -> None:
    taken = [
        TokensUsed(Holder(f"u-{number}", ("bio", "sky"), "p", ""), "a", number) for number in range(5_000)
    ]
    begun = time.process_time()
    assert nearest_limits([rule("user:*", 10), rule("group:bio", 9)], taken, 20)
    assert time.process_time() - begun < 2.0


@pytest.fixture
def store(settings: WebConfig) -> Iterator[Database]:
    """The site's database."""
    found = Database(settings.database)
    yield found
    found.close()


def test_a_person_sees_each_limit_once_and_what_is_left(store: Database, settings: WebConfig) -> None:
    now = time.time()
    with store.write() as session:
        user = User(
            pseudonym="u-ann",
            kind="person",
            issuer="i",
            subject="ann",
            name="Ann",
            email="",
            groups=["bio"],
            created=now,
            seen=now,
            blocked=None,
        )
        session.add(user)
        session.flush()
        wanted = KeySettings("laptop", 30, tokens_per_day=70)
        key = credentials.create_key(session, settings.key_secret, user, wanted, now).row
        admin_limits.put(session, settings, "operator", rule("user:*", 5_000), now)
        ledger.settle(session, store.dialect, [used("u-ann", 900)])
        book = RuleIndex([rule("project:*", 1_000), rule("user:*", 8_000)])
        # Records count from the second in which they were settled.
        found = limit_usage.of_user(session, book, ANN, ("genomics", "moon"), [key], time.time())
        assert [(one.limit.scope, one.limit.tokens_per_day, one.tokens_per_day) for one in found] == [
            ("user:u-ann", 5_000, 900),
            ("project:genomics", 1_000, 900),
            ("project:moon", 1_000, 0),
            (f"key:{key.id}", 70, 0),
        ]
        assert found[0].requests_per_minute == 1
        assert found[0].tokens_per_minute == 900


def test_days_without_usage_are_included(store: Database) -> None:
    with store.write() as session:
        ledger.settle(session, store.dialect, [used("u-ann", 900)])
        month = sums.last_days(time.time(), 30)
        daily = sums.daily(session, month)
        assert len(daily) == 30
        assert [row.tokens for row in daily[-2:]] == [0, 900]
        assert sums.users(session, month) == 1
        assert sums.total(session, sums.last_days(time.time(), 30, user="u-ben")).requests == 0


# --- The page ----------------------------------------------------------------------------------------------


def test_a_user_without_usage_is_told_so(client: FlaskClient, database: Database) -> None:
    person = sign_in(client, database)
    page = get(client, "/usage").get_data(as_text=True)
    assert 'id="no-usage"' in page
    assert 'id="no-limits"' in page
    assert "<figure" not in page
    assert person.user in page


def test_the_usage_page_shows_only_the_users_own_usage(client: FlaskClient, database: Database) -> None:
    person = sign_in(client, database)
    with database.write() as session:
        records = [used(person.user, 900, "mine"), used("u-other", 77_777, "theirs")]
        ledger.settle(session, database.dialect, records)
    page = get(client, "/usage").get_data(as_text=True)
    assert "<figure" in page
    assert "300" in page
    assert ">mine</th>" in page
    assert ">the chat page</th>" in page
    assert "theirs" not in page
    assert "77,777" not in page


def test_the_usage_page_requires_sign_in(client: FlaskClient) -> None:
    assert get(client, "/usage").location == "/auth/login?next=/usage"
