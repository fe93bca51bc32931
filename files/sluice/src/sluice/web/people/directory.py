"""Finds users and service accounts, for administrators."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import ColumnElement, or_, select
from sqlalchemy.orm import Session

from sluice.contracts.values import USER
from sluice.web.database.tables import PERSON, SERVICE, User
from sluice.web.settings.access import projects_of
from sluice.web.settings.config import Access

BLOCKED = "blocked"
# The filters of the list of users.
KINDS = (PERSON, SERVICE, BLOCKED)


def find(session: Session, pseudonym: str) -> User | None:
    """Return the user with this pseudonym, None if there is none or it is not one."""
    if not USER.fullmatch(pseudonym):
        return None
    return session.scalar(select(User).where(User.pseudonym == pseudonym))


def search(session: Session, text: str, kind: str, *, offset: int, most: int) -> Sequence[User]:
    """Return users whose name, mail, identifier or pseudonym contains `text`, ignoring case, sorted by name.

    `kind` is one of KINDS, or "" for all.
    """
    query = select(User).order_by(User.name, User.id).offset(offset).limit(most)
    if text:
        columns = (User.name, User.email, User.subject, User.pseudonym)
        query = query.where(or_(*(column.icontains(text, autoescape=True) for column in columns)))
    if kind:
        query = query.where(_kind(kind))
    return session.scalars(query).all()


def _kind(kind: str) -> ColumnElement[bool]:
    return User.blocked.is_not(None) if kind == BLOCKED else User.kind == kind


def names(session: Session, pseudonyms: Iterable[str]) -> dict[str, str]:
    """Return the names of users by pseudonym, without unknown pseudonyms."""
    query = select(User.pseudonym, User.name).where(User.pseudonym.in_(set(pseudonyms)))
    return {row.pseudonym: row.name for row in session.execute(query)}


def groups(session: Session) -> dict[str, list[str]]:
    """Return the groups of all users, by pseudonym."""
    query = select(User.pseudonym, User.groups)
    return {row.pseudonym: row.groups for row in session.execute(query)}


def members(known: Mapping[str, Sequence[str]], access: Access) -> dict[str, list[str]]:
    """Return the members of each project, sorted; `known` are the `groups` of all users. Pure."""
    found: dict[str, list[str]] = {name: [] for name in access.projects}
    for pseudonym in sorted(known):
        for project in projects_of(known[pseudonym], access):
            found[project].append(pseudonym)
    return found
