"""What browsers load of the pages beside the pages themselves: scripts, style sheets, fonts, the icon.

The build of the front end (page/) makes them. Each file's name carries a digest of its content, so a browser
may keep it permanently; `manifest.json` says which name is whose.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from flask import Flask, Response, abort, send_from_directory, url_for
from markupsafe import Markup

FOLDER = Path(__file__).parents[1] / "static"
ENDPOINT = "static"
_MANIFEST = "manifest.json"
_YEAR = 365 * 86_400
_LINK = Markup('<link rel="{}" href="{}">')
_SCRIPT = Markup('<script type="module" src="{}"></script>')
_HASHED = re.compile(r"[a-z]+-[A-Z0-9]{8}\.(?:js|css|svg|png|woff2)")
# What a frame with an origin of its own loads: to it, this host is another one.
_FRAMED = ("mermaid.tiny.js", "diagram.js")


class OwnFile(NamedTuple):
    """A file of the site in place of one of Sluice's: its name and ending, and how it is answered."""

    stem: str
    ending: str
    mimetype: str
    content: bytes
    headers: Mapping[str, str] = {}

    @property
    def name(self) -> str:
        """Its name, with a digest of its content."""
        digest = base64.b32encode(hashlib.sha256(self.content).digest()).decode()[:8]
        return f"{self.stem}-{digest}.{self.ending}"


class NotBuilt(Exception):
    """The front end was not built into this copy of the program."""


class Assets:
    """The built files, by the names of their sources: `chat.js`, `sluice.css`, `icon.svg`."""

    def __init__(self, files: dict[str, dict[str, Any]]) -> None:
        self._files = files

    @classmethod
    def load(cls, folder: Path = FOLDER) -> Assets:
        """Read the manifest in `folder`. Raises NotBuilt."""
        try:
            manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise NotBuilt(
                f"{folder} has no {_MANIFEST}: this copy of Sluice lacks its pages' scripts. "
                "In a checkout, build them: python -m page.build"
            ) from None
        return cls(manifest["files"])

    def file(self, source: str) -> str:
        """Return the built file's name. Raises KeyError."""
        return str(self._files[source]["file"])

    def imports(self, source: str) -> list[str]:
        """Return the files that a script begins to load as soon as it is read."""
        return list(self._files[source]["imports"])

    def styles(self, source: str) -> list[str]:
        """Return the style sheets that belong to a script."""
        return list(self._files[source]["styles"])


def register(app: Flask, folder: Path = FOLDER, own: Mapping[str, OwnFile] | None = None) -> None:
    """Serve the files under /static/, and let templates link them: `asset("icon.svg")`, `script("chat.js")`.

    `own`: files of the site, by the names of the sources whose place they take. Raises NotBuilt.
    """
    assets = Assets.load(folder)
    framed = {assets.file(source) for source in _FRAMED}
    places = own or {}
    names = {source: file.name for source, file in places.items()}
    named = {names[source]: file for source, file in places.items()}

    @app.get("/static/<filename>", endpoint=ENDPOINT)
    def static(filename: str) -> Response:
        if not _HASHED.fullmatch(filename):
            abort(404)
        file = named.get(filename)
        if file is None:
            answer = _built(folder, filename)
        else:
            answer = Response(file.content, mimetype=file.mimetype, headers=dict(file.headers))
            answer.headers["Cache-Control"] = f"public, max-age={_YEAR}"
        if filename in framed:
            answer.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
        answer.cache_control.public = True
        answer.cache_control.immutable = True
        return answer

    def asset(source: str) -> str:
        return url_for(ENDPOINT, filename=names[source] if source in names else assets.file(source))

    def script(source: str) -> Markup:
        """Return what loads a script with its style sheets and what it imports, all at once."""
        links = [
            _LINK.format("stylesheet", url_for(ENDPOINT, filename=name)) for name in assets.styles(source)
        ]
        early = [
            _LINK.format("modulepreload", url_for(ENDPOINT, filename=name)) for name in assets.imports(source)
        ]
        return Markup("").join([*links, *early, _SCRIPT.format(asset(source))])

    icon = places.get("icon.svg")
    app.jinja_env.globals.update(
        asset=asset, script=script, icon_type=icon.mimetype if icon else "image/svg+xml"
    )


def _built(folder: Path, name: str) -> Response:
    # Python's table of types has fonts from 3.14 on.
    kind = "font/woff2" if name.endswith(".woff2") else None
    return send_from_directory(folder, name, max_age=_YEAR, mimetype=kind)
