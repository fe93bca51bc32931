"""An OpenID provider in the test's own process, with keys, a clock and a log of requests.

It answers in place of the network, below `requests`: everything above is the code that runs at a site.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import time
from typing import Any
from urllib.parse import parse_qs, urlsplit

from flask.testing import FlaskClient
from joserfc import jwt
from joserfc.jwk import ECKey, Key
from requests import PreparedRequest, Response
from requests.exceptions import ConnectTimeout
from werkzeug.test import TestResponse

from sluice.web.signin.back_channel import EVENT
from tests.unit.web.visitor import ISSUER, PUBLIC_URL, get

CALLBACK = f"{PUBLIC_URL}/auth/authorize"
CLIENT = "sluice"
SECRET = "c" * 43


class Issuer:
    """The provider. A test sets attributes, and the next answers follow them."""

    def __init__(self) -> None:
        self.key: Key = ECKey.generate_key("P-256", parameters={"kid": "one", "use": "sig"})
        self.algorithm = "ES256"
        self.published: list[Key] = [self.key]
        # Additional entries of the JWKS document.
        self.odd_keys: list[Any] = []
        self.claims: dict[str, Any] = {
            "sub": "alice",
            "name": "Alice",
            "email": "alice@example.org",
            "groups": ["users"],
        }
        # Values that are added to each answer, or replace its own.
        self.id_token: dict[str, Any] = {}
        self.header: dict[str, Any] = {}
        self.profile: dict[str, Any] | None = None
        self.metadata: dict[str, Any] = {}
        self.tokens: dict[str, Any] = {}
        self.answers: dict[str, tuple[int, Any]] = {}
        self.clock = 0.0
        self.down = False
        self.asked: list[str] = []
        self.authorizations: list[str] = []
        self.bodies: list[dict[str, list[str]]] = []
        # Whether refresh tokens work once: one that comes again ends the sign-in, as if it were stolen.
        self.one_time = False
        # The prefix of its endpoints' paths.
        self.prefix = ""
        self._codes: dict[str, dict[str, list[str]]] = {}
        self._refresh_token = "refresh"

    # --- requests over the network ------------------------------------------------------------

    def send(self, request: PreparedRequest, **_options: object) -> Response:
        """Answer in place of `requests`' adapter."""
        if self.down:
            raise ConnectTimeout("nothing answers")
        path = urlsplit(request.url or "").path
        self.asked.append(path)
        status, document = self.answers.get(path) or self._answer(path, request)
        response = Response()
        response.status_code = status
        response.url = str(request.url)
        response._content = document if isinstance(document, bytes) else json.dumps(document).encode()
        return response

    def _answer(self, path: str, request: PreparedRequest) -> tuple[int, Any]:
        if path == "/.well-known/openid-configuration":
            return 200, self._metadata()
        if path == f"{self.prefix}/jwks":
            return 200, {"keys": [*self.odd_keys, *(key.as_dict(private=False) for key in self.published)]}
        if path == f"{self.prefix}/token":
            return self._token(request)
        if path == f"{self.prefix}/me":
            return 200, self.claims if self.profile is None else self.profile
        return 404, b"<html>no such page</html>"

    def _metadata(self) -> dict[str, Any]:
        return {
            "issuer": ISSUER,
            "authorization_endpoint": f"{ISSUER}{self.prefix}/auth",
            "token_endpoint": f"{ISSUER}{self.prefix}/token",
            "userinfo_endpoint": f"{ISSUER}{self.prefix}/me",
            "jwks_uri": f"{ISSUER}{self.prefix}/jwks",
            "end_session_endpoint": f"{ISSUER}{self.prefix}/session/end",
            "authorization_response_iss_parameter_supported": True,
            "id_token_signing_alg_values_supported": ["ES256"],
            **self.metadata,
        }

    def _token(self, request: PreparedRequest) -> tuple[int, Any]:
        body = parse_qs(request.body.decode() if isinstance(request.body, bytes) else str(request.body or ""))
        self.bodies.append(body)
        self.authorizations.append(str(request.headers.get("Authorization", "")))
        if body["grant_type"] == ["refresh_token"]:
            if self.one_time and body["refresh_token"] != [self._refresh_token]:
                self._refresh_token = ""
                return 400, {"error": "invalid_grant"}
            return 200, self._tokens(None)
        asked = self._codes.pop(body["code"][0], None)
        if asked is None:
            return 400, {"error": "invalid_grant"}
        challenge = base64.urlsafe_b64encode(hashlib.sha256(body["code_verifier"][0].encode()).digest())
        if asked["code_challenge"][0] != challenge.rstrip(b"=").decode():
            return 400, {"error": "invalid_grant"}
        return 200, self._tokens(asked["nonce"][0])

    def _tokens(self, nonce: str | None) -> dict[str, Any]:
        claims = {"iss": ISSUER, "aud": CLIENT, "sub": self.claims["sub"], "sid": "session-1", **self.times()}
        if nonce is not None:
            claims["nonce"] = nonce
        self._refresh_token = f"refresh-{len(self.bodies)}"
        answer = {
            "access_token": secrets.token_hex(8),
            "token_type": "Bearer",
            "refresh_token": self._refresh_token,
            "id_token": self.sign({**claims, **self.id_token}),
            **self.tokens,
        }
        return {name: value for name, value in answer.items() if value is not None}

    # --- tokens --------------------------------------------------------------------------------

    def times(self) -> dict[str, int]:
        """Return the claims iat and exp of a new token, by this provider's clock."""
        now = int(time.time() + self.clock)
        return {"iat": now, "exp": now + 120}

    def sign(self, claims: dict[str, Any], key: Key | None = None, **header: Any) -> str:
        """Return a signed token; a claim that is None is left out."""
        kept = {name: value for name, value in claims.items() if value is not None}
        signing = key or self.key
        head = {"alg": self.algorithm, "kid": signing.kid, **self.header, **header}
        return jwt.encode(
            {name: value for name, value in head.items() if value is not None},
            kept,
            signing,
            algorithms=[self.algorithm],
        )

    def logout_token(
        self, key: Key | None = None, header: dict[str, Any] | None = None, **changes: Any
    ) -> str:
        """Return a logout token of alice's session, with `changes`."""
        claims = {
            "iss": ISSUER,
            "aud": CLIENT,
            "sub": "alice",
            "sid": "session-1",
            "jti": secrets.token_hex(8),
            "events": {EVENT: {}},
            **self.times(),
        }
        return self.sign({**claims, **changes}, key, **{"typ": "logout+jwt", **(header or {})})

    def rotate(self, *, kid: str = "two") -> None:
        """Sign with a new key from now on, and publish that one alone."""
        self.key = ECKey.generate_key("P-256", parameters={"kid": kid, "use": "sig"})
        self.published = [self.key]

    def sign_with(self, key: Key, algorithm: str) -> None:
        """Sign with a key of another kind from now on, announce its algorithm and publish it alone."""
        self.key, self.algorithm, self.published = key, algorithm, [key]
        self.metadata["id_token_signing_alg_values_supported"] = [algorithm]

    # --- browsers --------------------------------------------------------------------

    def begin(self, client: FlaskClient, path: str = "/") -> dict[str, list[str]]:
        """Let a browser begin to sign in; return the parameters of its request to the provider."""
        return parse_qs(urlsplit(get(client, f"/auth/login?next={path}").location).query)

    def grant(self, asked: dict[str, list[str]]) -> str:
        """Return a code for a browser's request."""
        code = secrets.token_hex(8)
        self._codes[code] = asked
        return code

    def come_back(self, client: FlaskClient, asked: dict[str, list[str]], **changes: str) -> TestResponse:
        """Send the browser back with a code; `changes` replaces parameters ("" leaves one out)."""
        answer = {"code": self.grant(asked), "state": asked["state"][0], "iss": ISSUER, **changes}
        query = {name: value for name, value in answer.items() if value}
        return client.get("/auth/authorize", base_url=PUBLIC_URL, query_string=query)

    def sign_in(self, client: FlaskClient, path: str = "/") -> TestResponse:
        """Sign the browser in as the user with these `claims`."""
        return self.come_back(client, self.begin(client, path))
