"""The one error of the test bed."""

from __future__ import annotations


class BedError(Exception):
    """Something the test bed cannot do.

    ``cause`` says what is wrong and where, ``remedy`` what the person can do about it.
    """

    def __init__(self, cause: str, remedy: str = "") -> None:
        super().__init__(f"{cause}; {remedy}" if remedy else cause)
        self.cause = cause
        self.remedy = remedy
