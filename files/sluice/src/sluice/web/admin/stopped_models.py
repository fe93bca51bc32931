"""Stops and resumes models at this gateway. The authority tells the proxy."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from sluice.contracts.authority import Stop
from sluice.contracts.values import MODEL_NAME
from sluice.web.admin import audit
from sluice.web.database.tables import LimitRow, StoppedModel, UsageDay
from sluice.web.words.validation import ValidationError, check_label

# The message must fit into a few lines of a chat.
MAX_MESSAGE = 300


def stopped(session: Session) -> Sequence[StoppedModel]:
    """Return the stopped models, by name."""
    return session.scalars(select(StoppedModel).order_by(StoppedModel.model)).all()


def stops_for_proxy(session: Session) -> list[Stop]:
    """Return the stopped models in the form for the proxy."""
    return [Stop(row.model, row.message) for row in stopped(session)]


def stop(session: Session, actor: str, model: str, message: str, now: float) -> None:
    """Stop `model`; open requests continue. Stopping it again changes the message.

    A model that no cluster has (yet) can be stopped too. Raises ValidationError for an invalid model name and
    for a message that cannot be shown.
    """
    if not MODEL_NAME.fullmatch(model):
        raise ValidationError("model_name", model=model)
    if message:
        check_label(message, MAX_MESSAGE)
    row = session.get(StoppedModel, model)
    before = _audit_values(row) if row else None
    if row is None:
        row = StoppedModel(model=model, message=message, since=now)
        session.add(row)
    row.message = message
    if _audit_values(row) != before:
        audit.add(session, actor, "admission.stop", model, before, _audit_values(row), now)


def known_models(session: Session) -> set[str]:
    """Return the models that were used, stopped or limited at this gateway."""
    known = {row.model for row in stopped(session)}
    for column in (UsageDay.model, LimitRow.model):
        known.update(session.scalars(select(column).distinct()))
    return known - {"", "*"}


def unknown_model_problem(session: Session, model: str) -> str:
    """Return a message for a model that was never used, stopped or limited at this gateway, else "".

    Only the proxy knows which models the clusters offer. So a new model that nobody has used is unknown here.
    """
    known = known_models(session)
    if model in known:
        return ""
    close = difflib.get_close_matches(model, known, n=3)
    meant = f"; did you mean {' or '.join(close)}?" if close else ""
    return f"nobody has used a model {model} at this gateway yet{meant}"


def resume(session: Session, actor: str, model: str, now: float) -> bool:
    """Accept requests for `model` again. Return False if it was not stopped."""
    row = session.get(StoppedModel, model) if MODEL_NAME.fullmatch(model) else None
    if row is None:
        return False
    audit.add(session, actor, "admission.resume", model, _audit_values(row), None, now)
    session.delete(row)
    session.flush()
    return True


def _audit_values(row: StoppedModel) -> dict[str, str]:
    return {"message": row.message}
