"""The Flask app of the pages: sign-in, chat, API keys, page bearers, usage, administration."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Sequence
from typing import Any

from flask import Flask
from sqlalchemy.exc import SQLAlchemyError

from sluice import logs
from sluice.version import version
from sluice.web.admin import announcements
from sluice.web.database import timeouts
from sluice.web.http import assets, form_encoding, guard, language
from sluice.web.http.metrics import Listeners, Metrics
from sluice.web.settings.config import WebConfig
from sluice.web.signin.session_store import SessionStore
from sluice.web.signin.sessions import SessionInterface
from sluice.web.signin.sign_in import SignedInUser
from sluice.web.usage import charts
from sluice.web.views import admin, bearer, chat, errors, keys, sign, site, status, usage
from sluice.web.views import language as language_view
from sluice.web.views.shared import Web, here, legal_links
from sluice.web.words import links
from sluice.web.words.formats import Formats
from sluice.web.words.languages import LANGUAGES


def create_app(settings: WebConfig) -> Flask:
    """Build the app and create the sessions' directory. Raises WrongSchema for tables of another version."""
    logs.configure("web", settings.log_level)
    app = Flask("sluice.web", static_folder=None)
    app.config.update(_flask_settings(settings))
    app.session_interface = SessionInterface(app, app.config["SESSION_CACHELIB"])
    # The order matters: count each request, refuse forged ones, then look up who is signed in.
    metrics = Metrics("web")
    metrics.instrument(app)
    timeouts.limit_requests(app)
    form_encoding.refuse_invalid_utf8(app)
    guard.protect(app, settings)
    language.register(app)
    web = Web(app, settings, metrics)
    web.database.prepare()
    app.extensions["sluice"] = web
    errors.register(app)
    assets.register(app, own=web.brand.files)
    pages = (sign, chat, keys, bearer, status, usage, language_view, site)
    for blueprint in (*(page.blueprint for page in pages), *admin.BLUEPRINTS):
        app.register_blueprint(blueprint)
    _prepare_templates(app, web)
    # The public URL comes from the settings, never from a header; metrics stay on loopback.
    # Flask documents this way to wrap an application, but its types treat wsgi_app as a method.
    app.wsgi_app = guard.PublicUrl(app.wsgi_app, settings.public_url)  # type: ignore[method-assign]
    app.wsgi_app = Listeners(app.wsgi_app, web.metrics.registry)  # type: ignore[method-assign]
    return app


def _flask_settings(settings: WebConfig) -> dict[str, Any]:
    return {
        "SECRET_KEY": settings.secret_key,
        "MAX_CONTENT_LENGTH": 64 * 1024,
        "PERMANENT_SESSION_LIFETIME": datetime.timedelta(seconds=settings.session_max),
        "SESSION_CACHELIB": SessionStore(settings.session_dir),
        "SESSION_COOKIE_NAME": guard.cookie_name("sluice", settings.prefix),
        "SESSION_COOKIE_PATH": settings.prefix or "/",
        "SESSION_COOKIE_SECURE": True,
        "SESSION_COOKIE_HTTPONLY": True,
        "SESSION_COOKIE_SAMESITE": "Lax",
        "SESSION_REFRESH_EACH_REQUEST": False,
    }


def _prepare_templates(app: Flask, web: Web) -> None:
    app.jinja_env.trim_blocks = True
    app.jinja_env.lstrip_blocks = True
    app.jinja_env.filters["iso"] = _iso
    app.jinja_env.filters["percent"] = charts.percent
    app.jinja_env.filters["pieces"] = links.pieces
    for name in ("day", "date", "moment", "number", "short"):
        app.jinja_env.filters[name] = _written(web, name)

    @app.context_processor
    def shared() -> dict[str, Any]:
        person = _person(web)
        return {
            "t": web.texts.get,
            "language": web.texts.language,
            "languages": LANGUAGES,
            "here": here(),
            "prefix": web.settings.prefix,
            "site_name": web.brand.name,
            "legal": legal_links(web),
            "person": person,
            "csrf_token": person.csrf if person else "",
            "version": version(),
            "announcements": lambda: _announcements(web),
        }


def _person(web: Web) -> SignedInUser | None:
    """Return who is signed in, or None if the database does not answer: error pages use the frame too."""
    try:
        return web.sign_in.person()
    except SQLAlchemyError:
        return None


def _written(web: Web, form: str) -> Callable[[Any], str]:
    """Return the filter that writes a value as the reader's language does: a method of Formats, by name."""
    method = getattr(Formats, form)
    return lambda value: method(web.texts.formats, value)


def _iso(at: float) -> str:
    return datetime.datetime.fromtimestamp(at, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _announcements(web: Web) -> Sequence[dict[str, Any]]:
    """Return the current announcements, or none if the database does not answer."""
    try:
        with web.database.read() as session:
            return announcements.for_pages(session, time.time())
    except SQLAlchemyError:
        return ()
