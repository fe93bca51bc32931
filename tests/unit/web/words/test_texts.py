"""Texts with placeholders and plural forms, in each language."""

from __future__ import annotations

import pytest

from sluice.web.words.languages import LANGUAGES
from sluice.web.words.texts import Texts

KEYS = {"by": "n", "one": "{n} key", "other": "{n} keys of {name}"}


def test_values_are_filled_in() -> None:
    texts = Texts("en", {"a": "{name}, {n}"})
    assert texts.get("a", name="Alice", n=12_345) == "Alice, 12,345"


def test_a_value_that_looks_like_a_placeholder_stays_text() -> None:
    assert Texts("en", {"a": "{name}"}).get("a", name="{n}") == "{n}"


@pytest.mark.parametrize("number", [0, 1, 2, 1000])
@pytest.mark.parametrize("language", LANGUAGES)
def test_a_number_decides_the_form(language: str, number: int) -> None:
    forms = {"by": "n", "one": "one", "other": "other"}
    expected = "one" if number == 1 and language != "ja" else "other"
    assert Texts(language, {"a": forms}).get("a", n=number) == expected


def test_a_form_is_chosen_by_a_number_and_not_by_text() -> None:
    with pytest.raises(TypeError, match="a number decides"):
        Texts("en", {"a": KEYS}).get("a", n="1", name="x")


def test_an_unknown_key_and_a_missing_value_are_errors() -> None:
    with pytest.raises(KeyError):
        Texts("en", {}).get("a")
    with pytest.raises(KeyError):
        Texts("en", {"a": "{n}"}).get("a")
