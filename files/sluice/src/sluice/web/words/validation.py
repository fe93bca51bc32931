"""The error for invalid input and impossible actions, with one message for pages and command line."""

from __future__ import annotations

from sluice.web.words import labels


class ValidationError(Exception):
    """Nothing was changed. The message is the text `validation.<name>`, with `values` filled in."""

    def __init__(self, name: str, **values: object) -> None:
        super().__init__(name)
        self.text = f"validation.{name}"
        self.values = values


def check_label(text: str, most: int) -> None:
    """Raise ValidationError if `text` is not a valid label of at most `most` characters."""
    problem = labels.problem(text, most)
    if problem:
        raise ValidationError(f"label_{problem}", most=most)
