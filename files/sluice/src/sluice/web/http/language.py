"""The language of a page: the one that its reader chose, else the first of the browser's that Sluice has."""

from __future__ import annotations

from flask import Flask, Response, g, has_request_context, request
from werkzeug.wrappers import Response as AnyResponse

from sluice.web.http.guard import cookie_name
from sluice.web.words.languages import DEFAULT, LANGUAGES

# It is no secret and says nothing of who chose it. It outlives sign-ins, and holds before the first.
COOKIE = "sluice-language"
_YEAR = 365 * 86_400


def current() -> str:
    """Return the language of the current request; English outside of any."""
    if not has_request_context():
        return DEFAULT
    if "language" not in g:
        g.language = _wanted()
    found: str = g.language
    return found


def _wanted() -> str:
    chosen = request.cookies.get(cookie_name(COOKIE, request.script_root), "")
    if chosen in LANGUAGES:
        return chosen
    return request.accept_languages.best_match(LANGUAGES, DEFAULT) or DEFAULT


def choose(answer: AnyResponse, language: str) -> None:
    """Have the browser remember a language."""
    prefix = request.script_root
    answer.set_cookie(
        cookie_name(COOKIE, prefix),
        language,
        max_age=_YEAR,
        path=prefix or "/",
        secure=True,
        httponly=True,
        samesite="Lax",
    )


def register(app: Flask) -> None:
    """Tell caches that pages differ by language."""

    @app.after_request
    def vary(response: Response) -> Response:
        if response.mimetype == "text/html":
            response.vary.update(("Accept-Language", "Cookie"))
        return response
