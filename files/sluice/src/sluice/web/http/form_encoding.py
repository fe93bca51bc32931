"""Checks the encoding of a form before anything reads it."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

from flask import Flask, request

from sluice.web.http.page_error import PageError

_FORM = "application/x-www-form-urlencoded"


def refuse_invalid_utf8(app: Flask) -> None:
    """Refuse forms whose text is not UTF-8 (surrogates are not UTF-8 either).

    Werkzeug would turn such bytes into percent signs and digits, which would be stored in names. Call this
    before anything that reads forms: the body can be read only once.
    """

    @app.before_request
    def refuse() -> None:
        if request.mimetype != _FORM:
            return
        try:
            unquote_to_bytes(request.get_data(cache=True)).decode()
        except UnicodeDecodeError:
            raise PageError(400, "not_text") from None
