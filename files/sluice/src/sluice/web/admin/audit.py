"""The audit log: what administrators did, when, and the values before and after."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import delete, false, select
from sqlalchemy.engine import CursorResult
from sqlalchemy.orm import Session

from sluice.web.database.tables import AuditEntry

# The actor of actions on the gateway's command line, alone or with `:` and the name of their account.
OPERATOR = "operator"

_ACTION = re.compile(r"[a-z]+\.[a-z_]+")


class Filter(NamedTuple):
    """Which entries to return; empty values and None match all.

    `actors`, `objects`: any of these. The actor OPERATOR matches all operators. Times: `since` <= time <
    `until`, in seconds since the epoch.
    """

    actors: tuple[str, ...] = ()
    action: str = ""
    objects: tuple[str, ...] = ()
    since: float | None = None
    until: float | None = None


EVERYTHING = Filter()

_BY_OPERATORS = (AuditEntry.actor == OPERATOR) | AuditEntry.actor.startswith(f"{OPERATOR}:", autoescape=True)


def operator(name: str) -> str:
    """Return the actor for an action on the command line by the account `name`, "" if it is unknown."""
    return f"{OPERATOR}:{name}" if name else OPERATOR


def add(
    session: Session,
    actor: str,
    action: str,
    object: str,
    before: dict[str, Any] | None,
    after: dict[str, Any] | None,
    now: float,
) -> None:
    """Add an entry about an action of `actor` (a pseudonym or `operator()`), in the action's own transaction.

    `action` has the form `kind.verb`, such as `user.block`. `object` names what it was done to: a pseudonym,
    a key's id, a limit's scope, a model. `before` and `after` are the changed values, for JSON, or None if
    there was or is nothing. They never contain a key or another secret. Raises ValueError for a wrong form.
    """
    if not _ACTION.fullmatch(action):
        raise ValueError(f"{action!r} is not an action; an example is user.block")
    session.add(AuditEntry(time=now, actor=actor, action=action, object=object, before=before, after=after))


def entries(
    session: Session, wanted: Filter = EVERYTHING, *, most: int = 100, below: int | None = None
) -> Sequence[AuditEntry]:
    """Return at most `most` entries, newest first; with `below`, only entries with a smaller id."""
    query = select(AuditEntry).order_by(AuditEntry.id.desc()).limit(most)
    if wanted.actors:
        by_operators = _BY_OPERATORS if OPERATOR in wanted.actors else false()
        query = query.where(AuditEntry.actor.in_(wanted.actors) | by_operators)
    if wanted.action:
        query = query.where(AuditEntry.action == wanted.action)
    if wanted.objects:
        query = query.where(AuditEntry.object.in_(wanted.objects))
    if wanted.since is not None:
        query = query.where(AuditEntry.time >= wanted.since)
    if wanted.until is not None:
        query = query.where(AuditEntry.time < wanted.until)
    if below is not None:
        query = query.where(AuditEntry.id < below)
    return session.scalars(query).all()


def actions(session: Session) -> Sequence[str]:
    """Return the different actions in the log, sorted."""
    return session.scalars(select(AuditEntry.action).distinct().order_by(AuditEntry.action)).all()


def forget(session: Session, before: float) -> int:
    """Delete the entries from before `before` (seconds since the epoch); return their number."""
    result = session.execute(delete(AuditEntry).where(AuditEntry.time < before))
    return result.rowcount if isinstance(result, CursorResult) else 0
