"""Detects an engine that generates nothing, although its HTTP server still answers.

Silence alone proves nothing: a long prompt is read without a word, and a request may be one on which nothing
else than itself hangs. So a silence is met by a question of the front's own, of one token. Only while that
waits too, and nobody else gets anything, the engine counts as stalled.
"""

from __future__ import annotations

import json
import logging
import time
from typing import Optional

from sluice.front.config import TRIAL_AFTER
from sluice.front.engine import Call, Engine
from sluice.front.http import request_head

logger = logging.getLogger(__name__)

# Before a trial that broke is made again.
TRIAL_PAUSE = 10.0
# What a trial asks: the first kind that the engine serves. An engine of another kind refuses it at once.
KINDS: tuple[tuple[str, dict[str, object]], ...] = (
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1}),
    ("/v1/completions", {"prompt": "Hello", "max_tokens": 1}),
    ("/v1/embeddings", {"input": "Hello"}),
    ("/v1/rerank", {"query": "Hello", "documents": ["Hello"]}),
)
TRIAL_ID = "trial"
# By these an engine says that it does not serve this kind of question. Others, such as 429, pass.
NOT_SERVED = frozenset((400, 404, 405, 415, 422, 501))


class Pulse:
    """What came of the engine, as a pure account; `now` is the monotonic clock, `after` TRIAL_AFTER.

    `trying`: since when a trial has been waiting, None while none is due.
    """

    def __init__(self, after: float = TRIAL_AFTER) -> None:
        self.trying: Optional[float] = None
        self._after = after
        self._open = 0
        # Since when nothing came although something was asked for.
        self._since: Optional[float] = None

    def asked(self, now: float) -> None:
        """A request went to the engine."""
        self._open += 1
        if self._since is None:
            self._since = now

    def moved(self, now: float) -> None:
        """Something was generated, for whomever."""
        self.trying = None
        self._since = now if self._open else None

    def left(self, *, served: bool) -> None:
        """A request is over; `served`: it got something. One that did not leaves its doubt behind."""
        self._open -= 1
        if served and not self._open and self.trying is None:
            self._since = None

    def due(self, now: float) -> bool:
        """Whether nothing came for so long that a trial is to be made."""
        return self._since is not None and now - self._since >= self._after

    def stalled(self, now: float) -> float:
        """Return for how many seconds a trial has been waiting while nobody got anything, 0 if none has."""
        return 0.0 if self.trying is None else now - self.trying

    def hangs(self, now: float) -> bool:
        """Whether a trial has been waiting for so long that the requests beside it count as broken.

        A trial that has just begun says nothing: somebody's long prompt may be all there is.
        """
        return self.trying is not None and self.stalled(now) >= self._after

    def unasked(self) -> None:
        """Count no stall: the trial was broken off, and there will be no other."""
        self.trying = None
        self._since = None


class Trial:
    """The front's own question, made while nothing comes: at most one at a time. Calls as `Caller` says."""

    def __init__(self, engine: Engine, pulse: Pulse, model: str) -> None:
        self._engine = engine
        self._pulse = pulse
        self._model = model
        self._kind = 0
        self._again = 0.0
        self._call: Optional[Call] = None

    def tick(self, now: float) -> None:
        """Ask when it is time, and leave the engine alone once somebody got something."""
        if self._call is not None:
            if self._pulse.trying is None:
                self.stop()
            return
        if self._kind == len(KINDS) or not self._pulse.due(now) or now < self._again:
            return
        if self._pulse.trying is None:
            self._pulse.trying = now
        self._ask()

    def stop(self) -> None:
        """Break off what is asked."""
        call, self._call = self._call, None
        if call is not None:
            call.abort()

    def _ask(self) -> None:
        path, question = KINDS[self._kind]
        body = json.dumps({"model": self._model, **question}, separators=(",", ":")).encode()
        self._call = Call(self._engine, self, request_head("POST", path, len(body), TRIAL_ID), len(body))
        self._call.send(body)

    # --- from the engine ---------------------------------------------------------------------------------

    def accepted(self) -> None:
        """A head is the HTTP server's, and proves nothing."""

    def room(self) -> None:
        """The question is small: it waits for no room."""

    def answered(self, data: bytes) -> None:
        """Take the first bytes as the proof that they are, or as a refusal of this kind of question."""
        call = self._call
        if call is None or call.head is None:
            return
        status = call.head.status
        if status == 200 and not data:
            # An empty answer proves nothing.
            self.broken("", "")
            return
        if call.complete:
            call.release()
            self._call = None
        else:
            self.stop()
        if status == 200:
            self._pulse.moved(time.monotonic())
        elif status in NOT_SERVED:
            self._refused()
        else:
            self._again = time.monotonic() + TRIAL_PAUSE

    def broken(self, code: str, reason: str) -> None:
        """Ask again a little later: a trial that breaks proves no more than one that waits."""
        self.stop()
        self._again = time.monotonic() + TRIAL_PAUSE

    def _refused(self) -> None:
        self._kind += 1
        if self._kind == len(KINDS):
            # Nobody can tell a request that hangs from an engine that does.
            self._pulse.trying = None
            logger.warning("the engine takes no trial question: whether it stalls cannot be told")
