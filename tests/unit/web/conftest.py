"""A web app and an authority on one database, with the metadata of a provider that does not answer."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from jinja2 import FileSystemBytecodeCache
from requests.adapters import HTTPAdapter
from sqlalchemy import create_engine, inspect, text
from sqlalchemy.pool import NullPool

import page.build
from sluice.web import app as web_app
from sluice.web import authority as authority_app
from sluice.web.database.tables import Base, Database
from sluice.web.settings.config import WebConfig
from sluice.web.views.shared import Web
from tests.unit.web.issuer import Issuer
from tests.unit.web.visitor import ISSUER, settings_of_a_site


@pytest.fixture(scope="session", autouse=True)
def built_page() -> None:
    """What browsers load of the pages: the app does not start without it."""
    page.build.ensure()


@pytest.fixture(scope="session")
def fresh_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite file with empty tables, to be copied: creating them takes longer."""
    path = tmp_path_factory.mktemp("database") / "fresh.db"
    database = Database(f"sqlite:///{path}")
    database.create()
    database.close()
    return path


@pytest.fixture(scope="session")
def compiled_templates(tmp_path_factory: pytest.TempPathFactory) -> FileSystemBytecodeCache:
    """Compiled templates for all apps: compiling them takes longer than a test."""
    return FileSystemBytecodeCache(str(tmp_path_factory.mktemp("templates")))


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """An empty database of this test's own: SQLite, or the one that SLUICE_TEST_DATABASE names."""
    url = os.environ.get("SLUICE_TEST_DATABASE", "")
    if not url:
        return f"sqlite:///{tmp_path / 'sluice.db'}"
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        # Making the tables takes longer than a test.
        names = ", ".join(f'"{name}"' for name in Base.metadata.tables)
        if inspect(connection).has_table("user"):
            connection.execute(text(f"TRUNCATE {names} RESTART IDENTITY"))
    return url


@pytest.fixture
def settings(tmp_path: Path, fresh_database: Path, database_url: str) -> WebConfig:
    """Settings of a site, whose database has its tables."""
    found = settings_of_a_site(tmp_path, database_url)
    if database_url.startswith("sqlite"):
        shutil.copy(fresh_database, tmp_path / "sluice.db")
    else:
        database = Database(database_url)
        database.create()
        database.close()
    return found


@pytest.fixture
def quiet_logging() -> Iterator[None]:
    """Put back the root logger, which building an app configures."""
    root = logging.getLogger()
    handlers, level, raising = root.handlers[:], root.level, logging.raiseExceptions
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.raiseExceptions = raising


@pytest.fixture
def app(
    settings: WebConfig, quiet_logging: None, compiled_templates: FileSystemBytecodeCache
) -> Iterator[Flask]:
    """The pages' app; its provider does not answer."""
    app = web_app.create_app(settings)
    app.jinja_env.bytecode_cache = compiled_templates
    web: Web = app.extensions["sluice"]
    web.sign_in.client.server_metadata.update(
        {
            "_loaded_at": time.time(),
            "issuer": ISSUER,
            "authorization_endpoint": f"{ISSUER}/auth",
            "token_endpoint": f"{ISSUER}/token",
            "userinfo_endpoint": f"{ISSUER}/me",
            "jwks_uri": f"{ISSUER}/jwks",
            "end_session_endpoint": f"{ISSUER}/session/end",
        }
    )
    yield app
    web.database.close()


@pytest.fixture
def issuer(app: Flask, monkeypatch: pytest.MonkeyPatch) -> Issuer:
    """A provider that answers the app, in place of the network."""
    found = Issuer()
    app.extensions["sluice"].sign_in.client.server_metadata.clear()
    monkeypatch.setattr(HTTPAdapter, "send", lambda _adapter, request, **_options: found.send(request))
    return found


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A browser that is not signed in."""
    return app.test_client()


@pytest.fixture
def database(app: Flask) -> Database:
    """The app's database."""
    found: Database = app.extensions["sluice"].database
    return found


@pytest.fixture
def authority(settings: WebConfig, quiet_logging: None) -> Iterator[FlaskClient]:
    """A client of the authority on the same database."""
    app = authority_app.create_app(settings)
    yield app.test_client()
    app.extensions["sluice"].database.close()
