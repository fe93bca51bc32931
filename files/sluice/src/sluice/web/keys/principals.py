"""Looks up the principal of a credential in database and settings, for the authority."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import BindParameter, Row, Select, bindparam, select, update
from sqlalchemy.orm import Session

from sluice.contracts.authority import LIMITED, Limit, Principal
from sluice.web.database.tables import SERVICE, ApiKey, LimitRow, PageBearer, SignedInBrowser, User
from sluice.web.keys import generation
from sluice.web.settings.access import may_sign_in, projects_of
from sluice.web.settings.config import KeySecret, WebConfig
from sluice.web.settings.rules import Holder, RuleIndex, compose, scopes_of

# Tables instead of mapped classes, and statements built once: otherwise the mapper and building the
# statements would take more time per answer than the database.
_users, _keys = User.__table__, ApiKey.__table__
_bearers, _sign_ins, _limits = PageBearer.__table__, SignedInBrowser.__table__, LimitRow.__table__
_FORMS: BindParameter[Any] = bindparam("forms", expanding=True)
_USER: tuple[Any, ...] = tuple(
    _users.c[name] for name in ("pseudonym", "kind", "groups", "blocked", "page_project")
)
_KEY: Select[Any] = (
    select(
        *(_keys.c[name] for name in ("id", "secret_id", "stored", "expires", "revoked", "project", "models")),
        *(_keys.c[name] for name in LIMITED),
        *_USER,
    )
    .join(_users, _users.c.id == _keys.c.user_id)
    .where(_keys.c.stored.in_(_FORMS))
)
# A bearer works only while its sign-in exists: deleting that row ends it.
_BEARER: Select[Any] = (
    select(*(_bearers.c[name] for name in ("id", "secret_id", "stored", "expires")), *_USER)
    .join(_users, _users.c.id == _bearers.c.user_id)
    .join(_sign_ins, _sign_ins.c.tag == _bearers.c.session_tag)
    .where(_bearers.c.stored.in_(_FORMS))
)
_LIMITS: Select[Any] = select(*(_limits.c[name] for name in ("scope", "model", *LIMITED))).where(
    _limits.c.scope.in_(bindparam("scopes", expanding=True))
)


class OutdatedKey(NamedTuple):
    """A key that is stored under an old secret, with its stored form under the current secret."""

    key_id: str
    stored: str
    secret_id: str
    new_form: str


class Match(NamedTuple):
    """A credential's principal; `outdated` if its key must be stored again (`update_stored_form`)."""

    principal: Principal
    outdated: OutdatedKey | None


class Principals:
    """Looks up principals; reads the settings once."""

    def __init__(self, settings: WebConfig) -> None:
        self._secrets = (settings.key_secret, *settings.old_key_secrets)
        self._access = settings.access
        self._book = RuleIndex(settings.limits)

    def find(self, session: Session, credential: str, now: float) -> Match | None:
        """Return the principal of a credential (SHA-256, hex); None if it does not work, whatever the reason.

        `now` is in seconds since the epoch. Raises TooManyLimits.
        """
        forms = {generation.stored_form(credential, secret.value): secret for secret in self._secrets}
        row = _row(session, _KEY, forms)
        if row is not None:
            return self._of_key(session, row, credential, now)
        row = _row(session, _BEARER, forms)
        if row is None or row.expires <= now or not self._may_use(row):
            return None
        return Match(self._of_page(session, row), None)

    def _of_key(self, session: Session, row: Row[Any], credential: str, now: float) -> Match | None:
        if row.revoked is not None or row.expires <= now or not self._may_use(row):
            return None
        # A person who has left a project must not use the project's budget.
        if row.project and row.project not in projects_of(row.groups, self._access):
            return None
        holder = Holder(row.pseudonym, row.groups, row.project, row.id)
        principal = Principal(
            user=row.pseudonym,
            key_id=row.id,
            kind="api_key",
            class_="api",
            groups=tuple(row.groups),
            expires=row.expires,
            project=row.project,
            models=None if row.models is None else tuple(row.models),
            limits=self._limits(session, holder, row),
        )
        return Match(principal, self._outdated(row, credential))

    def _may_use(self, row: Row[Any]) -> bool:
        # A service account never signs in, so the rule about who may sign in does not apply.
        return row.blocked is None and (row.kind == SERVICE or may_sign_in(row.groups, self._access))

    def _of_page(self, session: Session, row: Row[Any]) -> Principal:
        project = page_project(row.page_project, projects_of(row.groups, self._access))
        holder = Holder(row.pseudonym, row.groups, project, "")
        return Principal(
            user=row.pseudonym,
            key_id=row.id,
            kind="page",
            class_="interactive",
            groups=tuple(row.groups),
            expires=row.expires,
            project=project,
            limits=self._limits(session, holder, None),
        )

    def _limits(self, session: Session, holder: Holder, own: Row[Any] | None) -> tuple[Limit, ...]:
        scopes = {"scopes": list({scope for scope, _bucket in scopes_of(holder)})}
        rows: Sequence[Any] = session.connection().execute(_LIMITS, scopes).all()
        return compose(holder, self._book, rows, own)

    def _outdated(self, row: Row[Any], credential: str) -> OutdatedKey | None:
        current = self._secrets[0]
        if row.secret_id == current.id:
            return None
        return OutdatedKey(row.id, row.stored, current.id, generation.stored_form(credential, current.value))


def page_project(chosen: str, projects: Sequence[str]) -> str:
    """Return the project for which use of the chat page counts: the chosen one, else the first, else ""."""
    return chosen if chosen in projects else projects[0] if projects else ""


def update_stored_form(session: Session, outdated: OutdatedKey) -> None:
    """Store a key under the current secret, unless another request has just done so."""
    session.execute(
        update(ApiKey)
        .where(ApiKey.id == outdated.key_id, ApiKey.stored == outdated.stored)
        .values(stored=outdated.new_form, secret_id=outdated.secret_id)
    )


def _row(session: Session, query: Select[Any], forms: dict[str, KeySecret]) -> Row[Any] | None:
    """Return the row whose stored form was made with the secret that the row names."""
    for row in session.connection().execute(query, {"forms": list(forms)}):
        if forms[row.stored].id == row.secret_id:
            return row
    return None
