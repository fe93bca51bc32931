"""Sign-ins in the database: begin, look up, end. A page works only while the row of its sign-in exists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, delete, false, select, update
from sqlalchemy.orm import Session

from sluice.web.database.tables import PageBearer, SignedInBrowser, User

# `seen` is updated at most this often, in seconds: not every page load should write.
SEEN_SECONDS = 60.0


@dataclass(frozen=True)
class Lifetime:
    """When a sign-in ends: `idle` seconds after its last use, `longest` seconds after it began."""

    idle: float
    longest: float


def begin(session: Session, *, tag: str, user_id: int, sid: str, subject: str, now: float) -> None:
    """Insert a new sign-in. `sid` ("" if missing) and `subject` are claims of the ID token: `sid`, `sub`."""
    session.add(SignedInBrowser(tag=tag, user_id=user_id, sid=sid, subject=subject, created=now, seen=now))


def find(
    session: Session, tag: str, issuer: str, lifetime: Lifetime, now: float
) -> tuple[SignedInBrowser, User] | None:
    """Return the sign-in named `tag` and its user; None if it has ended, or the user is blocked.

    Users of another issuer, which the site may have had before, are not signed in either.
    """
    found = session.execute(
        select(SignedInBrowser, User)
        .join(User, User.id == SignedInBrowser.user_id)
        .where(
            SignedInBrowser.tag == tag, User.issuer == issuer, User.blocked.is_(None), *_live(lifetime, now)
        )
    ).one_or_none()
    return None if found is None else (found[0], found[1])


def of_user(session: Session, user_id: int, lifetime: Lifetime, now: float) -> Sequence[SignedInBrowser]:
    """Return a user's sign-ins, most recently used first."""
    return session.scalars(
        select(SignedInBrowser)
        .where(SignedInBrowser.user_id == user_id, *_live(lifetime, now))
        .order_by(SignedInBrowser.seen.desc(), SignedInBrowser.tag)
    ).all()


def touch(session: Session, tag: str, now: float) -> None:
    """Record that a sign-in was used."""
    session.execute(update(SignedInBrowser).where(SignedInBrowser.tag == tag).values(seen=now))


def end(session: Session, tag: str) -> int:
    """End one sign-in; return how many were ended."""
    return _end(session, SignedInBrowser.tag == tag)


def end_of_user(session: Session, user_id: int, tag: str) -> int:
    """End one sign-in if it is this user's; return how many were ended."""
    return _end(session, SignedInBrowser.tag == tag, SignedInBrowser.user_id == user_id)


def end_all(session: Session, user_id: int) -> int:
    """End all sign-ins of a user; return how many were ended."""
    return _end(session, SignedInBrowser.user_id == user_id)


def end_at_provider(session: Session, *, sid: str, subject: str) -> int:
    """End the sign-ins of the provider's session `sid`, or all of `subject` if `sid` is "".

    If both are given, it also ends the sign-ins of `subject` without a known session: some providers send
    `sid` only in logout tokens. Returns how many sign-ins were ended.
    """
    of_subject = SignedInBrowser.subject == subject if subject else false()
    if not sid:
        return _end(session, of_subject)
    return _end(session, (SignedInBrowser.sid == sid) | ((SignedInBrowser.sid == "") & of_subject))


def forget_ended(session: Session, lifetime: Lifetime, now: float) -> int:
    """Delete expired sign-ins; return how many there were."""
    idle = _end(session, SignedInBrowser.seen <= now - lifetime.idle)
    return idle + _end(session, SignedInBrowser.created <= now - lifetime.longest)


def _live(lifetime: Lifetime, now: float) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return (
        SignedInBrowser.seen > now - lifetime.idle,
        SignedInBrowser.created > now - lifetime.longest,
    )


def _end(session: Session, *conditions: ColumnElement[bool]) -> int:
    tags = select(SignedInBrowser.tag).where(*conditions)
    session.execute(delete(PageBearer).where(PageBearer.session_tag.in_(tags)))
    # On the connection, because the session's result has no row count.
    statement = delete(SignedInBrowser).where(*conditions)
    return session.connection().execute(statement).rowcount
