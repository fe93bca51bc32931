"""Tables as CSV, for spreadsheets. Pure."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

# A spreadsheet takes a cell that begins so for a formula, also behind a blank.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_SUSPECT = frozenset((*_FORMULA, " "))
# So that Excel reads UTF-8.
_BOM = "\ufeff"


def as_csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return rows as CSV; no text of a cell can become a formula. None is an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(header)
    writer.writerows(map(_guarded_row, rows))
    return _BOM + text.getvalue()


def _guarded_row(row: Sequence[object]) -> list[object]:
    # The first letter excludes nearly all of 100,000 cells, without a call for each.
    return [guarded(value) if isinstance(value, str) and value[:1] in _SUSPECT else value for value in row]


def guarded(value: object) -> object:
    """Return a cell's value, with a mark before a text that would become a formula."""
    if isinstance(value, str) and value.lstrip(" ").startswith(_FORMULA):
        return f"'{value}"
    return value
