"""Bounds how long one request may wait for the database in total.

A command waits longer, and each of its waits has its own bound.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from flask import Flask

# For one request: users must learn within two seconds that the database does not answer.
REQUEST_SECONDS = 1.5
# For what a request can do without.
OPTIONAL_SECONDS = 0.1
# For each wait of a command.
COMMAND_SECONDS = 5.0
# For one statement of a request, until its complete answer, once it has a connection.
STATEMENT_SECONDS = 30.0


class RemainingWait:
    """The time that is `left` for waiting, in seconds."""

    def __init__(self, seconds: float) -> None:
        self.left = seconds

    @contextmanager
    def waiting(self) -> Iterator[float]:
        """Yield the seconds that a wait may take; subtract those that it took."""
        began = time.monotonic()
        try:
            yield max(0.0, self.left)
        finally:
            self.left -= time.monotonic() - began

    def give_up(self) -> None:
        """Do not wait any more: the database does not answer."""
        self.left = 0.0


_current: ContextVar[RemainingWait | None] = ContextVar("remaining_wait", default=None)


def current() -> RemainingWait:
    """Return the remaining wait of the current request, or a new one for a command."""
    return _current.get() or RemainingWait(COMMAND_SECONDS)


def in_request() -> bool:
    """Tell whether a request is running, not a command."""
    return _current.get() is not None


@contextmanager
def at_most(seconds: float) -> Iterator[RemainingWait]:
    """Wait at most `seconds` within the block, and no longer than the request may still wait."""
    outer = _current.get()
    inner = RemainingWait(seconds if outer is None else min(seconds, outer.left))
    before = inner.left
    token = _current.set(inner)
    try:
        yield inner
    finally:
        _current.reset(token)
        if outer is not None:
            outer.left -= before - max(0.0, inner.left)


def limit_requests(app: Flask) -> None:
    """Bound the waits of each request of `app`; call it before everything that uses the database."""

    @app.before_request
    def begin() -> None:
        _current.set(RemainingWait(REQUEST_SECONDS))

    @app.teardown_request
    def end(_error: BaseException | None) -> None:
        # A thread serves many requests, and in tests does other things between them.
        _current.set(None)
