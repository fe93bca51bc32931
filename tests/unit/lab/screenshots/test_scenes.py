"""The scenes of `make screenshots` cover the site's pages in all languages; the README has its pictures."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest

import page.build
from lab.screenshots import said
from lab.screenshots.place import MODELS
from lab.screenshots.scenes import DEVICES, NO_PAGES, README, SCENES, THEMES
from sluice.web import app as web_app
from sluice.web.database.tables import Database
from sluice.web.words.languages import LANGUAGES
from tests.policy.tree import ROOT
from tests.unit.web.visitor import settings_of_a_site

MOST_BYTES = 120_000
IMAGE = re.compile(r'<img[^>]* src="(docs/images/[^"]+)"[^>]*>|!\[[^\]]*\]\((docs/images/[^)]+)\)')


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[set[str]]:
    """Return the views that answer to GET."""
    page.build.ensure()
    root = logging.getLogger()
    handlers, level, raising = root.handlers[:], root.level, logging.raiseExceptions
    folder = tmp_path_factory.mktemp("site")
    url = f"sqlite:///{folder}/sluice.db"
    database = Database(url)
    database.create()
    database.close()
    app = web_app.create_app(settings_of_a_site(folder, url))
    yield {rule.endpoint for rule in app.url_map.iter_rules() if "GET" in (rule.methods or ())}
    app.extensions["sluice"].database.close()
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.raiseExceptions = raising


def uncovered(endpoints: set[str]) -> set[str]:
    """Return the views that have no scene and are not named as no page."""
    return endpoints - {scene.endpoint for scene in SCENES} - set(NO_PAGES)


def test_every_page_has_a_scene(pages: set[str]) -> None:
    assert uncovered(pages) == set(), "lab/screenshots/scenes.py"


def test_no_scene_shows_a_page_that_is_gone(pages: set[str]) -> None:
    assert {scene.endpoint for scene in SCENES} | set(NO_PAGES) <= pages


def test_a_new_page_without_a_scene_is_noticed(pages: set[str]) -> None:
    """A check that cannot fail proves nothing."""
    assert uncovered(pages | {"news.index"}) == {"news.index"}


def test_scenes_have_names_of_their_own() -> None:
    names = [scene.name for scene in SCENES]
    assert len(names) == len(set(names))


def shape(value: Any) -> Any:
    """Return what a text has in every language: names, and how many there are."""
    if isinstance(value, dict):
        return {name: shape(one) for name, one in value.items()}
    return [shape(one) for one in value] if isinstance(value, list) else type(value)


def test_every_language_says_the_same_things() -> None:
    assert {path.stem for path in said.TEXTS.glob("*.json")} == set(LANGUAGES)
    shapes = {language: shape(said.said(language)) for language in LANGUAGES}
    assert all(found == shapes["en"] for found in shapes.values())


def test_the_models_that_are_asked_are_offered() -> None:
    offered = {model["id"] for model in MODELS}
    assert {model for by_model in said.answers().values() for model in by_model if model} <= offered


def test_the_readme_shows_small_pictures_of_scenes_with_words_for_each() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = [next(filter(None, found.groups())) for found in IMAGE.finditer(text)]
    assert sorted(shown) == sorted(f"docs/images/{one.name}.webp" for one in README)
    for found in IMAGE.finditer(text):
        words = re.search(r'alt="([^"]*)"|!\[([^\]]*)\]', found[0])
        assert words and len(words[1] or words[2]) > 20, found[0]
    for name in shown:
        assert (ROOT / name).stat().st_size <= MOST_BYTES, name


def test_the_readme_names_scenes_languages_themes_and_devices_that_are_there() -> None:
    scenes = {scene.name: scene for scene in SCENES}
    for one in README:
        assert one.device in scenes[one.scene].devices
        assert one.language in LANGUAGES and one.theme in THEMES and one.device in DEVICES
