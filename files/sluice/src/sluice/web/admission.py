"""Stopping a model at this gateway and letting it go on: the proxy learns of it from the authority."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from sluice.authority import Stop
from sluice.records import MODEL_NAME
from sluice.web import audit
from sluice.web.database import StoppedModel
from sluice.web.faults import Fault, check_label

# What users are told fits on a few lines of a chat.
MAX_MESSAGE = 300


def stopped(session: Session) -> Sequence[StoppedModel]:
    """Return the stopped models, by name."""
    return session.scalars(select(StoppedModel).order_by(StoppedModel.model)).all()


def stops(session: Session) -> list[Stop]:
    """Return the stopped models as the proxy is told of them."""
    return [Stop(row.model, row.message) for row in stopped(session)]


def stop(session: Session, actor: str, model: str, message: str, now: float) -> None:
    """Stop `model`; what runs goes on. Stopping it again changes the message.

    A model that no cluster has (yet) can be stopped too. Raises Fault for what is no model's name and for a
    message that cannot be shown.
    """
    if not MODEL_NAME.fullmatch(model):
        raise Fault("model_name", model=model)
    if message:
        check_label(message, MAX_MESSAGE)
    row = session.get(StoppedModel, model)
    before = _shown(row) if row else None
    if row is None:
        row = StoppedModel(model=model, message=message, since=now)
        session.add(row)
    row.message = message
    if _shown(row) != before:
        audit.note(session, actor, "admission.stop", model, before, _shown(row), now)


def resume(session: Session, actor: str, model: str, now: float) -> bool:
    """Let `model` take requests again. False where it was not stopped."""
    row = session.get(StoppedModel, model) if MODEL_NAME.fullmatch(model) else None
    if row is None:
        return False
    audit.note(session, actor, "admission.resume", model, _shown(row), None, now)
    session.delete(row)
    session.flush()
    return True


def _shown(row: StoppedModel) -> dict[str, str]:
    return {"message": row.message}
