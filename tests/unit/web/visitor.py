"""A browser of the unit tests: signs in without a provider, posts forms as the pages would."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from sluice.web.accounts import remember_person
from sluice.web.database import Database
from sluice.web.sign_in import SignedIn

PUBLIC_URL = "https://sluice.example.org"
# A port of this machine where nothing listens: a test that would reach the provider is refused at once.
ISSUER = "https://127.0.0.1:1"
TOKEN = "t" * 43


def sign_in(client: FlaskClient, database: Database, name: str = "alice", **changes: Any) -> SignedIn:
    """Put a sign-in into the client's session, as the provider's answer would."""
    with database.write() as session:
        user = remember_person(
            session,
            issuer=ISSUER,
            subject=name,
            name=name.capitalize(),
            email=f"{name}@example.org",
            groups=["users"],
            now=time.time(),
        )
    person = SignedIn(
        id=user.id,
        user=user.pseudonym,
        subject=name,
        name=user.name,
        groups=user.groups,
        csrf=TOKEN,
        tag=f"tag-of-{name}",
        id_token="",
        refresh_token="",
        checked=time.time(),
    )
    with client.session_transaction(base_url=PUBLIC_URL) as session_data:
        session_data["person"] = dataclasses.asdict(dataclasses.replace(person, **changes))
        session_data["csrf"] = TOKEN
    return person


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
