"""The fields of a new key."""

from __future__ import annotations

import pytest

from sluice.web.keys import forms
from sluice.web.keys.credentials import KeySettings
from sluice.web.words.texts import Texts
from sluice.web.words.validation import ValidationError


def test_missing_fields_get_their_defaults() -> None:
    given = {"name": "  notebook ", "days": "", "models": " , "}
    assert forms.read(given, 180, ()) == (KeySettings("notebook", 180), ())


def test_all_fields_are_read() -> None:
    given = {
        "name": "n",
        "days": "1",
        "project": "lattice",
        "models": "b, a\nb",
        "requests_per_minute": "0",
        "tokens_per_minute": "7",
        "tokens_per_day": str(1 << 53),
        "concurrent": "2",
    }
    wanted = KeySettings("n", 1, "lattice", ("b", "a"), 0, 7, 1 << 53, 2)
    assert forms.read(given, 180, ("lattice",)) == (wanted, ())


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"name": "   "}, "label_empty"),
        ({"name": "x" * 61}, "label_too_long"),
        ({"name": "a\x00b"}, "label_control"),
        ({"name": "a\nb"}, "label_control"),
        ({"name": "a\udc80b"}, "label_broken"),
        ({"name": "invoice\u202egpj.exe"}, "label_direction"),
        ({"name": "a\u200bb"}, "label_invisible"),
        ({"days": "0"}, "key_days"),
        ({"days": "181"}, "key_days"),
        ({"days": "1e2"}, "key_days"),
        ({"days": "\u0663"}, "key_days"),
        ({"project": "genomics"}, "key_project"),
        ({"models": "../etc"}, "model_name"),
        ({"models": " ".join(f"m{n}" for n in range(51))}, "key_models"),
        ({"tokens_per_minute": "1.5"}, "number"),
        ({"concurrent": "-1"}, "number"),
        ({"tokens_per_day": "1" * 17}, "number"),
        ({"tokens_per_day": str((1 << 53) + 1)}, "number_most"),
        ({"requests_per_minute": str(1 << 31)}, "number_most"),
    ],
)
def test_invalid_fields_are_refused_with_a_message(fields: dict[str, str], error: str) -> None:
    reading = forms.read({"name": "n", **fields}, 180, ("lattice",))
    assert reading.settings is None
    assert [(found.field, found.error.text) for found in reading.errors] == [
        (next(iter(fields)), f"validation.{error}")
    ]
    assert Texts.load("en").get(reading.errors[0].error.text, **reading.errors[0].error.values)


@pytest.mark.parametrize("text", ["", "8", "-1", "x", "1.5", "٣"])
def test_an_invalid_grace_time_is_refused(text: str) -> None:
    with pytest.raises(ValidationError, match="key_grace"):
        forms.read_grace(text)


def test_the_grace_time_can_be_a_week() -> None:
    assert [forms.read_grace(str(days)) for days in range(8)] == list(range(8))
