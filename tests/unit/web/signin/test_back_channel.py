"""Back-channel logout, and the attacks on it."""

from __future__ import annotations

import time
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey
from sqlalchemy import select
from werkzeug.test import TestResponse

from sluice.web.database.tables import Database, PageBearer, SignedInBrowser, UsedToken
from sluice.web.signin.back_channel import EVENT
from tests.felt import Stopwatch
from tests.unit.web.issuer import SECRET, Issuer
from tests.unit.web.visitor import PUBLIC_URL, TOKEN, get, post, sign_in


def tell(app: Flask, token: str, **headers: str) -> TestResponse:
    """Send a logout token as a provider does: from its own machine, without a cookie."""
    return app.test_client().post(
        "/auth/backchannel-logout", base_url=PUBLIC_URL, data={"logout_token": token}, headers=headers
    )


def signed_in(database: Database) -> set[str]:
    """Return the tags of all sign-ins."""
    with database.read() as session:
        return set(session.scalars(select(SignedInBrowser.tag)))


@pytest.fixture
def alice(client: FlaskClient, database: Database) -> FlaskClient:
    """A browser of alice's, in the provider's session `session-1`."""
    sign_in(client, database, sid="session-1")
    return client


def test_the_provider_ends_a_sign_in_and_its_page_bearers(
    app: Flask, alice: FlaskClient, database: Database, issuer: Issuer
) -> None:
    post(alice, "/page-bearer")
    sign_in(app.test_client(), database, tag="another-session", sid="session-2")
    answer = tell(app, issuer.logout_token())
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Set-Cookie" not in answer.headers
    assert signed_in(database) == {"another-session"}
    assert get(alice, "/auth/account").status_code == 302
    with database.read() as session:
        assert session.scalars(select(PageBearer)).all() == []


@pytest.mark.parametrize(
    ("changes", "left"),
    [
        ({"sid": None}, {"of-bob"}),
        ({"sub": None}, {"second", "of-bob"}),
        ({"sid": "session-9"}, {"tag-of-alice", "second", "of-bob"}),
        ({"sub": "another-form-of-alice"}, {"second", "of-bob"}),
        ({"sub": "bob", "sid": None}, {"tag-of-alice", "second"}),
        ({"sid": "session-9", "sub": "carol"}, {"tag-of-alice", "second", "of-bob"}),
        ({"aud": ["another", "sluice"]}, {"second", "of-bob"}),
        ({"aud": "sluice", "events": {EVENT: {}, "another": {}}}, {"second", "of-bob"}),
    ],
)
def test_a_token_ends_what_it_names_and_no_more(
    app: Flask,
    alice: FlaskClient,
    database: Database,
    issuer: Issuer,
    changes: dict[str, Any],
    left: set[str],
) -> None:
    sign_in(app.test_client(), database, tag="second", sid="session-2")
    sign_in(app.test_client(), database, name="bob", tag="of-bob", sid="session-3")
    assert tell(app, issuer.logout_token(**changes)).status_code == 200
    assert signed_in(database) == left


def test_each_usual_type_of_token_is_taken(
    app: Flask, alice: FlaskClient, database: Database, issuer: Issuer
) -> None:
    for type_ in ("logout+jwt", "application/logout+jwt", "JWT", "Logout+JWT"):
        assert tell(app, issuer.logout_token(header={"typ": type_})).status_code == 200, type_
    assert signed_in(database) == set()


def test_a_provider_that_names_sessions_in_logout_tokens_alone_is_understood(
    app: Flask, client: FlaskClient, database: Database, issuer: Issuer
) -> None:
    sign_in(client, database)
    sign_in(app.test_client(), database, tag="second", sid="session-2")
    assert tell(app, issuer.logout_token(sid="session-9")).status_code == 200
    assert signed_in(database) == {"second"}


NOW = int(time.time())


NONE: list[dict[str, Any]] = [
    {"iss": "https://evil.example"},
    {"iss": None},
    {"aud": "another"},
    {"aud": []},
    {"aud": None},
    {"aud": ["sluice", 7]},
    {"iat": None},
    {"iat": NOW + 3_600},
    {"iat": "now"},
    {"exp": None},
    {"exp": NOW - 3_600},
    {"exp": True},
    {"exp": "later"},
    {"nbf": NOW + 3_600},
    {"jti": None},
    {"jti": ""},
    {"jti": 7},
    {"events": None},
    {"events": {}},
    {"events": [EVENT]},
    {"events": EVENT},
    {"events": {EVENT: None}},
    {"events": {EVENT: "{}"}},
    {"events": {"http://schemas.openid.net/event/another": {}}},
    {"nonce": "n"},
    {"nonce": ""},
    {"sub": None, "sid": None},
    {"sub": ""},
    {"sid": ""},
    {"sid": ["session-1"]},
    {"sid": "session-1\x00"},
    {"sub": {"sub": "alice"}},
]


def test_trying_an_invalid_logout_token(
    app: Flask, alice: FlaskClient, database: Database, issuer: Issuer
) -> None:
    for changes in NONE:
        answer = tell(app, issuer.logout_token(**changes))
        assert answer.status_code == 400, changes
        assert answer.get_json()["error"] == "invalid_request"
    assert signed_in(database) == {"tag-of-alice"}


def test_trying_an_id_token_as_a_logout_token(
    app: Flask, alice: FlaskClient, database: Database, issuer: Issuer
) -> None:
    answer = issuer._tokens("nonce")["id_token"]
    assert tell(app, answer).status_code == 400
    assert signed_in(database) == {"tag-of-alice"}


def test_trying_a_token_of_another_type(
    app: Flask, alice: FlaskClient, database: Database, issuer: Issuer
) -> None:
    for type_ in ("at+jwt", "secevent+jwt"):
        assert tell(app, issuer.logout_token(header={"typ": type_})).status_code == 400, type_
    assert signed_in(database) == {"tag-of-alice"}


def test_trying_a_forged_logout_token_signed_with_another_key(
    app: Flask, alice: FlaskClient, database: Database, issuer: Issuer
) -> None:
    for kid in ("one", "mine"):
        own = ECKey.generate_key("P-256", parameters={"kid": kid})
        assert tell(app, issuer.logout_token(own)).status_code == 400
        inside = issuer.logout_token(own, header={"jwk": own.as_dict(private=False)})
        assert tell(app, inside).status_code == 400
    assert signed_in(database) == {"tag-of-alice"}


def test_trying_a_logout_token_without_a_signature(
    app: Flask, alice: FlaskClient, database: Database, issuer: Issuer
) -> None:
    body = issuer.logout_token().split(".")[1]
    for head in ("eyJhbGciOiJub25lIn0", "eyJhbGciOiJOb25lIiwia2lkIjoib25lIn0"):
        assert tell(app, f"{head}.{body}.").status_code == 400
    assert signed_in(database) == {"tag-of-alice"}


def test_trying_a_logout_token_signed_with_a_shared_secret(
    app: Flask, alice: FlaskClient, database: Database, issuer: Issuer
) -> None:
    """The client's secret, and the provider's public key used as a shared secret."""
    issuer.metadata = {"id_token_signing_alg_values_supported": ["ES256", "HS256", "none"]}
    claims = jwt.decode(issuer.logout_token(), issuer.key, algorithms=["ES256"]).claims
    for known in (SECRET, SECRET + str(issuer.key.as_dict(private=False)["x"])):
        key = OctKey.import_key(known, {"kid": "one"})
        token = jwt.encode({"alg": "HS256", "kid": "one"}, claims, key, algorithms=["HS256"])
        assert tell(app, token).status_code == 400
    assert signed_in(database) == {"tag-of-alice"}


def test_trying_nonsense_as_a_logout_token(
    app: Flask, alice: FlaskClient, database: Database, issuer: Issuer
) -> None:
    for text in ("", "x", "..", "a.b.c", "é.é.é", "x" * 20_000, "eyJhbGciOiJFUzI1NiJ9.e30.AA"):
        answer = tell(app, text)
        assert answer.status_code == 400, text
        assert "Traceback" not in answer.text
    assert signed_in(database) == {"tag-of-alice"}


def test_trying_a_logout_token_again_replay(
    app: Flask, alice: FlaskClient, database: Database, issuer: Issuer
) -> None:
    token = issuer.logout_token()
    assert tell(app, token).status_code == 200
    sign_in(alice, database, sid="session-1")
    answer = tell(app, token)
    assert answer.status_code == 400
    assert "already used" in answer.get_json()["error_description"]
    assert signed_in(database) == {"tag-of-alice"}


def test_used_tokens_are_deleted_only_when_they_cannot_be_replayed(
    app: Flask, alice: FlaskClient, database: Database, issuer: Issuer
) -> None:
    tell(app, issuer.logout_token(exp=int(time.time()) - 30, jti="x" * 5_000))
    tell(app, issuer.logout_token())
    with database.write() as session:
        rows = session.scalars(select(UsedToken)).all()
        assert len(rows) == 2
        assert all(row.expires > time.time() for row in rows)
        rows[0].expires = time.time() - 1
    tell(app, issuer.logout_token())
    with database.read() as session:
        assert len(session.scalars(select(UsedToken)).all()) == 2


def test_trying_to_make_this_service_fetch_keys_without_end(
    app: Flask, alice: FlaskClient, issuer: Issuer
) -> None:
    for number in range(20):
        own = ECKey.generate_key("P-256", parameters={"kid": f"mine-{number}"})
        tell(app, issuer.logout_token(own))
    assert issuer.asked.count("/jwks") == 1


def test_a_rotated_key_is_fetched_for_a_logout_too(
    app: Flask, alice: FlaskClient, database: Database, issuer: Issuer
) -> None:
    issuer.sign_in(app.test_client())
    issuer.rotate()
    assert tell(app, issuer.logout_token(sub="alice", sid=None)).status_code == 200
    assert signed_in(database) == set()


def test_a_logout_gets_503_while_the_providers_keys_are_unavailable(
    app: Flask, alice: FlaskClient, database: Database, issuer: Issuer
) -> None:
    token = issuer.logout_token()
    issuer.down = True
    assert tell(app, token).status_code == 503
    with Stopwatch() as felt:
        assert tell(app, token).status_code == 503
    assert felt.seconds < 2
    assert signed_in(database) == {"tag-of-alice"}


def test_trying_to_sign_somebody_out_by_their_own_cookie_at_the_back_channel(
    alice: FlaskClient, database: Database, issuer: Issuer
) -> None:
    """It is the only form without a CSRF token, so it must ignore cookies."""
    answer = alice.post(
        "/auth/backchannel-logout",
        base_url=PUBLIC_URL,
        data={"csrf_token": TOKEN, "logout_token": ""},
        headers={"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"},
    )
    assert answer.status_code == 400
    assert get(alice, "/auth/account").status_code == 200


def test_a_logout_token_by_get_is_refused(app: Flask, alice: FlaskClient, issuer: Issuer) -> None:
    token = issuer.logout_token()
    answer = app.test_client().get(f"/auth/backchannel-logout?logout_token={token}", base_url=PUBLIC_URL)
    assert answer.status_code == 405
    assert tell(app, "", Authorization=f"Bearer {token}").status_code == 400
    assert get(alice, "/auth/account").status_code == 200
