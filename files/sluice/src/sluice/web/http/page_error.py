"""The exception that becomes an error page: sign-in refused, or rights missing."""

from __future__ import annotations


class PageError(Exception):
    """Answered with `status` and the page with the texts `error.<texts>.*`. Contains no secret.

    `outcome`: how to count a failed sign-in ("": not a sign-in). `retry_after`: seconds, or None.
    """

    def __init__(self, status: int, texts: str, *, outcome: str = "", retry_after: int | None = None) -> None:
        super().__init__(texts)
        self.status = status
        self.texts = texts
        self.outcome = outcome
        self.retry_after = retry_after


class UnreadableAnswer(PageError):
    """The provider's answer has an invalid form, so it says nothing about the user."""
