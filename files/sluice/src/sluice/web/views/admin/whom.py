"""For whom a limit is: what an administrator chooses and types in a form, and the scope that it names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy.orm import Session

from sluice.contracts.values import GROUP, USER
from sluice.web.database.tables import User
from sluice.web.people import directory
from sluice.web.words.folding import folded
from sluice.web.words.validation import ValidationError

# The choices of the form, in its order: scopes as they are, and kinds of scopes that need a name.
ALL = ("site", "user:*", "key:*", "project:*", "group:*")
NAMED = ("user", "member", "group", "project", "key")
# How many users the form offers to choose from.
MOST_OFFERED = 10


class Whom(NamedTuple):
    """A choice of the form and the name that was typed beside it."""

    choice: str
    name: str


class SeveralUsers(ValidationError):
    """What was typed fits several users: `offered` are the first of them."""

    def __init__(self, typed: str, offered: Sequence[User], number: int) -> None:
        super().__init__("several_users", typed=typed, number=number)
        self.offered = offered


def of_scope(scope: str) -> Whom:
    """Return how the form shows a scope; the form's first choice for text that is none."""
    kind, colon, name = scope.partition(":")
    if scope in ALL or not colon or kind not in NAMED:
        return Whom(scope if scope in ALL else ALL[0], "")
    return Whom(kind, name)


def scope_of(session: Session, whom: Whom, chosen: str) -> str:
    """Return the scope. `chosen`: the pseudonym of the user that was chosen among several, or "".

    Raises ValidationError: for a choice that is none, a name that is missing or none, and for text that fits
    no user or several (SeveralUsers).
    """
    if whom.choice in ALL:
        return whom.choice
    if whom.choice not in NAMED:
        raise ValidationError("whom")
    if not whom.name:
        raise ValidationError("who_missing")
    if whom.choice == "user":
        return f"user:{chosen or _user(session, whom.name)}"
    if not (USER if whom.choice == "key" else GROUP).fullmatch(whom.name):
        raise ValidationError("who_form", typed=whom.name[:100])
    return f"{whom.choice}:{whom.name}"


def _user(session: Session, typed: str) -> str:
    """Return the pseudonym of the only user whom `typed` fits: as a whole, else as a part."""
    found = directory.load(session, directory.search(session, directory.Wanted(typed)))
    same = [user for user in found if folded(typed) in map(folded, _texts(user))]
    fitting = same or found
    if not fitting:
        raise ValidationError("no_user_fits", typed=typed[:100])
    if len(fitting) > 1:
        raise SeveralUsers(typed[:100], fitting[:MOST_OFFERED], len(fitting))
    return fitting[0].pseudonym


def _texts(user: User) -> tuple[str, ...]:
    return (user.pseudonym, user.name, user.email, user.subject)
