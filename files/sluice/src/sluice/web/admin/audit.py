"""The audit log: what administrators did, when, and the values before and after."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import delete, select
from sqlalchemy.engine import CursorResult
from sqlalchemy.orm import Session

from sluice.web.database.tables import AuditEntry

# Who acts on the command line of the gateway VM.
OPERATOR = "operator"

_ACTION = re.compile(r"[a-z]+\.[a-z_]+")


class Filter(NamedTuple):
    """What to look for; "" and None leave out nothing. Times in seconds: `since` <= time < `until`."""

    actor: str = ""
    action: str = ""
    object: str = ""
    since: float | None = None
    until: float | None = None


EVERYTHING = Filter()


def add(
    session: Session,
    actor: str,
    action: str,
    object: str,
    before: dict[str, Any] | None,
    after: dict[str, Any] | None,
    now: float,
) -> None:
    """Write down one action of `actor` (a pseudonym or OPERATOR), in the transaction that carries it out.

    `action` names the kind of thing and what was done to it, as in `user.block`; `object` which one: a
    pseudonym, a key's id, a limit's scope, a model. `before` and `after` are what changed, for JSON, None
    where there was or is nothing; never a key or another secret.
    """
    if not _ACTION.fullmatch(action):
        raise ValueError(f"{action!r} is not an action; an example is user.block")
    session.add(AuditEntry(time=now, actor=actor, action=action, object=object, before=before, after=after))


def entries(
    session: Session, wanted: Filter = EVERYTHING, *, most: int = 100, below: int | None = None
) -> Sequence[AuditEntry]:
    """Return at most `most` entries, newest first; those before the entry of id `below` if it is given."""
    query = select(AuditEntry).order_by(AuditEntry.id.desc()).limit(most)
    for column, value in (
        (AuditEntry.actor, wanted.actor),
        (AuditEntry.action, wanted.action),
        (AuditEntry.object, wanted.object),
    ):
        if value:
            query = query.where(column == value)
    if wanted.since is not None:
        query = query.where(AuditEntry.time >= wanted.since)
    if wanted.until is not None:
        query = query.where(AuditEntry.time < wanted.until)
    if below is not None:
        query = query.where(AuditEntry.id < below)
    return session.scalars(query).all()


def actions(session: Session) -> Sequence[str]:
    """Return the actions that the log has, sorted."""
    return session.scalars(select(AuditEntry.action).distinct().order_by(AuditEntry.action)).all()


def forget(session: Session, before: float) -> int:
    """Delete the entries older than `before`; return how many there were."""
    result = session.execute(delete(AuditEntry).where(AuditEntry.time < before))
    return result.rowcount if isinstance(result, CursorResult) else 0
