"""The page of models: their usage at this gateway, and stopping them.

Only the proxy knows which models the clusters offer, so a script on the page asks it with a page bearer.
Without the script, the page still shows which models were used and which are stopped.
"""

from __future__ import annotations

import time

from flask import Blueprint, Response, abort, make_response, render_template, url_for
from werkzeug.wrappers import Response as AnyResponse

from sluice.web.admin import stopped_models
from sluice.web.signin.sign_in import SignedInUser
from sluice.web.usage import sums
from sluice.web.views.admin.common import check_model, done, error_text, field
from sluice.web.views.shared import admin_required, web
from sluice.web.words.validation import ValidationError

blueprint = Blueprint("admin_models", __name__, url_prefix="/admin/models")

DAYS = 30
MAX_ROWS = 200


@blueprint.get("")
@admin_required
def index(_person: SignedInUser) -> Response:
    """Show the list."""
    return _render("", "")


@blueprint.post("/stop")
@admin_required
def stop(person: SignedInUser) -> AnyResponse:
    """Stop a model; open requests continue."""
    model, message = field("model"), field("message")
    try:
        check_model(model)
        with web().database.write() as session:
            stopped_models.stop(session, person.pseudonym, model, message, time.time())
    except ValidationError as error:
        return _render(model, message, problem=error_text(error), status=400)
    return done(web().texts.get("admin.done_stopped", model=model), url_for("admin_models.index"))


@blueprint.post("/resume")
@admin_required
def resume(person: SignedInUser) -> AnyResponse:
    """Accept requests for a model again."""
    model = field("model")
    with web().database.write() as session:
        if not stopped_models.resume(session, person.pseudonym, model, time.time()):
            abort(404)
    return done(web().texts.get("admin.done_resumed", model=model), url_for("admin_models.index"))


def _render(model: str, message: str, *, problem: str = "", status: int = 200) -> Response:
    with web().database.read() as session:
        stopped = {row.model: row for row in stopped_models.stopped(session)}
        used = sums.by(session, "model", sums.last_days(time.time(), DAYS), MAX_ROWS)
    known = {row.group[0] for row in used}
    idle = [sums.zero(name) for name in stopped if name not in known]
    text = render_template(
        "admin/models.html",
        models=[(row, stopped.get(row.group[0])) for row in (*used, *idle)],
        days=DAYS,
        model=model,
        message=message,
        max_message=stopped_models.MAX_MESSAGE,
        problem=problem,
    )
    return make_response(text, status)
