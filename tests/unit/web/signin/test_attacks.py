"""Attacks on sign-in and sessions, each by its name.

Open redirect and the state's: test_sign_in.py. Logout tokens: test_back_channel.py. The same on a real
provider, real cookies and a real gunicorn: tests/integration/web.
"""

from __future__ import annotations

import re
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from joserfc.jwk import ECKey
from sqlalchemy import select
from werkzeug.routing import Rule

from sluice.web.database.tables import Database, SignedInBrowser
from tests.unit.web.issuer import Issuer
from tests.unit.web.visitor import ISSUER, PUBLIC_URL, TOKEN, cookie, get, post, sign_in

UNSAFE = frozenset({"POST", "PUT", "PATCH", "DELETE"})
# The endpoint that ignores cookies; its requests carry a signature.
WITHOUT_TOKEN = {"sign.back_channel"}
# Works before sign-in, for pages of the site alone.
HARMLESS = {"language.choose"}
OURS = {"Sec-Fetch-Site": "same-origin", "Origin": PUBLIC_URL}


def nobody_signed_in(client: FlaskClient, database: Database) -> bool:
    """Tell whether an attack failed: nobody is signed in, and the database is empty."""
    with database.read() as session:
        rows = session.scalars(select(SignedInBrowser)).all()
    return get(client, "/auth/account").status_code == 302 and not rows


# --- session fixation -----------------------------------------------------------------------------------


def test_session_fixation_the_id_changes_at_sign_in(app: Flask, client: FlaskClient, issuer: Issuer) -> None:
    """An attacker begins to sign in and leaves the cookie in the victim's browser."""
    asked = issuer.begin(client)
    planted = cookie(client)
    assert planted is not None
    issuer.come_back(client, asked)
    assert cookie(client) not in (None, planted)
    attacker = app.test_client()
    attacker.set_cookie("__Host-sluice", planted, domain="sluice.example.org")
    assert get(attacker, "/auth/account").status_code == 302


def test_session_fixation_signing_in_as_another_ends_the_earlier_session(
    app: Flask, client: FlaskClient, issuer: Issuer
) -> None:
    issuer.sign_in(client)
    before = cookie(client)
    issuer.claims = {"sub": "bob", "name": "Bob", "groups": ["users"]}
    issuer.sign_in(client)
    assert 'title="Bob"' in get(client, "/auth/account").text
    attacker = app.test_client()
    attacker.set_cookie("__Host-sluice", str(before), domain="sluice.example.org")
    assert get(attacker, "/auth/account").status_code == 302


def test_trying_a_session_id_with_a_path_out_of_the_store(client: FlaskClient) -> None:
    for chosen in ("../../etc/passwd", "a" * 4_000, "\x00", "x; Path=/keys"):
        client.set_cookie("__Host-sluice", chosen, domain="sluice.example.org")
        assert get(client, "/auth/account").status_code == 302


# --- forged state, nonce, issuer, audience, key ---------------------------------------------------------


def test_forged_state(client: FlaskClient, database: Database, issuer: Issuer) -> None:
    for state in ("made-up", "", "x" * 5_000, "../x", "\U0001f600", "a\x00b"):
        answer = issuer.come_back(client, issuer.begin(client), state=state)
        assert answer.status_code == 401, state
    assert "/token" not in issuer.asked
    assert nobody_signed_in(client, database)


def test_forged_state_of_the_attackers_own_sign_in_login_csrf(
    app: Flask, client: FlaskClient, database: Database, issuer: Issuer
) -> None:
    """The victim's browser gets the answer to the attacker's sign-in, and would work in their name."""
    asked = issuer.begin(app.test_client())
    issuer.begin(client)
    assert issuer.come_back(client, asked).status_code == 401
    assert nobody_signed_in(client, database)


def test_forged_nonce(client: FlaskClient, database: Database, issuer: Issuer) -> None:
    for nonce in ("made-up", "", None, ["list"], 7):
        issuer.id_token = {"nonce": nonce}
        assert issuer.sign_in(client).status_code == 401, nonce
    assert nobody_signed_in(client, database)


def test_a_code_of_another_sign_in_of_this_browser_has_another_nonce_and_verifier(
    client: FlaskClient, database: Database, issuer: Issuer
) -> None:
    first, second = issuer.begin(client), issuer.begin(client)
    answer = issuer.come_back(client, first, code=issuer.grant(second))
    assert answer.status_code == 401
    assert nobody_signed_in(client, database)


def test_replayed_code(app: Flask, client: FlaskClient, issuer: Issuer) -> None:
    asked = issuer.begin(client)
    code = issuer.grant(asked)
    assert issuer.come_back(client, asked, code=code).status_code == 302
    assert issuer.come_back(client, asked, code=code).location == "/"
    untrusted = app.test_client()
    assert issuer.come_back(untrusted, asked, code=code).status_code == 401
    assert issuer.asked.count("/token") == 1
    other = app.test_client()
    assert issuer.come_back(other, issuer.begin(other), code=code).status_code == 401
    assert get(other, "/auth/account").status_code == 302
    assert get(client, "/auth/account").status_code == 200


def test_mixed_up_issuer_in_the_answer(client: FlaskClient, database: Database, issuer: Issuer) -> None:
    """RFC 9207: if the provider announces `iss`, an answer without it comes from somebody else."""
    for told in ("https://evil.example", ISSUER + "/", ISSUER.upper(), ""):
        answer = issuer.come_back(client, issuer.begin(client), iss=told)
        assert answer.status_code == 401, told
        assert "came from another sign-in service" in answer.text
    assert "/token" not in issuer.asked
    assert nobody_signed_in(client, database)


def test_an_answer_that_names_no_issuer_is_taken_from_a_provider_that_does_not_announce_it(
    client: FlaskClient, issuer: Issuer
) -> None:
    issuer.metadata = {"authorization_response_iss_parameter_supported": None}
    assert issuer.come_back(client, issuer.begin(client), iss="").status_code == 302


def test_mixed_up_issuer_in_the_metadata(client: FlaskClient, issuer: Issuer) -> None:
    issuer.metadata = {"issuer": "https://evil.example"}
    answer = get(client, "/auth/login")
    assert answer.status_code == 502
    assert "trusts one sign-in service" in answer.text


def test_an_id_token_that_another_issuer_made_or_that_is_for_another(
    client: FlaskClient, database: Database, issuer: Issuer
) -> None:
    changes: list[dict[str, Any]] = [
        {"iss": "https://evil.example"},
        {"iss": None},
        {"aud": "another"},
        {"aud": ["another"], "azp": "sluice"},
        {"aud": "another", "azp": "sluice"},
        {"aud": ["sluice", "another"], "azp": "another"},
        {"aud": None},
        {"sub": None},
        {"sub": True},
        {"sub": 7.0},
        {"sub": ["alice"]},
        {"exp": None},
        {"iat": None},
        {"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"},
    ]
    for change in changes:
        issuer.id_token = change
        assert issuer.sign_in(client).status_code == 401, change
    assert nobody_signed_in(client, database)


def test_an_id_token_that_somebody_else_signed(
    client: FlaskClient, database: Database, issuer: Issuer
) -> None:
    published = issuer.published
    issuer.rotate(kid="one")
    issuer.published = published
    assert issuer.sign_in(client).status_code == 401
    assert nobody_signed_in(client, database)


def test_an_answer_without_an_id_token(client: FlaskClient, database: Database, issuer: Issuer) -> None:
    issuer.answers = {"/token": (200, {"access_token": "a", "token_type": "Bearer"})}
    assert issuer.sign_in(client).status_code == 502
    assert nobody_signed_in(client, database)


def test_an_id_token_encrypted_or_unsigned(client: FlaskClient, database: Database, issuer: Issuer) -> None:
    issuer.metadata = {"id_token_signing_alg_values_supported": ["none", "HS256"]}
    for text in ("eyJhbGciOiJub25lIn0.e30.", "a.b.c.d.e", "a.b", ""):
        answer = {"access_token": "a", "token_type": "Bearer", "id_token": text}
        issuer.answers = {"/token": (200, answer)}
        assert issuer.sign_in(client).status_code in (401, 502)
    assert nobody_signed_in(client, database)


def test_userinfo_of_another_person(client: FlaskClient, database: Database, issuer: Issuer) -> None:
    """Userinfo may be used only if its `sub` is that of the ID token."""
    for told, profile in (("alice", "mallory"), (7, "alice"), (7, 70), ("07", 7), (7, True)):
        issuer.id_token = {"sub": told}
        issuer.profile = {"sub": profile, "groups": ["admins"]}
        assert issuer.sign_in(client).status_code == 502
    assert nobody_signed_in(client, database)


def test_a_key_in_the_tokens_own_header_counts_for_nothing(
    client: FlaskClient, database: Database, issuer: Issuer
) -> None:
    asked = issuer.begin(client)
    own = ECKey.generate_key("P-256", parameters={"kid": "one"})
    claims = {"iss": ISSUER, "aud": "sluice", "sub": "alice", "nonce": asked["nonce"][0], **issuer.times()}
    forged = issuer.sign(claims, own, jwk=own.as_dict(private=False), jku="https://evil.example/jwks")
    issuer.answers = {"/token": (200, {"access_token": "a", "token_type": "Bearer", "id_token": forged})}
    assert issuer.come_back(client, asked).status_code == 401
    assert nobody_signed_in(client, database)


# --- CSRF -----------------------------------------------------------------------------------------------


def forms(app: Flask) -> list[tuple[Rule, str]]:
    """Return each route that changes something, with its method."""
    return [
        (rule, method)
        for rule in app.url_map.iter_rules()
        for method in sorted((rule.methods or set()) & UNSAFE)
        if rule.endpoint not in WITHOUT_TOKEN
    ]


def path_of(rule: Rule) -> str:
    """Return a path that `rule` matches."""
    return re.sub(r"<(?:(\w+):)?\w+>", lambda found: "1" if found[1] == "int" else "x", rule.rule)


def test_csrf_no_form_is_taken_without_the_token(app: Flask, client: FlaskClient, database: Database) -> None:
    sign_in(client, database, groups=["users"])
    found = forms(app)
    assert {"sign.out", "sign.out_everywhere", "keys.make", "bearer.make"} <= {
        rule.endpoint for rule, _ in found
    }
    for rule, method in found:
        if rule.endpoint in HARMLESS:
            continue
        for data in ({}, {"csrf_token": ""}, {"csrf_token": "x" * 43}):
            answer = client.open(path_of(rule), method=method, base_url=PUBLIC_URL, headers=OURS, data=data)
            assert answer.status_code == 403, (rule, method)
        assert "did not come from a page of this site" in answer.text


def test_csrf_no_form_is_taken_from_another_site_even_with_the_token(
    app: Flask, client: FlaskClient, database: Database
) -> None:
    sign_in(client, database)
    for rule, method in forms(app):
        for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}):
            answer = client.open(
                path_of(rule), method=method, base_url=PUBLIC_URL, headers=headers, data={"csrf_token": TOKEN}
            )
            assert answer.status_code == 403, (rule, method, headers)


def test_csrf_only_the_back_channel_needs_no_token(app: Flask) -> None:
    known = {rule.endpoint for rule in app.url_map.iter_rules() if (rule.methods or set()) & UNSAFE}
    assert known >= WITHOUT_TOKEN == {"sign.back_channel"}


def test_csrf_no_get_request_changes_anything(app: Flask) -> None:
    """A link or a picture on another site is a GET that brings the cookie."""
    words = ("sign-out", "revoke", "block", "delete", "stop", "resume", "rotate", "logout")
    for rule in app.url_map.iter_rules():
        if "GET" in (rule.methods or set()) and any(word in rule.rule for word in words):
            # flask-oidc's own sign-out, which is closed.
            assert rule.endpoint == "oidc_auth.logout", rule


# --- cookies, headers, credentials in the wrong place ---------------------------------------------------


def test_cookie_flags_at_every_step(app: Flask, client: FlaskClient, issuer: Issuer) -> None:
    asked = issuer.begin(client)
    steps = [
        get(app.test_client(), "/auth/login"),
        issuer.come_back(client, asked),
        post(client, "/auth/sign-out", "x"),
    ]
    set_ = [header for step in steps for header in step.headers.getlist("Set-Cookie")]
    assert len(set_) >= 2
    for header in set_:
        assert header.startswith("__Host-sluice=")
        assert {"Secure", "HttpOnly", "Path=/", "SameSite=Lax"} <= set(header.split("; "))
        assert "Domain" not in header


def test_header_injection_by_claims(client: FlaskClient, database: Database, issuer: Issuer) -> None:
    bad = "x\r\nSet-Cookie: stolen=1\r\n\r\n<script>alert(1)</script>\u202e\x00"
    issuer.claims = {"sub": "alice", "name": bad, "email": bad, "groups": [bad, "users"]}
    issuer.id_token = {"sid": bad}
    answers = [
        issuer.sign_in(client),
        get(client, "/"),
        get(client, "/auth/account"),
        get(client, "/auth/account"),
    ]
    for answer in answers:
        assert "stolen" not in str(answer.headers)
        assert "<script>alert" not in answer.text
    assert answers[-1].status_code == 200
    with database.read() as session:
        (row,) = session.scalars(select(SignedInBrowser))
        assert row.sid == ""


def test_header_injection_by_the_query(client: FlaskClient, issuer: Issuer) -> None:
    asked = issuer.begin(client)
    bad = "x\r\nSet-Cookie: stolen=1"
    for query in ({"error": bad, "state": asked["state"][0], "iss": ISSUER}, {"code": bad, "state": bad}):
        answer = client.get("/auth/authorize", base_url=PUBLIC_URL, query_string=query)
        assert answer.status_code in (401, 502)
        assert "stolen" not in str(answer.headers) + answer.text


def test_no_credential_of_the_api_opens_a_page(
    app: Flask, client: FlaskClient, database: Database, issuer: Issuer
) -> None:
    """Pages ignore page bearers and keys. /v1 ignores cookies (nginx strips them: roles/nginx)."""
    issuer.sign_in(client)
    token = re.search(r'data-csrf="([^"]+)"', get(client, "/auth/account").text)
    assert token
    bearer = post(client, "/page-bearer", token[1]).get_json()["bearer"]
    untrusted = app.test_client()
    for rule in app.url_map.iter_rules():
        if "GET" in (rule.methods or set()) and not rule.arguments:
            headers = {"Authorization": f"Bearer {bearer}", "Cookie": f"__Host-sluice={bearer}"}
            answer = untrusted.get(rule.rule, base_url=PUBLIC_URL, headers=headers)
            assert 'title="Alice"' not in answer.text


def test_a_tampered_session_is_ignored(client: FlaskClient, database: Database) -> None:
    sign_in(client, database)
    own = str(cookie(client))
    for changed in (own[:-1] + ("A" if own[-1] != "A" else "B"), own + "x", own[:-1], own.swapcase()):
        client.set_cookie("__Host-sluice", changed, domain="sluice.example.org")
        assert get(client, "/auth/account").status_code == 302
