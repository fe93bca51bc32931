"""The one exception that becomes a page: sign-in refused, or rights missing."""

from __future__ import annotations


class PageError(Exception):
    """Answered with `status` and the page whose texts are `error.<texts>.*`; nothing of it is a secret.

    `outcome` counts among the sign-ins ("" where it was none); `retry_after` in seconds, or None.
    """

    def __init__(self, status: int, texts: str, *, outcome: str = "", retry_after: int | None = None) -> None:
        super().__init__(texts)
        self.status = status
        self.texts = texts
        self.outcome = outcome
        self.retry_after = retry_after


class UnreadableAnswer(PageError):
    """The provider's answer is not of the form that it should have: it says nothing of anybody."""
