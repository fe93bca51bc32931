"""With a copy of the database, a dump or a backup, nobody can use a key or a sign-in."""

from __future__ import annotations

import hashlib
import re
import sqlite3
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
from flask.testing import FlaskClient
from sqlalchemy import make_url, select

from sluice.cli import main
from sluice.web.database import backup
from sluice.web.database.tables import ApiKey, Database, PageBearer, SignedInBrowser
from sluice.web.keys import generation
from sluice.web.keys.principals import Principals
from sluice.web.settings.config import WebConfig
from tests.unit.web.settings.test_config import write
from tests.unit.web.visitor import PUBLIC_URL, cookie, get, post, sign_in


class Loot(NamedTuple):
    """A used database, and all secrets that were used."""

    credentials: tuple[str, ...]
    secrets: dict[str, str]


@pytest.fixture
def loot(
    client: FlaskClient,
    authority: FlaskClient,
    database: Database,
    settings: WebConfig,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> Loot:
    """Create keys on the page and by command, rotate and revoke them, create a bearer, and ask about them."""
    browser = sign_in(client, database, id_token="id-token-of-the-provider", refresh_token="refresh-token")
    found = [_made_on_page(client, browser.csrf)]
    Path(settings.session_dir).mkdir(exist_ok=True)
    config = str(write(tmp_path / "web.json", settings))
    argv = ["keys", "create", "--user", "robot", "--groups", "users", "--name", "nightly", "--config", config]
    assert main(argv) == 0
    found.append(capsys.readouterr().out.strip())
    bearer = post(client, "/page-bearer", browser.csrf).get_json()
    assert bearer is not None
    found.append(bearer["bearer"])
    for text in found:
        question = {"version": 1, "credential": generation.credential(text)}
        assert authority.post("/v1/principal", json=question).status_code == 200
    secrets = {
        "secret_key": settings.secret_key,
        "key_secret": settings.key_secret.value,
        "client_secret": settings.oidc.client_secret,
        "cookie": cookie(client) or "",
        "csrf": browser.csrf,
        "id_token": "id-token-of-the-provider",
        "refresh_token": "refresh-token",
    }
    for number, text in enumerate(found):
        body = text.rsplit("-", 1)[0]
        secrets |= {
            f"key {number}": text,
            f"random part of key {number}": body[len(generation.API_PREFIX) :],
            f"credential {number}": generation.credential(text),
            f"plain digest {number}": hashlib.sha256(body.encode()).hexdigest(),
        }
    return Loot(tuple(found), secrets)


def _made_on_page(client: FlaskClient, csrf: str) -> str:
    led = post(client, "/keys", csrf, name="mine", days="30")
    page = get(client, led.headers["Location"]).get_data(as_text=True)
    made = re.search(r"sk-sluice-[A-Za-z0-9_-]{43}-[0-9a-f]{8}", page)
    assert made, page
    return made[0]


def dumps(settings: WebConfig, folder: Path) -> dict[str, bytes]:
    """Return the database in the forms in which a thief may get it."""
    path = backup.backup(settings.database, folder, 1, time.time())
    found = {"backup": path.read_bytes()}
    if settings.database.startswith("sqlite"):
        live = Path(settings.database.removeprefix("sqlite:///"))
        for file in live.parent.glob("sluice.db*"):
            found[file.name] = file.read_bytes()
        with closing(sqlite3.connect(path)) as copy:
            found["dump"] = "\n".join(copy.iterdump()).encode()
    else:
        plain = folder / "dump.sql"
        backup._run_postgresql(make_url(settings.database), ["pg_dump"], ["--file", plain])
        found["dump"] = plain.read_bytes()
    assert b"api_key" in found["dump"]
    return found


def test_no_dump_and_no_backup_holds_a_key_a_credential_or_a_secret(
    loot: Loot, settings: WebConfig, tmp_path: Path
) -> None:
    for name, content in dumps(settings, tmp_path / "backups").items():
        for what, secret in loot.secrets.items():
            assert len(secret) > 8, what
            assert secret.encode() not in content, f"{what} is in {name}"


def test_trying_to_use_a_key_with_nothing_but_a_stolen_database(
    loot: Loot, settings: WebConfig, database: Database, authority: FlaskClient
) -> None:
    with database.read() as session:
        rows = [*session.scalars(select(ApiKey)), *session.scalars(select(PageBearer))]
    assert len(rows) == len(loot.credentials)
    tries = {
        value
        for row in rows
        for value in (row.stored, row.id, hashlib.sha256(row.stored.encode()).hexdigest())
    }
    for value in tries:
        credential = (
            value if re.fullmatch("[0-9a-f]{64}", value) else hashlib.sha256(value.encode()).hexdigest()
        )
        answer = authority.post("/v1/principal", json={"version": 1, "credential": credential})
        assert answer.status_code == 404, value


def test_trying_to_test_a_guessed_key_against_a_stolen_database(loot: Loot, database: Database) -> None:
    """Even with a key, nobody can find it in the table without the site's secret."""
    with database.read() as session:
        stored = {*session.scalars(select(ApiKey.stored)), *session.scalars(select(PageBearer.stored))}
    for text in loot.credentials:
        for guess in ("", "1", "s" * 43, "sluice", generation.credential(text)):
            assert generation.stored_form(generation.credential(text), guess) not in stored
        assert generation.credential(text) not in stored


def test_trying_a_stolen_database_at_another_site(
    loot: Loot, settings: WebConfig, database: Database
) -> None:
    """Rows name their secret by its id; another secret with the same id does not work."""
    own = replace(settings, key_secret=replace(settings.key_secret, value="x" * 43))
    with database.read() as session:
        for text in loot.credentials:
            assert Principals(settings).find(session, generation.credential(text), time.time()) is not None
            assert Principals(own).find(session, generation.credential(text), time.time()) is None


def test_trying_to_sign_in_with_a_sign_in_from_a_stolen_database(
    loot: Loot, client: FlaskClient, database: Database
) -> None:
    with database.read() as session:
        rows = session.scalars(select(SignedInBrowser)).all()
    assert rows
    thief = client.application.test_client()
    for row in rows:
        for value in (row.tag, f"person:{row.tag}", str(row.user_id)):
            thief.set_cookie("__Host-sluice", value, domain=PUBLIC_URL.removeprefix("https://"))
            answer = get(thief, "/keys")
            assert answer.status_code == 302
            assert "/auth/login" in answer.headers["Location"]
