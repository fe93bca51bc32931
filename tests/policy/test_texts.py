"""The texts of the pages are complete in every language, and none is left over (`python -m page.texts`)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest

from page import texts
from sluice.contracts.paths import KNOWN
from sluice.errors import CODES
from sluice.web.words.languages import LANGUAGES
from sluice.web.words.texts import Text, read

OTHERS = [language for language in LANGUAGES if language != "en"]


def test_no_text_is_missing() -> None:
    assert list(texts.unknown()) == []


def test_no_text_is_left_over() -> None:
    assert list(texts.unused()) == []


@pytest.mark.parametrize("language", OTHERS)
def test_every_text_is_translated(language: str) -> None:
    assert list(texts.untranslated(language)) == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_languages_have_the_same_placeholders_and_their_own_plural_forms(language: str) -> None:
    assert list(texts.misformed(language)) == []


def test_the_chat_page_explains_every_error_code_of_the_api() -> None:
    """Messages are English, for programs; readers get a text in their language by the code."""
    script = (texts.SCRIPTS / "chat" / "problem.tsx").read_text()
    table = script.partition("const TEXTS")[2].partition("};")[0]
    assert CODES.keys() - set(re.findall(r"(?m)^  (\w+):", table)) == set()


def test_the_status_page_has_a_word_for_every_capability() -> None:
    assert {name for name in KNOWN if f"js.capability_{name}" not in read("en")} == set()


PLURAL = {"by": "n", "one": "{n} key", "other": "{n} keys"}


@pytest.mark.parametrize(
    ("english", "german", "look", "word"),
    [
        ("Send", None, texts.untranslated, "missing"),
        (None, "Senden", texts.untranslated, "remove"),
        ("Send", "Send", texts.untranslated, "not translated"),
        ("Send {n}", "Senden", texts.misformed, "placeholders"),
        ("Send", "Senden {n}", texts.misformed, "placeholders"),
        (PLURAL, {"by": "n", "other": "{n} Schlüssel"}, texts.misformed, "plural forms"),
        (PLURAL, "{n} Schlüssel", texts.misformed, "one language alone"),
    ],
)
def test_a_planted_fault_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
    english: Text | None,
    german: Text | None,
    look: Callable[[str], Iterator[str]],
    word: str,
) -> None:
    files = {"en": {} if english is None else {"a": english}, "de": {} if german is None else {"a": german}}
    monkeypatch.setattr(texts, "read", files.__getitem__)
    assert [word in problem for problem in look("de")] == [True]
