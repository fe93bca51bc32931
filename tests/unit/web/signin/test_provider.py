"""The provider's answers lead to a sign-in, or to an error page with nothing stored."""

from __future__ import annotations

import base64
import dataclasses
import time
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select

from sluice.web.database.tables import Database, SignedInBrowser, User
from sluice.web.people import erasing
from sluice.web.settings.config import Access, Claims, WebConfig
from sluice.web.signin.session_store import SessionStore
from tests.unit.web.issuer import CLIENT, SECRET, Issuer
from tests.unit.web.visitor import PUBLIC_URL, cookie, get, sign_in


def people(database: Database) -> list[User]:
    """Return the users."""
    with database.read() as session:
        return list(session.scalars(select(User)))


def sign_in_rows(database: Database) -> list[SignedInBrowser]:
    """Return the sign-ins."""
    with database.read() as session:
        return list(session.scalars(select(SignedInBrowser)))


def nothing_was_kept(client: FlaskClient, database: Database) -> bool:
    """Tell whether a refused sign-in left nothing behind, in the database or the session."""
    with client.session_transaction(base_url=PUBLIC_URL) as session:
        kept = {"person", "oidc_auth_token", "oidc_auth_profile"} & set(session)
    return not kept and people(database) == [] and sign_in_rows(database) == []


def test_a_sign_in_leaves_a_user_a_row_and_no_token_where_flask_oidc_keeps_it(
    client: FlaskClient, database: Database, issuer: Issuer
) -> None:
    answer = issuer.sign_in(client, "/keys")
    assert (answer.status_code, answer.location) == (302, "/keys")
    assert get(client, "/auth/account").status_code == 200
    (user,), (row,) = people(database), sign_in_rows(database)
    assert (user.subject, user.name, user.email) == ("alice", "Alice", "alice@example.org")
    assert (user.groups, row.sid, row.subject) == (["users"], "session-1", "alice")
    with client.session_transaction(base_url=PUBLIC_URL) as session:
        assert "oidc_auth_token" not in session
        assert set(session["person"]) == {"tag", "csrf", "id_token", "refresh_token", "checked"}


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
class TestClientAuthentication:
    """How this service authenticates at the provider."""

    @pytest.fixture
    def settings(self, settings: WebConfig, method: str) -> WebConfig:
        """A site with that method."""
        return dataclasses.replace(settings, oidc=dataclasses.replace(settings.oidc, token_auth=method))

    def test_the_secret_goes_where_the_site_says_and_nowhere_else(
        self, client: FlaskClient, issuer: Issuer, method: str
    ) -> None:
        issuer.sign_in(client)
        header, body = issuer.authorizations[0], issuer.bodies[0]
        if method == "client_secret_basic":
            assert base64.b64decode(header.removeprefix("Basic ")).decode() == f"{CLIENT}:{SECRET}"
            assert "client_secret" not in body
        else:
            assert header == ""
            assert (body["client_id"], body["client_secret"]) == ([CLIENT], [SECRET])


class TestOtherClaims:
    """A site whose provider uses other claim names."""

    @pytest.fixture
    def settings(self, settings: WebConfig) -> WebConfig:
        """Claim names of federations and realms."""
        names = Claims("person.uid", "display", "mail", "realm_access.roles")
        rights = Access(admins=("ops",), users=("staff",))
        return dataclasses.replace(
            settings, oidc=dataclasses.replace(settings.oidc, claims=names), access=rights
        )

    def test_claims_are_found_by_their_paths(
        self, client: FlaskClient, database: Database, issuer: Issuer
    ) -> None:
        issuer.claims = {
            "sub": "pairwise",
            "person": {"uid": 4711},
            "display": "Al\u202eice\r\nSet-Cookie: a=b",
            "mail": ["no text"],
            "realm_access": {"roles": "staff, ops"},
        }
        assert issuer.sign_in(client).status_code == 302
        (user,), (row,) = people(database), sign_in_rows(database)
        assert (user.subject, user.email, user.groups) == ("4711", "", ["staff", "ops"])
        assert user.name == "AliceSet-Cookie: a=b"
        assert row.subject == "pairwise"

    def test_an_unusable_identifier_signs_nobody_in(
        self, client: FlaskClient, database: Database, issuer: Issuer
    ) -> None:
        for value in (None, "", "a\x00b", "a\ud800", "x" * 256, ["4711"], True, {"a": 1}):
            issuer.claims = {"sub": "alice", "person": {"uid": value}, "realm_access": {"roles": ["staff"]}}
            answer = issuer.sign_in(client)
            assert answer.status_code == 502, value
            assert "It did not say who you are in a usable form" in answer.text
            assert nothing_was_kept(client, database)

    def test_somebody_without_a_group_of_the_site_is_told_so(
        self, client: FlaskClient, database: Database, issuer: Issuer
    ) -> None:
        issuer.claims |= {"person": {"uid": "mallory"}, "realm_access": {"roles": ["visitors"]}}
        answer = issuer.sign_in(client)
        assert answer.status_code == 403
        assert "none of your groups may use this service" in answer.text
        assert nothing_was_kept(client, database)

    def test_somebody_who_lost_the_group_is_out_in_every_browser_and_their_groups_follow(
        self, app: Flask, client: FlaskClient, database: Database, issuer: Issuer
    ) -> None:
        issuer.claims |= {"person": {"uid": "alice"}, "realm_access": {"roles": ["staff"]}}
        issuer.sign_in(client)
        issuer.claims["realm_access"] = {"roles": ["alumni"]}
        assert issuer.sign_in(app.test_client()).status_code == 403
        assert get(client, "/auth/account").status_code == 302
        assert people(database)[0].groups == ["alumni"]


def test_a_blocked_user_does_not_get_in_again(
    client: FlaskClient, database: Database, issuer: Issuer
) -> None:
    issuer.sign_in(client)
    with database.write() as session:
        session.scalars(select(User)).one().blocked = time.time()
    answer = issuer.sign_in(client)
    assert answer.status_code == 403
    assert "An administrator has blocked your account" in answer.text
    assert sign_in_rows(database) == []


# --- the provider's errors ------------------------------------------------------------------------------


REFUSALS = [
    ("access_denied", 403, "did not agree to tell this service who you are"),
    ("temporarily_unavailable", 503, "does not answer at the moment"),
    ("server_error", 503, "does not answer at the moment"),
    ("login_required", 401, "did not match a sign-in"),
    ("invalid_scope", 502, "registered incorrectly there"),
    ("unauthorized_client", 502, "registered incorrectly there"),
    ("<script>alert(1)</script>", 502, "registered incorrectly there"),
]


def test_each_refusal_gets_its_page(client: FlaskClient, database: Database, issuer: Issuer) -> None:
    for error, status, text in REFUSALS:
        answer = issuer.come_back(
            client, issuer.begin(client), code="", error=error, error_description="<script>alert(2)</script>"
        )
        assert answer.status_code == status, error
        assert text in answer.text
        assert "alert(" not in answer.text
        assert nothing_was_kept(client, database)


@pytest.mark.parametrize("path", ["/.well-known/openid-configuration", "/token", "/jwks", "/me"])
def test_a_provider_that_fails_anywhere_gets_a_page_and_leaves_nothing(
    client: FlaskClient, database: Database, issuer: Issuer, path: str
) -> None:
    for failure in ((503, b"<html>busy</html>"), (500, {"error": "server_error"})):
        issuer.answers = {path: failure}
        begun = get(client, "/auth/login")
        answer = begun if begun.status_code != 302 else issuer.sign_in(client)
        assert answer.status_code == 503
        assert "does not answer at the moment" in answer.text
        assert answer.headers["Retry-After"] == "30"
        assert nothing_was_kept(client, database)
    issuer.answers = {}
    assert issuer.sign_in(client).status_code == 302


@pytest.mark.parametrize("path", ["/.well-known/openid-configuration", "/token", "/jwks", "/me"])
def test_nonsense_from_the_provider_gets_a_page_and_leaves_nothing(
    client: FlaskClient, database: Database, issuer: Issuer, path: str
) -> None:
    documents: tuple[Any, ...] = (b"<html>", [], {}, "text", {"keys": 7})
    for document in documents:
        issuer.answers = {path: (200, document)}
        begun = get(client, "/auth/login")
        answer = begun if begun.status_code != 302 else issuer.sign_in(client)
        assert answer.status_code == 502, document
        assert "Traceback" not in answer.text
        assert nothing_was_kept(client, database)


def test_a_client_secret_that_the_provider_refuses_is_reported_as_the_sites_error(
    client: FlaskClient, database: Database, issuer: Issuer
) -> None:
    issuer.answers = {"/token": (401, {"error": "invalid_client"})}
    answer = issuer.sign_in(client)
    assert answer.status_code == 502
    assert "registered incorrectly there" in answer.text
    assert nothing_was_kept(client, database)


def test_metadata_with_an_endpoint_without_tls_are_not_used(client: FlaskClient, issuer: Issuer) -> None:
    issuer.metadata = {"token_endpoint": "http://127.0.0.1:1/token"}
    assert get(client, "/auth/login").status_code == 502


def test_without_userinfo_the_claims_of_the_id_token_are_used(
    client: FlaskClient, database: Database, issuer: Issuer
) -> None:
    issuer.metadata = {"userinfo_endpoint": None}
    issuer.id_token = {"name": "Alice", "groups": ["users"]}
    assert issuer.sign_in(client).status_code == 302
    assert people(database)[0].groups == ["users"]
    assert "/me" not in issuer.asked


# --- clocks and keys ------------------------------------------------------------------------------------


@pytest.mark.parametrize("clock", [-55.0, 55.0])
def test_clocks_may_differ_as_the_site_allows(client: FlaskClient, issuer: Issuer, clock: float) -> None:
    issuer.clock = clock
    issuer.id_token = {"exp": int(time.time() + clock + 1)} if clock < 0 else {}
    assert issuer.sign_in(client).status_code == 302


@pytest.mark.parametrize("clock", [-300.0, 300.0])
def test_a_clock_that_differs_more_gets_its_own_error_page(
    client: FlaskClient, database: Database, issuer: Issuer, clock: float
) -> None:
    issuer.clock = clock
    answer = issuer.sign_in(client)
    assert answer.status_code == 401
    assert "The clocks do not agree" in answer.text
    assert nothing_was_kept(client, database)


@pytest.mark.parametrize("kid", ["two", "one"])
def test_rotated_keys_are_fetched_once_and_sign_in_keeps_working(
    client: FlaskClient, issuer: Issuer, kid: str
) -> None:
    issuer.sign_in(client)
    issuer.sign_in(client)
    assert issuer.asked.count("/jwks") == 1
    issuer.rotate(kid=kid)
    assert issuer.sign_in(client).status_code == 302
    assert issuer.sign_in(client).status_code == 302
    assert issuer.asked.count("/jwks") == 2


def test_a_key_that_the_provider_withdrew_is_soon_refused(
    client: FlaskClient, database: Database, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    issuer.sign_in(client)
    stolen = issuer.key
    issuer.rotate()
    monkeypatch.setattr("sluice.web.signin.provider.KEYS_SECONDS", 0.0)
    answer = client.post(
        "/auth/backchannel-logout", base_url=PUBLIC_URL, data={"logout_token": issuer.logout_token(stolen)}
    )
    assert answer.status_code == 400
    assert len(sign_in_rows(database)) == 1


def test_old_keys_are_used_while_new_ones_cannot_be_fetched(
    client: FlaskClient, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    issuer.sign_in(client)
    monkeypatch.setattr("sluice.web.signin.provider.KEYS_SECONDS", 0.0)
    issuer.answers = {"/jwks": (500, b"")}
    assert issuer.sign_in(client).status_code == 302


# --- refresh ---------------------------------------------------------------------------------------


def due(client: FlaskClient, database: Database, **changes: Any) -> None:
    """Sign alice in, with a refresh due."""
    sign_in(client, database, checked=time.time() - 10_000, refresh_token="refresh", **changes)


def test_groups_that_changed_at_the_provider_change_here(
    client: FlaskClient, database: Database, issuer: Issuer
) -> None:
    due(client, database)
    issuer.claims |= {"groups": ["users", "new"]}
    assert get(client, "/auth/account").status_code == 200
    assert get(client, "/auth/account").status_code == 200
    assert issuer.asked.count("/token") == 1
    assert people(database)[0].groups == ["users", "new"]
    with client.session_transaction(base_url=PUBLIC_URL) as session:
        assert session["person"]["refresh_token"] == "refresh-1"
        assert session["person"]["checked"] > time.time() - 60


@pytest.mark.parametrize(
    "change",
    [
        {"answers": {"/token": (400, {"error": "invalid_grant"})}},
        {"answers": {"/token": (200, {"access_token": "a", "token_type": "Bearer", "id_token": "x.y.z"})}},
        {"answers": {"/me": (401, {"error": "invalid_token"})}},
        {"profile": {"sub": "somebody-else", "groups": ["users"]}},
        {"profile": {"sub": "alice"}},
        {"id_token": {"aud": "another"}},
        {"id_token": {"sub": "somebody-else"}},
    ],
)
def test_a_sign_in_that_the_provider_does_not_confirm_ends(
    client: FlaskClient, database: Database, issuer: Issuer, change: dict[str, Any]
) -> None:
    due(client, database)
    for name, value in change.items():
        setattr(issuer, name, value)
    assert get(client, "/auth/account").status_code == 302
    assert sign_in_rows(database) == []
    assert people(database)[0].groups == ["users"]


def test_a_sign_in_survives_a_provider_that_is_down_and_few_requests_wait_for_it(
    app: Flask, client: FlaskClient, database: Database, issuer: Issuer
) -> None:
    due(client, database)
    issuer.answers = {"/token": (503, b"")}
    for _ in range(3):
        assert get(client, "/auth/account").status_code == 200
    other = app.test_client()
    due(other, database, name="bob")
    assert get(other, "/auth/account").status_code == 200
    assert issuer.asked.count("/token") == 1


@pytest.mark.parametrize("path", ["/token", "/me", "/jwks"])
def test_a_sign_in_survives_a_provider_that_answers_nonsense(
    client: FlaskClient, database: Database, issuer: Issuer, path: str
) -> None:
    """An error page of a proxy in between says nothing about the user."""
    due(client, database)
    issuer.answers = {path: (200, b"<html>maintenance</html>")}
    assert get(client, "/auth/account").status_code == 200
    assert len(sign_in_rows(database)) == 1


def test_who_is_erased_while_the_provider_is_asked_is_not_stored_again(
    client: FlaskClient, database: Database, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    due(client, database)
    send = issuer.send

    def erase_and_send(*arguments: Any, **named: Any) -> Any:
        with database.write() as session:
            for user in session.scalars(select(User)):
                erasing.erase(session, "operator", user, time.time())
        return send(*arguments, **named)

    monkeypatch.setattr(issuer, "send", erase_and_send)
    assert get(client, "/auth/account").status_code == 302
    assert issuer.asked[-1] == "/me"
    assert people(database) == []


def test_a_new_refresh_token_is_kept_even_where_the_rest_fails(
    client: FlaskClient, database: Database, issuer: Issuer
) -> None:
    due(client, database)
    issuer.answers = {"/me": (503, b"")}
    assert get(client, "/auth/account").status_code == 200
    with client.session_transaction(base_url=PUBLIC_URL) as session:
        assert session["person"]["refresh_token"] == "refresh-1"
        assert session["person"]["checked"] < time.time() - 9_000


def test_tokens_of_ended_sessions_do_not_stay_on_disk(
    app: Flask, client: FlaskClient, database: Database, issuer: Issuer
) -> None:
    store: SessionStore = app.config["SESSION_CACHELIB"]
    sign_in(client, database, id_token="kept")
    store.set("session:over", {"person": {"id_token": "eyJ-over"}}, timeout=-10)
    issuer.sign_in(app.test_client())
    assert get(client, "/auth/account").status_code == 200
    kept = [path.read_bytes() for path in Path(str(store._path)).iterdir()]
    assert any(b"kept" in content for content in kept)
    assert not any(b"eyJ-over" in content for content in kept)
    assert Path(str(store._path)).stat().st_mode & 0o077 == 0


def test_a_full_store_drops_sign_ins_that_were_only_begun(
    app: Flask, client: FlaskClient, database: Database, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An attacker can begin one with a single request; that must not end sign-ins of others."""
    store: SessionStore = app.config["SESSION_CACHELIB"]
    monkeypatch.setattr(store, "_threshold", 10)
    issuer.sign_in(client)
    for _ in range(30):
        issuer.begin(app.test_client())
    assert get(client, "/auth/account").status_code == 200
    assert len(list(Path(str(store._path)).iterdir())) <= 12


def test_a_browser_that_keeps_starting_to_sign_in_does_not_fill_its_session(
    client: FlaskClient, issuer: Issuer
) -> None:
    asked = [issuer.begin(client) for _ in range(12)]
    with client.session_transaction(base_url=PUBLIC_URL) as session:
        assert len([key for key in session if key.startswith("_state_")]) == 5
    assert issuer.come_back(client, asked[0]).status_code == 401
    assert issuer.come_back(client, asked[-1]).status_code == 302
    assert cookie(client)
