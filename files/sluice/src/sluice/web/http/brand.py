"""What a site's branding makes of the pages: files in place of Sluice's own, and texts by language."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from markupsafe import Markup

from sluice.errors import ConfigError
from sluice.web.http.assets import FOLDER, Assets, OwnFile
from sluice.web.settings import branding
from sluice.web.settings.branding import Branding
from sluice.web.words import markdown
from sluice.web.words.languages import DEFAULT

ICON = "icon.svg"
STYLE = "sluice.css"
# An SVG that is opened by itself is a document: it gets no rights at all.
_ALONE = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox"}


class Passage(NamedTuple):
    """A text of the site in one language: its HTML, or the address of a page elsewhere."""

    language: str
    html: Markup
    link: str


class Brand:
    """A site's branding, ready to be shown. Raises ConfigError for a logo that cannot be used."""

    def __init__(self, given: Branding, folder: Path = FOLDER) -> None:
        self.name = given.name
        self.files = {**_logo(given.logo), **_style(given, folder)}
        self._texts = {
            "welcome": _passages(given.welcome, links=False),
            "imprint": _passages(given.imprint, links=True),
            "privacy": _passages(given.privacy, links=True),
        }

    def passage(self, name: str, language: str) -> Passage | None:
        """Return one of the site's texts (welcome, imprint, privacy); None if the site has none.

        If it is not there in this language, English is, or else the first that the site has written.
        """
        found = self._texts[name]
        return found.get(language) or found.get(DEFAULT) or next(iter(found.values()), None)


def _passages(texts: Mapping[str, str], *, links: bool) -> dict[str, Passage]:
    return {
        language: Passage(language, Markup(""), text.strip())
        if links and branding.is_link(text)
        else Passage(language, markdown.html(text), "")
        for language, text in texts.items()
    }


def _logo(path: str) -> dict[str, OwnFile]:
    if not path:
        return {}
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"branding.logo: {path} cannot be read ({error.strerror})") from None
    wrong = branding.logo_problem(content)
    if wrong:
        raise ConfigError(f"branding.logo: {path} {wrong}")
    if content.startswith(b"\x89PNG"):
        return {ICON: OwnFile("logo", "png", "image/png", content)}
    return {ICON: OwnFile("logo", "svg", "image/svg+xml", content, _ALONE)}


def _style(given: Branding, folder: Path) -> dict[str, OwnFile]:
    if given.accent is None:
        return {}
    # One file with the pages' own: a colour costs no request.
    built = (folder / Assets.load(folder).file(STYLE)).read_bytes()
    return {STYLE: OwnFile("sluice", "css", "text/css", built + branding.style(given.accent).encode())}
