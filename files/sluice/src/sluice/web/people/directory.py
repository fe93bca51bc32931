"""Finds users and service accounts, for administrators."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Text, cast, select
from sqlalchemy.orm import Session

from sluice.contracts.values import USER
from sluice.web.database.tables import PERSON, SERVICE, User
from sluice.web.settings.access import projects_of
from sluice.web.settings.config import Access
from sluice.web.words.folding import folded

BLOCKED = "blocked"
# The filters of the list of users.
KINDS = (PERSON, SERVICE, BLOCKED)
# What the list can be sorted by.
SORTS = ("name", "email", "seen", "created")
# A statement has only so many parameters.
_AT_ONCE = 1_000
_TEXTS = (User.name, User.email, User.subject, User.pseudonym)
# As text: see `_read_groups`.
_GROUPS = cast(User.groups, Text)


def find(session: Session, pseudonym: str) -> User | None:
    """Return the user with this pseudonym, None if there is none or it is not one."""
    if not USER.fullmatch(pseudonym):
        return None
    return session.scalar(select(User).where(User.pseudonym == pseudonym))


class Listed(NamedTuple):
    """What the file of all users tells of one."""

    groups: list[str]
    name: str
    email: str
    subject: str
    pseudonym: str
    kind: str
    created: float
    seen: float
    blocked: float | None


class Wanted(NamedTuple):
    """Which users to list, and in which order; "" matches all.

    `text`: part of a name, mail, identifier or pseudonym, in any capitals and with or without accents.
    `kind`: one of KINDS. `groups`: the user is in one of them; None for all. `sort`: one of SORTS.
    """

    text: str = ""
    kind: str = ""
    groups: Set[str] | None = None
    sort: str = "name"
    descending: bool = False


def search(session: Session, wanted: Wanted) -> Sequence[int]:
    """Return the ids of the users who match, in the order wanted.

    Texts are compared here and not in the database: see `words.folding`. 10,000 users take some 50 ms.
    """
    columns: list[Any] = [*_TEXTS, User.seen, User.created]
    if wanted.groups is not None:
        columns.append(_GROUPS)
    return [row.id for row in _matching(session, wanted, columns)]


def listed(session: Session, wanted: Wanted) -> list[Listed]:
    """Return all users who match, in the order wanted: rows, since objects of 10,000 users take too long."""
    columns = (*_TEXTS, User.kind, User.created, User.seen, User.blocked, _GROUPS)
    rows = _matching(session, wanted, columns)
    known = _read_groups([row[-1] for row in rows])
    return [Listed(groups, *row[1:-1]) for row, groups in zip(rows, known, strict=True)]


def _matching(session: Session, wanted: Wanted, columns: Iterable[Any]) -> Sequence[Any]:
    """Return the ids of the users who match, and these columns: first _TEXTS, last, if needed, _GROUPS."""
    query = select(User.id, *columns)
    if wanted.kind:
        query = query.where(_kind(wanted.kind))
    rows: Sequence[Any] = session.execute(query).all()
    if wanted.groups is not None:
        known = zip(rows, _read_groups([row[-1] for row in rows]), strict=True)
        rows = [row for row, groups in known if not wanted.groups.isdisjoint(groups)]
    part = folded(wanted.text)
    if part:
        rows = [row for row in rows if part in folded("\n".join(row[1:5]))]
    number = wanted.sort in ("seen", "created")

    def order(row: Any) -> tuple[Any, str, int]:
        value = getattr(row, wanted.sort)
        return (value if number else folded(value), row.name, row.id)

    return sorted(rows, key=order, reverse=wanted.descending)


def _read_groups(texts: Sequence[str]) -> list[list[str]]:
    # As one document: a call of the JSON reader for each of 10,000 users takes several times as long.
    read: list[list[str]] = json.loads(f"[{','.join(texts)}]")
    return read


def load(session: Session, ids: Sequence[int]) -> list[User]:
    """Return the users with these ids, any number of them, in their order."""
    found: dict[int, User] = {}
    for start in range(0, len(ids), _AT_ONCE):
        part = select(User).where(User.id.in_(ids[start : start + _AT_ONCE]))
        found.update((row.id, row) for row in session.scalars(part))
    return [found[id] for id in ids if id in found]


def _kind(kind: str) -> ColumnElement[bool]:
    return User.blocked.is_not(None) if kind == BLOCKED else User.kind == kind


def names(session: Session, pseudonyms: Iterable[str]) -> dict[str, str]:
    """Return the names of users by pseudonym, without unknown pseudonyms."""
    query = select(User.pseudonym, User.name).where(User.pseudonym.in_(set(pseudonyms)))
    return {row.pseudonym: row.name for row in session.execute(query)}


def groups(session: Session) -> dict[str, list[str]]:
    """Return the groups of all users, by pseudonym."""
    rows = session.execute(select(User.pseudonym, _GROUPS)).all()
    return dict(zip([row[0] for row in rows], _read_groups([row[1] for row in rows]), strict=True))


def members(known: Mapping[str, Sequence[str]], access: Access) -> dict[str, list[str]]:
    """Return the members of each project, sorted; `known` are the `groups` of all users. Pure."""
    found: dict[str, list[str]] = {name: [] for name in access.projects}
    for pseudonym in sorted(known):
        for project in projects_of(known[pseudonym], access):
            found[project].append(pseudonym)
    return found
