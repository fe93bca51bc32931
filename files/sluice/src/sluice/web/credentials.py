"""API keys and page bearers in the database: make, list, revoke, look up."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from sluice.authority import Principal
from sluice.web import keys
from sluice.web.config import KeySecret
from sluice.web.database import ApiKey, PageBearer, User

DAY = 86_400.0
MAX_KEYS = 50


class TooManyKeys(Exception):
    """The user holds MAX_KEYS keys that still work."""


class NewKey(NamedTuple):
    """A key that was just made; `text` exists nowhere else."""

    row: ApiKey
    text: str


def make_key(session: Session, secret: KeySecret, user: User, name: str, days: int, now: float) -> NewKey:
    """Make an API key for `user` that expires after `days`. Raises TooManyKeys."""
    if sum(1 for row in list_keys(session, user.id) if is_live(row, now)) >= MAX_KEYS:
        raise TooManyKeys
    text = keys.mint(keys.API_PREFIX)
    row = ApiKey(
        id=f"key-{secrets.token_hex(6)}",
        user_id=user.id,
        name=name,
        hint=keys.hint(text),
        secret_id=secret.id,
        stored=keys.stored_form(keys.credential(text), secret.value),
        created=now,
        expires=now + days * DAY,
        revoked=None,
        last_used=None,
    )
    session.add(row)
    session.flush()
    return NewKey(row, text)


def list_keys(session: Session, user_id: int) -> Sequence[ApiKey]:
    """Return a user's keys, newest first, revoked and expired ones too."""
    return session.scalars(
        select(ApiKey).where(ApiKey.user_id == user_id).order_by(ApiKey.created.desc(), ApiKey.id)
    ).all()


def is_live(row: ApiKey, now: float) -> bool:
    """Tell whether a key still works."""
    return row.revoked is None and row.expires > now


def revoke_key(session: Session, user_id: int, key_id: str, now: float) -> bool:
    """Revoke a key of this user. False if the user has no such key; another user's key is no such key."""
    row = session.scalar(select(ApiKey).where(ApiKey.id == key_id, ApiKey.user_id == user_id))
    if row is None:
        return False
    if row.revoked is None:
        row.revoked = now
    return True


def make_bearer(
    session: Session, secret: KeySecret, user_id: int, session_tag: str, seconds: int, now: float
) -> str:
    """Make a page bearer that expires after `seconds`, and forget the expired ones."""
    session.execute(delete(PageBearer).where(PageBearer.expires <= now))
    text = keys.mint(keys.PAGE_PREFIX)
    session.add(
        PageBearer(
            id=f"page-{secrets.token_hex(6)}",
            user_id=user_id,
            session_tag=session_tag,
            secret_id=secret.id,
            stored=keys.stored_form(keys.credential(text), secret.value),
            created=now,
            expires=now + seconds,
        )
    )
    return text


def end_bearers(session: Session, session_tag: str) -> None:
    """Forget the page bearers of one sign-in."""
    session.execute(delete(PageBearer).where(PageBearer.session_tag == session_tag))


def find_principal(session: Session, secret: KeySecret, credential: str, now: float) -> Principal | None:
    """Return whose credential (SHA-256, hex) this is; None for unknown, revoked and expired alike."""
    stored = keys.stored_form(credential, secret.value)
    key = session.scalar(select(ApiKey).where(ApiKey.stored == stored, ApiKey.secret_id == secret.id))
    if key is not None:
        return _principal(key, "api_key", "api") if is_live(key, now) else None
    bearer = session.scalar(
        select(PageBearer).where(PageBearer.stored == stored, PageBearer.secret_id == secret.id)
    )
    if bearer is not None and bearer.expires > now:
        return _principal(bearer, "page", "interactive")
    return None


def _principal(row: ApiKey | PageBearer, kind: str, class_: str) -> Principal:
    return Principal(
        user=row.user.pseudonym,
        key_id=row.id,
        kind=kind,
        class_=class_,
        groups=tuple(row.user.groups),
        expires=row.expires,
    )


def note_use(session: Session, last_used: dict[str, float]) -> None:
    """Move each key's last use forward to the given time (key id → seconds since the epoch)."""
    for key_id, time in last_used.items():
        session.execute(
            update(ApiKey)
            .where(ApiKey.id == key_id, (ApiKey.last_used.is_(None)) | (ApiKey.last_used < time))
            .values(last_used=time)
        )
