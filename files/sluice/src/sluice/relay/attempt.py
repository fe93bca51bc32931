"""One attempt at a request: the chosen instance, the connection to it, and the stream on it."""

from __future__ import annotations

import time
from typing import Optional

from sluice.contracts.heads import InstanceRequest, RequestHead, ResponseHead
from sluice.errors import SluiceError
from sluice.gate.body import Body
from sluice.relay.answer import Answer
from sluice.relay.callbacks import RequestCallbacks
from sluice.relay.connections import InstanceConnection
from sluice.relay.flow import Flow


class Attempt:
    """Lasts until the instance's answer is complete, or until the request leaves the instance.

    `stream`: the wire's stream to the instance, 0 before the request was sent. `fresh`: whether the
    connection was opened for this request. `sent_at`: when bytes were last sent (monotonic clock).
    `head`: the answer's head, kept until the first byte of its body.
    """

    __slots__ = ("_request", "_trial", "_upload", "_user", "connection", "fresh", "head", "sent_at", "stream")

    def __init__(self, request: RequestCallbacks, connection: InstanceConnection, user: str) -> None:
        self.connection = connection
        self.stream = 0
        self.fresh = False
        self.sent_at = 0.0
        self.head: Optional[ResponseHead] = None
        self._request = request
        self._user = user
        self._trial = connection.breaker.begin(user)
        self._upload: Optional[Flow] = None

    @property
    def instance(self) -> str:
        """The instance's id."""
        return self.connection.instance.id

    @property
    def stuck(self) -> bool:
        """Whether the instance does not read what was sent to it."""
        return bool(self.stream and self.connection.pending(self.stream))

    def start(self) -> None:
        """Wait for the connection, which calls the request's `connection_open`."""
        self.head = None
        self.stream = 0
        self.connection.when_open(self._request)

    def send(self, head: RequestHead, places: int, body: Body, answer: Answer) -> None:
        """Send the request, or the part that has arrived. Raises SluiceError if no stream can be opened."""
        request = InstanceRequest(head.id, head.method, head.path, head.length, places)
        self.stream = self.connection.open_stream(self._request, request)
        self.sent_at = time.monotonic()
        if body.streams:
            self._upload = answer.upload(self.stream)
            self.push(body)
        else:
            self.connection.send(self.stream, body.whole())

    def push(self, body: Body) -> None:
        """Pass on what has arrived of a streaming body."""
        if self._upload is None or not self.connection.open:
            return
        self.sent_at = time.monotonic()
        self.connection.pass_on(self._upload, body.next(), last=body.complete)

    def begin(self, answer: Answer) -> None:
        """Pass the kept head on. Raises SluiceError if there is none."""
        head, endpoint = self.head, self.connection.endpoint
        if head is None or endpoint is None:
            raise SluiceError("instance_failed", "the instance's answer has no head")
        self.end_trial()
        answer.begin(ResponseHead(head.status, head.content_type, self.instance), endpoint, self.stream)

    def finish(self) -> None:
        """The answer is complete."""
        self.connection.finished(self.stream)
        self.stream = 0

    def broke(self) -> None:
        """Tell the connection that this attempt broke; it decides whom to blame."""
        self.connection.broke(self._request, self._user, self.sent_at)

    def end_trial(self) -> None:
        """End the trial of the instance, if this attempt is one: other requests may try it again."""
        if self._trial is not None:
            self._trial.end_trial()
            self._trial = None

    def leave(self) -> None:
        """Give up the attempt."""
        self.end_trial()
        self.connection.leave(self._request, self.stream)
        self.stream = 0
