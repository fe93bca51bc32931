"""The texts of pages and messages, in one file for each language.

A text has placeholders, such as `{name}`. Where its words depend on a number, it is an object with the forms
that the language has, and with the name of the placeholder that decides:
`{"by": "n", "one": "{n} key", "other": "{n} keys"}`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from sluice.web.words.formats import Formats

Text = str | dict[str, str]


class Texts:
    """The texts of one language, by key. Keys that start with `js.` are for the pages' scripts."""

    def __init__(self, language: str, texts: Mapping[str, Text]) -> None:
        self.language = language
        self.formats = Formats(language)
        self._texts = texts

    @classmethod
    def load(cls, language: str) -> Texts:
        """Read the texts of a language, such as `en`."""
        return cls(language, read(language))

    def get(self, key: str, /, **values: object) -> str:
        """Return a text with `values` filled in; whole numbers are written as the language writes them.

        Raises KeyError for an unknown key or a missing value.
        """
        text = self._texts[key]
        if isinstance(text, dict):
            text = text[self._form(values[text["by"]])]
        shown = {name: self._shown(value) for name, value in values.items()}
        return text.format(**shown)

    def _form(self, number: object) -> str:
        if not isinstance(number, int):
            raise TypeError(f"a number decides which form a text has, not {number!r}")
        return self.formats.form(number)

    def _shown(self, value: object) -> object:
        return self.formats.number(value) if isinstance(value, int) else value


def read(language: str) -> dict[str, Text]:
    """Return the texts of a language by key, as its file has them."""
    path = Path(__file__).parent / "texts" / f"{language}.json"
    found: dict[str, Text] = json.loads(path.read_text(encoding="utf-8"))
    return found
