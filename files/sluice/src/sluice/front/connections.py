"""A relay's connection to the front, and the requests on it, each forwarded to the engine.

When a relay cancels or leaves, the work on the GPU must stop at once: the connection to the engine is closed
in the same turn of the event loop.
"""

from __future__ import annotations

import json
import time
from typing import Optional, Protocol, cast

from sluice.contracts.heads import CONTENT_TYPES, EVENT_STREAM, ErrorHead, InstanceRequest, ResponseHead
from sluice.contracts.paths import COUNTING, PATHS
from sluice.endpoint import Endpoint
from sluice.errors import SluiceError
from sluice.front.engine import INSTANCE_FAILED, NO_INSTANCE, Call, Engine
from sluice.front.http import AnswerHead, request_head
from sluice.front.screening import HEALTH, check_head
from sluice.front.stall import StallDetector
from sluice.wire import events
from sluice.wire.connection import Connection, Side
from sluice.wire.hello import Hello
from sluice.wire.links import RELAY_FRONT

# When this many bytes of an answer wait for the relay, reading from the engine pauses; below LOW_WATER it
# resumes.
HIGH_WATER = 24_576
LOW_WATER = 12_288
# Tokens of many streams are sent together; those of few streams and the beginning of an answer never wait.
BATCH_SECONDS = 0.004
BODY_TIMEOUT = 60.0
HEALTH_TIMEOUT = 10.0
PING_INTERVAL = 10.0
RETRY_AFTER = 5.0
# The number of events, by path, that an engine sends before it generates anything.
PRELUDE = {"/v1/responses": 2}
# The beginnings of a stream that is only an error: engines refuse some requests after the head.
REFUSALS = (b'data: {"error"', b'data:{"error"', b"event: error", b"event: response.failed", b"error: ")


def _health(leaving: str, stalled: int) -> bytes:
    document: dict[str, object] = {"version": 1, "status": "ok"}
    if leaving:
        document = {"version": 1, "status": "leaving", "why": leaving}
    if stalled:
        document["stalled"] = stalled
    return json.dumps(document, separators=(",", ":")).encode()


class Front(Protocol):
    """The front as its connections see it; `leaving`: why the instance is about to end, "" if it is not."""

    engine: Engine
    stall_detector: StallDetector
    health_path: str
    max_body: int
    running: int
    leaving: str

    def enter(self, places: int) -> None:
        """Count the places of a request that begins. Raises SluiceError `no_instance` or `overloaded`."""

    def leave(self, places: int) -> None:
        """Free the places of a request that has ended."""

    def greeted(self, relay: RelayConnection) -> None:
        """The peer has shown the key."""

    def gone(self, relay: RelayConnection, why: str) -> None:
        """The connection has ended."""


class RelayConnection:
    """One connection. The peer is a relay or the scheduler's probe once it has shown the key."""

    def __init__(self, front: Front, hello: Hello, key: str) -> None:
        self.front = front
        self.connection = Connection(Side.SERVER, hello, RELAY_FRONT, key=key)
        self.endpoint = Endpoint(
            self.connection,
            {
                events.HelloReceived: self._greeted,
                events.RequestOpened: self._opened,
                events.DataReceived: self._received,
                events.StreamEnded: self._ended,
                events.StreamCancelled: self._cancelled,
            },
            on_lost=self._lost,
            batch=BATCH_SECONDS,
            ping_interval=PING_INTERVAL,
        )
        self.endpoint.after_flush = self._flushed
        self._requests: dict[int, Request] = {}
        # Answers for which reading is paused until the relay has taken what waits.
        self._held: list[Request] = []

    @property
    def known(self) -> bool:
        """Whether the peer has shown the key."""
        return self.connection.peer is not None

    def tell_load(self, running: int) -> None:
        """Report how many places are taken on this instance."""
        self.connection.send_load(running)
        self.endpoint.wake()

    def send_go_away(self) -> None:
        """Send go-away, once: no new requests; the open ones continue."""
        if not self.connection.going_away:
            self.connection.go_away("shutdown", "the job is about to end")
            self.endpoint.wake(urgent=True)

    def give_up(self) -> None:
        """End every generating request with `instance_failed`: the engine hangs."""
        for request in tuple(self._requests.values()):
            request.give_up()

    def tick(self, now: float) -> None:
        """Check deadlines; `now` is the time of the monotonic clock."""
        self.endpoint.tick(now)
        for request in tuple(self._requests.values()):
            request.tick(now)

    def close(self, code: str, message: str) -> None:
        """Cancel all requests and close the connection."""
        self._break_off()
        self.endpoint.close(code, message)

    def forget(self, request: Request) -> None:
        """Forget a request that has ended."""
        self._requests.pop(request.stream, None)

    def hold(self, request: Request) -> None:
        """Call the request's `resume` after the next write."""
        self._held.append(request)

    # --- from the wire -----------------------------------------------------------------------------------

    def _greeted(self, _: events.HelloReceived) -> None:
        self.front.greeted(self)

    def _opened(self, event: events.RequestOpened) -> None:
        # On this link, heads are instance requests.
        head = cast(InstanceRequest, event.head)
        try:
            check_head(head, self.front.max_body)
            begin = HealthCheck if head.path == HEALTH else Request
            request = begin(self, event.stream, head)
        except SluiceError as error:
            failure = ErrorHead(error.code, error.message, error.retry_after)
            self.connection.send_error(event.stream, failure)
            if self.front.leaving:
                self.send_go_away()
            self.endpoint.wake()
        else:
            self._requests[event.stream] = request

    def _received(self, event: events.DataReceived) -> None:
        request = self._requests.get(event.stream)
        if request is None:
            # The answer was complete before the body: the rest of the body is still arriving.
            self.connection.consume(event.stream, len(event.data))
        else:
            request.receive(event.data)

    def _ended(self, event: events.StreamEnded) -> None:
        request = self._requests.get(event.stream)
        if request is not None:
            request.end()

    def _cancelled(self, event: events.StreamCancelled) -> None:
        request = self._requests.get(event.stream)
        if request is not None:
            request.cancel()

    def _flushed(self) -> None:
        if self._held:
            held, self._held = self._held, []
            for request in held:
                request.resume()

    def _lost(self, why: str) -> None:
        self._break_off()
        self.front.gone(self, why)

    def _break_off(self) -> None:
        for request in tuple(self._requests.values()):
            request.cancel()


class Request:
    """One request: the body streams to the engine, the answer streams back.

    A stream's head is sent on at once: an engine sends it long before it has read the prompt. Any other head
    is sent with the first byte of the body. Until then the answer can still be an error, after which the
    relay tries another instance.
    """

    def __init__(self, relay: RelayConnection, stream: int, head: InstanceRequest) -> None:
        self.stream = stream
        self._relay = relay
        self._front = relay.front
        self._left = head.length
        self._owed = 0
        self._responded = False
        self._began = False
        self._complete = False
        self._over = False
        self._heard: Optional[float] = None
        # Health requests are not counted: a full instance answers them too.
        self._counted = head.method == "POST"
        self._places = head.places
        # Token counts are answered without the part of the engine that generates.
        self._generates = self._counted and PATHS[head.path] not in COUNTING
        self._prelude = PRELUDE.get(head.path, 0)
        self._refused = False
        self._served = False
        front = relay.front
        if self._counted:
            front.enter(self._places)
        if self._generates:
            front.stall_detector.request_began(time.monotonic())
        path = front.health_path if head.path == HEALTH else head.path
        written = request_head(head.method, path, head.length, head.id)
        self._call = Call(front.engine, self, written, head.length)

    def receive(self, data: bytes) -> None:
        """Send a part of the body; its credit is given back when the engine has accepted it."""
        size = len(data)
        self._left -= size
        self._heard = None
        if self._left < 0:
            self._fail("invalid_request", "the body is longer than announced")
            return
        self._call.send(data)
        if self._call.has_room:
            self._relay.connection.consume(self.stream, size)
        else:
            self._owed += size

    def end(self) -> None:
        """Note that the body is complete."""
        if self._left:
            self._fail("invalid_request", "the body is shorter than announced")
            return
        self._complete = True
        self._call.finish()

    def cancel(self) -> None:
        """Abort: nobody wants the answer any more."""
        if not self._over:
            self._call.abort()
            self._finish()

    def resume(self) -> None:
        """Continue to read the answer if the relay has taken enough, otherwise wait."""
        if self._over:
            return
        if self._relay.connection.pending(self.stream) > LOW_WATER:
            self._relay.hold(self)
        else:
            self._call.resume()

    def tick(self, now: float) -> None:
        """Fail if the body does not arrive in time; time in which the engine does not read is not counted."""
        if self._complete or self._owed:
            self._heard = None
        elif self._heard is None:
            self._heard = now
        elif now - self._heard > BODY_TIMEOUT:
            self._fail("invalid_request", "the body did not arrive in time")

    # --- from the engine ---------------------------------------------------------------------------------

    def accepted(self) -> None:
        """Send on a stream's head, before its body."""
        head = self._call.head
        if head is not None and head.status == 200 and head.media_type == EVENT_STREAM:
            self._respond(head)
            self._relay.endpoint.wake(urgent=True)

    def answered(self, data: bytes) -> None:
        """Send on a part of the answer."""
        if not self._began and not self._begin(data):
            return
        if self._generates:
            self._note(data)
        connection, endpoint = self._relay.connection, self._relay.endpoint
        connection.send_data(self.stream, data)
        if self._call.complete:
            self._answered_whole()
        elif connection.pending(self.stream) > HIGH_WATER:
            self._call.pause()
            self._relay.hold(self)
        endpoint.wake(urgent=not self._began)
        self._began = True

    def _note(self, data: bytes) -> None:
        """Note that the engine generated something; errors and a stream's first events do not count."""
        head, whole = self._call.head, self._call.complete
        if head is None or head.status != 200:
            self._served = self._served or (whole and head is not None and head.status < 500)
            return
        if self._prelude and head.media_type == EVENT_STREAM and not whole:
            left = self._prelude - data.count(b"\n\n")
            self._prelude = max(0, left)
            if left >= 0:
                return
        if not self._served and head.media_type == EVENT_STREAM:
            self._refused = self._refused or data.startswith(REFUSALS)
        if self._refused:
            # Like an error status: no silence to count, and no proof that the engine generates.
            self._served = whole
            return
        self._served = True
        self._front.stall_detector.generated(time.monotonic())

    def _begin(self, data: bytes) -> bool:
        """Begin the answer with its first bytes; return False if it is not valid."""
        head = self._call.head
        if head is None or head.media_type not in CONTENT_TYPES:
            self._fail(INSTANCE_FAILED, "the engine's answer has a media type that is not allowed")
            return False
        if head.status == 200 and not data:
            # An empty 200 is useless to any client: the engine failed on the request.
            self._fail(INSTANCE_FAILED, "the engine's answer is empty")
            return False
        if not self._responded:
            self._respond(head)
        return True

    def _respond(self, head: AnswerHead) -> None:
        self._responded = True
        self._relay.connection.respond(self.stream, ResponseHead(head.status, head.media_type))

    def broken(self, code: str, reason: str) -> None:
        """End with the error."""
        self._fail(code, reason)

    def give_up(self) -> None:
        """End a generating request with `instance_failed`: the engine hangs."""
        if self._generates:
            self._fail(INSTANCE_FAILED, "the engine does not answer any more")

    def room(self) -> None:
        """Give the relay credit for what the engine has accepted."""
        if self._owed and not self._over:
            self._relay.connection.consume(self.stream, self._owed)
            self._owed = 0
            self._relay.endpoint.wake()

    # --- ends --------------------------------------------------------------------------------------------

    def _answered_whole(self) -> None:
        self._relay.connection.send_end(self.stream)
        if self._complete:
            self._call.release()
        else:
            # The engine answered before it had the whole body: the rest is dropped.
            self._call.abort()
        self.room()
        self._finish()

    def _fail(self, code: str, reason: str) -> None:
        if self._over:
            return
        self._call.abort()
        after = RETRY_AFTER if code == NO_INSTANCE else None
        self._relay.connection.send_error(self.stream, ErrorHead(code, reason, after))
        self._relay.endpoint.wake(urgent=True)
        self._finish()

    def _finish(self) -> None:
        self._over = True
        self._relay.forget(self)
        if self._counted:
            self._front.leave(self._places)
        if self._generates:
            self._front.stall_detector.request_ended(served=self._served)


class HealthCheck(Request):
    """A check of the engine's own health path; the front writes the answer."""

    _deadline: Optional[float] = None

    def accepted(self) -> None:
        """Do nothing: the front writes the answer."""

    def answered(self, data: bytes) -> None:
        """Answer according to the engine's status only."""
        head = self._call.head
        if head is None or head.status != 200:
            self._fail(NO_INSTANCE, "the engine is not ready")
            return
        if not self._began:
            self._began = True
            self._relay.connection.respond(self.stream, ResponseHead(200, "application/json"))
            front = self._front
            stalled = int(front.stall_detector.stalled(time.monotonic()))
            self._relay.connection.send_data(self.stream, _health(front.leaving, stalled))
            self._answered_whole()
            self._relay.endpoint.wake(urgent=True)

    def broken(self, code: str, reason: str) -> None:
        """End with `no_instance`: the engine does not serve yet, or not any more."""
        self._fail(NO_INSTANCE, reason)

    def tick(self, now: float) -> None:
        """Fail if the engine does not answer in time."""
        super().tick(now)
        if self._deadline is None:
            self._deadline = now + HEALTH_TIMEOUT
        elif now > self._deadline:
            self._fail(NO_INSTANCE, "the engine does not answer in time")
