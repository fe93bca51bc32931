"""The pages: chat, keys, page bearer."""

from __future__ import annotations

import re
import time

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select

from sluice.web import credentials, keys
from sluice.web.config import WebConfig
from sluice.web.database import ApiKey, Database, PageBearer
from tests.unit.web.visitor import PUBLIC_URL, get, post, sign_in

_KEY = re.compile(r"sk-sluice-[A-Za-z0-9_-]{43}-[0-9a-f]{8}")


def made_key(client: FlaskClient, name: str = "notebook") -> tuple[str, str]:
    """Make a key; return it and its id."""
    answer = post(client, "/keys", name=name)
    assert answer.status_code == 201
    found = _KEY.search(answer.get_data(as_text=True))
    assert found
    ids = re.findall(r"/keys/(key-[0-9a-f]{12})/revoke", answer.get_data(as_text=True))
    return found[0], ids[0]


def test_the_chat_page_names_the_person_and_carries_the_token(
    client: FlaskClient, database: Database
) -> None:
    person = sign_in(client, database)
    page = get(client, "/").get_data(as_text=True)
    assert 'title="Alice"' in page
    assert f'data-csrf="{person.csrf}"' in page
    assert 'id="composer"' in page


def test_a_name_from_the_provider_cannot_become_markup(client: FlaskClient, database: Database) -> None:
    sign_in(client, database, name='<img src=x onerror="alert(1)">')
    page = get(client, "/keys").get_data(as_text=True)
    assert "<img src=x" not in page


def test_a_key_is_shown_once_and_only_its_hash_is_kept(
    client: FlaskClient, database: Database, settings: WebConfig
) -> None:
    sign_in(client, database)
    key, _ = made_key(client)
    assert keys.well_formed(key)
    page = get(client, "/keys").get_data(as_text=True)
    assert key not in page
    assert keys.hint(key) in page
    with database.read() as session:
        row = session.scalars(select(ApiKey)).one()
    assert row.stored == keys.stored_form(keys.credential(key), settings.key_secret.value)
    assert key not in str(vars(row))


def test_a_key_lives_as_long_as_the_site_says(client: FlaskClient, database: Database) -> None:
    sign_in(client, database)
    made_key(client)
    with database.read() as session:
        row = session.scalars(select(ApiKey)).one()
    assert row.expires - row.created == 180 * 86_400


@pytest.mark.parametrize("name", ["", "   ", "x" * 61, "a\x00b", "a\nb"])
def test_a_key_needs_a_name_that_can_be_read(client: FlaskClient, database: Database, name: str) -> None:
    sign_in(client, database)
    answer = post(client, "/keys", name=name)
    assert answer.status_code == 400
    assert "Give the key a name" in answer.get_data(as_text=True)


def test_the_name_of_a_key_cannot_become_markup(client: FlaskClient, database: Database) -> None:
    sign_in(client, database)
    post(client, "/keys", name='"><script>alert(1)</script>')
    assert "<script>alert" not in get(client, "/keys").get_data(as_text=True)


def test_nobody_holds_more_than_fifty_keys(client: FlaskClient, database: Database) -> None:
    sign_in(client, database)
    for number in range(credentials.MAX_KEYS):
        post(client, "/keys", name=f"key {number}")
    answer = post(client, "/keys", name="one more")
    assert answer.status_code == 409
    assert "Revoke one first" in answer.get_data(as_text=True)


def test_a_revoked_key_moves_to_those_that_no_longer_work(client: FlaskClient, database: Database) -> None:
    sign_in(client, database)
    _, key_id = made_key(client)
    assert post(client, f"/keys/{key_id}/revoke").status_code == 303
    page = get(client, "/keys").get_data(as_text=True)
    assert 'id="live-keys"' not in page
    assert 'id="ended-keys"' in page


def test_trying_to_revoke_anothers_key(app: Flask, client: FlaskClient, database: Database) -> None:
    sign_in(client, database)
    _, key_id = made_key(client)
    mallory = app.test_client()
    sign_in(mallory, database, name="mallory")
    assert post(mallory, f"/keys/{key_id}/revoke").status_code == 404
    assert key_id not in get(mallory, "/keys").get_data(as_text=True)
    with database.read() as session:
        assert session.get_one(ApiKey, key_id).revoked is None


def test_a_page_bearer_is_made_for_who_is_signed_in(client: FlaskClient, database: Database) -> None:
    person = sign_in(client, database)
    answer = post(client, "/page-bearer").get_json()
    assert answer["bearer"].startswith("pt-sluice-")
    assert keys.well_formed(answer["bearer"])
    assert answer["expires_in"] == 600
    with database.read() as session:
        row = session.scalars(select(PageBearer)).one()
    assert (row.user_id, row.session_tag) == (person.id, person.tag)
    assert row.expires == pytest.approx(time.time() + 600, abs=60)


def test_page_bearers_that_are_over_are_forgotten(client: FlaskClient, database: Database) -> None:
    sign_in(client, database)
    post(client, "/page-bearer")
    with database.write() as session:
        session.scalars(select(PageBearer)).one().expires = time.time() - 1
    post(client, "/page-bearer")
    with database.read() as session:
        assert len(session.scalars(select(PageBearer)).all()) == 1


def test_signing_out_ends_the_page_bearers_of_that_sign_in_alone(
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
    key, _ = made_key(client)
    stranger = client.application.test_client()
    for credential in (bearer, key):
        headers = {"Authorization": f"Bearer {credential}", "Sec-Fetch-Site": "same-origin"}
        assert stranger.get("/keys", base_url=PUBLIC_URL, headers=headers).status_code == 302
        assert stranger.post("/page-bearer", base_url=PUBLIC_URL, headers=headers).status_code == 403


def test_a_script_gets_its_errors_as_json(client: FlaskClient) -> None:
    answer = get(client, "/nothing", Accept="application/json")
    assert answer.status_code == 404
    assert answer.get_json()["error"]["code"] == "404"


def test_an_error_page_says_what_to_do_and_gives_the_number(client: FlaskClient) -> None:
    request_id = "req-" + "a" * 32
    page = get(client, "/nothing", X_Request_Id=request_id).get_data(as_text=True)
    assert "There is nothing here" in page
    assert request_id in page


def test_an_unexpected_fault_gets_a_page_and_not_its_text(
    client: FlaskClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(Database, "read")
    answer = get(client, "/health")
    assert answer.status_code == 500
    assert "AttributeError" not in answer.get_data(as_text=True)
    assert "Something broke on our side" in answer.get_data(as_text=True)


def test_health_says_ok(client: FlaskClient) -> None:
    assert get(client, "/health").get_json() == {"version": 1, "status": "ok"}
