"""The client of the OpenID provider, with the checks of its answers.

Authlib implements the protocol. This module adds what Authlib leaves to its users: the issuer of the metadata
(OpenID Connect Discovery 4.3) and of answers (RFC 9207), the audience of ID tokens, allowed signatures, clock
differences, fetching keys again; and an error page for each failure.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from authlib.integrations.base_client.errors import OAuthError
from authlib.integrations.flask_client import OAuth
from authlib.integrations.flask_client.apps import FlaskOAuth2App
from authlib.oidc.core import CodeIDToken, UserInfo
from flask import Flask, request, session, url_for
from joserfc import jwt
from joserfc.errors import (
    BadSignatureError,
    ExpiredTokenError,
    InvalidClaimError,
    InvalidKeyIdError,
    JoseError,
    KeyParameterError,
    UnsupportedAlgorithmError,
)
from joserfc.jwk import Key
from requests.exceptions import HTTPError, RequestException

from sluice.web.http.page_error import PageError, UnreadableAnswer
from sluice.web.settings import access
from sluice.web.settings.config import OidcConfig
from sluice.web.signin import sessions, signing_keys
from sluice.web.signin.token_endpoint import GONE_STATUSES, EndpointGone, TokenSession, client_secret_basic

logger = logging.getLogger(__name__)

NAME = "oidc"
TIMEOUT = 10

# How old the provider's keys may get, in seconds. A token with an unknown key makes us fetch them at once.
# But if anybody could have sent the token, at most every UNTRUSTED_SECONDS.
KEYS_SECONDS = 3_600.0
UNTRUSTED_SECONDS = 30.0

# How old the provider's metadata may get, in seconds: nothing else shows that a page for browsers has moved.
METADATA_SECONDS = 300.0

# Errors that a new key, key id or algorithm of the provider causes.
_CHANGED = (InvalidKeyIdError, BadSignatureError, UnsupportedAlgorithmError, KeyParameterError)

_ENDPOINTS = (
    "authorization_endpoint",
    "token_endpoint",
    "userinfo_endpoint",
    "jwks_uri",
    "end_session_endpoint",
)
_NEEDED = ("authorization_endpoint", "token_endpoint", "jwks_uri")
# All other metadata are dropped: Authlib would take some names in them as its own settings.
_KNOWN = (
    "issuer",
    *_ENDPOINTS,
    "id_token_signing_alg_values_supported",
    "authorization_response_iss_parameter_supported",
)

# Prefix of the session's entries about sign-ins that were begun, and how many of them are kept.
STATES = f"_state_{NAME}_"
MAX_STATES = 5

# Parameters that an answer may have at most once (RFC 6749, 3.1).
_ANSWER = ("state", "code", "iss", "error")

_ERROR = re.compile(r"[a-z_]{1,60}")
_SIGN_IN_AGAIN = {"login_required", "interaction_required", "consent_required", "account_selection_required"}
_DOWN = {"temporarily_unavailable", "server_error"}


class UserClaims(NamedTuple):
    """What the provider says about a user: the claims of its ID token ({} without one), and all claims."""

    id_token: Mapping[str, Any]
    claims: Mapping[str, Any]


class Provider(FlaskOAuth2App):  # type: ignore[misc]  # Authlib has no types.
    """Authlib's client of the provider."""

    client_cls = TokenSession

    def __init__(self, *args: Any, oidc: OidcConfig, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._about = oidc
        self._lock = threading.Lock()
        self._metadata_quiet = 0.0
        self._keys: list[Key] | None = None
        self._keys_since = 0.0
        self._untrusted_since = 0.0

    # --- metadata and keys ---------------------------------------------------------------------------

    def load_server_metadata(self) -> dict[str, Any]:
        """Return the provider's metadata; read them again when they are METADATA_SECONDS old.

        If the provider does not answer, the old ones are used; if there are none, raises requests'
        RequestException. Raises PageError if the first metadata are unusable or of another issuer.
        """
        metadata: dict[str, Any] = self.server_metadata
        if "_loaded_at" not in metadata:
            return self._read_metadata()
        if 0 <= time.time() - metadata["_loaded_at"] < METADATA_SECONDS:
            return metadata
        if time.monotonic() >= self._metadata_quiet:
            self._read_again()
        return dict(self.server_metadata)

    def _read_metadata(self) -> dict[str, Any]:
        with self._get_session() as http:
            answer = http.request("GET", self._server_metadata_url, withhold_token=True)
        answer.raise_for_status()
        metadata = _checked_metadata(_json(answer), self._about.issuer)
        # Replaced as a whole: old names disappear, and other threads never see a part.
        self.server_metadata = metadata
        return metadata

    def _read_again(self) -> None:
        """Try to read the metadata again; other threads do not try for UNTRUSTED_SECONDS."""
        self._metadata_quiet = time.monotonic() + UNTRUSTED_SECONDS
        try:
            self._read_metadata()
        except (RequestException, PageError) as error:
            logger.warning("the provider's metadata could not be read again", extra={"fault": _name(error)})

    def _moved(self, endpoint: str) -> bool:
        """Read the metadata again, and tell whether the address of an endpoint has changed."""
        before = self.load_server_metadata().get(endpoint)
        self._read_again()
        return bool(self.server_metadata.get(endpoint) != before)

    def verify(self, text: str, *, untrusted: bool = False) -> jwt.Token:
        """Return a token after checking the provider's signature. Its claims are not checked.

        `untrusted`: anybody could have sent the token. Raises JoseError; PageError or requests'
        RequestException if the provider's keys are unavailable.
        """
        if untrusted and self._keys is None and not self._may_fetch_for_untrusted():
            raise PageError(503, "provider_down", retry_after=int(UNTRUSTED_SECONDS))
        try:
            token = self._decode(text, self._key_set())
        except _CHANGED:
            if untrusted and not self._may_fetch_for_untrusted():
                raise
            # The address of the keys and the algorithms may have changed too.
            self._read_again()
            token = self._decode(text, self._fetch_keys())
        if type(token.claims.get("sub")) is int:
            # OpenID Connect requires a string; some providers send a number from their database.
            token.claims["sub"] = str(token.claims["sub"])
        return token

    def _decode(self, text: str, keys: list[Key]) -> jwt.Token:
        announced = self.load_server_metadata().get("id_token_signing_alg_values_supported")
        return signing_keys.decode(text, keys, announced)

    def _key_set(self) -> list[Key]:
        now = time.monotonic()
        if self._keys is None:
            return self._fetch_keys()
        if now - self._keys_since >= KEYS_SECONDS:
            try:
                return self._fetch_keys()
            except (RequestException, PageError) as error:
                logger.warning(
                    "the provider's keys could not be fetched again", extra={"fault": _name(error)}
                )
                self._keys_since = now - KEYS_SECONDS + UNTRUSTED_SECONDS
        return self._keys

    def _fetch_keys(self) -> list[Key]:
        answer = self._get_keys()
        if answer.status_code in GONE_STATUSES and self._moved("jwks_uri"):
            answer = self._get_keys()
        answer.raise_for_status()
        try:
            keys = signing_keys.usable_keys(_json(answer))
        except ValueError as error:
            raise _unreadable(f"the provider's keys cannot be used: {error}", error) from error
        self._keys, self._keys_since = keys, time.monotonic()
        return keys

    def _get_keys(self) -> Any:
        with self._get_session() as http:
            return http.request("GET", self.load_server_metadata()["jwks_uri"], withhold_token=True)

    def _may_fetch_for_untrusted(self) -> bool:
        now = time.monotonic()
        with self._lock:
            may = not self._untrusted_since or now - self._untrusted_since >= UNTRUSTED_SECONDS
            if may:
                self._untrusted_since = now
        return may

    # --- signing in ----------------------------------------------------------------------------------

    def authorize_redirect(self, redirect_uri: str, **kwargs: Any) -> Any:
        """Redirect the browser to the provider; drop its oldest unfinished sign-ins above MAX_STATES."""
        begun = sorted(
            (key for key in session if key.startswith(STATES)), key=lambda key: session[key].get("exp", 0)
        )
        for key in begun[: max(0, len(begun) - MAX_STATES + 1)]:
            del session[key]
        return super().authorize_redirect(redirect_uri, **kwargs)

    def save_authorize_data(self, **kwargs: Any) -> None:
        """Store the target page with this sign-in's state: other tabs have their own state and target."""
        super().save_authorize_data(next=session.pop("next", url_for("chat.index")), **kwargs)
        sessions.save()

    def fetch_access_token(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return the token endpoint's answer; if the endpoint has moved, ask at its new address.

        Raises OAuthError, requests' RequestException, ValueError: see TokenSession.
        """
        try:
            token: dict[str, Any] = super().fetch_access_token(*args, **kwargs)
        except EndpointGone:
            if not self._moved("token_endpoint"):
                raise
            token = super().fetch_access_token(*args, **kwargs)
        return token

    def authorize_access_token(self, **_arguments: Any) -> dict[str, Any]:
        """Check the provider's answer; return its tokens, with the UserClaims as `user_claims`.

        Raises PageError if the answer is forged, unusable or a refusal; RequestException if there is none.
        """
        self._check_answer()
        try:
            token: dict[str, Any] = super().authorize_access_token()
        except OAuthError as error:
            raise _refused_code(error) from error
        except ValueError as error:
            raise _unreadable("the provider's token answer is not JSON", error) from error
        if not token.get("userinfo"):
            raise _unusable("the provider's answer has no ID token")
        token["user_claims"] = self.user_claims(token)
        return token

    def _check_answer(self) -> None:
        """Raise PageError if this is not this provider's answer to a sign-in of this browser."""
        if not _has_form():
            raise PageError(400, "bad_answer", outcome="refused")
        state, begun = self._pending()
        if not begun:
            raise PageError(401, "unknown_sign_in", outcome="refused")
        # Where flask-oidc looks for it.
        session["next"] = begun.get("next", url_for("chat.index"))
        required = self.load_server_metadata().get("authorization_response_iss_parameter_supported")
        issuer = request.args.get("iss")
        if issuer != self._about.issuer and (issuer is not None or required is True):
            self.framework.clear_state_data(session, state)
            logger.error("a sign-in's answer names another issuer, or none")
            raise PageError(401, "another_issuer", outcome="refused")
        if "error" in request.args:
            self.framework.clear_state_data(session, state)
            raise _refused(request.args["error"])
        if not request.args.get("code"):
            self.framework.clear_state_data(session, state)
            logger.error("a sign-in's answer has no code and no error")
            raise PageError(400, "bad_answer", outcome="refused")

    def is_unknown_answer(self) -> bool:
        """Tell whether this request answers a sign-in that the session does not know, or no longer knows."""
        return _has_form() and not self._pending()[1]

    def _pending(self) -> tuple[str, dict[str, Any] | None]:
        """Return the state in the address, and the session's data about the sign-in begun with it."""
        state = request.args.get("state", "")
        return state, self.framework.get_state_data(session, state) if state else None

    def parse_id_token(self, token: Mapping[str, Any], nonce: str, **_options: Any) -> UserInfo:
        """Return the ID token's claims. Authlib calls this; raises PageError."""
        try:
            return self._id_token(token, nonce)
        except JoseError as error:
            raise _bad_id_token(error) from error

    def _id_token(self, token: Mapping[str, Any], nonce: str | None) -> UserInfo:
        found = self.verify(str(token["id_token"]))
        wanted = {
            "iss": {"essential": True, "value": self._about.issuer},
            # By itself, Authlib would accept another audience if `azp` names us.
            "aud": {"essential": True, "value": self.client_id},
        }
        parameters = {"nonce": nonce, "client_id": self.client_id, "access_token": token.get("access_token")}
        claims = CodeIDToken(found.claims, found.header, wanted, parameters)
        claims.validate(leeway=self._about.leeway)
        return UserInfo(claims)

    def refresh(self, refresh_token: str) -> dict[str, Any]:
        """Return new tokens for a refresh token. They are not checked.

        Raises OAuthError if the provider refuses, UnreadableAnswer, requests' RequestException.
        """
        try:
            return self.fetch_access_token(grant_type="refresh_token", refresh_token=refresh_token)
        except ValueError as error:
            raise _unreadable("the provider's token answer is not JSON", error) from error

    def refreshed_claims(self, token: dict[str, Any]) -> UserClaims:
        """Return the claims about the user of refreshed tokens. Raises as `user_claims` does."""
        if token.get("id_token"):
            token["userinfo"] = self.parse_id_token(token, "")
        return self.user_claims(token)

    def user_claims(self, token: Mapping[str, Any]) -> UserClaims:
        """Return the claims about the user of these tokens. Raises PageError, RequestException."""
        id_token = token.get("userinfo") or {}
        if not self.load_server_metadata().get("userinfo_endpoint"):
            return UserClaims(id_token, id_token)
        profile = self._profile(token)
        # OpenID Connect Core 5.3.2: the `sub` of userinfo must equal that of the signed ID token.
        subject = access.identifier(profile.get("sub"))
        if not subject:
            raise _unusable("the provider's userinfo has no usable identifier", claim="sub")
        if id_token and subject != id_token["sub"]:
            raise _unusable("the provider's userinfo and ID token name different users", claim="sub")
        return UserClaims(id_token, {**id_token, **profile, "sub": subject})

    def _profile(self, token: Mapping[str, Any]) -> UserInfo:
        try:
            return self._fetch_profile(token)
        except HTTPError as error:
            if error.response is None or error.response.status_code >= 500:
                raise
            raise _unusable(
                "the provider's userinfo endpoint refuses the provider's own token", error
            ) from error
        except (TypeError, ValueError) as error:
            raise _unreadable("the provider's userinfo is not a JSON object", error) from error

    def _fetch_profile(self, token: Mapping[str, Any]) -> UserInfo:
        # Without expiry and refresh token: Authlib must not refresh a token that is used once, at once.
        bearer = {"access_token": token["access_token"], "token_type": "Bearer"}
        try:
            return self.userinfo(token=bearer)
        except HTTPError as error:
            gone = error.response is not None and error.response.status_code in GONE_STATUSES
            if not gone or not self._moved("userinfo_endpoint"):
                raise
            return self.userinfo(token=bearer)


def register(app: Flask, oidc: OidcConfig) -> OAuth:
    """Return Authlib's registry with the provider, for flask-oidc."""
    settings: dict[str, Any] = {
        "scope": oidc.scopes,
        "token_endpoint_auth_method": oidc.token_auth,
        "code_challenge_method": "S256",
        "default_timeout": TIMEOUT,
    }
    if oidc.ca_file:
        # Without trust_env=False, REQUESTS_CA_BUNDLE in the environment would win over the setting.
        settings.update(verify=oidc.ca_file, trust_env=False)
    registry = OAuth(app)
    registry.register(
        name=NAME,
        client_cls=Provider,
        oidc=oidc,
        client_id=oidc.client_id,
        client_secret=oidc.client_secret,
        server_metadata_url=oidc.issuer.rstrip("/") + "/.well-known/openid-configuration",
        client_kwargs=settings,
        client_auth_methods=[("client_secret_basic", client_secret_basic)],
    )
    return registry


def _checked_metadata(document: object, issuer: str) -> dict[str, Any]:
    if not isinstance(document, dict) or document.get("issuer") != issuer:
        found = document.get("issuer") if isinstance(document, dict) else None
        logger.error(
            "the provider's metadata have another issuer: set web_oidc_issuer to the provider's own value",
            extra={"told": str(found)[:200], "issuer": issuer},
        )
        raise PageError(502, "another_issuer", outcome="unusable")
    kept = {name: document[name] for name in _KNOWN if document.get(name) is not None}
    bad = [name for name in _NEEDED if name not in kept]
    bad += [name for name in _ENDPOINTS if name in kept and not _is_https(kept[name])]
    if bad:
        raise _unusable(f"the provider's metadata have no usable {bad[0]}")
    return {**kept, "_loaded_at": time.time()}


def _is_https(url: object) -> bool:
    return isinstance(url, str) and urlsplit(url).scheme == "https"


def _json(answer: Any) -> Any:
    try:
        return answer.json()
    except ValueError as error:
        raise _unreadable("the provider's answer is not JSON", error) from error


def _name(error: Exception) -> str:
    return type(error).__name__


def _unusable(why: str, error: Exception | None = None, claim: str = "") -> PageError:
    # The text of the error may quote a token: log only its type.
    logger.error(why, extra={"fault": _name(error)} if error else {"claim": claim} if claim else {})
    return PageError(502, "502", outcome="unusable")


def _unreadable(why: str, error: Exception) -> UnreadableAnswer:
    logger.error(why, extra={"fault": _name(error)})
    return UnreadableAnswer(502, "502", outcome="unusable")


def _has_form() -> bool:
    """Tell whether this request has the form of a provider's answer."""
    return request.method == "GET" and all(len(request.args.getlist(name)) <= 1 for name in _ANSWER)


def _refused(code: str) -> PageError:
    """Return the page for an error code in the provider's answer."""
    name = code if _ERROR.fullmatch(code) else "unnamed"
    if name == "access_denied":
        logger.info("a sign-in was refused by the person or the provider", extra={"fault": name})
        return PageError(403, "denied", outcome="denied")
    if name in _DOWN:
        logger.error("the sign-in provider has an error", extra={"fault": name})
        return PageError(503, "provider_down", outcome="provider_down", retry_after=30)
    if name in _SIGN_IN_AGAIN:
        return PageError(401, "401", outcome="refused")
    logger.error("the sign-in provider refuses this service's request", extra={"fault": name})
    return PageError(502, "client_refused", outcome="unusable")


def _refused_code(error: OAuthError) -> PageError:
    """Return the page for the provider's refusal to give tokens."""
    name = error.error if isinstance(error.error, str) and _ERROR.fullmatch(error.error) else "unnamed"
    if name in ("invalid_client", "unauthorized_client"):
        logger.error(
            "the sign-in provider does not accept this service's secret: check web_oidc_client_id, "
            "vault_web_oidc_client_secret and web_oidc_token_auth",
            extra={"fault": name},
        )
        return PageError(502, "client_refused", outcome="unusable")
    logger.warning("a sign-in was refused", extra={"fault": name})
    return PageError(401, "401", outcome="refused")


def _bad_id_token(error: JoseError) -> PageError:
    """Return the page for an invalid ID token; wrong clocks are the usual cause and have their own page."""
    claim = str(getattr(error, "claim", ""))
    late = isinstance(error, ExpiredTokenError) or (
        isinstance(error, InvalidClaimError) and claim in ("iat", "nbf", "exp")
    )
    if late:
        logger.error(
            "the provider's ID token is not valid at this time: compare the clocks of both machines",
            extra={"claim": claim},
        )
        return PageError(401, "clock", outcome="refused")
    logger.error("the provider's ID token is not valid", extra={"fault": error.error, "claim": claim})
    return PageError(401, "401", outcome="refused")
