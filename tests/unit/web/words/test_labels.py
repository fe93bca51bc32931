"""Labels: names and texts that users enter."""

from __future__ import annotations

import pytest

from sluice.web.words import labels


@pytest.mark.parametrize(
    "text",
    ["a", "notebook on my laptop", "Schlüssel für Übungen", "鍵", "👩‍🔬 lab", "می‌خواهم", "שלום", "x" * 60],
)
def test_ordinary_names_of_any_script_can_be_used(text: str) -> None:
    assert labels.problem(text, 60) == ""


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "empty"),
        ("x" * 61, "too_long"),
        ("a\x00b", "control"),
        ("a\nb", "control"),
        ("a\x1b[31mb", "control"),
        ("a\x85b", "control"),
        ("a\u2028b", "control"),
        ("a\ud800b", "broken"),
        ("a\udc80b", "broken"),
        ("a\ufffdb", "broken"),
        ("key\u202egpj.exe", "direction"),
        ("\u2066key", "direction"),
        ("a\u200bb", "invisible"),
        ("\ufeffa", "invisible"),
        ("\u200d\u200d", "invisible"),
    ],
)
def test_invisible_and_broken_characters_are_named(text: str, named: str) -> None:
    assert labels.problem(text, 60) == named
