"""The entry points for gunicorn: `sluice.web.wsgi:web()` and `sluice.web.wsgi:authority()`.

Both read the configuration file that SLUICE_WEB_CONFIG names, or /etc/sluice/web.json. A path can also be an
argument: `sluice.web.wsgi:web("/etc/sluice/web.json")`.
"""

from __future__ import annotations

import os

from flask import Flask

from sluice.web import app as web_app
from sluice.web import authority as authority_app
from sluice.web.settings.config import DEFAULT_PATH, WebConfig, load

ENVIRONMENT = "SLUICE_WEB_CONFIG"


def settings(path: str | None = None) -> WebConfig:
    """Read the settings. Raises ConfigError."""
    return load(path or os.environ.get(ENVIRONMENT) or DEFAULT_PATH)


def web(path: str | None = None) -> Flask:
    """Build the pages' app."""
    return web_app.create_app(settings(path))


def authority(path: str | None = None) -> Flask:
    """Build the authority's app."""
    return authority_app.create_app(settings(path))
