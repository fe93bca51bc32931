"""Shows a new key on the page after the form's redirect: once, and not again when the page is reloaded."""

from __future__ import annotations

import time

from flask import Response, after_this_request, redirect, request, session
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response as AnyResponse

from sluice.web.http.guard import cookie_name
from sluice.web.keys import credentials, generation, handover
from sluice.web.keys.credentials import NewKey
from sluice.web.keys.handover import Halves

_KEPT = "new-"


def redirect_to(path: str, new: NewKey) -> AnyResponse:
    """Redirect to the page at `path`, which shows the key; `path` names it in the argument `new`."""
    _forget_unseen()
    halves = handover.divide(new.text)
    session[_KEPT + new.row.id] = {"hidden": halves.hidden, "until": time.time() + handover.SECONDS}
    answer = redirect(path, code=303)
    answer.set_cookie(
        _cookie(new.row.id),
        halves.pad,
        max_age=handover.SECONDS,
        path=_path(),
        secure=True,
        httponly=True,
        samesite="Strict",
    )
    return answer


def shown(transaction: Session, owner_id: int) -> NewKey | None:
    """Return the key that the page's address names, if it is to be shown; the answer forgets it.

    If the answer is an error, the key is still there for the next attempt.
    """
    key_id = request.args.get("new", "")
    kept = session.get(_KEPT + key_id)
    if not isinstance(kept, dict) or kept["until"] <= time.time():
        return None
    text = handover.join(Halves(kept["hidden"], request.cookies.get(_cookie(key_id), "")))
    row = credentials.find_key(transaction, owner_id, key_id)
    if row is None or not generation.well_formed(text):
        return None

    @after_this_request
    def forget(answer: Response) -> Response:
        if answer.status_code < 400:
            session.pop(_KEPT + key_id, None)
            answer.delete_cookie(_cookie(key_id), path=_path(), secure=True, httponly=True, samesite="Strict")
        return answer

    return NewKey(row, text)


def _cookie(key_id: str) -> str:
    return cookie_name(f"sluice-new-{key_id}", request.script_root)


def _path() -> str:
    return request.script_root or "/"


def _forget_unseen() -> None:
    now = time.time()
    for name in [name for name in session if name.startswith(_KEPT)]:
        if session[name]["until"] <= now:
            del session[name]
