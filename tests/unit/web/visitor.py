"""A browser of the unit tests: signs in without a provider, posts forms as the pages would."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from sluice.web.database.tables import Database
from sluice.web.people import sign_ins
from sluice.web.people.accounts import upsert_person
from sluice.web.settings.config import Claims, KeySecret, OidcConfig, WebConfig

PUBLIC_URL = "https://sluice.example.org"
# A port of this machine where nothing listens: a test that would reach the provider is refused at once.
ISSUER = "https://127.0.0.1:1"
TOKEN = "t" * 43


class Browser(NamedTuple):
    """A signed-in browser: its user (row id and pseudonym), tag of the sign-in, CSRF token."""

    id: int
    user: str
    tag: str
    csrf: str


def settings_of_a_site(folder: Path, url: str) -> WebConfig:
    """Return settings of a site whose database is at `url` and whose sessions are in `folder`."""
    return WebConfig(
        public_url=PUBLIC_URL,
        database=url,
        session_dir=str(folder / "sessions"),
        secret_key="s" * 43,
        key_secret=KeySecret("1", "k" * 43),
        oidc=OidcConfig(
            issuer=ISSUER,
            client_id="sluice",
            client_secret="c" * 43,
            scopes="openid profile email",
            claims=Claims("sub", "name", "email", "groups"),
            ca_file="",
        ),
        key_days=180,
        page_bearer_seconds=600,
        authority_socket_mode="0660",
        log_level="info",
    )


def sign_in(
    client: FlaskClient,
    database: Database,
    name: str = "alice",
    groups: Sequence[str] = ("users",),
    sid: str = "",
    **changes: Any,
) -> Browser:
    """Put a sign-in into the client's session and the database, as the provider's answer would.

    `changes`: what the session is to say instead (tag, id_token, refresh_token, checked).
    """
    now = time.time()
    kept = {"tag": f"tag-of-{name}", "csrf": TOKEN, "id_token": "", "refresh_token": "", "checked": now}
    kept.update(changes)
    with database.write() as session:
        user = upsert_person(
            session,
            issuer=ISSUER,
            subject=name,
            name=name.capitalize(),
            email=f"{name}@example.org",
            groups=list(groups),
            now=now,
        )
        sign_ins.end(session, str(kept["tag"]))
        sign_ins.begin(session, tag=str(kept["tag"]), user_id=user.id, sid=sid, subject=name, now=now)
    with client.session_transaction(base_url=PUBLIC_URL) as session_data:
        session_data["person"] = kept
        session_data["csrf"] = kept["csrf"]
    return Browser(user.id, user.pseudonym, str(kept["tag"]), str(kept["csrf"]))


def get(client: FlaskClient, path: str, **headers: str) -> TestResponse:
    """Load a page."""
    return client.get(path, base_url=PUBLIC_URL, headers=_header_names(headers))


def post(client: FlaskClient, path: str, token: str = TOKEN, /, **fields: str) -> TestResponse:
    """Send a form as a page of the site does."""
    headers = {"Sec-Fetch-Site": "same-origin", "Origin": PUBLIC_URL}
    return client.post(path, base_url=PUBLIC_URL, headers=headers, data={"csrf_token": token, **fields})


def cookie(client: FlaskClient) -> str | None:
    """Return the session's id."""
    found = client.get_cookie("__Host-sluice", domain="sluice.example.org")
    return found.value if found else None


def _header_names(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}
