"""A person or service in Sluice: one row, one pseudonym, their groups."""

from __future__ import annotations

import secrets

from sqlalchemy import select
from sqlalchemy.orm import Session

from sluice.web.database.tables import PERSON, SERVICE, User
from sluice.web.people import sign_ins

_SERVICE_ISSUER = "sluice"


def find_person(session: Session, issuer: str, subject: str) -> User | None:
    """Return the person of this issuer, if they were here before."""
    return session.scalar(select(User).where(User.issuer == issuer, User.subject == subject))


def find(session: Session, name: str) -> User | None:
    """Return the user of this pseudonym, else the service account of this name."""
    found = session.scalar(select(User).where(User.pseudonym == name))
    return found or session.scalar(select(User).where(User.issuer == _SERVICE_ISSUER, User.subject == name))


def upsert_person(
    session: Session, *, issuer: str, subject: str, name: str, email: str, groups: list[str], now: float
) -> User:
    """Insert or bring up to date the person whom the provider just vouched for."""
    user = find_person(session, issuer, subject)
    if user is None:
        user = _new_user(PERSON, issuer, subject, now)
        session.add(user)
    user.name, user.email, user.groups, user.seen = name, email, groups, now
    session.flush()
    return user


def upsert_service_account(session: Session, *, name: str, groups: list[str], now: float) -> User:
    """Insert or bring up to date a service account; only the command line makes these."""
    user = session.scalar(select(User).where(User.issuer == _SERVICE_ISSUER, User.subject == name))
    if user is None:
        user = _new_user(SERVICE, _SERVICE_ISSUER, name, now)
        session.add(user)
    user.name, user.groups, user.seen = name, groups, now
    session.flush()
    return user


def block(session: Session, user: User, now: float) -> None:
    """Let nothing of a user's work any more: keys are unknown, sign-ins over."""
    if user.blocked is None:
        user.blocked = now
    sign_ins.end_all(session, user.id)


def unblock(session: Session, user: User) -> None:
    """Let a user's keys work again, those that are not over, and let them sign in."""
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
