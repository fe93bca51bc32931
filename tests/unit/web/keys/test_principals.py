"""Looking up the principal of a credential, with its limits."""

from __future__ import annotations

import dataclasses
import io
import logging
import time
from collections.abc import Iterator

import pytest
from flask.testing import FlaskClient
from sqlalchemy import delete, select, text

from sluice.contracts.authority import Limit, Principal
from sluice.logs import JsonFormatter
from sluice.web.database.tables import ApiKey, Database, LimitRow, PageBearer, SignedInBrowser, User
from sluice.web.keys import credentials, generation
from sluice.web.keys.credentials import KeySettings
from sluice.web.keys.principals import Principals
from sluice.web.people import accounts, sign_ins
from sluice.web.settings.config import Access, KeySecret, LimitRule, WebConfig

OLD, CURRENT = KeySecret("1", "o" * 43), KeySecret("2", "n" * 43)
RULES = (
    LimitRule("user:*", requests_per_minute=60),
    LimitRule("member:students", tokens_per_day=1000),
    LimitRule("key:*", concurrent=8),
    LimitRule("project:*", "big", tokens_per_minute=500),
)


@pytest.fixture
def settings(settings: WebConfig) -> WebConfig:
    """A site with projects, limits, and a secret that was changed."""
    return dataclasses.replace(
        settings,
        key_secret=CURRENT,
        old_key_secrets=(OLD,),
        access=Access(projects={"lattice": ("physics",), "climate": ("physics",)}),
        limits=RULES,
    )


@pytest.fixture
def database(settings: WebConfig) -> Iterator[Database]:
    """The site's database, without an app."""
    database = Database(settings.database)
    yield database
    database.close()


@pytest.fixture
def alice(database: Database) -> User:
    """A person who is signed in."""
    with database.write() as session:
        user = accounts.upsert_person(
            session, issuer="i", subject="a", name="A", email="", groups=["students", "physics"], now=1.0
        )
        sign_ins.begin(session, tag="tag", user_id=user.id, sid="", subject="a", now=1.0)
    return user


def make_key(
    database: Database, user: User, secret: KeySecret = CURRENT, wanted: KeySettings | None = None
) -> credentials.NewKey:
    with database.write() as session:
        return credentials.create_key(session, secret, user, wanted or KeySettings("k", 90), time.time())


def bearer(database: Database, user: User, secret: KeySecret = CURRENT) -> str:
    with database.write() as session:
        return credentials.create_bearer(session, secret, user.id, "tag", 600, time.time())


def found(database: Database, settings: WebConfig, key: str) -> Principal | None:
    with database.read() as session:
        answer = Principals(settings).find(session, generation.credential(key), time.time())
    return answer.principal if answer else None


def change(database: Database, user: User, **values: object) -> None:
    with database.write() as session:
        row = session.get_one(User, user.id)
        for name, value in values.items():
            setattr(row, name, value)


def test_a_keys_principal_has_its_project_models_and_all_limits_that_apply(
    database: Database, settings: WebConfig, alice: User
) -> None:
    wanted = KeySettings("k", 90, "lattice", ("big", "small"), requests_per_minute=10, concurrent=20)
    new = make_key(database, alice, wanted=wanted)
    with database.write() as session:
        session.add(LimitRow(scope=f"user:{alice.pseudonym}", model="", requests_per_minute=5, changed=1.0))
        session.add(LimitRow(scope="user:u-somebody-else", model="", requests_per_minute=1, changed=1.0))
    principal = found(database, settings, new.text)
    assert principal
    assert (principal.project, principal.models) == ("lattice", ("big", "small"))
    assert principal.limits == (
        Limit(f"key:{new.row.id}", requests_per_minute=10, concurrent=8),
        Limit("project:lattice", "big", tokens_per_minute=500),
        Limit(f"user:{alice.pseudonym}", requests_per_minute=5, tokens_per_day=1000),
    )


def test_the_page_counts_for_the_first_project_until_one_is_chosen(
    database: Database, settings: WebConfig, alice: User
) -> None:
    token = bearer(database, alice)
    for chosen, project in (("", "climate"), ("lattice", "lattice"), ("of-long-ago", "climate")):
        change(database, alice, page_project=chosen)
        principal = found(database, settings, token)
        assert principal
        assert (principal.project, principal.kind, principal.models) == (project, "page", None)
        assert Limit(f"project:{project}", "big", tokens_per_minute=500) in principal.limits
        assert not any(limit.scope.startswith("key:") for limit in principal.limits)


def test_a_user_with_more_limits_than_the_proxy_supports_is_refused(
    authority: FlaskClient, database: Database, alice: User
) -> None:
    new = make_key(database, alice)
    with database.write() as session:
        session.add_all(
            LimitRow(scope="user:*", model=f"m{number}", concurrent=1, changed=1.0) for number in range(200)
        )
    question = {"version": 1, "credential": generation.credential(new.text)}
    answer = authority.post("/v1/principal", json=question)
    assert answer.status_code == 500
    message = answer.get_json()["error"]["message"]
    assert f"limits apply to the user {alice.pseudonym}, but at most 200 are allowed" in message


def test_trying_a_key_of_a_project_that_its_owner_has_left(
    database: Database, settings: WebConfig, alice: User
) -> None:
    new = make_key(database, alice, wanted=KeySettings("k", 90, "lattice"))
    assert found(database, settings, new.text)
    change(database, alice, groups=["students"])
    assert found(database, settings, new.text) is None


def test_trying_keys_and_bearers_of_a_blocked_user(
    database: Database, settings: WebConfig, alice: User
) -> None:
    tokens = [make_key(database, alice).text, bearer(database, alice)]
    assert all(found(database, settings, token) for token in tokens)
    change(database, alice, blocked=1.0)
    assert [found(database, settings, token) for token in tokens] == [None, None]


def test_trying_keys_and_bearers_of_a_user_who_may_no_longer_sign_in(
    database: Database, settings: WebConfig, alice: User
) -> None:
    tokens = [make_key(database, alice).text, bearer(database, alice)]
    closed = dataclasses.replace(settings, access=Access(users=("staff",)))
    assert [found(database, closed, token) for token in tokens] == [None, None]
    with database.write() as session:
        service = accounts.upsert_service_account(session, name="nightly", groups=["batch"], now=1.0)
    assert found(database, closed, make_key(database, service).text)


def test_a_bearer_ends_only_with_its_own_sign_in(
    database: Database, settings: WebConfig, alice: User
) -> None:
    token = bearer(database, alice)
    assert found(database, settings, token)
    with database.write() as session:
        session.execute(delete(SignedInBrowser))
        assert session.scalars(select(PageBearer)).all()
    assert found(database, settings, token) is None


def test_trying_an_api_key_after_all_of_its_user_were_revoked(
    database: Database, settings: WebConfig, alice: User
) -> None:
    tokens = [make_key(database, alice).text, bearer(database, alice)]
    with database.write() as session:
        assert credentials.revoke_all(session, alice.id, time.time()) == 1
    assert [found(database, settings, token) for token in tokens] == [None, None]


def test_a_key_of_an_old_secret_works_and_is_stored_under_the_new_one(
    authority: FlaskClient, database: Database, settings: WebConfig, alice: User
) -> None:
    new = make_key(database, alice, OLD)
    question = {"version": 1, "credential": generation.credential(new.text)}
    for _ in range(2):
        assert authority.post("/v1/principal", json=question).status_code == 200
        with database.read() as session:
            row = session.get_one(ApiKey, new.row.id)
        assert row.secret_id == CURRENT.id
        assert row.stored == generation.stored_form(generation.credential(new.text), CURRENT.value)
    without = dataclasses.replace(settings, old_key_secrets=())
    assert found(database, without, new.text)


def test_a_key_that_cannot_be_stored_under_the_new_secret_still_works(
    authority: FlaskClient, database: Database, alice: User
) -> None:
    new = make_key(database, alice, OLD)
    with database.write() as session:
        session.execute(
            text("CREATE TRIGGER full BEFORE UPDATE ON api_key BEGIN SELECT RAISE(FAIL, 'full'); END")
        )
    question = {"version": 1, "credential": generation.credential(new.text)}
    assert authority.post("/v1/principal", json=question).status_code == 200
    with database.read() as session:
        assert session.get_one(ApiKey, new.row.id).secret_id == OLD.id


def test_trying_keys_and_bearers_of_an_unknown_secret(
    database: Database, settings: WebConfig, alice: User
) -> None:
    tokens = [make_key(database, alice, OLD).text, bearer(database, alice, OLD)]
    assert all(found(database, settings, token) for token in tokens)
    without = dataclasses.replace(settings, old_key_secrets=())
    assert [found(database, without, token) for token in tokens] == [None, None]


def test_trying_all_values_of_a_stolen_database(
    authority: FlaskClient, database: Database, settings: WebConfig, alice: User
) -> None:
    tokens = [make_key(database, alice).text, make_key(database, alice, OLD).text, bearer(database, alice)]
    with database.read() as session:
        stolen = [
            *session.scalars(select(ApiKey.stored)),
            *session.scalars(select(PageBearer.stored)),
            *session.scalars(select(SignedInBrowser.tag)),
        ]
    for value in stolen:
        for credential in (
            value if len(value) == 64 else generation.credential(value),
            generation.credential(value),
        ):
            answer = authority.post("/v1/principal", json={"version": 1, "credential": credential})
            assert answer.status_code == 404
    # Without the secret, nobody can match a known key with a row.
    for token in tokens:
        for guess in (
            generation.credential(token),
            generation.stored_form(generation.credential(token), "g" * 43),
        ):
            assert guess not in stolen


def test_no_key_and_no_secret_is_in_a_dump_of_the_database(
    authority: FlaskClient, database: Database, settings: WebConfig, alice: User
) -> None:
    tokens = [make_key(database, alice).text, make_key(database, alice, OLD).text, bearer(database, alice)]
    for token in tokens:
        authority.post("/v1/principal", json={"version": 1, "credential": generation.credential(token)})
    connection = database._engine.raw_connection()
    dump = "\n".join(connection.driver_connection.iterdump())  # type: ignore[union-attr]
    connection.close()
    assert alice.pseudonym in dump
    for token in tokens:
        body = token[len(generation.API_PREFIX) + 4 :]
        assert body not in dump
        assert generation.credential(token) not in dump
    assert CURRENT.value not in dump
    assert OLD.value not in dump


def test_no_key_is_in_what_the_authority_logs(
    authority: FlaskClient, database: Database, alice: User
) -> None:
    journal = io.StringIO()
    for handler in logging.getLogger().handlers:
        if isinstance(handler.formatter, JsonFormatter) and isinstance(handler, logging.StreamHandler):
            handler.setStream(journal)
    new = make_key(database, alice, OLD)
    with database.write() as session:
        session.execute(
            text("CREATE TRIGGER full BEFORE UPDATE ON api_key BEGIN SELECT RAISE(FAIL, 'full'); END")
        )
    authority.post("/v1/principal", json={"version": 1, "credential": generation.credential(new.text)})
    authority.post("/v1/principal", json={"version": 1, "credential": new.text})
    logged = journal.getvalue()
    assert "a key could not be stored under the current secret" in logged
    for secret in (
        new.text,
        new.text[len(generation.API_PREFIX) + 4 :],
        generation.credential(new.text),
        new.row.stored,
    ):
        assert secret not in logged
