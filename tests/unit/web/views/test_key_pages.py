"""The pages of a person's own keys."""

from __future__ import annotations

import dataclasses
import re
import time

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select

from sluice.contracts.usage import UsageRecord
from sluice.web.database.tables import ApiKey, Database, User
from sluice.web.keys import credentials, generation
from sluice.web.settings.config import Access, WebConfig
from sluice.web.usage import ledger
from tests.unit.web.test_authority import example
from tests.unit.web.visitor import PUBLIC_URL, get, post, sign_in

_KEY = re.compile(r"sk-sluice-[A-Za-z0-9_-]{43}-[0-9a-f]{8}")


@pytest.fixture
def settings(settings: WebConfig) -> WebConfig:
    """A site with projects."""
    projects = {"lattice": ("physics",), "climate": ("physics", "geo")}
    return dataclasses.replace(settings, access=Access(projects=projects))


def made_key(client: FlaskClient, /, **fields: str) -> tuple[str, str]:
    """Create a key; return it and its id."""
    answer = post(client, "/keys", **{"name": "notebook", **fields})
    assert answer.status_code == 303, answer.text
    found = _KEY.search(get(client, answer.location).text)
    assert found
    return found[0], answer.location.removeprefix("/keys?new=")


def row_of(database: Database, key_id: str) -> ApiKey:
    with database.read() as session:
        return session.get_one(ApiKey, key_id)


def test_a_key_is_shown_once_and_only_its_hash_is_kept(
    client: FlaskClient, database: Database, settings: WebConfig
) -> None:
    sign_in(client, database)
    key, key_id = made_key(client)
    assert generation.well_formed(key)
    for path in ("/keys", f"/keys/{key_id}"):
        page = get(client, path).text
        assert key not in page
        assert generation.hint(key) in page
    row = row_of(database, key_id)
    assert row.stored == generation.stored_form(generation.credential(key), settings.key_secret.value)
    assert key not in str(vars(row))


def test_a_key_without_further_settings_gets_the_longest_life_and_all_models(
    client: FlaskClient, database: Database
) -> None:
    sign_in(client, database)
    row = row_of(database, made_key(client)[1])
    assert row.expires - row.created == 180 * 86_400
    assert (row.project, row.models, row.concurrent) == ("", None, None)


def test_a_key_is_made_with_the_settings_that_were_chosen(client: FlaskClient, database: Database) -> None:
    sign_in(client, database, groups=["physics"])
    fields = {
        "days": "7",
        "project": "lattice",
        "models": "a-model, other.model a-model",
        "requests_per_minute": "10",
        "tokens_per_day": str(1 << 40),
    }
    _, key_id = made_key(client, **fields)
    row = row_of(database, key_id)
    assert row.expires - row.created == 7 * 86_400
    assert (row.project, row.models) == ("lattice", ["a-model", "other.model"])
    numbers = (row.requests_per_minute, row.tokens_per_minute, row.tokens_per_day, row.concurrent)
    assert numbers == (10, None, 1 << 40, None)
    page = get(client, f"/keys/{key_id}").text
    for shown in ("lattice", "a-model, other.model", f"{1 << 40:,}", "no limit of its own"):
        assert shown in page


@pytest.mark.parametrize(
    ("fields", "field", "text"),
    [
        ({"name": ""}, "name", "the text is empty"),
        ({"days": "181"}, "days", "from 1 to 180"),
        ({"project": "genomics"}, "project", "Choose one of your projects (climate, lattice)"),
        ({"models": "../etc"}, "models", "is not the name of a model"),
        ({"concurrent": "-1"}, "concurrent", "not a whole number"),
    ],
)
def test_an_invalid_field_is_named_with_a_link_to_its_input(
    client: FlaskClient, database: Database, fields: dict[str, str], field: str, text: str
) -> None:
    sign_in(client, database, groups=["physics"])
    answer = post(client, "/keys", **{"name": "notebook", **fields})
    assert answer.status_code == 400
    summary = answer.text[answer.text.index('id="faults"') :]
    assert text in summary[: summary.index("</div>")]
    assert f'href="#key-{field}"' in summary
    assert f'id="key-{field}-fault"' in answer.text
    tag = re.search(rf'<(?:input|select) id="key-{field}"[^>]*>', answer.text)
    assert tag
    assert 'aria-invalid="true"' in tag[0]
    with database.read() as session:
        assert session.scalars(select(ApiKey)).all() == []


def test_all_errors_are_shown_at_once_and_the_input_is_kept(client: FlaskClient, database: Database) -> None:
    sign_in(client, database)
    answer = post(client, "/keys", name="", days="1000", models="a-model", concurrent="x")
    assert answer.text.count('href="#key-') == 3
    assert 'value="a-model"' in answer.text


def test_every_input_of_the_pages_has_a_label(client: FlaskClient, database: Database) -> None:
    sign_in(client, database, groups=["physics"])
    _, key_id = made_key(client)
    for path in ("/keys", f"/keys/{key_id}"):
        page = get(client, path).text
        inputs = re.findall(r'<(?:input|select)(?![^>]*type="hidden")[^>]*\bid="([\w-]+)"', page)
        assert inputs
        for name in inputs:
            assert f'for="{name}"' in page


@pytest.mark.parametrize("body", [b"name=%ED%A0%80", b"name=%ff", b"name=\xed\xa0\x80"])
def test_trying_half_a_surrogate_pair_or_bytes_that_are_not_text(
    client: FlaskClient, database: Database, body: bytes
) -> None:
    browser = sign_in(client, database)
    answer = client.post(
        "/keys",
        base_url=PUBLIC_URL,
        data=b"csrf_token=" + browser.csrf.encode() + b"&" + body,
        content_type="application/x-www-form-urlencoded",
        headers={"Sec-Fetch-Site": "same-origin"},
    )
    assert answer.status_code == 400
    assert "The form contains broken text" in answer.text
    with database.read() as session:
        assert session.scalars(select(ApiKey)).all() == []


def test_the_name_of_a_key_cannot_become_markup(client: FlaskClient, database: Database) -> None:
    sign_in(client, database)
    _, key_id = made_key(client, name='"><script>alert(1)</script>')
    for path in ("/keys", f"/keys/{key_id}"):
        assert "<script>alert" not in get(client, path).text


def test_nobody_holds_more_than_fifty_keys(
    client: FlaskClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credentials, "MAX_KEYS", 3)
    sign_in(client, database)
    ids = [made_key(client, name=f"key {number}")[1] for number in range(3)]
    for answer in (post(client, "/keys", name="more"), post(client, f"/keys/{ids[0]}/rotate", grace="1")):
        assert answer.status_code == 409
        assert "Revoke one first" in answer.text
    row = row_of(database, ids[0])
    assert row.expires - row.created == 180 * 86_400
    assert post(client, f"/keys/{ids[0]}/rotate", grace="0").status_code == 303


def test_a_revoked_key_moves_to_those_that_no_longer_work(client: FlaskClient, database: Database) -> None:
    sign_in(client, database)
    _, key_id = made_key(client)
    assert post(client, f"/keys/{key_id}/revoke").status_code == 303
    page = get(client, "/keys").text
    assert 'id="live-keys"' not in page
    assert 'id="ended-keys"' in page


def test_rotating_creates_a_key_with_the_same_settings_and_ends_the_old_one(
    client: FlaskClient, database: Database
) -> None:
    sign_in(client, database, groups=["physics"])
    old, old_id = made_key(client, days="30", project="lattice", models="m", concurrent="2")
    answer = post(client, f"/keys/{old_id}/rotate", grace="0")
    assert answer.status_code == 303
    new = _KEY.search(get(client, answer.location).text)
    assert new
    assert new[0] != old
    assert row_of(database, old_id).revoked is not None
    with database.read() as session:
        row = session.scalars(select(ApiKey).where(ApiKey.id != old_id)).one()
    assert credentials.settings_of(row) == credentials.settings_of(row_of(database, old_id))


def test_a_rotated_key_works_for_the_chosen_days_but_not_longer_than_before(
    client: FlaskClient, database: Database
) -> None:
    sign_in(client, database)
    _, long = made_key(client)
    _, short = made_key(client, days="1")
    for key_id in (long, short):
        assert post(client, f"/keys/{key_id}/rotate", grace="7").status_code == 303
    assert row_of(database, long).expires == pytest.approx(time.time() + 7 * 86_400, abs=60)
    assert row_of(database, short).expires == pytest.approx(time.time() + 86_400, abs=60)


@pytest.mark.parametrize("grace", ["", "8", "-1", "x"])
def test_an_invalid_grace_time_rotates_nothing(client: FlaskClient, database: Database, grace: str) -> None:
    sign_in(client, database)
    _, key_id = made_key(client)
    answer = post(client, f"/keys/{key_id}/rotate", grace=grace)
    assert answer.status_code == 400
    assert "from 0 to 7" in answer.text
    assert row_of(database, key_id).revoked is None


def test_a_key_that_no_longer_works_cannot_be_rotated(client: FlaskClient, database: Database) -> None:
    sign_in(client, database)
    _, key_id = made_key(client)
    post(client, f"/keys/{key_id}/revoke")
    answer = post(client, f"/keys/{key_id}/rotate", grace="0")
    assert answer.status_code == 409
    assert "no longer works" in answer.text


def test_a_user_who_left_a_project_is_told_and_gets_no_new_key_for_it(
    client: FlaskClient, database: Database
) -> None:
    sign_in(client, database, groups=["physics"])
    _, key_id = made_key(client, project="lattice")
    sign_in(client, database, groups=["geo"])
    assert "no longer one of its members" in get(client, f"/keys/{key_id}").text
    assert post(client, f"/keys/{key_id}/rotate", grace="0").status_code == 409
    with database.read() as session:
        assert len(session.scalars(select(ApiKey)).all()) == 1


@pytest.mark.parametrize("action", ["/revoke", "/rotate", ""])
def test_trying_to_use_anothers_key(app: Flask, client: FlaskClient, database: Database, action: str) -> None:
    sign_in(client, database)
    _, key_id = made_key(client)
    mallory = app.test_client()
    sign_in(mallory, database, name="mallory")
    path = f"/keys/{key_id}{action}"
    answer = post(mallory, path, grace="0") if action else get(mallory, path)
    assert answer.status_code == 404
    assert key_id not in get(mallory, "/keys").text
    assert row_of(database, key_id).revoked is None


def test_what_a_key_was_used_for_is_shown_to_its_owner(client: FlaskClient, database: Database) -> None:
    user = sign_in(client, database).user
    _, key_id = made_key(client)
    record = {**example("usage-record"), "user": user, "key_id": key_id, "time": time.time() - 5}
    with database.write() as session:
        ledger.settle(session, database.dialect, [UsageRecord.parse(record)])
    page = get(client, f"/keys/{key_id}").text
    row = page[page.index('id="key-usage"') :]
    assert re.findall(r"<td>(\d+)</td>", row) == ["1", "12", "8"]
    assert record["model"] in row
    assert "<td>1</td>" in get(client, "/keys").text


def test_use_of_the_chat_page_counts_for_the_chosen_project(client: FlaskClient, database: Database) -> None:
    browser = sign_in(client, database, groups=["physics"])
    assert "<option selected>climate</option>" in get(client, "/keys").text
    assert post(client, "/keys/page-project", project="lattice").status_code == 303
    assert "<option selected>lattice</option>" in get(client, "/keys").text
    assert post(client, "/keys/page-project", project="genomics").status_code == 400
    with database.read() as session:
        assert session.get_one(User, browser.id).page_project == "lattice"


def test_a_user_with_one_project_or_none_cannot_choose(client: FlaskClient, database: Database) -> None:
    sign_in(client, database, groups=["geo"])
    page = get(client, "/keys").text
    assert "count for the project climate" in page
    assert 'id="page-project"' not in page
    sign_in(client, database, groups=["users"])
    page = get(client, "/keys").text
    assert "count for the project" not in page
    assert 'id="key-project"' not in page
