"""Sign-in and sign-out through the OpenID provider, around flask-oidc.

flask-oidc does the redirects and Authlib checks the answers (state, nonce, signature, PKCE). This module
removes the tokens from where flask-oidc stores them: it would refresh them at every request, and log a
failure with the token. It copies what is needed into one entry of the server-side session, which gets a new
id at sign-in.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from authlib.integrations.base_client.errors import OAuthError
from flask import Flask, abort, current_app, g, redirect, request, session, url_for
from flask_oidc import OpenIDConnect
from flask_oidc.signals import after_authorize
from requests.exceptions import RequestException
from sqlalchemy.exc import SQLAlchemyError
from werkzeug.wrappers import Response

from sluice.web.database import timeouts
from sluice.web.database.tables import Database, SignedInBrowser, User
from sluice.web.http import assets
from sluice.web.http.guard import CSRF_SESSION, is_local_path, new_csrf_token
from sluice.web.http.metrics import Metrics
from sluice.web.http.page_error import PageError, UnreadableAnswer
from sluice.web.people import sign_ins
from sluice.web.people.accounts import find_person, upsert_person
from sluice.web.settings import access
from sluice.web.settings.config import WebConfig
from sluice.web.signin import provider, sessions
from sluice.web.signin.session_store import SIGN_IN_KEY, SessionStore

logger = logging.getLogger(__name__)

PREFIX = "/auth"

# In seconds: how often to ask the provider about a user; how soon to retry for the same sign-in; how long
# nobody asks after the provider did not answer.
REFRESH_SECONDS = 840.0
REFRESH_RETRY_SECONDS = 60.0
PROVIDER_PAUSE_SECONDS = 30.0

# The longest ID token that is sent at sign-out. It is part of a URL, for which providers and their front ends
# accept only some thousand bytes.
MAX_ID_TOKEN_HINT = 3_000

# Unused routes of flask-oidc: sign-out by GET, which leaves the provider's session open, and an old callback.
_BLOCKED_ROUTES = ("oidc_auth.logout", "legacy_oidc_callback")

# Endpoints that ignore the sign-in, or that replace it.
_NO_SESSION = (assets.ENDPOINT, "oidc_auth.authorize", "sign.back_channel")


@dataclass(frozen=True)
class SignedInUser:
    """The signed-in user from the database, and this sign-in from the session.

    `id` is the row in `user`; `tag` names the sign-in; `role` is `access.USER` or `access.ADMIN`. `checked`:
    when the provider last confirmed the user, in seconds since the epoch.
    """

    id: int
    pseudonym: str
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
    """A sign-in in the server-side session."""

    tag: str
    csrf: str
    id_token: str
    refresh_token: str
    checked: float


_ENTRY_FIELDS = {field.name for field in fields(_Entry)}


class SignIn:
    """Sign-in and sign-out of an app's users."""

    def __init__(self, app: Flask, settings: WebConfig, database: Database, metrics: Metrics) -> None:
        self._settings = settings
        self._names = settings.oidc.claims
        self._groups = access.configured_groups(settings.access, settings.limits)
        self._database = database
        self._outcomes = metrics.counter("sign_ins", "Sign-ins by outcome.", ("outcome",))
        self._recent = _RefreshTurns()
        self._quiet_until = 0.0
        self.lifetime = sign_ins.Lifetime(settings.session_idle, settings.session_max)
        self._oidc = _connect(app, settings)
        after_authorize.connect(self._on_authorized, sender=self._oidc.oauth.oidc)
        app.before_request(self._before_request)

    @property
    def client(self) -> Any:
        """Authlib's client for the provider."""
        return self._oidc.oauth.oidc

    def person(self) -> SignedInUser | None:
        """Return the signed-in user; None without a sign-in in the database, or if the user is blocked."""
        if "person" not in g:
            g.person = self._look_up()
        person: SignedInUser | None = g.person
        return person

    def _look_up(self) -> SignedInUser | None:
        kept = session.get(SIGN_IN_KEY)
        if kept is None:
            return None
        if set(kept) != _ENTRY_FIELDS:
            # The session was written by another version.
            _renew_session()
            return None
        entry, now = _Entry(**kept), time.time()
        found = self._row(entry, now)
        if found is None:
            logger.info("a browser sent a sign-in that has ended")
            _renew_session()
            return None
        row, user = found
        self._touch(row, now)
        return self._signed_in_user(entry, user)

    def _row(self, entry: _Entry, now: float) -> tuple[SignedInBrowser, User] | None:
        with self._database.read() as transaction:
            return sign_ins.find(transaction, entry.tag, self._settings.oidc.issuer, self.lifetime, now)

    def _touch(self, row: SignedInBrowser, now: float) -> None:
        if now - row.seen < sign_ins.SEEN_SECONDS:
            return
        try:
            with timeouts.at_most(timeouts.OPTIONAL_SECONDS), self._database.write() as transaction:
                sign_ins.touch(transaction, row.tag, now)
        except SQLAlchemyError as error:
            # The request continues; the next one tries again.
            logger.warning("the use of a sign-in was not recorded", extra={"fault": type(error).__name__})

    def _signed_in_user(self, entry: _Entry, user: User) -> SignedInUser:
        rights = self._settings.access
        return SignedInUser(
            id=user.id,
            pseudonym=user.pseudonym,
            subject=user.subject,
            name=user.name,
            groups=tuple(user.groups),
            role=access.role_of(user.groups, rights),
            projects=access.projects_of(user.groups, rights),
            **vars(entry),
        )

    def count(self, outcome: str) -> None:
        """Count a sign-in with this `outcome`."""
        self._outcomes.labels(outcome).inc()

    def sign_out(self, *, everywhere: bool = False) -> Response:
        """End the sign-in here (`everywhere`: all of this user), then redirect to the provider's sign-out.

        Raises PageError if the provider does not answer; the sign-in here has ended anyway.
        """
        person = self.person()
        if everywhere and person is not None:
            with self._database.write() as transaction:
                sign_ins.end_all(transaction, person.id)
        self.end_session()
        if person is None:
            return redirect(url_for("chat.index"))
        back = url_for("sign.signed_out", _external=True)
        try:
            if not self.client.load_server_metadata().get("end_session_endpoint"):
                return redirect(back)
        except (PageError, RequestException) as error:
            logger.warning("the sign-in provider does not answer", extra={"fault": type(error).__name__})
            raise PageError(503, "sign_out_provider_down", retry_after=30) from error
        answer: Response = self.client.logout_redirect(
            back, id_token_hint=person.id_token or None, client_id=self._settings.oidc.client_id
        )
        return answer

    def end_session(self) -> None:
        """End the sign-in and its page bearers; the session gets a new id."""
        person = self.person()
        try:
            if person is not None:
                with self._database.write() as transaction:
                    sign_ins.end(transaction, person.tag)
        except SQLAlchemyError as error:
            # Its page bearers expire within minutes, and the browser has lost the session.
            logger.warning("a sign-in was not ended in the database", extra={"fault": type(error).__name__})
        finally:
            _renew_session()

    # --- At each request ------------------------------------------------------------------

    def _before_request(self) -> Response | None:
        if request.endpoint in _BLOCKED_ROUTES:
            abort(404)
        if request.endpoint == "oidc_auth.login":
            start = url_for("chat.index")
            if not is_local_path(request.args.get("next", start), request.script_root):
                abort(400)
            # Looking up a sign-in that has ended empties the session: do it before a new state is put there.
            self.person()
        elif request.endpoint == "oidc_auth.authorize":
            return self._skip_unknown_answer()
        elif request.endpoint not in _NO_SESSION:
            self._refresh()
        return None

    def _skip_unknown_answer(self) -> Response | None:
        """Redirect a signed-in user who returns with the answer to an unknown sign-in.

        This happens with many tabs, or when a tab returns twice. Everything in the address is ignored: it may
        be from somebody else.
        """
        if not self.client.is_unknown_answer() or self.person() is None:
            return None
        self.count("unknown")
        return redirect(url_for("chat.index"))

    def _refresh(self) -> None:
        """Ask the provider about the user every REFRESH_SECONDS; end the sign-in if it is not confirmed."""
        person, now = self.person(), time.time()
        if person is None or now - person.checked < REFRESH_SECONDS:
            return
        # Without a refresh token, the groups stay as they are until the sign-in ends.
        if not person.refresh_token or now < self._quiet_until or not self._recent.take(person.tag, now):
            return
        try:
            self._refresh_from_provider(person, now)
        except OAuthError as error:
            logger.info(
                "the provider ended a session", extra={"user": person.pseudonym, "fault": error.error}
            )
            self.end_session()
        except (RequestException, UnreadableAnswer) as error:
            # Other requests must not all wait for the provider: there are only a few threads.
            self._quiet_until = now + PROVIDER_PAUSE_SECONDS
            logger.warning("the provider does not answer", extra={"fault": type(error).__name__})
        except SQLAlchemyError as error:
            # As if the provider were down: users continue with the claims that are stored.
            logger.warning("the provider's answer was not stored", extra={"fault": type(error).__name__})
        except PageError as error:
            logger.info("a sign-in was not extended", extra={"user": person.pseudonym, "fault": error.texts})
            self.end_session()

    def _refresh_from_provider(self, person: SignedInUser, now: float) -> None:
        token = self.client.refresh(person.refresh_token)
        # Store it at once: most providers treat a refresh token that comes twice as stolen.
        refresh_token = token.get("refresh_token") or person.refresh_token
        entry = _Entry(person.tag, person.csrf, person.id_token, refresh_token, person.checked)
        session[SIGN_IN_KEY] = dict(vars(entry))
        sessions.save()
        user_claims = self.client.refreshed_claims(token)
        if access.identifier(access.claim(user_claims.claims, self._names.id)) != person.subject:
            raise PageError(401, "401")
        if person.groups and access.claim(user_claims.claims, self._names.groups) is None:
            # A missing claim does not mean no groups: some providers send groups only in ID tokens.
            raise PageError(401, "401")
        user = self._update_user(user_claims, now)
        self._store_in_session(replace(entry, checked=now), user)

    def _on_authorized(self, _client: object, *, token: dict[str, Any], return_to: str) -> None:
        """Begin a sign-in with the provider's answer; flask-oidc calls this before it redirects."""
        user_claims: provider.UserClaims = token["user_claims"]
        kept = session.get(SIGN_IN_KEY)
        # First of all, before anything can fail: flask-oidc has put all tokens into the session.
        _renew_session()
        now = time.time()
        before = self._earlier_sign_in(kept, user_claims, now)
        id_token = token.get("id_token") or ""
        entry = _Entry(
            tag=secrets.token_hex(16),
            # Another tab of the same user may still send forms with this token.
            csrf=before.csrf if before else new_csrf_token(),
            # Kept for sign-out, where a longer one would not fit into the URL.
            id_token=id_token if len(id_token) <= MAX_ID_TOKEN_HINT else "",
            refresh_token=token.get("refresh_token") or "",
            checked=now,
        )
        user = self._update_user(user_claims, now, entry.tag, ends=kept["tag"] if kept else "")
        self._store_in_session(entry, user)
        sessions.save()
        self.count("success")
        store: SessionStore = current_app.config["SESSION_CACHELIB"]
        store.sweep()

    def _earlier_sign_in(
        self, kept: dict[str, Any] | None, user_claims: provider.UserClaims, now: float
    ) -> _Entry | None:
        """Return this browser's earlier sign-in of the same user, for example from another tab, or None."""
        if kept is None or set(kept) != _ENTRY_FIELDS:
            return None
        entry = _Entry(**kept)
        found = self._row(entry, now)
        same = found is not None and found[1].subject == access.identifier(
            access.claim(user_claims.claims, self._names.id)
        )
        return entry if same else None

    def _store_in_session(self, entry: _Entry, user: User) -> None:
        session[SIGN_IN_KEY] = dict(vars(entry))
        session[CSRF_SESSION] = entry.csrf
        g.person = self._signed_in_user(entry, user)

    def _update_user(
        self, user_claims: provider.UserClaims, now: float, tag: str = "", ends: str = ""
    ) -> User:
        """Store the user's claims; with a `tag`, begin that sign-in and end the one named `ends`.

        Raises PageError if the user may not sign in.
        """
        person = self._identity_of(user_claims.claims)
        member = access.may_sign_in(person.groups, self._settings.access)
        with self._database.write() as transaction:
            known = find_person(transaction, self._settings.oidc.issuer, person.id) is not None
            if not member and not known:
                raise PageError(403, "not_member", outcome="not_member")
            if not tag and not known:
                # Erased while the provider was asked. Only a sign-in may store a person.
                raise PageError(401, "401")
            user = upsert_person(
                transaction,
                issuer=self._settings.oidc.issuer,
                subject=person.id,
                name=person.name,
                email=person.email,
                groups=person.groups,
                now=now,
            )
            may = member and user.blocked is None
            if not may:
                sign_ins.end_all(transaction, user.id)
            elif tag:
                sign_ins.forget_ended(transaction, self.lifetime, now)
                sign_ins.end(transaction, ends)
                sign_ins.begin(
                    transaction,
                    tag=tag,
                    user_id=user.id,
                    sid=access.identifier(user_claims.id_token.get("sid")),
                    subject=access.identifier(user_claims.id_token.get("sub")),
                    now=now,
                )
        if not may:
            why = "blocked" if member else "not_member"
            raise PageError(403, why, outcome=why)
        return user

    def _identity_of(self, claims: Mapping[str, Any]) -> access.Identity:
        person = access.read_identity(claims, self._names, self._groups)
        if person is None:
            logger.error("the provider's claims lack a usable identifier", extra={"claim": self._names.id})
            raise PageError(502, "502", outcome="unusable")
        if access.groups_were_omitted(claims, self._names):
            # Without their groups, users would lose rights, and nobody would know why.
            logger.error(
                "the provider did not send a person's groups, because they are too many: in Entra, "
                "configure the groups claim with only the groups assigned to the application, or use "
                "app roles",
                extra={"claim": self._names.groups},
            )
            raise PageError(403, "groups_elsewhere", outcome="unusable")
        return person


class _RefreshTurns:
    """Lets only one of several simultaneous requests of a sign-in ask the provider.

    Providers treat a refresh token that comes twice as stolen, and end the session.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken: dict[str, float] = {}

    def take(self, tag: str, now: float) -> bool:
        """Tell whether it is this request's turn."""
        with self._lock:
            self._taken = {key: at for key, at in self._taken.items() if now - at < REFRESH_RETRY_SECONDS}
            if tag in self._taken:
                return False
            self._taken[tag] = now
            return True


def _connect(app: Flask, settings: WebConfig) -> OpenIDConnect:
    oidc = settings.oidc
    known = {"issuer": oidc.issuer, "client_id": oidc.client_id, "client_secret": oidc.client_secret}
    app.config.update(
        OIDC_CLIENT_SECRETS={"web": known},
        OIDC_SCOPES=oidc.scopes,
        OIDC_USER_CLASS="",
        # Our own client asks for userinfo, before anything of the answer is stored.
        OIDC_USER_INFO_ENABLED=False,
    )
    connected = OpenIDConnect(app, prefix=PREFIX)
    connected.oauth = provider.register(app, oidc)
    return connected


def _renew_session() -> None:
    """Empty the session and give it a new id; the data under the old id is deleted."""
    g.person = None
    interface: Any = current_app.session_interface
    interface.regenerate(session)
    empty_session()


def empty_session() -> None:
    """Empty the session, except for sign-ins that other tabs have begun: each has its own state and nonce."""
    begun = {name: value for name, value in session.items() if name.startswith(provider.STATES)}
    session.clear()
    session.update(begun)
