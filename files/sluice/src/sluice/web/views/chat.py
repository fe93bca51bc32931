"""The chat page. Conversations stay in the browser, which sends requests to /v1 with a page bearer."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify, render_template
from sqlalchemy import text

from sluice.contracts.fields import VERSION
from sluice.web.views.shared import web

blueprint = Blueprint("chat", __name__)


@blueprint.get("/")
def index() -> str:
    """Show the chat page, or the welcome page if nobody is signed in."""
    if web().sign_in.person() is None:
        return render_template("welcome.html")
    return render_template("chat.html")


@blueprint.get("/health")
def health() -> Response:
    """Return 200 if the database answers."""
    with web().database.read() as session:
        session.execute(text("SELECT 1"))
    return jsonify({"version": VERSION, "status": "ok"})
