"""What the administrators' pages share: forms, paging, and the answer after an action."""

from __future__ import annotations

import re
from typing import NamedTuple

from flask import flash, redirect, request
from werkzeug.wrappers import Response

from sluice.web.views.shared import web
from sluice.web.words.validation import ValidationError

PAGE = 50
MAX_PAGES = 10_000
# Longer than any text that a form takes, and short enough for a line of a page that shows it again.
MAX_FIELD = 1_000
MAX_ARGUMENT = 100


class Page(NamedTuple):
    """Which rows of a long list to show: `number` counts from 1."""

    number: int

    @property
    def offset(self) -> int:
        """How many rows stand before it."""
        return (self.number - 1) * PAGE


def page() -> Page:
    """Return the page that the address asks for; the first where it asks for none that can be."""
    text = request.args.get("page", "1")
    number = int(text) if re.fullmatch(r"[0-9]{1,6}", text) else 1
    return Page(min(max(number, 1), MAX_PAGES))


def argument(name: str) -> str:
    """Return what the address says of `name`; "" for nothing, and for what has control characters in it."""
    text = request.args.get(name, "").strip()[:MAX_ARGUMENT]
    return text if text.isprintable() else ""


def field(name: str) -> str:
    """Return what a form's field has, without blanks at its ends."""
    return request.form.get(name, "").strip()[:MAX_FIELD]


def error_text(error: ValidationError) -> str:
    """Return the message of an error."""
    return web().texts.get(error.text, **error.values)


def done(message: str, path: str) -> Response:
    """Answer that something was done: `message` stands on the page at `path`, where the browser goes."""
    flash(message)
    return redirect(path, code=303)


def number(name: str) -> int | None:
    """Read a form's number; None where the field is empty. Raises Fault."""
    text = field(name)
    if not text:
        return None
    if not re.fullmatch(r"[0-9]{1,16}", text):
        raise ValidationError("number", value=text[:40])
    return int(text)
