"""Error pages: each says what happened and what to do."""

from __future__ import annotations

import logging

from flask import Flask, Response, jsonify, make_response, render_template, request
from requests.exceptions import RequestException
from sqlalchemy.exc import SQLAlchemyError
from werkzeug.exceptions import HTTPException

from sluice.web.http.page_error import PageError
from sluice.web.views.shared import web

logger = logging.getLogger(__name__)

# The texts of some statuses; others use those of 400 or 500.
_TEXTS = {400: "400", 401: "401", 403: "403", 404: "404", 405: "404", 413: "400", 502: "502"}


def register(app: Flask) -> None:
    """Register the error pages of `app`."""
    app.register_error_handler(PageError, _page_error)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(RequestException, _provider_down)
    app.register_error_handler(SQLAlchemyError, _database_down)


def page(status: int, texts: str) -> Response:
    """Return the error page with the texts `error.<texts>.*`, as JSON in English if the client prefers it."""
    if request.accept_mimetypes.best_match(["text/html", "application/json"]) == "application/json":
        message = web().english.get(f"error.{texts}.text")
        answer = jsonify({"error": {"message": message, "code": texts}})
    else:
        answer = make_response(
            render_template("error.html", texts=f"error.{texts}", may_sign_in=status == 401)
        )
    answer.status_code = status
    return answer


def _page_error(error: PageError) -> Response:
    if error.outcome:
        web().sign_in.count(error.outcome)
    answer = page(error.status, error.texts)
    if error.retry_after is not None:
        answer.headers["Retry-After"] = str(error.retry_after)
    return answer


def _http_error(error: HTTPException) -> Response:
    status = error.code or 500
    answer = page(status, _TEXTS.get(status, "500" if status >= 500 else "400"))
    for name, value in error.get_headers():
        if name in ("Allow", "Retry-After"):
            answer.headers[name] = value
    return answer


def _provider_down(error: RequestException) -> Response:
    web().sign_in.count("provider_down")
    logger.error("the sign-in provider does not answer", extra={"fault": type(error).__name__})
    answer = page(503, "provider_down")
    answer.headers["Retry-After"] = "30"
    return answer


def _database_down(error: SQLAlchemyError) -> Response:
    # The text of such an error quotes the statement with its values: log only its type.
    logger.error("the database does not answer", extra={"fault": type(error).__name__})
    answer = page(503, "storage")
    answer.headers["Retry-After"] = "10"
    return answer
