"""Choosing the language of the pages, also before sign-in."""

from __future__ import annotations

from flask import Blueprint, abort, redirect, request, url_for
from werkzeug.wrappers import Response

from sluice.web.http import language
from sluice.web.http.guard import is_local_path
from sluice.web.words.languages import LANGUAGES

blueprint = Blueprint("language", __name__, url_prefix="/language")


@blueprint.post("")
def choose() -> Response:
    """Remember the language in this browser, and go back to the page."""
    wanted, back = request.form.get("language", ""), request.form.get("next", "")
    if wanted not in LANGUAGES:
        abort(400)
    answer = redirect(back if is_local_path(back, request.script_root) else url_for("chat.index"), 303)
    language.choose(answer, wanted)
    return answer
