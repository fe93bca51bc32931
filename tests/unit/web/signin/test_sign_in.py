"""Signing in and out, and the attacks on it; the real provider is in tests/integration/web."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select

from sluice.web.database.tables import Database, PageBearer, SignedInBrowser
from tests.unit.web.visitor import ISSUER, PUBLIC_URL, cookie, get, post, sign_in

ELSEWHERE = [
    "//evil.example/x",
    "https://evil.example/",
    "/\\evil.example",
    "\\\\evil.example",
    "javascript:alert(1)",
    "https:evil.example",
    "/%0d%0aLocation: https://evil.example",
    "/\tevil.example",
    "keys",
    "",
]


def test_signing_in_asks_the_provider_with_pkce_state_and_nonce(client: FlaskClient) -> None:
    answer = get(client, "/auth/login?next=/keys")
    target = urlsplit(answer.location)
    query = parse_qs(target.query)
    assert f"{target.scheme}://{target.netloc}{target.path}" == f"{ISSUER}/auth"
    assert query["redirect_uri"] == [f"{PUBLIC_URL}/auth/authorize"]
    assert query["code_challenge_method"] == ["S256"]
    assert len(query["code_challenge"][0]) == 43
    assert len(query["state"][0]) >= 20
    assert len(query["nonce"][0]) >= 20


def test_the_host_header_does_not_choose_where_the_provider_sends_the_code(client: FlaskClient) -> None:
    answer = get(client, "/auth/login", Host="evil.example", X_Forwarded_Host="evil.example")
    assert parse_qs(urlsplit(answer.location).query)["redirect_uri"] == [f"{PUBLIC_URL}/auth/authorize"]


@pytest.mark.parametrize("path", ELSEWHERE)
def test_trying_an_open_redirect_by_next(client: FlaskClient, path: str) -> None:
    answer = client.get("/auth/login", base_url=PUBLIC_URL, query_string={"next": path})
    assert answer.status_code == 400
    assert "Location" not in answer.headers


@pytest.mark.parametrize("path", ["/", "/keys", "/keys?sort=name", "/a/b"])
def test_a_plain_local_path_is_accepted_as_next(client: FlaskClient, path: str) -> None:
    answer = client.get("/auth/login", base_url=PUBLIC_URL, query_string={"next": path})
    assert answer.status_code == 302


def test_trying_to_sign_somebody_in_with_a_forged_state(client: FlaskClient) -> None:
    get(client, "/auth/login")
    answer = get(client, "/auth/authorize?code=stolen&state=made-up")
    assert answer.status_code == 401
    assert b"This sign-in is not known here" in answer.data
    assert get(client, "/keys").status_code == 302


def test_trying_a_state_that_another_browser_was_given(app: Flask, client: FlaskClient) -> None:
    other = app.test_client()
    state = parse_qs(urlsplit(get(other, "/auth/login").location).query)["state"][0]
    get(client, "/auth/login")
    assert get(client, f"/auth/authorize?code=stolen&state={state}").status_code == 401


def test_trying_an_answer_without_any_sign_in(client: FlaskClient) -> None:
    assert get(client, "/auth/authorize?code=x&state=y").status_code == 401
    assert get(client, "/auth/authorize").status_code == 401


def test_the_provider_may_refuse(client: FlaskClient) -> None:
    assert get(client, "/auth/authorize?error=access_denied&state=x").status_code == 401


def test_trying_to_fix_the_session_id_before_sign_in(client: FlaskClient, database: Database) -> None:
    chosen = "chosen-by-the-attacker"
    client.set_cookie("__Host-sluice", chosen, domain="sluice.example.org")
    get(client, "/auth/login")
    assert cookie(client) not in (None, chosen)


def test_a_provider_that_is_down_gets_a_page_that_says_so(app: Flask, client: FlaskClient) -> None:
    app.extensions["sluice"].sign_in.client.server_metadata.pop("_loaded_at")
    answer = get(client, "/auth/login")
    assert answer.status_code == 503
    assert b"The sign-in service does not answer" in answer.data
    assert answer.headers["Retry-After"] == "30"


def test_a_provider_that_goes_down_in_between_gets_the_same_page(client: FlaskClient) -> None:
    state = parse_qs(urlsplit(get(client, "/auth/login").location).query)["state"][0]
    assert get(client, f"/auth/authorize?code=x&state={state}").status_code == 503


def test_pages_redirect_to_sign_in_and_back(client: FlaskClient) -> None:
    answer = get(client, "/keys")
    assert answer.status_code == 302
    assert answer.location == "/auth/login?next=/keys"
    assert b"Sign in" in get(client, "/").data


def test_signing_out_ends_the_session_here_and_goes_on_to_the_provider(
    client: FlaskClient, database: Database
) -> None:
    sign_in(client, database, id_token="id-token")
    before = cookie(client)
    answer = post(client, "/auth/sign-out")
    target = urlsplit(answer.location)
    query = parse_qs(target.query)
    assert f"{target.scheme}://{target.netloc}{target.path}" == f"{ISSUER}/session/end"
    assert query["id_token_hint"] == ["id-token"]
    assert query["post_logout_redirect_uri"] == [f"{PUBLIC_URL}/auth/signed-out"]
    assert cookie(client) != before
    assert get(client, "/keys").status_code == 302
    assert b"You are signed out" in get(client, f"/auth/signed-out?state={query['state'][0]}").data


def test_trying_the_old_cookie_after_signing_out(client: FlaskClient, database: Database) -> None:
    sign_in(client, database)
    before = cookie(client)
    post(client, "/auth/sign-out")
    assert before is not None
    client.set_cookie("__Host-sluice", before, domain="sluice.example.org")
    assert get(client, "/keys").status_code == 302


def test_trying_to_sign_somebody_out_with_a_link(client: FlaskClient, database: Database) -> None:
    sign_in(client, database)
    assert get(client, "/auth/sign-out").status_code == 405
    assert get(client, "/auth/logout").status_code == 404
    assert get(client, "/auth/signed-out").status_code == 200
    assert get(client, "/keys").status_code == 200


def test_signing_out_works_here_when_the_provider_is_down(
    app: Flask, client: FlaskClient, database: Database
) -> None:
    sign_in(client, database)
    app.extensions["sluice"].sign_in.client.server_metadata.pop("_loaded_at")
    answer = post(client, "/auth/sign-out")
    assert answer.status_code == 503
    assert b"signed out here" in answer.data
    assert get(client, "/keys").status_code == 302


def test_without_the_providers_sign_out_only_the_session_here_ends(
    app: Flask, client: FlaskClient, database: Database
) -> None:
    sign_in(client, database)
    app.extensions["sluice"].sign_in.client.server_metadata.pop("end_session_endpoint")
    assert post(client, "/auth/sign-out").location == f"{PUBLIC_URL}/auth/signed-out"


def test_the_cookie_is_for_this_host_only_and_not_for_scripts(client: FlaskClient) -> None:
    header = get(client, "/auth/login").headers["Set-Cookie"]
    assert header.startswith("__Host-sluice=")
    assert {"Secure", "HttpOnly", "Path=/", "SameSite=Lax"} <= set(header.split("; "))
    assert "Domain" not in header


def test_a_visitor_who_does_not_sign_in_gets_no_cookie(client: FlaskClient) -> None:
    assert "Set-Cookie" not in get(client, "/").headers


def test_signing_out_everywhere_ends_all_sign_ins_of_only_this_user(
    app: Flask, client: FlaskClient, database: Database
) -> None:
    sign_in(client, database, id_token="id-token")
    elsewhere, other = app.test_client(), app.test_client()
    sign_in(elsewhere, database, tag="another-browser")
    post(elsewhere, "/page-bearer")
    sign_in(other, database, name="bob")
    assert urlsplit(post(client, "/auth/sign-out-everywhere").location).path == "/session/end"
    assert get(client, "/keys").status_code == 302
    assert get(elsewhere, "/keys").status_code == 302
    assert get(other, "/keys").status_code == 200
    with database.read() as session:
        assert [row.tag for row in session.scalars(select(SignedInBrowser))] == ["tag-of-bob"]
        assert session.scalars(select(PageBearer)).all() == []


def test_the_account_page_shows_the_user_and_their_sign_ins(
    app: Flask, client: FlaskClient, database: Database
) -> None:
    browser = sign_in(client, database, groups=["users", "bio"])
    sign_in(app.test_client(), database, groups=["users", "bio"], tag="another-browser")
    page = get(client, "/auth/account").text
    assert browser.user in page
    assert "users, bio" in page
    assert page.count("<td>another one</td>") == page.count("<td>this one</td>") == 1
    assert get(app.test_client(), "/auth/account").location == "/auth/login?next=/auth/account"


def test_the_unused_routes_of_flask_oidc_are_closed(client: FlaskClient) -> None:
    assert get(client, "/auth/logout").status_code == 404
    assert get(client, "/oidc_callback?code=x&state=y").status_code == 404
