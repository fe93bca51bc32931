"""Properties of real providers: short-lived tokens, single-use refresh tokens, changes of every kind."""

from __future__ import annotations

import base64
import dataclasses
import time
from typing import Any
from urllib.parse import parse_qs, quote, unquote_plus, urlsplit

import pytest
from flask import Flask
from flask.testing import FlaskClient
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from sluice.web.database.tables import Database
from sluice.web.settings.config import WebConfig
from sluice.web.signin import provider
from tests.unit.web.issuer import CLIENT, Issuer
from tests.unit.web.signin.test_provider import due, nothing_was_kept, people, sign_in_rows
from tests.unit.web.visitor import ISSUER, PUBLIC_URL, get, post

# Lifetimes of access tokens, in seconds.
LIVES: list[Any] = [0, 1, 30, 60, 61, "30", -5, None, "soon", 1.5, [], 1e300]


# --- short-lived access tokens, single-use refresh tokens --------------------------------


@pytest.mark.parametrize("refresh_token", [None, "kept by nobody"])
@pytest.mark.parametrize("life", LIVES)
def test_a_token_of_any_life_signs_in_and_its_refresh_token_is_not_redeemed(
    client: FlaskClient, issuer: Issuer, life: Any, refresh_token: str | None
) -> None:
    issuer.tokens = {"expires_in": life, "expires_at": life, "refresh_token": refresh_token}
    assert issuer.sign_in(client).status_code == 302
    assert get(client, "/auth/account").status_code == 200
    assert issuer.asked.count("/token") == 1


@pytest.mark.parametrize("life", LIVES)
def test_a_single_use_refresh_token_is_sent_once_however_short_access_tokens_live(
    client: FlaskClient, database: Database, issuer: Issuer, life: Any
) -> None:
    issuer.one_time, issuer.tokens = True, {"expires_in": life}
    due(client, database)
    for turn in (1, 2, 3):
        with client.session_transaction(base_url=PUBLIC_URL) as session:
            session["person"] = {**session["person"], "checked": 0.0, "tag": "tag-of-alice"}
        forget_recent(client)
        assert get(client, "/auth/account").status_code == 200
        assert issuer.asked.count("/token") == turn
    assert len(sign_in_rows(database)) == 1


def forget_recent(client: FlaskClient) -> None:
    """Let the next request ask the provider again."""
    client.application.extensions["sluice"].sign_in._recent._taken.clear()


FAILURES: list[tuple[str, tuple[int, Any]]] = [
    ("/me", (503, b"")),
    ("/me", (200, b"<html>")),
    ("/jwks", (503, b"")),
    ("/jwks", (200, b"<html>")),
]


@pytest.mark.parametrize(("path", "answer"), FAILURES)
def test_whatever_fails_after_it_the_new_refresh_token_is_kept(
    client: FlaskClient, database: Database, issuer: Issuer, path: str, answer: tuple[int, Any]
) -> None:
    issuer.one_time = True
    due(client, database)
    issuer.answers = {path: answer}
    assert get(client, "/auth/account").status_code == 200
    with client.session_transaction(base_url=PUBLIC_URL) as session:
        assert session["person"]["refresh_token"] == "refresh-1"


# --- changed algorithms, keys and endpoints -------------------------------------------------------------


# joserfc warns about EdDSA, which is less specific than Ed25519; many providers use it.
@pytest.mark.filterwarnings("ignore::joserfc.errors.SecurityWarning")
def test_a_changed_signing_algorithm_is_noticed_at_the_first_token(
    client: FlaskClient, issuer: Issuer
) -> None:
    assert issuer.sign_in(client).status_code == 302
    for key, algorithm in (
        (RSAKey.generate_key(2048, parameters={"kid": "two"}), "RS256"),
        (RSAKey.generate_key(2048, parameters={"kid": "two"}), "PS384"),
        (ECKey.generate_key("P-521", parameters={"kid": "one"}), "ES512"),
        (OKPKey.generate_key("Ed25519", parameters={"kid": "one"}), "EdDSA"),
        (OKPKey.generate_key("Ed448", parameters={"kid": "one"}), "Ed448"),
        (OKPKey.generate_key("Ed25519", parameters={"kid": "one"}), "Ed25519"),
    ):
        issuer.sign_with(key, algorithm)
        assert issuer.sign_in(client).status_code == 302, algorithm


def test_the_provider_may_not_change_to_signatures_that_others_can_make(
    client: FlaskClient, database: Database, issuer: Issuer
) -> None:
    secret = OctKey.import_key({"kty": "oct", "k": "c" * 43, "kid": "one"})
    issuer.sign_with(secret, "HS256")
    assert issuer.sign_in(client).status_code in (401, 502)
    assert nothing_was_kept(client, database)


def test_endpoints_that_moved_are_found_without_a_restart(
    app: Flask, client: FlaskClient, database: Database, issuer: Issuer
) -> None:
    assert issuer.sign_in(client).status_code == 302
    issuer.prefix = "/v2"
    issuer.rotate()
    # The browser still uses the old address; our requests go to the new one.
    assert issuer.sign_in(app.test_client()).status_code == 302
    issuer.prefix = "/v3"
    due(client, database)
    issuer.claims |= {"groups": ["users", "new"]}
    assert get(client, "/auth/account").status_code == 200
    assert people(database)[0].groups == ["users", "new"]


def test_a_moved_authorization_endpoint_is_found_within_minutes(
    client: FlaskClient, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    issuer.begin(client)
    issuer.prefix = "/v2"
    assert urlsplit(get(client, "/auth/login").location).path == "/auth"
    later = time.time() + provider.METADATA_SECONDS
    monkeypatch.setattr(time, "time", lambda: later)
    assert urlsplit(get(client, "/auth/login").location).path == "/v2/auth"


@pytest.mark.parametrize(
    "answer", [(503, b""), (200, b"<html>"), (200, {"issuer": "https://evil.example"}), (200, [])]
)
def test_old_metadata_are_used_while_new_ones_are_not_available(
    client: FlaskClient, issuer: Issuer, monkeypatch: pytest.MonkeyPatch, answer: tuple[int, Any]
) -> None:
    issuer.sign_in(client)
    issuer.answers = {"/.well-known/openid-configuration": answer}
    monkeypatch.setattr(provider, "METADATA_SECONDS", 0.0)
    for _ in range(3):
        assert issuer.sign_in(client).status_code == 302
    # Not every sign-in waits for a provider that does not answer.
    assert issuer.asked.count("/.well-known/openid-configuration") == 2


# --- odd keys beside good ones --------------------------------------------------------------------------


def rsa(**changes: Any) -> dict[str, Any]:
    """Return a public RSA key with the good key's id and `changes`; None leaves a member out."""
    key = {**RSAKey.generate_key(2048).as_dict(private=False), "kid": "one", **changes}
    return {name: value for name, value in key.items() if value is not None}


ODD_KEYS: list[tuple[str, Any]] = [
    ("a curve that nobody here knows", {"kty": "EC", "crv": "brainpoolP256r1", "x": "AA", "y": "AA"}),
    ("a point that is not on its curve", {"kty": "EC", "crv": "P-256", "x": "AQ", "y": "AQ", "kid": "one"}),
    ("for TLS", rsa(use="tls")),
    ("for encryption", rsa(use="enc", alg="RSA-OAEP")),
    ("for encryption, which its algorithm alone says", rsa(alg="RSA-OAEP")),
    ("RSA without e", rsa(e=None)),
    ("RSA without n", rsa(n=None)),
    ("RSA whose n is no text", rsa(n=7)),
    ("a shared secret", {"kty": "oct", "k": "c2VjcmV0", "kid": "one"}),
    ("a kind of the future", {"kty": "AKP", "alg": "ML-DSA-65", "pub": "AA", "kid": "one"}),
    ("no kind", {"kid": "one"}),
    ("a kind that is no text", {"kty": ["RSA"]}),
    ("operations that do not verify", rsa(key_ops=["encrypt"])),
    ("operations that are no list", rsa(key_ops="verify")),
    ("no object", "key"),
    ("null", None),
    ("another key of the same name", rsa()),
    ("a name that is no text", rsa(kid=7)),
    ("certificates that cannot be read", rsa(x5c=7, kid="old")),
]


@pytest.mark.parametrize("odd", [key for _, key in ODD_KEYS], ids=[name for name, _ in ODD_KEYS])
def test_an_unusable_key_beside_a_good_one_locks_nobody_out(
    client: FlaskClient, issuer: Issuer, odd: Any
) -> None:
    issuer.odd_keys = [odd]
    assert issuer.sign_in(client).status_code == 302


def test_all_odd_keys_at_once_and_the_good_one_last(client: FlaskClient, issuer: Issuer) -> None:
    issuer.odd_keys = [key for _, key in ODD_KEYS]
    assert issuer.sign_in(client).status_code == 302


def test_without_one_good_key_nobody_gets_in_and_the_log_says_why(
    client: FlaskClient, database: Database, issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    issuer.published = []
    issuer.odd_keys = [key for _, key in ODD_KEYS[:6]]
    assert issuer.sign_in(client).status_code == 502
    assert "none of its keys can check a signature" in caplog.text
    assert nothing_was_kept(client, database)


@pytest.mark.parametrize("published", ["one", None])
@pytest.mark.parametrize("told", ["one", None])
def test_keys_and_tokens_may_be_without_names(
    client: FlaskClient, issuer: Issuer, published: str | None, told: str | None
) -> None:
    private = ECKey.generate_key("P-256").as_dict(private=True)
    private.pop("kid", None)
    issuer.key = ECKey.import_key({**private, **({"kid": published} if published else {})})
    issuer.published = []
    issuer.odd_keys = [
        {name: value for name, value in rsa().items() if name != "kid"},
        {
            name: value
            for name, value in issuer.key.as_dict(private=False).items()
            if published or name != "kid"
        },
    ]
    issuer.header = {"kid": told}
    assert issuer.sign_in(client).status_code == 302


# --- secrets with any character -------------------------------------------------------------------------


SECRETS = [
    "c" * 43,
    "a+b/c=d%e",
    "%41%2B%zz",
    "with space & ampersand?#;",
    "pass:word:",
    "quotes\"and\\back'slash",
    "Schlüssel-ключ-鍵-\U0001f511",
    "~*!()'-._",
    "€" * 40,
]


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
@pytest.mark.parametrize("secret", SECRETS)
class TestAnySecret:
    """A client id and secret that the provider chose."""

    @pytest.fixture
    def settings(self, settings: WebConfig, method: str, secret: str) -> WebConfig:
        """A site with that secret."""
        changed = dataclasses.replace(settings.oidc, token_auth=method, client_secret=secret)
        return dataclasses.replace(settings, oidc=changed)

    def test_the_provider_receives_the_secret_unchanged(
        self, client: FlaskClient, issuer: Issuer, method: str, secret: str
    ) -> None:
        assert issuer.sign_in(client).status_code == 302
        header, body = issuer.authorizations[0], issuer.bodies[0]
        if method == "client_secret_basic":
            pair = base64.b64decode(header.removeprefix("Basic ")).decode("ascii").split(":")
            assert [unquote_plus(text) for text in pair] == [CLIENT, secret]
        else:
            assert (header, body["client_secret"]) == ("", [secret])


# --- incomplete callbacks ----------------------------------------------------------------------


def test_an_incomplete_answer_gets_an_error_page(
    client: FlaskClient, database: Database, issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    iss = f"iss={quote(ISSUER)}"
    cases = [
        ("state={state}&{iss}", 400),
        ("state={state}&code=&{iss}", 400),
        ("state={state}&error=&{iss}", 502),
        ("state={state}&state={state}&code=x&{iss}", 400),
        ("state={state}&code=x&code=x&{iss}", 400),
        ("state={state}&code=x&{iss}&{iss}", 400),
        ("state={state}&error=a&error=b&{iss}", 400),
        ("state={state}&code=x&error=access_denied&{iss}", 403),
        ("code=x&{iss}", 401),
        ("", 401),
        ("state=", 401),
        ("state&code", 401),
        ("state[]=x&code[]=y", 401),
        ("state=%00&code=%ff%fe&{iss}", 401),
        ("state={state}&code=%00%ff%ed%a0%80&{iss}", 401),
        ("state={state}&code=" + quote("'\"><script>") + "&{iss}", 401),
        ("&&&=&=x", 401),
    ]
    for query, status in cases:
        state = issuer.begin(client)["state"][0]
        answer = get(client, "/auth/authorize?" + query.format(state=state, iss=iss))
        assert answer.status_code == status, query
        assert "<h1" in answer.text, query
        assert "<script>" not in answer.text
        assert nothing_was_kept(client, database)
    assert not any(record.exc_info for record in caplog.records)


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "DELETE", "OPTIONS"])
def test_an_answer_by_another_method_signs_nobody_in(
    client: FlaskClient, database: Database, issuer: Issuer, method: str
) -> None:
    asked = issuer.begin(client)
    query = f"code={issuer.grant(asked)}&state={asked['state'][0]}&iss={quote(ISSUER)}"
    answer = client.open(f"/auth/authorize?{query}", method=method, base_url=PUBLIC_URL)
    assert answer.status_code in (200, 400, 403, 405)
    assert nothing_was_kept(client, database)


# --- large ID tokens -------------------------------------------------------------------------------------


@pytest.mark.parametrize("groups", [1, 20, 40, 199, 5_000])
def test_signing_out_leads_on_to_the_provider_however_large_its_id_token_was(
    client: FlaskClient, issuer: Issuer, groups: int
) -> None:
    """nginx accepts 8 KiB of response headers; providers accept URLs of that length, or shorter ones."""
    issuer.id_token = {"groups": [f"00000000-0000-4000-8000-{number:012}" for number in range(groups)]}
    issuer.sign_in(client)
    with client.session_transaction(base_url=PUBLIC_URL) as session:
        csrf = session["csrf"]
    answer = post(client, "/auth/sign-out", csrf)
    assert answer.status_code == 302
    assert len(str(answer.headers)) < 5_500
    target = urlsplit(answer.location)
    query = parse_qs(target.query)
    assert target.path == "/session/end"
    # With either, the provider recognises the client and redirects back.
    assert query["client_id"] == [CLIENT]
    assert query["post_logout_redirect_uri"] == [f"{PUBLIC_URL}/auth/signed-out"]
    assert ("id_token_hint" in query) == (groups <= 40)
    assert get(client, "/auth/account").status_code == 302


def test_certificates_in_a_token_are_ignored(client: FlaskClient, issuer: Issuer) -> None:
    issuer.header = {"x5c": ["MII" + "A" * 2_000] * 3, "x5t": "a" * 43}
    assert issuer.sign_in(client).status_code == 302
