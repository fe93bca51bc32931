"""Announcements, stopped models, administrators' limits and the log of it all, without a page."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from sluice.contracts.authority import Stop
from sluice.web.admin import announcements, audit, stopped_models
from sluice.web.database.tables import Database
from sluice.web.limits import admin_limits
from sluice.web.people.accounts import upsert_person
from sluice.web.settings.config import Access, LimitRule, WebConfig
from sluice.web.words.texts import Texts
from sluice.web.words.validation import ValidationError

NOW = 1_700_000_000.0
ANN = "u-00000000000000aa"


@pytest.fixture
def store(database_url: str) -> Iterator[Database]:
    """An empty database."""
    found = Database(database_url)
    found.create()
    yield found
    found.close()


def log(store: Database) -> list[tuple[object, ...]]:
    with store.read() as session:
        return [
            (row.actor, row.action, row.object, row.before, row.after) for row in audit.entries(session)[::-1]
        ]


# --- Announcements -------------------------------------------------------------------------------------


def shown(store: Database, now: float) -> list[str]:
    with store.read() as session:
        return [row.text for row in announcements.shown(session, now)]


def test_an_announcement_is_shown_from_its_start_until_its_end(store: Database) -> None:
    with store.write() as session:
        announcements.add(session, ANN, "Down at ten", "info", NOW + 10, NOW + 20, NOW)
    assert [shown(store, NOW + at) for at in (9, 10, 19.9, 20)] == [[], ["Down at ten"], ["Down at ten"], []]


def test_warnings_come_first_and_no_more_than_three_at_once(store: Database) -> None:
    with store.write() as session:
        for number in range(4):
            announcements.add(session, ANN, f"news {number}", "info", NOW + number, None, NOW)
        announcements.add(session, ANN, "fire", "warning", NOW, None, NOW)
    assert shown(store, NOW + 10) == ["fire", "news 3", "news 2"]


def test_an_announcement_that_is_ended_is_gone_and_can_be_ended_once(store: Database) -> None:
    with store.write() as session:
        number = announcements.add(session, ANN, "news", "info", NOW, None, NOW).id
        assert announcements.end(session, audit.OPERATOR, number, NOW + 5)
        assert not announcements.end(session, audit.OPERATOR, number, NOW + 6)
        assert not announcements.end(session, audit.OPERATOR, number + 1, NOW + 6)
    assert shown(store, NOW + 6) == []
    added, ended = log(store)
    assert added[:3] == (ANN, "announcement.add", str(number))
    assert ended[:2] == ("operator", "announcement.end")
    assert isinstance(ended[4], dict)
    assert ended[4]["ends"] == "2023-11-14T22:13:25Z"


@pytest.mark.parametrize(
    ("text", "level", "ends", "name"),
    [
        ("", "info", None, "label_empty"),
        ("a\nb", "info", None, "label_control"),
        ("x" * 401, "info", None, "label_too_long"),
        ("fine", "shout", None, "level"),
        ("fine", "info", NOW, "ends_too_early"),
    ],
)
def test_an_announcement_that_cannot_be_shown_is_refused(
    store: Database, text: str, level: str, ends: float | None, name: str
) -> None:
    with store.write() as session, pytest.raises(ValidationError) as error:
        announcements.add(session, ANN, text, level, NOW, ends, NOW)
    assert error.value.text == f"validation.{name}"
    assert Texts.load("en").get(error.value.text, **error.value.values)
    assert log(store) == []


# --- Stopped models ------------------------------------------------------------------------------------


def test_a_stopped_model_is_told_to_the_proxy_until_it_is_resumed(store: Database) -> None:
    with store.write() as session:
        stopped_models.stop(session, ANN, "smollm2-135m", "Back at noon.", NOW)
    with store.read() as session:
        assert stopped_models.stops_for_proxy(session) == [Stop("smollm2-135m", "Back at noon.")]
    with store.write() as session:
        assert stopped_models.resume(session, ANN, "smollm2-135m", NOW)
        assert not stopped_models.resume(session, ANN, "smollm2-135m", NOW)
        assert stopped_models.stops_for_proxy(session) == []
    assert [entry[1] for entry in log(store)] == ["admission.stop", "admission.resume"]


def test_stopping_again_changes_the_message_and_nothing_new_is_not_logged(store: Database) -> None:
    with store.write() as session:
        for message in ("one", "two", "two"):
            stopped_models.stop(session, ANN, "a", message, NOW)
    assert [(before, after) for *_, before, after in log(store)] == [
        (None, {"message": "one"}),
        ({"message": "one"}, {"message": "two"}),
    ]


@pytest.mark.parametrize(
    ("model", "message", "name"),
    [
        ("", "", "model_name"),
        ("a b", "", "model_name"),
        ("a", "x" * 301, "label_too_long"),
        ("a", "\x07", "label_control"),
    ],
)
def test_a_stop_that_makes_no_sense_is_refused(store: Database, model: str, message: str, name: str) -> None:
    with store.write() as session, pytest.raises(ValidationError, match=name):
        stopped_models.stop(session, ANN, model, message, NOW)


# --- Limits -------------------------------------------------------------------------------------


def test_a_limit_is_set_as_a_whole_and_removed(store: Database, settings: WebConfig) -> None:
    with store.write() as session:
        admin_limits.put(session, settings, ANN, LimitRule("user:*", "", 60, None, 5_000), NOW)
        admin_limits.put(session, settings, ANN, LimitRule("user:*", "", None, None, 6_000), NOW + 1)
        admin_limits.put(session, settings, ANN, LimitRule("user:*", "", None, None, 6_000), NOW + 2)
        (row,) = admin_limits.listed(session)
        assert (row.requests_per_minute, row.tokens_per_day, row.changed) == (None, 6_000, NOW + 1)
        assert admin_limits.remove(session, ANN, "user:*", "", NOW + 3)
        assert not admin_limits.remove(session, ANN, "user:*", "", NOW + 3)
    assert [entry[1] for entry in log(store)] == ["limit.set", "limit.set", "limit.remove"]


def test_a_limit_of_one_model_stands_beside_that_of_all(store: Database, settings: WebConfig) -> None:
    with store.write() as session:
        admin_limits.put(session, settings, ANN, LimitRule("site", "", 60), NOW)
        admin_limits.put(session, settings, ANN, LimitRule("site", "big", 6), NOW)
        assert [(row.scope, row.model) for row in admin_limits.listed(session)] == [
            ("site", ""),
            ("site", "big"),
        ]
    assert [entry[2] for entry in log(store)] == ["site", "site big"]


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (LimitRule("everybody", "", 1), "none of site"),
        (LimitRule("site"), "it would limit nothing"),
        (LimitRule("site", "", -1), "requests_per_minute"),
        (LimitRule("site", "a b", 1), "not a model"),
        (LimitRule("project:moon", "", 1), "no project moon"),
        (LimitRule("user:u-1", "", 1), "no user u-1"),
        (LimitRule("key:key-1", "", 1), "no key key-1"),
    ],
)
def test_a_limit_that_would_apply_to_nobody_is_refused(
    store: Database, settings: WebConfig, rule: LimitRule, words: str
) -> None:
    settings = replace(settings, access=Access(projects={"sun": ("users",)}))
    with store.write() as session, pytest.raises(ValidationError) as error:
        admin_limits.put(session, settings, ANN, rule, NOW)
    assert words in Texts.load("en").get(error.value.text, **error.value.values)
    assert log(store) == []


def test_an_existing_user_can_be_limited(store: Database, settings: WebConfig) -> None:
    with store.write() as session:
        user = upsert_person(
            session, issuer="i", subject="s", name="S", email="", groups=["users"], now=time.time()
        )
        admin_limits.put(session, settings, ANN, LimitRule(f"user:{user.pseudonym}", "", 1), NOW)
        assert admin_limits.find(session, f"user:{user.pseudonym}", "") is not None


# --- The log -------------------------------------------------------------------------------------


def filled(store: Database) -> None:
    with store.write() as session:
        for at in range(5):
            actor = ANN if at % 2 else audit.OPERATOR
            audit.add(
                session, actor, "user.block", f"u-{at}", {"blocked": False}, {"blocked": True}, NOW + at
            )
        audit.add(session, ANN, "user.unblock", "u-1", None, None, NOW + 9)


def test_the_log_is_found_by_who_what_and_when(store: Database) -> None:
    filled(store)
    with store.read() as session:
        assert [row.object for row in audit.entries(session, audit.Filter(actors=(ANN,)))] == [
            "u-1",
            "u-3",
            "u-1",
        ]
        assert len(audit.entries(session, audit.Filter(action="user.block", objects=("u-1",)))) == 1
        assert [row.time for row in audit.entries(session, audit.Filter(since=NOW + 1, until=NOW + 3))] == [
            NOW + 2,
            NOW + 1,
        ]
        assert audit.actions(session) == ["user.block", "user.unblock"]


def test_the_log_continues_where_a_page_ended(store: Database) -> None:
    filled(store)
    with store.read() as session:
        first = audit.entries(session, most=4)
        rest = audit.entries(session, most=4, below=first[-1].id)
    assert [row.id for row in (*first, *rest)] == [6, 5, 4, 3, 2, 1]


def test_an_action_that_is_rolled_back_is_not_logged(store: Database) -> None:
    with pytest.raises(RuntimeError), store.write() as session:
        audit.add(session, ANN, "user.block", "u-1", None, None, NOW)
        raise RuntimeError
    assert log(store) == []


def test_an_action_of_the_wrong_form_is_refused(store: Database) -> None:
    with store.write() as session, pytest.raises(ValueError, match="not an action"):
        audit.add(session, ANN, "blocked somebody", "u-1", None, None, NOW)


def test_old_entries_are_deleted(store: Database) -> None:
    filled(store)
    with store.write() as session:
        assert audit.forget(session, NOW + 2) == 2
        assert len(audit.entries(session)) == 4
