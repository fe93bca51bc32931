"""Access to pages: signed in, administrator, blocked, expired."""

from __future__ import annotations

import dataclasses
import time

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select

from sluice.web.database.tables import Database, PageBearer, SignedInBrowser, User
from sluice.web.settings.config import Access, WebConfig
from sluice.web.signin.sign_in import SignedInUser
from sluice.web.views.shared import admin_required
from tests.unit.web.visitor import cookie, get, post, sign_in


@pytest.fixture
def settings(settings: WebConfig) -> WebConfig:
    """A site with administrators and projects."""
    rights = Access(admins=("ops",), projects={"genomics": ("bio",), "climate": ("bio",)})
    return dataclasses.replace(settings, access=rights)


@pytest.fixture
def app(app: Flask) -> Flask:
    """The app, with an administrators' page that shows the user's rights."""

    @admin_required
    def page(person: SignedInUser) -> str:
        return f"{person.pseudonym} {person.role} {' '.join(person.projects)}"

    app.add_url_rule("/for-administrators", view_func=page, methods=["GET", "POST"])
    return app


def test_an_administrator_by_group_gets_the_page_and_their_projects(
    client: FlaskClient, database: Database
) -> None:
    browser = sign_in(client, database, groups=["ops", "bio"])
    assert get(client, "/for-administrators").text == f"{browser.user} admin climate genomics"


def test_trying_an_administrators_page_as_a_user(client: FlaskClient, database: Database) -> None:
    sign_in(client, database, groups=["users"])
    answer = get(client, "/for-administrators")
    assert answer.status_code == 403
    assert "This page is for administrators" in answer.text
    assert post(client, "/for-administrators").status_code == 403


def test_trying_an_administrators_page_without_signing_in(client: FlaskClient) -> None:
    assert get(client, "/for-administrators").location == "/auth/login?next=/for-administrators"


def test_sign_in_from_a_page_with_an_unsafe_path_leads_to_the_start_page(
    app: Flask, client: FlaskClient
) -> None:
    app.add_url_rule("/of/<name>", view_func=app.view_functions["page"], endpoint="of")
    assert get(client, "/of/a:b").location == "/auth/login?next=/"
    assert get(client, "/of/a%20b").location == "/auth/login?next=/"
    assert get(client, get(client, "/of/a:b").location).status_code == 302


def test_rights_that_the_provider_took_away_end_at_the_next_request(
    client: FlaskClient, database: Database
) -> None:
    sign_in(client, database, groups=["ops"])
    assert get(client, "/for-administrators").status_code == 200
    with database.write() as session:
        session.scalars(select(User)).one().groups = ["users"]
    assert get(client, "/for-administrators").status_code == 403


def test_an_administrator_without_recent_confirmation_signs_in_again(
    client: FlaskClient, database: Database
) -> None:
    sign_in(client, database, groups=["ops"], checked=time.time() - 901)
    assert get(client, "/for-administrators").location == "/auth/login?next=/for-administrators"
    answer = post(client, "/for-administrators")
    assert answer.status_code == 403
    assert "Sign in again to continue" in answer.text
    assert get(client, "/auth/account").status_code == 200


def test_a_blocked_user_is_out_at_once(client: FlaskClient, database: Database) -> None:
    sign_in(client, database)
    before = cookie(client)
    with database.write() as session:
        session.scalars(select(User)).one().blocked = time.time()
    assert get(client, "/auth/account").status_code == 302
    assert post(client, "/page-bearer").status_code == 403
    assert cookie(client) != before


def _age(database: Database, **times: float) -> None:
    with database.write() as session:
        row = session.scalars(select(SignedInBrowser)).one()
        for name, value in times.items():
            setattr(row, name, value)


def test_a_sign_in_ends_when_it_was_not_used_for_long(client: FlaskClient, database: Database) -> None:
    sign_in(client, database)
    _age(database, seen=time.time() - 7_190)
    assert get(client, "/auth/account").status_code == 200
    _age(database, seen=time.time() - 7_201)
    assert get(client, "/auth/account").status_code == 302


def test_a_sign_in_ends_after_the_longest_lifetime_even_if_it_is_used(
    client: FlaskClient, database: Database
) -> None:
    sign_in(client, database)
    _age(database, created=time.time() - 43_201)
    assert get(client, "/auth/account").status_code == 302


def test_use_is_recorded_at_most_once_a_minute(client: FlaskClient, database: Database) -> None:
    sign_in(client, database)
    recent, longer_ago = time.time() - 50, time.time() - 70
    for seen in (recent, longer_ago):
        _age(database, seen=seen)
        get(client, "/auth/account")
        with database.read() as session:
            assert (session.scalars(select(SignedInBrowser.seen)).one() == seen) is (seen == recent)


def test_a_sign_in_of_an_earlier_provider_does_not_count(client: FlaskClient, database: Database) -> None:
    sign_in(client, database)
    with database.write() as session:
        session.scalars(select(User)).one().issuer = "https://old.example"
    assert get(client, "/auth/account").status_code == 302


def test_one_deleted_row_ends_a_sign_in(client: FlaskClient, database: Database) -> None:
    sign_in(client, database)
    with database.write() as session:
        session.delete(session.scalars(select(SignedInBrowser)).one())
    assert get(client, "/auth/account").status_code == 302
    assert get(client, "/").text.count('id="sign-in"') == 1


def test_signing_out_leaves_no_row_behind(client: FlaskClient, database: Database) -> None:
    sign_in(client, database)
    post(client, "/page-bearer")
    post(client, "/auth/sign-out")
    with database.read() as session:
        assert session.scalars(select(SignedInBrowser)).all() == []
        assert session.scalars(select(PageBearer)).all() == []
