"""One attempt at a request: the chosen instance, the connection to it, and what it has reserved so far."""

from __future__ import annotations

import time
from typing import Optional

from sluice.contracts.heads import InstanceRequest, RequestHead, ResponseHead
from sluice.errors import SluiceError
from sluice.gate.body import Body
from sluice.relay.answer import Answer
from sluice.relay.callbacks import Asker
from sluice.relay.connections import Line
from sluice.relay.flow import Flow


class Attempt:
    """Lives until the instance's answer is whole, or until the request leaves the instance.

    `stream`: the wire's stream to the instance, 0 before the request was sent. `fresh`: whether the line
    was made for it. `asked_at`: when bytes were last sent (monotonic clock). `pledge`: the head of the
    answer, kept until a first byte stands behind it.
    """

    __slots__ = ("_asker", "_trial", "_upload", "_user", "asked_at", "fresh", "line", "pledge", "stream")

    def __init__(self, asker: Asker, line: Line, user: str) -> None:
        self.line = line
        self.stream = 0
        self.fresh = False
        self.asked_at = 0.0
        self.pledge: Optional[ResponseHead] = None
        self._asker = asker
        self._user = user
        self._trial = line.breaker.begin(user)
        self._upload: Optional[Flow] = None

    @property
    def instance(self) -> str:
        """The instance's id."""
        return self.line.instance.id

    @property
    def stuck(self) -> bool:
        """Whether the instance does not take what was sent to it."""
        return bool(self.stream and self.line.pending(self.stream))

    def ask(self) -> None:
        """Wait for the line; it calls the asker's `line_open`."""
        self.pledge = None
        self.stream = 0
        self.line.ask(self._asker)

    def send(self, head: RequestHead, places: int, body: Body, answer: Answer) -> None:
        """Send the request, or as much of it as there is. Raises SluiceError when the line takes none."""
        request = InstanceRequest(head.id, head.method, head.path, head.length, places)
        self.stream = self.line.request(self._asker, request)
        self.asked_at = time.monotonic()
        if body.streams:
            self._upload = answer.upload(self.stream)
            self.push(body)
        else:
            self.line.send(self.stream, body.whole())

    def push(self, body: Body) -> None:
        """Pass on what there is of a body that streams."""
        if self._upload is None or not self.line.open:
            return
        self.asked_at = time.monotonic()
        self.line.pass_on(self._upload, body.next(), last=body.complete)

    def begin(self, answer: Answer) -> None:
        """Pass the pledged head on. Raises SluiceError where there is none."""
        head, endpoint = self.pledge, self.line.endpoint
        if head is None or endpoint is None:
            raise SluiceError("instance_failed", "the instance's answer has no head")
        self.settle()
        answer.begin(ResponseHead(head.status, head.content_type, self.instance), endpoint, self.stream)

    def finish(self) -> None:
        """The answer is whole."""
        self.line.finished(self.stream)
        self.stream = 0

    def broke(self) -> None:
        """Tell the line that this attempt broke; it weighs whose fault that is."""
        self.line.broke(self._asker, self._user, self.asked_at)

    def settle(self) -> None:
        """The attempt proves nothing more about the instance: others may try it again."""
        if self._trial is not None:
            self._trial.settle()
            self._trial = None

    def leave(self) -> None:
        """Want nothing more of the instance."""
        self.settle()
        self.line.leave(self._asker, self.stream)
        self.stream = 0
