"""What browsers load of the pages beside the pages themselves: scripts, style sheets, fonts, the icon.

The build of the front end (page/) makes them. Each file's name carries a digest of its content, so a browser
may keep it permanently; `manifest.json` says which name is whose.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from flask import Flask, Response, abort, send_from_directory, url_for
from markupsafe import Markup

FOLDER = Path(__file__).parents[1] / "static"
ENDPOINT = "static"
_MANIFEST = "manifest.json"
_YEAR = 365 * 86_400
_LINK = Markup('<link rel="{}" href="{}">')
_SCRIPT = Markup('<script type="module" src="{}"></script>')
_HASHED = re.compile(r"[a-z]+-[A-Z0-9]{8}\.(?:js|css|svg|woff2)")
# What a frame with an origin of its own loads: to it, this host is another one.
_FRAMED = ("mermaid.tiny.js", "diagram.js")


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


def register(app: Flask, folder: Path = FOLDER) -> None:
    """Serve the files under /static/, and let templates link them: `asset("icon.svg")`, `script("chat.js")`.

    Raises NotBuilt.
    """
    assets = Assets.load(folder)
    framed = {assets.file(source) for source in _FRAMED}

    @app.get("/static/<filename>", endpoint=ENDPOINT)
    def static(filename: str) -> Response:
        if not _HASHED.fullmatch(filename):
            abort(404)
        # Python's table of types has fonts from 3.14 on.
        kind = "font/woff2" if filename.endswith(".woff2") else None
        answer = send_from_directory(folder, filename, max_age=_YEAR, mimetype=kind)
        if filename in framed:
            answer.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
        answer.cache_control.public = True
        answer.cache_control.immutable = True
        return answer

    def asset(source: str) -> str:
        return url_for(ENDPOINT, filename=assets.file(source))

    def script(source: str) -> Markup:
        """Return what loads a script with its style sheets and what it imports, all at once."""
        links = [
            _LINK.format("stylesheet", url_for(ENDPOINT, filename=name)) for name in assets.styles(source)
        ]
        early = [
            _LINK.format("modulepreload", url_for(ENDPOINT, filename=name)) for name in assets.imports(source)
        ]
        return Markup("").join([*links, *early, _SCRIPT.format(asset(source))])

    app.jinja_env.globals.update(asset=asset, script=script)
