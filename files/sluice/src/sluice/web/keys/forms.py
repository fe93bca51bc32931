"""Checks the fields of a new key from a form or a command line. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple, TypeVar

from sluice.contracts.authority import LIMITED
from sluice.contracts.values import MODEL_NAME
from sluice.web.keys.credentials import MAX_GRACE_DAYS, MAX_MODELS, KeySettings
from sluice.web.settings.rules import MAX
from sluice.web.words.validation import ValidationError, check_label

T = TypeVar("T")

MAX_NAME = 60

# In the order of the page.
FIELDS = ("name", "days", "project", "models", *LIMITED)

_NUMBER = re.compile(r"[0-9]{1,16}")
_BETWEEN = re.compile(r"[\s,]+")


class FieldError(NamedTuple):
    """What is wrong with a field of FIELDS, or with `grace`."""

    field: str
    error: ValidationError


class FormResult(NamedTuple):
    """The settings that were read, or None and all errors."""

    settings: KeySettings | None
    errors: Sequence[FieldError]


def read(given: Mapping[str, str], key_days: int, projects: Sequence[str]) -> FormResult:
    """Read the settings of a new key that lives at most `key_days`, for a member of `projects`.

    Defaults of missing or empty fields: `key_days`, no project, all models, no limit.
    """
    form = _Form(given)
    settings = KeySettings(
        name=form.take("name", _name, ""),
        days=form.take("days", lambda text: _days(text, key_days), key_days),
        project=form.take("project", lambda text: _project(text, projects), ""),
        models=form.take("models", _models, None),
        **{name: form.take(name, partial(_number, most=MAX[name]), None) for name in LIMITED},
    )
    return FormResult(None, form.errors) if form.errors else FormResult(settings, ())


class _Form:
    def __init__(self, given: Mapping[str, str]) -> None:
        self._given = given
        self.errors: list[FieldError] = []

    def take(self, field: str, reader: Callable[[str], T], instead: T) -> T:
        try:
            return reader(self._given.get(field, "").strip())
        except ValidationError as error:
            self.errors.append(FieldError(field, error))
            return instead


def read_grace(text: str) -> int:
    """Return for how many days a rotated key keeps working. Raises ValidationError."""
    if not _NUMBER.fullmatch(text) or int(text) > MAX_GRACE_DAYS:
        raise ValidationError("key_grace", most=MAX_GRACE_DAYS)
    return int(text)


def _name(text: str) -> str:
    check_label(text, MAX_NAME)
    return text


def _days(text: str, most: int) -> int:
    if not text:
        return most
    if not _NUMBER.fullmatch(text) or not 1 <= int(text) <= most:
        raise ValidationError("key_days", most=most)
    return int(text)


def _project(text: str, projects: Sequence[str]) -> str:
    if text and text not in projects:
        raise ValidationError("key_project", projects=", ".join(projects) or "-")
    return text


def _models(text: str) -> tuple[str, ...] | None:
    names = tuple(dict.fromkeys(name for name in _BETWEEN.split(text) if name))
    for name in names:
        if not MODEL_NAME.fullmatch(name):
            raise ValidationError("model_name", model=name[:100])
    if len(names) > MAX_MODELS:
        raise ValidationError("key_models", most=MAX_MODELS)
    return names or None


def _number(text: str, most: int) -> int | None:
    if not text:
        return None
    if not _NUMBER.fullmatch(text):
        raise ValidationError("number", value=text[:40])
    if int(text) > most:
        raise ValidationError("number_most", most=most)
    return int(text)
