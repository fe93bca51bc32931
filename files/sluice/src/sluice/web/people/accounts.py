"""Users and service accounts in the database: find, create, update, block."""

from __future__ import annotations

import secrets

from sqlalchemy import select
from sqlalchemy.orm import Session

from sluice.web.database.tables import PERSON, SERVICE, User
from sluice.web.people import sign_ins

_SERVICE_ISSUER = "sluice"


def find_person(session: Session, issuer: str, subject: str) -> User | None:
    """Return the person with this issuer and subject, None if they never signed in."""
    return session.scalar(select(User).where(User.issuer == issuer, User.subject == subject))


def find(session: Session, name: str) -> User | None:
    """Return the user with this pseudonym, else the service account with this name, else None."""
    found = session.scalar(select(User).where(User.pseudonym == name))
    return found or session.scalar(select(User).where(User.issuer == _SERVICE_ISSUER, User.subject == name))


def upsert_person(
    session: Session, *, issuer: str, subject: str, name: str, email: str, groups: list[str], now: float
) -> User:
    """Insert or update a person with the provider's current claims; return their row."""
    user = find_person(session, issuer, subject)
    if user is None:
        user = _new_user(PERSON, issuer, subject, now)
        session.add(user)
    user.name, user.email, user.groups, user.seen = name, email, groups, now
    session.flush()
    return user


def upsert_service_account(session: Session, *, name: str, groups: list[str], now: float) -> User:
    """Insert or update a service account; return its row. Only the command line creates them."""
    user = session.scalar(select(User).where(User.issuer == _SERVICE_ISSUER, User.subject == name))
    if user is None:
        user = _new_user(SERVICE, _SERVICE_ISSUER, name, now)
        session.add(user)
    user.name, user.groups, user.seen = name, groups, now
    session.flush()
    return user


def block(session: Session, user: User, now: float) -> None:
    """Block a user: their sign-ins end, and their keys stop working."""
    if user.blocked is None:
        user.blocked = now
    sign_ins.end_all(session, user.id)


def unblock(session: Session, user: User) -> None:
    """Unblock a user: keys that are neither revoked nor expired work again, and they can sign in."""
    user.blocked = None


def _new_user(kind: str, issuer: str, subject: str, now: float) -> User:
    return User(
        pseudonym=f"u-{secrets.token_hex(8)}",
        kind=kind,
        issuer=issuer,
        subject=subject,
        name="",
        email="",
        groups=[],
        created=now,
        seen=now,
        blocked=None,
    )
