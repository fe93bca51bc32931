"""The chat page. Conversations stay in the browser, which sends requests to /v1 with a page bearer."""

from __future__ import annotations

import dataclasses
from uuid import UUID

from flask import Blueprint, Response, jsonify, render_template
from sqlalchemy import text

from sluice.contracts.fields import VERSION
from sluice.web.http import guard, language
from sluice.web.signin.sign_in import SignedInUser
from sluice.web.views.errors import page
from sluice.web.views.shared import signed_in, web

blueprint = Blueprint("chat", __name__)


@blueprint.get("/")
def index() -> str:
    """Show the chat page, or the welcome page if nobody is signed in."""
    if web().sign_in.person() is None:
        return render_template("welcome.html", welcome=web().brand.passage("welcome", language.current()))
    return _page()


@blueprint.get("/c/<uuid:conversation>")
@signed_in
def conversation(_person: SignedInUser, conversation: UUID) -> str:
    """The chat page, at a conversation's own address. Which it is, the browser alone knows."""
    return _page()


def _page() -> str:
    return render_template("chat.html", max_body=web().settings.max_body)


@blueprint.get("/drawing")
def drawing() -> tuple[str, dict[str, str]]:
    """The frame in which the chat page has diagrams drawn. It knows nobody, and holds nothing."""
    return render_template("drawing.html"), guard.DRAWING


@blueprint.get("/personas")
def personas() -> Response:
    """Return the site's personas: `{"version": 1, "personas": […]}`, without fields that are not set."""
    if web().sign_in.person() is None:
        return page(401, "signed_out")
    rows = [dataclasses.asdict(persona) for persona in web().settings.personas]
    shown = [{name: value for name, value in row.items() if value not in ("", None)} for row in rows]
    return jsonify({"version": VERSION, "personas": shown})


@blueprint.get("/health")
def health() -> Response:
    """Return 200 if the database answers."""
    with web().database.read() as session:
        session.execute(text("SELECT 1"))
    return jsonify({"version": VERSION, "status": "ok"})
