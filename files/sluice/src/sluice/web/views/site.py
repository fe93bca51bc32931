"""The site's own pages: who runs it, and what becomes of people's data."""

from __future__ import annotations

from flask import Blueprint, abort, redirect, render_template
from werkzeug.wrappers import Response

from sluice.web.http import language
from sluice.web.views.shared import web

blueprint = Blueprint("site", __name__)


@blueprint.get("/imprint")
def imprint() -> Response | str:
    """Show who runs the site."""
    return _show("imprint")


@blueprint.get("/privacy")
def privacy() -> Response | str:
    """Show what becomes of people's data."""
    return _show("privacy")


def _show(name: str) -> Response | str:
    passage = web().brand.passage(name, language.current())
    if passage is None:
        abort(404)
    if passage.link:
        return redirect(passage.link)
    return render_template("site.html", name=name, passage=passage)
