"""Who a person or service is, to Sluice: one row, one pseudonym, their groups."""

from __future__ import annotations

import secrets

from sqlalchemy import select
from sqlalchemy.orm import Session

from sluice.web.database import PERSON, SERVICE, User

_SERVICE_ISSUER = "sluice"


def remember_person(
    session: Session, *, issuer: str, subject: str, name: str, email: str, groups: list[str], now: float
) -> User:
    """Insert or bring up to date the person whom the provider just vouched for."""
    user = session.scalar(select(User).where(User.issuer == issuer, User.subject == subject))
    if user is None:
        user = _new_user(PERSON, issuer, subject, now)
        session.add(user)
    user.name, user.email, user.groups, user.seen = name, email, groups, now
    session.flush()
    return user


def remember_service(session: Session, *, name: str, groups: list[str], now: float) -> User:
    """Insert or bring up to date a service account; only the command line makes these."""
    user = session.scalar(select(User).where(User.issuer == _SERVICE_ISSUER, User.subject == name))
    if user is None:
        user = _new_user(SERVICE, _SERVICE_ISSUER, name, now)
        session.add(user)
    user.name, user.groups, user.seen = name, groups, now
    session.flush()
    return user


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
