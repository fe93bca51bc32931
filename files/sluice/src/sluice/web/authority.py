"""The authority: answers the proxy about keys and spent tokens, and stores settled usage records.

A small app on its own unix socket, which only the proxy can open; nginx does not know it. The authority gets
the SHA-256 of a key, never the key. See docs/contracts.md, "Authority".
"""

from __future__ import annotations

import logging
import time
from typing import Any

from flask import Blueprint, Flask, Response, current_app, jsonify, request
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from werkzeug.exceptions import HTTPException

from sluice import logs
from sluice.contracts.authority import MOST_LIMITS, Limit
from sluice.contracts.encoding import decode_json
from sluice.contracts.fields import VERSION, Fields
from sluice.contracts.usage import UsageRecord
from sluice.contracts.values import HEX64, MAX_TIME
from sluice.errors import RecordError, SluiceError
from sluice.web.admin import stopped_models
from sluice.web.database import timeouts
from sluice.web.database.tables import Database
from sluice.web.http.metrics import Listeners, Metrics
from sluice.web.keys import generation
from sluice.web.keys.principals import OutdatedKey, Principals, update_stored_form
from sluice.web.settings.config import WebConfig
from sluice.web.usage import ledger

logger = logging.getLogger(__name__)

MAX_RECORDS = 1_000
MAX_BODY = 4 * 1024 * 1024

blueprint = Blueprint("authority", __name__)


class Authority:
    """What the handlers share: settings, database, metrics."""

    def __init__(self, settings: WebConfig) -> None:
        self.settings = settings
        self.database = Database(settings.database, serving=True)
        self.principals = Principals(settings)
        self.metrics = Metrics("authority")
        self.questions = self.metrics.counter("questions", "Questions whose key this is.", ("answer",))
        self.records = self.metrics.counter("usage_records", "Usage records received.", ("kind",))


def create_app(settings: WebConfig) -> Flask:
    """Build the app. Raises WrongSchema for tables of another version."""
    logs.configure("authority", settings.log_level)
    app = Flask("sluice.web.authority", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY
    authority = Authority(settings)
    authority.database.prepare()
    app.extensions["sluice"] = authority
    authority.metrics.instrument(app)
    timeouts.limit_requests(app)
    app.register_blueprint(blueprint)
    app.register_error_handler(RecordError, _bad_record)
    app.register_error_handler(SluiceError, _named_error)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(SQLAlchemyError, _database_error)
    # Flask documents this way to wrap an application, but its types treat wsgi_app as a method.
    app.wsgi_app = Listeners(app.wsgi_app, authority.metrics.registry)  # type: ignore[method-assign]
    return app


def _authority() -> Authority:
    authority: Authority = current_app.extensions["sluice"]
    return authority


@blueprint.post("/v1/principal")
def principal() -> tuple[Response, int]:
    """Return the principal of a credential. Unknown, revoked, expired and blocked ones get the same 404."""
    fields = Fields(decode_json(request.get_data()))
    fields.version()
    credential = fields.text("credential", HEX64)
    authority = _authority()
    with authority.database.read() as session:
        found = authority.principals.find(session, credential, time.time())
    authority.questions.labels("known" if found else "unknown").inc()
    if found is None:
        return _answer({"principal": None}, 404)
    if found.outdated:
        _update_stored_form(authority, found.outdated)
    return _answer({"principal": found.principal.dump()}, 200)


def _update_stored_form(authority: Authority, outdated: OutdatedKey) -> None:
    try:
        with timeouts.at_most(timeouts.OPTIONAL_SECONDS), authority.database.write() as session:
            update_stored_form(session, outdated)
    except SQLAlchemyError as error:
        # The key still works, and its next use tries again.
        logger.warning(
            "a key could not be stored under the current secret", extra={"fault": type(error).__name__}
        )


@blueprint.post("/v1/usage")
def settle() -> tuple[Response, int]:
    """Store settled usage records. Records that are already stored are accepted but not counted again."""
    fields = Fields(decode_json(request.get_data()))
    fields.version()
    records = [UsageRecord.parse(item, where) for where, item in fields.items("records", most=MAX_RECORDS)]
    authority = _authority()
    with authority.database.write() as session:
        new = ledger.settle(session, authority.database.dialect, records)
    authority.records.labels("new").inc(new)
    authority.records.labels("known").inc(len(records) - new)
    return _answer({"accepted": len(records)}, 200)


@blueprint.post("/v1/spent")
def spent() -> tuple[Response, int]:
    """Return what was spent in each requested bucket, in the order of the request."""
    fields = Fields(decode_json(request.get_data()))
    fields.version()
    buckets = [Limit.parse(item, where).bucket for where, item in fields.items("buckets", most=MOST_LIMITS)]
    now = fields.number("now", 0, MAX_TIME)
    with _authority().database.read() as session:
        answer = [taken.dump() for taken in ledger.spent(session, buckets, now)]
    return _answer({"spent": answer}, 200)


@blueprint.get("/v1/gateway")
def gateway() -> tuple[Response, int]:
    """Return what applies to all requests of this gateway: stopped models, and the secrets of key marks."""
    authority = _authority()
    with authority.database.read() as session:
        stopped = [stop.dump() for stop in stopped_models.stops_for_proxy(session)]
    secrets = (authority.settings.key_secret, *authority.settings.old_key_secrets)
    marks = [generation.mark_secret(secret.value).hex() for secret in secrets]
    return _answer({"stopped": stopped, "marks": marks}, 200)


@blueprint.get("/health")
def health() -> tuple[Response, int]:
    """Return 200 if the database answers."""
    with _authority().database.read() as session:
        session.execute(text("SELECT 1"))
    return _answer({"status": "ok"}, 200)


def _answer(document: dict[str, Any], status: int) -> tuple[Response, int]:
    return jsonify({"version": VERSION, **document}), status


def _error(error: SluiceError, status: int) -> tuple[Response, int]:
    return jsonify(error.to_openai(request.headers.get("X-Request-Id", ""))), status


def _bad_record(error: RecordError) -> tuple[Response, int]:
    return _error(SluiceError("invalid_request", str(error), param=error.field or None), 400)


def _named_error(error: SluiceError) -> tuple[Response, int]:
    logger.error("a question could not be answered", extra={"fault": error.message})
    return _error(error, error.status)


def _http_error(error: HTTPException) -> tuple[Response, int]:
    codes = {404: "path_not_found", 405: "method_not_allowed", 413: "body_too_large"}
    code = codes.get(error.code or 500, "invalid_request" if (error.code or 500) < 500 else "internal_error")
    return _error(SluiceError(code, error.description or error.name), error.code or 500)


def _database_error(error: SQLAlchemyError) -> tuple[Response, int]:
    # The text of such an error quotes the statement with its values: log only its type.
    logger.error("the database does not answer", extra={"fault": type(error).__name__})
    return _error(SluiceError("internal_error", "the database does not answer"), 503)
