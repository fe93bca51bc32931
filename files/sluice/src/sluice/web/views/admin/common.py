"""What the administrators' pages share: forms, paging, and the answer after an action."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from flask import Response as WebResponse
from flask import flash, redirect, request
from werkzeug.wrappers import Response

from sluice.contracts.values import MODEL_NAME
from sluice.web.admin import stopped_models
from sluice.web.views.shared import web
from sluice.web.words.folding import nearest
from sluice.web.words.tables import as_csv
from sluice.web.words.validation import ValidationError

PAGE = 50
MAX_PAGES = 10_000
# Longer than any valid text of a form, and short enough to be shown again on the page.
MAX_FIELD = 1_000
MAX_ARGUMENT = 100


class Page(NamedTuple):
    """A page of a long list; `number` counts from 1."""

    number: int

    @property
    def offset(self) -> int:
        """How many rows come before this page."""
        return (self.number - 1) * PAGE


def page() -> Page:
    """Return the page in the query string; the first if it has none, or an invalid one."""
    text = request.args.get("page", "1")
    number = int(text) if re.fullmatch(r"[0-9]{1,6}", text) else 1
    return Page(min(max(number, 1), MAX_PAGES))


class Sort(NamedTuple):
    """The column that a list is sorted by, and its direction."""

    column: str
    descending: bool

    def of(self, column: str) -> str:
        """Return the argument that sorts by `column`: the other way around if it is sorted by it already."""
        return f"-{column}" if column == self.column and not self.descending else column

    def state(self, column: str) -> str:
        """Return the value of `aria-sort` for the column."""
        if column != self.column:
            return "none"
        return "descending" if self.descending else "ascending"

    @property
    def argument(self) -> str:
        """Return the argument of this order."""
        return f"-{self.column}" if self.descending else self.column


def sort(columns: Sequence[str]) -> Sort:
    """Return the order in the query string, such as `-seen`; by the first column if it names none."""
    text = request.args.get("sort", "")
    column = text.removeprefix("-")
    return Sort(column, text.startswith("-")) if column in columns else Sort(columns[0], False)


def wants_csv() -> bool:
    """Tell whether the list is asked for as a file for spreadsheets."""
    return request.args.get("format") == "csv"


def csv_file(name: str, header: Sequence[str], rows: Iterable[Sequence[object]]) -> WebResponse:
    """Return a table as a file to be saved under `name`."""
    answer = WebResponse(as_csv(header, rows), content_type="text/csv; charset=utf-8")
    answer.headers["Content-Disposition"] = f'attachment; filename="{name}.csv"'
    return answer


def argument(name: str) -> str:
    """Return the value of `name` in the query string; "" if it is missing or unprintable."""
    text = request.args.get(name, "").strip()[:MAX_ARGUMENT]
    return text if text.isprintable() else ""


def field(name: str) -> str:
    """Return the value of a form's field, without blanks at its ends."""
    return request.form.get(name, "").strip()[:MAX_FIELD]


def check_model(model: str) -> None:
    """Raise ValidationError for a model that is not known here, unless the form says that it is new.

    Only the proxy knows the models of the clusters: the page's script says `new_model` for those. It reads
    much: not within a transaction that writes, while nobody else can write.
    """
    # What cannot be a name at all is refused with other words, by those who store it.
    if MODEL_NAME.fullmatch(model) and not field("new_model"):
        with web().database.read() as session:
            known = stopped_models.known_models(session)
        if model not in known:
            raise ValidationError("no_such_model", model=model, near=nearest(model, known) or "-")


def error_text(error: ValidationError) -> str:
    """Return the message of an error."""
    return web().texts.get(error.text, **error.values)


def done(message: str, path: str) -> Response:
    """Redirect to the page at `path`, which shows `message`."""
    flash(message)
    return redirect(path, code=303)


def number(name: str) -> int | None:
    """Return the number in a form's field, None if it is empty. Raises ValidationError."""
    text = field(name)
    if not text:
        return None
    if not re.fullmatch(r"[0-9]{1,16}", text):
        raise ValidationError("number", value=text[:40])
    return int(text)
