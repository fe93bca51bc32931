"""The checks on a form's body before anything reads it."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

from flask import Flask, request

from sluice.web.http.page_error import PageError

_FORM = "application/x-www-form-urlencoded"


def refuse_invalid_utf8(app: Flask) -> None:
    """Refuse forms whose text is not UTF-8, halves of surrogate pairs among it.

    Werkzeug would hand such bytes on as percent signs and digits, which then stand in a name for good. To be
    called before anything that reads forms: whoever reads first leaves nothing of the body.
    """

    @app.before_request
    def refuse() -> None:
        if request.mimetype != _FORM:
            return
        try:
            unquote_to_bytes(request.get_data(cache=True)).decode()
        except UnicodeDecodeError:
            raise PageError(400, "not_text") from None
