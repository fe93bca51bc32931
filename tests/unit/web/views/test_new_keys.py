"""A new key on its way from the form to the page that shows it: once, and written down nowhere."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import text

from sluice.web.database.tables import Database
from sluice.web.keys import handover, pieces
from sluice.web.keys.handover import Halves
from sluice.web.settings.config import WebConfig
from tests.unit.web.visitor import PUBLIC_URL, get, post, sign_in

_KEY = re.compile(r"sk-sluice-[A-Za-z0-9_-]{43}-[0-9a-f]{8}")


def made(client: FlaskClient) -> str:
    """Create a key; return the address that shows it."""
    answer = post(client, "/keys", name="notebook")
    assert answer.status_code == 303
    return answer.location


def key_on(client: FlaskClient, path: str) -> str:
    found = _KEY.search(get(client, path).text)
    return found[0] if found else ""


def test_a_reload_shows_the_list_without_the_key_and_creates_none(
    client: FlaskClient, database: Database
) -> None:
    sign_in(client, database)
    path = made(client)
    key = key_on(client, path)
    assert key
    for again in (path, path, "/keys"):
        page = get(client, again)
        assert page.status_code == 200
        assert key not in page.text
        assert page.text.count("/revoke") == 1


def test_neither_the_answer_nor_the_sessions_files_nor_a_log_have_the_key(
    client: FlaskClient, database: Database, settings: WebConfig, caplog: pytest.LogCaptureFixture
) -> None:
    sign_in(client, database)
    caplog.set_level(logging.DEBUG)
    answer = post(client, "/keys", name="notebook")
    stored = b"".join(path.read_bytes() for path in Path(settings.session_dir).iterdir())
    key = key_on(client, answer.location)
    assert key
    told = f"{answer.headers}{answer.text}".encode()
    for place in (told, stored, caplog.text.encode()):
        for form in (key.encode(), key.encode().hex().encode()):
            assert form not in place
    assert "HttpOnly" in str(answer.headers)
    assert "SameSite=Strict" in str(answer.headers)
    # What was kept is gone with the first look.
    after = b"".join(path.read_bytes() for path in Path(settings.session_dir).iterdir())
    assert b"hidden" in stored
    assert b"hidden" not in after
    assert client.get_cookie(f"__Host-sluice-new-{answer.location[10:]}", domain="sluice.example.org") is None


def test_keys_that_two_tabs_create_at_once_are_both_shown(client: FlaskClient, database: Database) -> None:
    sign_in(client, database)
    paths = [made(client), made(client)]
    assert len({key_on(client, path) for path in paths} - {""}) == 2


def test_a_page_that_fails_leaves_the_key_for_the_next_attempt(
    client: FlaskClient, database: Database
) -> None:
    sign_in(client, database)
    path = made(client)
    with database.write() as session:
        session.execute(text("ALTER TABLE usage_day RENAME TO away"))
    assert get(client, path).status_code == 503
    with database.write() as session:
        session.execute(text("ALTER TABLE away RENAME TO usage_day"))
    assert key_on(client, path)


def test_trying_anothers_address_or_half_shows_nothing(
    app: Flask, client: FlaskClient, database: Database
) -> None:
    sign_in(client, database)
    path = made(client)
    name = f"__Host-sluice-new-{path[10:]}"
    half = client.get_cookie(name, domain="sluice.example.org")
    assert half
    mallory = app.test_client()
    sign_in(mallory, database, name="mallory")
    mallory.set_cookie(name, half.value, domain="sluice.example.org")
    assert key_on(mallory, path) == ""
    client.set_cookie(name, "00" * (len(half.value) // 2), domain="sluice.example.org")
    assert key_on(client, path) == ""
    for broken in ("", "zz", "00", "\u00e4"):
        client.set_cookie(name, broken, domain="sluice.example.org")
        assert get(client, path).status_code == 200
    client.set_cookie(name, half.value, domain="sluice.example.org")
    assert key_on(client, path)


def test_a_key_that_nobody_looked_at_in_time_is_forgotten(
    client: FlaskClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handover, "SECONDS", -1)
    sign_in(client, database)
    path = made(client)
    assert key_on(client, path) == ""
    made(client)
    with client.session_transaction(base_url=PUBLIC_URL) as kept:
        assert len([name for name in kept if name.startswith("new-")]) == 1


def test_halves_say_nothing_alone_and_only_fit_each_other() -> None:
    one, other = handover.divide("sk-sluice-a"), handover.divide("sk-sluice-a")
    assert handover.join(one) == "sk-sluice-a"
    assert one.pad != other.pad
    assert handover.join(Halves(one.hidden, other.pad)) != "sk-sluice-a"


def test_every_piece_has_the_key_the_address_and_the_model() -> None:
    made = pieces.of_key("https://llm.example.org/v1", "sk-sluice-a")
    assert [piece.name for piece in made] == ["curl", "Python", "JavaScript", "PowerShell", "Open WebUI"]
    for piece in made:
        written = piece.text("qwen3-32b")
        for wanted in ("https://llm.example.org/v1", "sk-sluice-a", '"qwen3-32b"'):
            assert wanted in written, piece.name


def test_the_page_fills_in_a_model_of_the_key(client: FlaskClient, database: Database) -> None:
    sign_in(client, database)
    page = get(client, post(client, "/keys", name="x", models="m-1, m-2").location).text
    assert '<span class="of-model">m-1</span>' in page
    assert "<option>m-2</option>" in page
