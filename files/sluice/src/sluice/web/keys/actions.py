"""Actions of administrators and operators on users' keys, each with its entry in the audit log."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from sluice.web.admin import audit
from sluice.web.database.tables import SERVICE, ApiKey, User
from sluice.web.keys import credentials
from sluice.web.keys.credentials import KeySettings, NewKey, settings_of
from sluice.web.settings.access import projects_of
from sluice.web.settings.config import WebConfig
from sluice.web.settings.rules import numbers_of
from sluice.web.words import times
from sluice.web.words.validation import ValidationError


def create(
    session: Session, settings: WebConfig, actor: str, user: User, wanted: KeySettings, now: float
) -> NewKey:
    """Create a key for a service account.

    Raises ValidationError, also for a person: whoever has their key could act as them.
    """
    _check_service(user)
    if user.blocked is not None:
        raise ValidationError("user_blocked", user=user.name)
    new = credentials.create_key(session, settings.key_secret, user, wanted, now)
    audit.add(session, actor, "key.create", new.row.id, None, audit_values(new.row), now)
    return new


def rotate(
    session: Session, settings: WebConfig, actor: str, row: ApiKey, grace_days: int, now: float
) -> NewKey:
    """Create a key like `row`, a service account's key, which ends after `grace_days`.

    Raises ValidationError.
    """
    _check_service(row.user)
    credentials.check_rotation(row, projects_of(row.user.groups, settings.access), now)
    before = audit_values(row)
    new = credentials.rotate_key(session, settings.key_secret, row, grace_days, settings.key_days, now)
    after = {**audit_values(row), "replaced_by": new.row.id}
    audit.add(session, actor, "key.rotate", row.id, before, after, now)
    return new


def revoke(session: Session, actor: str, row: ApiKey, now: float) -> bool:
    """Revoke anybody's key. Return False if it no longer worked."""
    if not credentials.is_live(row, now):
        return False
    row.revoked = now
    audit.add(session, actor, "key.revoke", row.id, audit_values(row), None, now)
    return True


def revoke_all(session: Session, actor: str, user: User, now: float) -> int:
    """Revoke all keys of a user, end their sign-ins and page bearers; return how many keys worked."""
    revoked = credentials.revoke_all(session, user.id, now)
    audit.add(session, actor, "user.revoke_keys", user.pseudonym, {"keys": revoked}, {"keys": 0}, now)
    return revoked


def audit_values(row: ApiKey) -> dict[str, Any]:
    """Return a key's values for the audit log: owner, name, project, models, expiry, limits; not the key."""
    wanted = settings_of(row)
    document = {
        "user": row.user.pseudonym,
        "name": row.name,
        "project": row.project,
        "models": row.models,
        "expires": times.day(row.expires),
    }
    return document | {name: number for name, number in numbers_of(wanted).items() if number is not None}


def _check_service(user: User) -> None:
    if user.kind != SERVICE:
        raise ValidationError("not_a_service")
