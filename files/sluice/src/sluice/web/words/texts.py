"""The texts of pages and messages, in one file for each language."""

from __future__ import annotations

import json
from pathlib import Path

_SCRIPTS = "js."


class Texts:
    """The texts of one language, by key. Keys that start with `js.` are for the pages' scripts."""

    def __init__(self, language: str, texts: dict[str, str]) -> None:
        self.language = language
        self._texts = texts

    @classmethod
    def load(cls, language: str) -> Texts:
        """Read the texts of a language, such as `en`."""
        path = Path(__file__).parent / "texts" / f"{language}.json"
        return cls(language, json.loads(path.read_text(encoding="utf-8")))

    def get(self, key: str, /, **values: object) -> str:
        """Return a text with `values` filled in. Raises KeyError for an unknown key or a missing value."""
        return self._texts[key].format(**values)

    def of_scripts(self) -> dict[str, str]:
        """Return the texts of the pages' scripts, without the prefix `js.`."""
        return {
            key.removeprefix(_SCRIPTS): text for key, text in self._texts.items() if key.startswith(_SCRIPTS)
        }
