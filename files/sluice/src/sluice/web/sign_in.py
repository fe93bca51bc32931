"""Sign-in and sign-out through the OpenID provider, around flask-oidc.

flask-oidc does the redirects and Authlib checks the answers (state, nonce, signature, PKCE). Around them: no
token stays where flask-oidc keeps it (it would be refreshed at every request, and its failure logged with the
token); what is needed is copied into one entry of the server-side session, which gets a new id at sign-in.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from authlib.integrations.base_client.errors import OAuthError
from flask import Flask, abort, current_app, g, redirect, request, session, url_for
from flask_oidc import OpenIDConnect
from flask_oidc.signals import after_authorize
from requests.exceptions import RequestException
from werkzeug.wrappers import Response

from sluice.web import access, browsers
from sluice.web.accounts import remember_person
from sluice.web.config import OidcConfig, WebConfig
from sluice.web.database import Database, SignedInBrowser, User
from sluice.web.guard import CSRF_SESSION, is_local_path, new_csrf_token
from sluice.web.metrics import Metrics
from sluice.web.refusal import PageError

logger = logging.getLogger(__name__)

PREFIX = "/auth"
PROVIDER_TIMEOUT = 10

# How old the provider's word may be before it is asked again, and how soon after a failure.
CHECK_SECONDS = 840.0
RECHECK_SECONDS = 60.0

_PERSON = "person"


@dataclass(frozen=True)
class SignedIn:
    """Who is signed in, as the database has them now, and what the session keeps of this sign-in.

    `tag` names the sign-in; `role` is `access.USER` or `access.ADMIN`; `checked` is when the provider last
    said who this is, in seconds since the epoch.
    """

    id: int
    user: str
    subject: str
    name: str
    groups: tuple[str, ...]
    role: str
    projects: tuple[str, ...]
    csrf: str
    tag: str
    id_token: str
    refresh_token: str
    checked: float


@dataclass(frozen=True)
class _Entry:
    """What the server-side session keeps of a sign-in."""

    tag: str
    csrf: str
    id_token: str
    refresh_token: str
    checked: float


class SignIn:
    """The sign-in of one app."""

    def __init__(self, app: Flask, settings: WebConfig, database: Database, metrics: Metrics) -> None:
        self._settings = settings
        self._names = settings.oidc.claims
        self._database = database
        self._outcomes = metrics.counter("sign_ins", "Sign-ins by outcome.", ("outcome",))
        self._recent = _Recent()
        self.lifetime = browsers.Lifetime(settings.session_idle, settings.session_max)
        self._oidc = _connect(app, settings)
        after_authorize.connect(self._on_authorized, sender=self._oidc.oauth.oidc)
        app.before_request(self._before_request)

    @property
    def client(self) -> Any:
        """Authlib's client of the provider."""
        return self._oidc.oauth.oidc

    def person(self) -> SignedIn | None:
        """Return who is signed in, if anybody: their row must be there, and they not be blocked."""
        if "person" not in g:
            g.person = self._look_up()
        person: SignedIn | None = g.person
        return person

    def _look_up(self) -> SignedIn | None:
        kept = session.get(_PERSON)
        if kept is None:
            return None
        entry, now = _Entry(**kept), time.time()
        with self._database.read() as transaction:
            found = browsers.find(transaction, entry.tag, self._settings.oidc.issuer, self.lifetime, now)
        if found is None:
            logger.info("a browser showed a sign-in that is over")
            _renew_session()
            return None
        row, user = found
        self._touch(row, now)
        return self._describe(entry, user)

    def _touch(self, row: SignedInBrowser, now: float) -> None:
        if now - row.seen >= browsers.SEEN_SECONDS:
            with self._database.write() as transaction:
                browsers.touch(transaction, row.tag, now)

    def _describe(self, entry: _Entry, user: User) -> SignedIn:
        rights = self._settings.access
        return SignedIn(
            id=user.id,
            user=user.pseudonym,
            subject=user.subject,
            name=user.name,
            groups=tuple(user.groups),
            role=access.role_of(user.groups, rights),
            projects=access.projects_of(user.groups, rights),
            **vars(entry),
        )

    def count(self, outcome: str) -> None:
        """Count a sign-in that came to `outcome`."""
        self._outcomes.labels(outcome).inc()

    def leave(self) -> Response:
        """End the session here, then send the browser to the provider to end it there too.

        Raises requests' RequestException when the provider does not answer; the session is over all the same.
        """
        person = self.person()
        self.end_session()
        if person is None:
            return redirect(url_for("chat.index"))
        back = url_for("sign.signed_out", _external=True)
        if not self.client.load_server_metadata().get("end_session_endpoint"):
            return redirect(back)
        answer: Response = self.client.logout_redirect(
            back, id_token_hint=person.id_token, client_id=self._settings.oidc.client_id
        )
        return answer

    def end_session(self) -> None:
        """Forget the session and its page bearers; what comes next gets another session id."""
        person = self.person()
        if person is not None:
            with self._database.write() as transaction:
                browsers.end(transaction, person.tag)
        _renew_session()

    # --- What happens at each request ------------------------------------------------------------------

    def _before_request(self) -> Response | None:
        if request.endpoint == "oidc_auth.logout":
            # flask-oidc's own: a GET without a token that leaves the provider's session alive.
            abort(404)
        if request.endpoint == "oidc_auth.login":
            if not is_local_path(request.args.get("next", "/")):
                abort(400)
        elif request.endpoint != "static":
            self._refresh()
        return None

    def _refresh(self) -> None:
        """Ask the provider again who this is, once in a while; end the session if it no longer says."""
        person = self.person()
        now = time.time()
        if person is None or now - person.checked < CHECK_SECONDS or not self._recent.take(person.tag, now):
            return
        if not person.refresh_token:
            # Nothing to ask with: the session's own lifetime bounds how old its groups get.
            return
        try:
            token = self.client.fetch_access_token(
                grant_type="refresh_token", refresh_token=person.refresh_token
            )
            claims = self.client.userinfo(token=token)
        except OAuthError as error:
            logger.info("the provider ended a session", extra={"user": person.user, "fault": error.error})
            self.end_session()
            return
        except RequestException as error:
            logger.warning("the provider does not answer", extra={"fault": type(error).__name__})
            return
        if access.claim(claims, self._names.id) != person.subject:
            self.end_session()
            return
        user = self._remember(claims, now)
        refresh_token = token.get("refresh_token") or person.refresh_token
        self._keep(_Entry(person.tag, person.csrf, person.id_token, refresh_token, now), user)

    def _on_authorized(self, _client: object, *, token: dict[str, Any], return_to: str) -> None:
        """Turn the provider's answer into a session of ours; flask-oidc calls this before it redirects."""
        told, profile = token.get("userinfo", {}), session.get("oidc_auth_profile", {})
        # OpenID Connect Core 5.3.2: only the signed ID token says who it is.
        if profile and told and profile.get("sub") != told.get("sub"):
            logger.error("the provider's userinfo speaks of another person than its ID token")
            _renew_session()
            abort(502)
        claims = {**told, **profile}
        if not isinstance(access.claim(claims, self._names.id), str):
            logger.error("the provider's claims lack the identifier", extra={"claim": self._names.id})
            abort(502)
        _renew_session()
        now = time.time()
        entry = _Entry(
            tag=secrets.token_hex(16),
            csrf=new_csrf_token(),
            id_token=token.get("id_token") or "",
            refresh_token=token.get("refresh_token") or "",
            checked=now,
        )
        user = self._remember(claims, now, entry.tag, told)
        self._keep(entry, user)
        self.count("success")

    def _keep(self, entry: _Entry, user: User) -> None:
        session[_PERSON] = dict(vars(entry))
        session[CSRF_SESSION] = entry.csrf
        g.person = self._describe(entry, user)

    def _remember(
        self, claims: Mapping[str, Any], now: float, tag: str = "", told: Mapping[str, Any] | None = None
    ) -> User:
        """Bring the user up to date; with a `tag`, begin that sign-in of whom the ID token told."""
        groups = access.usable_groups(access.claim(claims, self._names.groups))
        if not access.may_sign_in(groups, self._settings.access):
            raise PageError(403, "not_member", outcome="not_member")
        subject = str(access.claim(claims, self._names.id))
        with self._database.write() as transaction:
            user = remember_person(
                transaction,
                issuer=self._settings.oidc.issuer,
                subject=subject,
                name=str(access.claim(claims, self._names.name) or subject),
                email=str(access.claim(claims, self._names.email) or ""),
                groups=groups,
                now=now,
            )
            if user.blocked is not None:
                raise PageError(403, "blocked", outcome="blocked")
            if tag and told is not None:
                browsers.forget_ended(transaction, self.lifetime, now)
                browsers.begin(
                    transaction,
                    tag=tag,
                    user_id=user.id,
                    sid=str(told.get("sid") or ""),
                    subject=str(told.get("sub") or ""),
                    now=now,
                )
        return user


class _Recent:
    """Lets one of several simultaneous requests of a sign-in ask the provider.

    Providers take a refresh token that comes twice for a stolen one and end the session.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken: dict[str, float] = {}

    def take(self, tag: str, now: float) -> bool:
        """Tell whether it is this request's turn."""
        with self._lock:
            self._taken = {key: at for key, at in self._taken.items() if now - at < RECHECK_SECONDS}
            if tag in self._taken:
                return False
            self._taken[tag] = now
            return True


def _connect(app: Flask, settings: WebConfig) -> OpenIDConnect:
    app.config.update(_oidc_settings(settings.oidc))
    oidc = OpenIDConnect(app, prefix=PREFIX)
    client = oidc.oauth.oidc
    client.client_kwargs["code_challenge_method"] = "S256"
    client.client_kwargs["default_timeout"] = PROVIDER_TIMEOUT
    if settings.oidc.ca_file:
        # Without trust_env=False, REQUESTS_CA_BUNDLE in the environment would win over the setting.
        client.client_kwargs["verify"] = settings.oidc.ca_file
        client.client_kwargs["trust_env"] = False
    return oidc


def _oidc_settings(oidc: OidcConfig) -> dict[str, Any]:
    return {
        "OIDC_CLIENT_SECRETS": {
            "web": {
                "issuer": oidc.issuer,
                "client_id": oidc.client_id,
                "client_secret": oidc.client_secret,
            }
        },
        "OIDC_SCOPES": oidc.scopes,
        "OIDC_INTROSPECTION_AUTH_METHOD": oidc.token_auth,
        "OIDC_USER_CLASS": "",
    }


def _renew_session() -> None:
    """Empty the session and give it another id; what an earlier id named is gone."""
    g.person = None
    interface: Any = current_app.session_interface
    interface.regenerate(session)
    session.clear()
