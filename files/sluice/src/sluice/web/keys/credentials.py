"""API keys and page bearers in the database: create, list, rotate, revoke."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from sluice.contracts.authority import LIMITED
from sluice.web.database.tables import ApiKey, PageBearer, User
from sluice.web.keys import generation
from sluice.web.people import sign_ins
from sluice.web.settings.config import KeySecret
from sluice.web.words.validation import ValidationError

DAY = 86_400.0
MAX_KEYS = 50
MAX_MODELS = 50
MAX_GRACE_DAYS = 7


class TooManyKeys(ValidationError):
    """The user holds MAX_KEYS keys that still work."""

    def __init__(self) -> None:
        super().__init__("key_too_many", most=MAX_KEYS)


class NewKey(NamedTuple):
    """A key that was just created; `text` is the key itself, which is stored nowhere."""

    row: ApiKey
    text: str


@dataclass(frozen=True)
class KeySettings:
    """The settings of a new key: fields of `tables.ApiKey`, and the `days` until it expires."""

    name: str
    days: float
    project: str = ""
    models: tuple[str, ...] | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    tokens_per_day: int | None = None
    concurrent: int | None = None


def create_key(session: Session, secret: KeySecret, user: User, wanted: KeySettings, now: float) -> NewKey:
    """Create an API key for `user`. Raises TooManyKeys."""
    if sum(1 for row in list_keys(session, user.id) if is_live(row, now)) >= MAX_KEYS:
        raise TooManyKeys
    text = generation.generate_key(generation.API_PREFIX, secret.value)
    row = ApiKey(
        id=f"key-{secrets.token_hex(6)}",
        user_id=user.id,
        name=wanted.name,
        hint=generation.hint(text),
        secret_id=secret.id,
        stored=generation.stored_form(generation.credential(text), secret.value),
        created=now,
        expires=now + wanted.days * DAY,
        revoked=None,
        last_used=None,
        project=wanted.project,
        models=None if wanted.models is None else list(wanted.models),
        **{name: getattr(wanted, name) for name in LIMITED},
    )
    session.add(row)
    session.flush()
    return NewKey(row, text)


def settings_of(row: ApiKey) -> KeySettings:
    """Return the settings with which a key was created."""
    return KeySettings(
        name=row.name,
        days=(row.expires - row.created) / DAY,
        project=row.project,
        models=None if row.models is None else tuple(row.models),
        **{name: getattr(row, name) for name in LIMITED},
    )


def list_keys(session: Session, user_id: int) -> Sequence[ApiKey]:
    """Return a user's keys, newest first, including revoked and expired ones."""
    return session.scalars(
        select(ApiKey).where(ApiKey.user_id == user_id).order_by(ApiKey.created.desc(), ApiKey.id)
    ).all()


def is_live(row: ApiKey, now: float) -> bool:
    """Tell whether a key is neither revoked nor expired; its owner may still be blocked."""
    return row.revoked is None and row.expires > now


def find_key(session: Session, user_id: int, key_id: str) -> ApiKey | None:
    """Return a key of this user, None if there is none with this id."""
    return session.scalar(select(ApiKey).where(ApiKey.id == key_id, ApiKey.user_id == user_id))


def check_rotation(row: ApiKey, projects: Sequence[str], now: float) -> None:
    """Raise ValidationError if a key like this one would not work; `projects` are its owner's."""
    if not is_live(row, now):
        raise ValidationError("key_ended")
    if row.project and row.project not in projects:
        raise ValidationError("key_left_project", project=row.project)


def rotate_key(
    session: Session, secret: KeySecret, row: ApiKey, grace_days: int, most_days: int, now: float
) -> NewKey:
    """Create a key like the live key `row`. The old key ends after `grace_days` (0: now), or when it expires.

    The new key gets the lifetime with which the old one was created, at most `most_days`. Raises TooManyKeys.
    """
    wanted = settings_of(row)
    if grace_days == 0:
        row.revoked = now
    else:
        row.expires = min(row.expires, now + grace_days * DAY)
    session.flush()
    return create_key(
        session, secret, row.user, dataclasses.replace(wanted, days=min(wanted.days, most_days)), now
    )


def revoke_key(session: Session, user_id: int, key_id: str, now: float) -> bool:
    """Revoke a key of this user. Return False if this user has no key with this id."""
    row = find_key(session, user_id, key_id)
    if row is None:
        return False
    if row.revoked is None:
        row.revoked = now
    return True


def revoke_all(session: Session, user_id: int, now: float) -> int:
    """Revoke all keys of a user, end their sign-ins and page bearers; return how many keys worked."""
    revoked = [row for row in list_keys(session, user_id) if is_live(row, now)]
    for row in revoked:
        row.revoked = now
    sign_ins.end_all(session, user_id)
    return len(revoked)


def create_bearer(
    session: Session, secret: KeySecret, user_id: int, session_tag: str, seconds: int, now: float
) -> str:
    """Create a page bearer that expires after `seconds`, and delete expired ones; return the bearer."""
    session.execute(delete(PageBearer).where(PageBearer.expires <= now))
    text = generation.generate_key(generation.PAGE_PREFIX, secret.value)
    session.add(
        PageBearer(
            id=f"page-{secrets.token_hex(6)}",
            user_id=user_id,
            session_tag=session_tag,
            secret_id=secret.id,
            stored=generation.stored_form(generation.credential(text), secret.value),
            created=now,
            expires=now + seconds,
        )
    )
    return text


def note_use(session: Session, last_used: dict[str, float]) -> None:
    """Update each key's last use (key id → seconds since the epoch); it never moves back."""
    for key_id, time in last_used.items():
        session.execute(
            update(ApiKey)
            .where(ApiKey.id == key_id, (ApiKey.last_used.is_(None)) | (ApiKey.last_used < time))
            .values(last_used=time)
        )
