"""Erases a person: what says who they are, and everything with which they could come in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, func, or_, select
from sqlalchemy.orm import Session

from sluice.web.admin import audit
from sluice.web.database.tables import ApiKey, AuditEntry, LimitRow, PageBearer, SignedInBrowser, User

ACTION = "user.erase"


@dataclass(frozen=True)
class Held:
    """What the database has of a person, in numbers of rows.

    `audit`: entries of the audit log that are by them, or about them or their keys.
    """

    keys: int
    sign_ins: int
    limits: int
    audit: int


def held(session: Session, user: User) -> Held:
    """Count what the database has of a user."""
    keys = key_ids(session, user)
    sign_ins = select(func.count()).where(SignedInBrowser.user_id == user.id)
    limits = select(func.count()).where(LimitRow.scope.in_(scopes(user, keys)))
    entries = select(func.count()).where(about(user, keys))
    counts = [session.scalar(query) or 0 for query in (sign_ins, limits, entries)]
    return Held(len(keys), *counts)


def erase(session: Session, actor: str, user: User, now: float) -> Held:
    """Delete a person's account, keys, sign-ins and limits, and the names of their keys in the audit log.

    The entries of the audit log stay, under a pseudonym that nothing connects with the person any more.
    Returns what there was. Usage is not touched: see `usage.nameless`.
    """
    # On PostgreSQL, a sign-in or key that is being stored would else refuse the account's deletion.
    session.execute(select(User.id).where(User.id == user.id).with_for_update())
    found = held(session, user)
    keys = key_ids(session, user)
    for entry in session.scalars(select(AuditEntry).where(AuditEntry.object.in_(keys))):
        entry.before, entry.after = _without_name(entry.before), _without_name(entry.after)
    session.execute(delete(PageBearer).where(PageBearer.user_id == user.id))
    session.execute(delete(SignedInBrowser).where(SignedInBrowser.user_id == user.id))
    session.execute(delete(LimitRow).where(LimitRow.scope.in_(scopes(user, keys))))
    session.execute(delete(ApiKey).where(ApiKey.user_id == user.id))
    session.delete(user)
    before = {"keys": found.keys, "sign_ins": found.sign_ins, "limits": found.limits}
    audit.add(session, actor, ACTION, user.pseudonym, before, None, now)
    return found


def key_ids(session: Session, user: User) -> list[str]:
    """Return the ids of all keys of a user, also of those that no longer work."""
    return list(session.scalars(select(ApiKey.id).where(ApiKey.user_id == user.id)))


def scopes(user: User, keys: list[str]) -> list[str]:
    """Return the scopes of limits that are only for this user or one of their keys."""
    return [f"user:{user.pseudonym}", *(f"key:{key}" for key in keys)]


def about(user: User, keys: list[str]) -> Any:
    """Return the condition of the audit log's entries that are by a user, or about them or their keys."""
    objects = [user.pseudonym, *keys]
    limits = [AuditEntry.object.startswith(scope, autoescape=True) for scope in scopes(user, keys)]
    return or_(AuditEntry.actor == user.pseudonym, AuditEntry.object.in_(objects), *limits)


def _without_name(side: dict[str, Any] | None) -> dict[str, Any] | None:
    return None if side is None else {name: value for name, value in side.items() if name != "name"}
