"""The limits that administrators set at this gateway, in addition to the inventory's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from sluice.contracts.values import MODEL_NAME
from sluice.web.admin import audit
from sluice.web.database.tables import ApiKey, LimitRow, User
from sluice.web.settings.config import LimitRule, WebConfig
from sluice.web.settings.rules import RULE_SCOPE, numbers_of, rule_problem
from sluice.web.words.validation import ValidationError


def listed(session: Session) -> Sequence[LimitRow]:
    """Return the administrators' limits, by scope and model."""
    return session.scalars(select(LimitRow).order_by(LimitRow.scope, LimitRow.model)).all()


def find(session: Session, scope: str, model: str) -> LimitRow | None:
    """Return the limit of a scope and model; None if there is none, or if they are invalid."""
    # Invalid text must not reach the database: PostgreSQL refuses NUL.
    if not RULE_SCOPE.fullmatch(scope) or not (model == "" or MODEL_NAME.fullmatch(model)):
        return None
    return session.scalar(select(LimitRow).where(LimitRow.scope == scope, LimitRow.model == model))


def put(session: Session, settings: WebConfig, actor: str, rule: LimitRule, now: float) -> None:
    """Set or replace a limit with all its numbers; None is no limit. Raises ValidationError."""
    problem = rule_problem(rule, settings.access.projects)
    if problem:
        raise ValidationError("limit", problem=problem)
    _check_holder(session, rule.scope)
    row = find(session, rule.scope, rule.model)
    before = _audit_values(row) if row else None
    if row is None:
        row = LimitRow(scope=rule.scope, model=rule.model, changed=now)
        session.add(row)
    for name, number in numbers_of(rule).items():
        setattr(row, name, number)
    if _audit_values(row) != before:
        row.changed = now
        audit.add(
            session, actor, "limit.set", name_of(rule.scope, rule.model), before, _audit_values(row), now
        )


def remove(session: Session, actor: str, scope: str, model: str, now: float) -> bool:
    """Remove a limit that an administrator set. Return False if there is none."""
    row = find(session, scope, model)
    if row is None:
        return False
    audit.add(session, actor, "limit.remove", name_of(scope, model), _audit_values(row), None, now)
    session.delete(row)
    session.flush()
    return True


def name_of(scope: str, model: str) -> str:
    """Return the name of a limit in the audit log."""
    return f"{scope} {model}" if model else scope


def _check_holder(session: Session, scope: str) -> None:
    """Raise ValidationError for a user or key that does not exist: the limit would apply to nobody."""
    kind, _, name = scope.partition(":")
    if kind == "user" and name != "*":
        if session.scalar(select(User.id).where(User.pseudonym == name)) is None:
            raise ValidationError("no_such_user", user=name)
    elif kind == "key" and name != "*" and session.get(ApiKey, name) is None:
        raise ValidationError("no_such_key", key=name)


def _audit_values(row: LimitRow) -> dict[str, Any]:
    return dict(numbers_of(row))
