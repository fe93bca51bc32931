"""Actions that cannot be carried out, as messages for people, the same on pages and command line."""

from __future__ import annotations

from sluice.web.words import labels


class ValidationError(Exception):
    """Nothing was changed. Its words are the text `validation.<name>`, with `values` filled in."""

    def __init__(self, name: str, **values: object) -> None:
        super().__init__(name)
        self.text = f"validation.{name}"
        self.values = values


def check_label(text: str, most: int) -> None:
    """Raise Fault if `text` cannot be shown as a label of at most `most` characters."""
    problem = labels.problem(text, most)
    if problem:
        raise ValidationError(f"label_{problem}", most=most)
