"""The page of announcements: current, planned and past ones."""

from __future__ import annotations

import time

from flask import Blueprint, Response, abort, make_response, render_template, url_for
from werkzeug.wrappers import Response as AnyResponse

from sluice.web.admin import announcements
from sluice.web.signin.sign_in import SignedInUser
from sluice.web.views.admin.common import PAGE, done, error_text, field, page
from sluice.web.views.shared import admin_required, web
from sluice.web.words import times
from sluice.web.words.validation import ValidationError

blueprint = Blueprint("admin_announcements", __name__, url_prefix="/admin/announcements")

_FIELDS = ("text", "level", "starts", "ends")


@blueprint.get("")
@admin_required
def index(_person: SignedInUser) -> Response:
    """Show the list."""
    return _render(dict.fromkeys(_FIELDS, ""))


@blueprint.post("")
@admin_required
def add(person: SignedInUser) -> AnyResponse:
    """Add an announcement."""
    now = time.time()
    try:
        starts, ends = times.read(field("starts")), times.read(field("ends"))
        with web().database.write() as session:
            announcements.add(
                session, person.pseudonym, field("text"), field("level"), starts or now, ends, now
            )
    except ValidationError as error:
        return _render({name: field(name) for name in _FIELDS}, problem=error_text(error), status=400)
    return done(web().texts.get("admin.done_announced"), url_for("admin_announcements.index"))


@blueprint.post("/<int:number>/end")
@admin_required
def end(person: SignedInUser, number: int) -> AnyResponse:
    """End an announcement now."""
    with web().database.write() as session:
        if not announcements.end(session, person.pseudonym, number, time.time()):
            abort(404)
    return done(web().texts.get("admin.done_ended"), url_for("admin_announcements.index"))


def _render(given: dict[str, str], *, problem: str = "", status: int = 200) -> Response:
    now, shown = time.time(), page()
    with web().database.read() as session:
        rows = announcements.listed(session, offset=shown.offset, most=PAGE + 1)
    text = render_template(
        "admin/announcements.html",
        rows=[(row, announcements.state(row, now)) for row in rows[:PAGE]],
        more=len(rows) > PAGE,
        page=shown.number,
        given=given,
        levels=announcements.LEVELS,
        max_text=announcements.MAX_TEXT,
        problem=problem,
    )
    return make_response(text, status)
