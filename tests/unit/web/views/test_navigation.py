"""Every page is in what lists the pages: the blueprints, the administrators' tabs, nginx's access log."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
import re
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.routing import Rule

from sluice.web.database.tables import Database
from sluice.web.settings.config import Access, WebConfig
from sluice.web.views import admin
from tests.unit.web.visitor import get, sign_in

NGINX = Path(__file__).parents[4] / "roles/nginx/templates/nginx.conf.j2"
# flask-oidc's own routes, which the app closes.
CLOSED = {"oidc_auth.logout", "legacy_oidc_callback"}


@pytest.fixture
def settings(settings: WebConfig) -> WebConfig:
    """A site with an administrators' group."""
    return dataclasses.replace(settings, access=Access(admins=("ops",)))


def rows(name: str) -> list[tuple[str, str]]:
    """Return the patterns of nginx's map of the path to `name`, each with what it gives."""
    start = f"map $sluice_address ${name} {{"
    block = NGINX.read_text(encoding="utf-8").partition(start)[2].partition("\n    }")[0]
    # Python writes the names of groups in another way.
    return [
        (pattern.replace("(?<", "(?P<"), given)
        for pattern, given in re.findall(r'^ +"~(.+)" "?([^"\n]+?)"?;$', block, re.MULTILINE)
    ]


def logged(path: str) -> str:
    """Return what nginx's access log shows of `path`."""
    found = next((given for pattern, given in rows("sluice_path") if re.search(pattern, path)), "(another)")
    places = [place for pattern, _ in rows("sluice_place") for place in re.findall(pattern, path)]
    return found.replace("$sluice_address", path).replace("$sluice_place", "".join(places))


def rules(app: Flask) -> list[Rule]:
    return [rule for rule in app.url_map.iter_rules() if rule.endpoint not in CLOSED]


def test_every_module_with_a_blueprint_is_among_the_administrators_pages() -> None:
    modules = [
        importlib.import_module(f"{admin.__name__}.{module.name}")
        for module in pkgutil.iter_modules(admin.__path__)
    ]
    found = [module.blueprint for module in modules if hasattr(module, "blueprint")]
    assert {blueprint.name for blueprint in admin.BLUEPRINTS} == {blueprint.name for blueprint in found}


def test_every_page_for_administrators_is_a_tab(app: Flask, client: FlaskClient, database: Database) -> None:
    sign_in(client, database, name="ada", groups=("ops",))
    page = get(client, "/admin").get_data(as_text=True)
    tabs = re.search(r'<nav class="tabs".*?</nav>', page, re.DOTALL)
    assert tabs
    pages = {
        rule.rule
        for rule in rules(app)
        if rule.rule.startswith("/admin") and "GET" in (rule.methods or ()) and not rule.arguments
    }
    assert set(re.findall(r'href="([^"]+)"', tabs[0])) == pages


def test_the_access_log_shows_the_path_of_every_page(app: Flask) -> None:
    assert logged("/another") == "(another)"
    for rule in rules(app):
        place = f"/{rule.rule.split('/')[1]}/(one)"
        if rule.arguments:
            assert logged(rule.rule) == place, rule
        elif "GET" in (rule.methods or ()):
            assert logged(rule.rule) == rule.rule, rule
        else:
            assert logged(rule.rule) in (rule.rule, place), rule
