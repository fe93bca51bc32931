"""Detects an engine that generates nothing although its HTTP server still answers.

Silence alone proves nothing: an engine is silent while it reads a long prompt, and a single request may hang
without blocking others. So after a silence the front makes a trial: a request of its own for one token. The
engine counts as stalled only while the trial waits and no other request gets anything.
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

# The pause before a failed trial is repeated, in seconds.
TRIAL_PAUSE = 10.0
# The requests of a trial, tried in order until the engine serves one. It refuses the others at once.
KINDS: tuple[tuple[str, dict[str, object]], ...] = (
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1}),
    ("/v1/completions", {"prompt": "Hello", "max_tokens": 1}),
    ("/v1/embeddings", {"input": "Hello"}),
    ("/v1/rerank", {"query": "Hello", "documents": ["Hello"]}),
)
TRIAL_ID = "trial"
# The statuses with which an engine says that it does not serve a path. Others, such as 429, are temporary.
NOT_SERVED = frozenset((400, 404, 405, 415, 422, 501))


class StallDetector:
    """Follows the engine's output and decides when it stalls. Pure; `now` is the time of the monotonic clock.

    `after`: seconds of silence before a trial. `trying`: since when a trial waits, None without one.
    """

    def __init__(self, after: float = TRIAL_AFTER) -> None:
        self.trying: Optional[float] = None
        self._after = after
        self._open = 0
        # Since when nothing has come although a request is open.
        self._since: Optional[float] = None

    def request_began(self, now: float) -> None:
        """Note a request to the engine."""
        self._open += 1
        if self._since is None:
            self._since = now

    def generated(self, now: float) -> None:
        """Note that the engine generated something, for any request."""
        self.trying = None
        self._since = now if self._open else None

    def request_ended(self, *, served: bool) -> None:
        """Note the end of a request; `served`: it got something. Otherwise the silence continues to count."""
        self._open -= 1
        if served and not self._open and self.trying is None:
            self._since = None

    def due(self, now: float) -> bool:
        """Whether nothing has come for so long that a trial is due."""
        return self._since is not None and now - self._since >= self._after

    def stalled(self, now: float) -> float:
        """Return for how many seconds a trial has waited while no request got anything, 0 without a trial."""
        return 0.0 if self.trying is None else now - self.trying

    def hangs(self, now: float) -> bool:
        """Whether a trial has waited so long that the other open requests count as broken.

        A trial that has just begun proves nothing: the engine may be reading a long prompt.
        """
        return self.trying is not None and self.stalled(now) >= self._after

    def reset(self) -> None:
        """Count no stall: the trial was aborted, and no other will follow."""
        self.trying = None
        self._since = None


class Trial:
    """The front's own request to a silent engine: at most one at a time. It is the `Caller` of its call."""

    def __init__(self, engine: Engine, stall_detector: StallDetector, model: str) -> None:
        self._engine = engine
        self._stall_detector = stall_detector
        self._model = model
        self._kind = 0
        self._again = 0.0
        self._call: Optional[Call] = None

    def tick(self, now: float) -> None:
        """Start a trial when it is due; abort it when another request got something."""
        if self._call is not None:
            if self._stall_detector.trying is None:
                self.stop()
            return
        if self._kind == len(KINDS) or not self._stall_detector.due(now) or now < self._again:
            return
        if self._stall_detector.trying is None:
            self._stall_detector.trying = now
        self._ask()

    def stop(self) -> None:
        """Abort the trial, if one runs."""
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
        """Ignore the head: it comes from the HTTP server and proves nothing."""

    def room(self) -> None:
        """Do nothing: the request is sent in one piece."""

    def answered(self, data: bytes) -> None:
        """Read the first bytes: a proof that the engine generates, or a refusal of this path."""
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
            self._stall_detector.generated(time.monotonic())
        elif status in NOT_SERVED:
            self._refused()
        else:
            self._again = time.monotonic() + TRIAL_PAUSE

    def broken(self, code: str, reason: str) -> None:
        """Try again a little later: a trial that fails proves no more than one that waits."""
        self.stop()
        self._again = time.monotonic() + TRIAL_PAUSE

    def _refused(self) -> None:
        self._kind += 1
        if self._kind == len(KINDS):
            # Without a trial, a request that hangs looks the same as an engine that hangs.
            self._stall_detector.trying = None
            logger.warning("the engine accepts no trial request: the front cannot detect whether it stalls")
