"""The chat page. Conversations live in the browser; the page talks to /v1 itself, with a page bearer."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify, render_template
from sqlalchemy import text

from sluice.contracts.fields import VERSION
from sluice.web.views.shared import web

blueprint = Blueprint("chat", __name__)


@blueprint.get("/")
def index() -> str:
    """The chat page, or the way in."""
    if web().sign_in.person() is None:
        return render_template("welcome.html")
    return render_template("chat.html")


@blueprint.get("/health")
def health() -> Response:
    """Answer 200 when the database answers."""
    with web().database.read() as session:
        session.execute(text("SELECT 1"))
    return jsonify({"version": VERSION, "status": "ok"})
