"""How long one request may wait for the database in all: a late page is no better than none.

A command of an operator waits longer, and for each thing anew: nobody set it a bound.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from flask import Flask

# Of one request; people are told within two seconds that the database does not answer.
REQUEST_SECONDS = 1.5
# Of what a request can do without.
OPTIONAL_SECONDS = 0.1
# Of a command, for each wait.
COMMAND_SECONDS = 5.0
# How long a statement may work in the database once a request has it, and its answer may take.
STATEMENT_SECONDS = 30.0


class RemainingWait:
    """The seconds that are `left` for waiting."""

    def __init__(self, seconds: float) -> None:
        self.left = seconds

    @contextmanager
    def waiting(self) -> Iterator[float]:
        """Give the seconds that a wait may take; those that it took are gone."""
        began = time.monotonic()
        try:
            yield max(0.0, self.left)
        finally:
            self.left -= time.monotonic() - began

    def give_up(self) -> None:
        """Wait no more: the database has just shown that it does not answer."""
        self.left = 0.0


_current: ContextVar[RemainingWait | None] = ContextVar("patience", default=None)


def current() -> RemainingWait:
    """Return the running request's patience, or a command's."""
    return _current.get() or RemainingWait(COMMAND_SECONDS)


def in_request() -> bool:
    """Tell whether a request waits, and not a command."""
    return _current.get() is not None


@contextmanager
def at_most(seconds: float) -> Iterator[RemainingWait]:
    """Wait no longer than that within the block, nor than the request may at all."""
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
    """Give each request of `app` its patience; to be called before whatever asks the database."""

    @app.before_request
    def begin() -> None:
        _current.set(RemainingWait(REQUEST_SECONDS))

    @app.teardown_request
    def end(_error: BaseException | None) -> None:
        # Threads serve one request after the other, and a test's own thread does other things between.
        _current.set(None)
