"""The pages: chat, page bearer, errors."""

from __future__ import annotations

import dataclasses
import re
import time
import uuid

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select

from sluice.web.admin import announcements
from sluice.web.database.tables import Database, PageBearer
from sluice.web.keys import generation
from sluice.web.settings.config import WebConfig
from sluice.web.settings.personas import SitePersona
from tests.unit.web.visitor import PUBLIC_URL, get, post, sign_in

PERSONAS = (
    SitePersona("Tutor", system="Ask before you tell.\nBe kind.", temperature=0.0),
    SitePersona("Poet", description="In verse", model="large", seed=0),
)
_KEY = re.compile(r"sk-sluice-[A-Za-z0-9_-]{43}-[0-9a-f]{8}")


@pytest.fixture
def settings(settings: WebConfig) -> WebConfig:
    """A site with personas."""
    return dataclasses.replace(settings, personas=PERSONAS)


def test_the_chat_page_names_the_person_and_carries_the_token(
    client: FlaskClient, database: Database
) -> None:
    person = sign_in(client, database)
    page = get(client, "/").get_data(as_text=True)
    assert 'title="Alice"' in page
    assert f'data-csrf="{person.csrf}"' in page
    assert '<script type="module" src="/static/chat-' in page


def test_a_conversation_has_an_address_of_its_own(client: FlaskClient, database: Database) -> None:
    path = f"/c/{uuid.uuid4()}"
    stranger = get(client, path)
    assert stranger.headers["Location"] == f"/auth/login?next={path}"
    sign_in(client, database)
    assert get(client, path).get_data() == get(client, "/").get_data()
    assert get(client, "/c/another").status_code == 404


def test_the_sites_personas_are_for_who_is_signed_in(
    settings: WebConfig, client: FlaskClient, database: Database
) -> None:
    assert get(client, "/personas").status_code == 401
    sign_in(client, database)
    assert get(client, "/personas").get_json() == {
        "version": 1,
        "personas": [
            {"name": "Tutor", "system": "Ask before you tell.\nBe kind.", "temperature": 0.0},
            {"name": "Poet", "description": "In verse", "model": "large", "seed": 0},
        ],
    }


def test_a_name_from_the_provider_cannot_become_markup(client: FlaskClient, database: Database) -> None:
    sign_in(client, database, name='<img src=x onerror="alert(1)">')
    page = get(client, "/keys").get_data(as_text=True)
    assert "<img src=x" not in page


def test_a_page_bearer_is_created_for_a_signed_in_user(client: FlaskClient, database: Database) -> None:
    person = sign_in(client, database)
    answer = post(client, "/page-bearer").get_json()
    assert answer["bearer"].startswith("pt-sluice-")
    assert generation.well_formed(answer["bearer"])
    assert answer["expires_in"] == 600
    with database.read() as session:
        row = session.scalars(select(PageBearer)).one()
    assert (row.user_id, row.session_tag) == (person.id, person.tag)
    assert row.expires == pytest.approx(time.time() + 600, abs=60)


def test_a_page_bearer_comes_with_what_is_announced(client: FlaskClient, database: Database) -> None:
    sign_in(client, database)
    assert post(client, "/page-bearer").get_json()["announcements"] == []
    with database.write() as session:
        text = "See [the <news>](https://example.org/n) now"
        row = announcements.add(session, "operator", text, "warning", 1_000.5, None, time.time())
        name = f"{row.id}-1000"
    expected = {
        "id": name,
        "level": "warning",
        "pieces": [["See ", ""], ["the <news>", "https://example.org/n"], [" now", ""]],
    }
    assert post(client, "/page-bearer").get_json()["announcements"] == [expected]
    page = get(client, "/keys").get_data(as_text=True)
    assert f'<p class="announcement warning" data-announcement="{name}">' in page
    link = '<a href="https://example.org/n" target="_blank" rel="noopener noreferrer">the &lt;news&gt;</a>'
    assert f"<span>See {link} now</span>" in page


def test_expired_page_bearers_are_deleted(client: FlaskClient, database: Database) -> None:
    sign_in(client, database)
    post(client, "/page-bearer")
    with database.write() as session:
        session.scalars(select(PageBearer)).one().expires = time.time() - 1
    post(client, "/page-bearer")
    with database.read() as session:
        assert len(session.scalars(select(PageBearer)).all()) == 1


def test_signing_out_ends_only_the_page_bearers_of_that_sign_in(
    app: Flask, client: FlaskClient, database: Database
) -> None:
    sign_in(client, database)
    post(client, "/page-bearer")
    elsewhere = app.test_client()
    sign_in(elsewhere, database, tag="another-browser")
    post(elsewhere, "/page-bearer")
    post(client, "/auth/sign-out")
    with database.read() as session:
        assert [row.session_tag for row in session.scalars(select(PageBearer))] == ["another-browser"]


def test_trying_a_page_bearer_or_a_key_at_the_pages(client: FlaskClient, database: Database) -> None:
    sign_in(client, database)
    bearer = post(client, "/page-bearer").get_json()["bearer"]
    found = _KEY.search(get(client, post(client, "/keys", name="notebook").location).text)
    assert found
    untrusted = client.application.test_client()
    for credential in (bearer, found[0]):
        headers = {"Authorization": f"Bearer {credential}", "Sec-Fetch-Site": "same-origin"}
        assert untrusted.get("/keys", base_url=PUBLIC_URL, headers=headers).status_code == 302
        assert untrusted.post("/page-bearer", base_url=PUBLIC_URL, headers=headers).status_code == 403


def test_a_script_gets_its_errors_as_json(client: FlaskClient) -> None:
    answer = get(client, "/nothing", Accept="application/json")
    assert answer.status_code == 404
    assert answer.get_json()["error"]["code"] == "404"


def test_an_error_page_says_what_to_do_and_gives_the_number(client: FlaskClient) -> None:
    request_id = "req-" + "a" * 32
    page = get(client, "/nothing", X_Request_Id=request_id).get_data(as_text=True)
    assert "There is nothing here" in page
    assert request_id in page


def test_an_unexpected_error_gets_a_page_without_the_errors_text(
    client: FlaskClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(Database, "read")
    answer = get(client, "/health")
    assert answer.status_code == 500
    assert "AttributeError" not in answer.get_data(as_text=True)
    assert "Something broke on our side" in answer.get_data(as_text=True)


def test_health_says_ok(client: FlaskClient) -> None:
    assert get(client, "/health").get_json() == {"version": 1, "status": "ok"}
