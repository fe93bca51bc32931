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

# How old the provider's word may be before it is asked again, and how soon after a failure.
REFRESH_SECONDS = 840.0
REFRESH_RETRY_SECONDS = 60.0
PROVIDER_PAUSE_SECONDS = 30.0

# The longest ID token that goes with somebody who signs out: it stands in an address, of which providers, and
# what stands before them, take some thousand bytes.
MAX_ID_TOKEN_HINT = 3_000

# Routes of flask-oidc: a way out by GET that leaves the provider's session alive, and an earlier callback.
_BLOCKED_ROUTES = ("oidc_auth.logout", "legacy_oidc_callback")

# Where nobody's sign-in counts, or an answer is on its way that will replace it.
_NO_SESSION = ("static", "oidc_auth.authorize", "sign.back_channel")


@dataclass(frozen=True)
class SignedInUser:
    """Who is signed in, as the database has them now, and what the session keeps of this sign-in.

    `tag` names the sign-in; `role` is `access.USER` or `access.ADMIN`; `checked` is when the provider last
    said who this is, in seconds since the epoch.
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
    """What the server-side session keeps of a sign-in."""

    tag: str
    csrf: str
    id_token: str
    refresh_token: str
    checked: float


_ENTRY_FIELDS = {field.name for field in fields(_Entry)}


class SignIn:
    """The sign-in of one app."""

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
        """Authlib's client of the provider."""
        return self._oidc.oauth.oidc

    def person(self) -> SignedInUser | None:
        """Return who is signed in, if anybody: their row must be there, and they not be blocked."""
        if "person" not in g:
            g.person = self._look_up()
        person: SignedInUser | None = g.person
        return person

    def _look_up(self) -> SignedInUser | None:
        kept = session.get(SIGN_IN_KEY)
        if kept is None:
            return None
        if set(kept) != _ENTRY_FIELDS:
            # A session of another version of this service.
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
            # What only reads goes on; the next request tries again.
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
        """Count a sign-in that came to `outcome`."""
        self._outcomes.labels(outcome).inc()

    def sign_out(self, *, everywhere: bool = False) -> Response:
        """End the session here (`everywhere`: all of this user), then at the provider, by way of the browser.

        Raises PageError when the provider does not answer; what was to end here is over all the same.
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
        """Forget the session and its page bearers; what comes next gets another session id."""
        person = self.person()
        try:
            if person is not None:
                with self._database.write() as transaction:
                    sign_ins.end(transaction, person.tag)
        except SQLAlchemyError as error:
            # Its page bearers live for minutes yet; nobody else can show this sign-in again.
            logger.warning("a sign-in was not ended in the database", extra={"fault": type(error).__name__})
        finally:
            _renew_session()

    # --- What happens at each request ------------------------------------------------------------------

    def _before_request(self) -> Response | None:
        if request.endpoint in _BLOCKED_ROUTES:
            abort(404)
        if request.endpoint == "oidc_auth.login":
            if not is_local_path(request.args.get("next", "/")):
                abort(400)
            # A sign-in that is over empties its session: before the next one's state is put there, not after.
            self.person()
        elif request.endpoint == "oidc_auth.authorize":
            return self._skip_unknown_answer()
        elif request.endpoint not in _NO_SESSION:
            self._refresh()
        return None

    def _skip_unknown_answer(self) -> Response | None:
        """Send who is signed in past an answer to a sign-in that is not known here (any more).

        One of many tabs comes back so, or the same one twice. Nothing that stands in the address counts: it
        may be somebody else's.
        """
        if not self.client.is_unknown_answer() or self.person() is None:
            return None
        self.count("unknown")
        return redirect(url_for("chat.index"))

    def _refresh(self) -> None:
        """Ask the provider again who this is, once in a while; end the session if it no longer says."""
        person, now = self.person(), time.time()
        if person is None or now - person.checked < REFRESH_SECONDS:
            return
        # With nothing to ask with, the session's own lifetime bounds how old its groups get.
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
            # Not each browser's next request: one of few threads would wait for the provider in each.
            self._quiet_until = now + PROVIDER_PAUSE_SECONDS
            logger.warning("the provider does not answer", extra={"fault": type(error).__name__})
        except SQLAlchemyError as error:
            # As with a provider that is down: people go on with the word that is there.
            logger.warning("the provider's answer was not stored", extra={"fault": type(error).__name__})
        except PageError as error:
            logger.info("a sign-in was not extended", extra={"user": person.pseudonym, "fault": error.texts})
            self.end_session()

    def _refresh_from_provider(self, person: SignedInUser, now: float) -> None:
        token = self.client.refresh(person.refresh_token)
        # Kept at once: most providers take an old one that comes again for a stolen one.
        refresh_token = token.get("refresh_token") or person.refresh_token
        entry = _Entry(person.tag, person.csrf, person.id_token, refresh_token, person.checked)
        session[SIGN_IN_KEY] = dict(vars(entry))
        sessions.save()
        user_claims = self.client.refreshed_claims(token)
        if access.identifier(access.claim(user_claims.claims, self._names.id)) != person.subject:
            raise PageError(401, "401")
        if person.groups and access.claim(user_claims.claims, self._names.groups) is None:
            # Silence says nothing about groups: a provider that names them in ID tokens alone, say.
            raise PageError(401, "401")
        user = self._update_user(user_claims, now)
        self._store_in_session(replace(entry, checked=now), user)

    def _on_authorized(self, _client: object, *, token: dict[str, Any], return_to: str) -> None:
        """Turn the provider's answer into a session of ours; flask-oidc calls this before it redirects."""
        user_claims: provider.UserClaims = token["user_claims"]
        kept = session.get(SIGN_IN_KEY)
        # Before anything can fail: flask-oidc has put all tokens into the session.
        _renew_session()
        now = time.time()
        before = self._earlier_sign_in(kept, user_claims, now)
        id_token = token.get("id_token") or ""
        entry = _Entry(
            tag=secrets.token_hex(16),
            # Another tab of the same person has forms of its own to send.
            csrf=before.csrf if before else new_csrf_token(),
            # Kept to sign out with, which a longer one cannot: it would stand in an address.
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
        """Return this browser's sign-in of the same person, made in another tab, say."""
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
        """Bring the user up to date; with a `tag`, begin that sign-in in place of the one called `ends`.

        Raises PageError: they may not.
        """
        person = self._identity_of(user_claims.claims)
        member = access.may_sign_in(person.groups, self._settings.access)
        with self._database.write() as transaction:
            if not member and find_person(transaction, self._settings.oidc.issuer, person.id) is None:
                raise PageError(403, "not_member", outcome="not_member")
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
            # Let in without them, people would lose what their groups give them, and nobody would know why.
            logger.error(
                "the provider did not send a person's groups, because they are too many: in Entra, "
                "configure the groups claim with only the groups assigned to the application, or use "
                "app roles",
                extra={"claim": self._names.groups},
            )
            raise PageError(403, "groups_elsewhere", outcome="unusable")
        return person


class _RefreshTurns:
    """Lets one of several simultaneous requests of a sign-in ask the provider.

    Providers take a refresh token that comes twice for a stolen one and end the session.
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
        # Asked for by our own client, before anything is kept of an answer that may prove useless.
        OIDC_USER_INFO_ENABLED=False,
    )
    connected = OpenIDConnect(app, prefix=PREFIX)
    connected.oauth = provider.register(app, oidc)
    return connected


def _renew_session() -> None:
    """Empty the session and give it another id; what an earlier id named is gone."""
    g.person = None
    interface: Any = current_app.session_interface
    interface.regenerate(session)
    empty_session()


def empty_session() -> None:
    """Forget all but the sign-ins that other tabs have begun: each has a state and a nonce of its own."""
    begun = {name: value for name, value in session.items() if name.startswith(provider.STATES)}
    session.clear()
    session.update(begun)
