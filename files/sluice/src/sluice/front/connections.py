"""A relay's connection to the front, and the requests on it, each passed on to the engine and back.

A relay that cancels, or leaves, must stop the work on the GPU at once: either closes the engine's connection
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
from sluice.front.screening import HEALTH, screen
from sluice.front.stall import Pulse
from sluice.wire import events
from sluice.wire.connection import Connection, Role
from sluice.wire.hello import Hello
from sluice.wire.links import RELAY_FRONT

# Of one answer, what may wait for the relay to take it until the engine is read no further, and when again.
HIGH_WATER = 24_576
LOW_WATER = 12_288
# Tokens of many streams leave together; a single one never waits, nor does the beginning of an answer.
BATCH_SECONDS = 0.004
BODY_TIMEOUT = 60.0
HEALTH_TIMEOUT = 10.0
PING_INTERVAL = 10.0
RETRY_AFTER = 5.0
# Events of a stream that say only that it was taken, by path: an engine writes them before it generates.
PRELUDE = {"/v1/responses": 2}
# How a stream begins that says only why there is none: engines refuse some requests behind its head.
REFUSALS = (b'data: {"error"', b'data:{"error"', b"event: error", b"event: response.failed", b"error: ")


def _health(leaving: str, stalled: int) -> bytes:
    document: dict[str, object] = {"version": 1, "status": "ok"}
    if leaving:
        document = {"version": 1, "status": "leaving", "why": leaving}
    if stalled:
        document["stalled"] = stalled
    return json.dumps(document, separators=(",", ":")).encode()


class Floor(Protocol):
    """What all relays of a front share; `leaving` says why the instance is about to end, "" if it is not."""

    engine: Engine
    pulse: Pulse
    health_path: str
    max_body: int
    running: int
    leaving: str

    def enter(self, places: int) -> None:
        """Count a request that begins, by its places. Raises SluiceError `no_instance` or `overloaded`."""

    def leave(self, places: int) -> None:
        """Count a request that is over."""

    def greeted(self, relay: Relay) -> None:
        """A relay has shown the key."""

    def gone(self, relay: Relay, why: str) -> None:
        """A relay's connection has ended."""


class Relay:
    """One connection, from a stranger until it has shown the key, from a relay or the probe after that."""

    def __init__(self, floor: Floor, hello: Hello, key: str) -> None:
        self.floor = floor
        self.connection = Connection(Role.SERVER, hello, RELAY_FRONT, key=key)
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
        self._exchanges: dict[int, Exchange] = {}
        # Answers that are read no further until the relay has taken what waits.
        self._held: list[Exchange] = []

    @property
    def known(self) -> bool:
        """Whether it has shown the key."""
        return self.connection.peer is not None

    def tell_load(self, running: int) -> None:
        """Report the places that are taken on this instance."""
        self.connection.send_load(running)
        self.endpoint.wake()

    def send_away(self) -> None:
        """Say, once, that no new request is taken; those that run go on."""
        if not self.connection.going_away:
            self.connection.go_away("shutdown", "the job is about to end")
            self.endpoint.wake(urgent=True)

    def give_up(self) -> None:
        """End every request with the engine's failure: it hangs on them, and is about to be ended for it."""
        for exchange in tuple(self._exchanges.values()):
            exchange.give_up()

    def tick(self, now: float) -> None:
        """Look at deadlines; `now` is the monotonic clock."""
        self.endpoint.tick(now)
        for exchange in tuple(self._exchanges.values()):
            exchange.tick(now)

    def close(self, code: str, message: str) -> None:
        """Break off all requests and close."""
        self._break_off()
        self.endpoint.close(code, message)

    def forget(self, exchange: Exchange) -> None:
        """Drop a request that is over."""
        self._exchanges.pop(exchange.stream, None)

    def hold(self, exchange: Exchange) -> None:
        """Resume this answer once the relay has taken what waits of it."""
        self._held.append(exchange)

    # --- from the wire -----------------------------------------------------------------------------------

    def _greeted(self, _: events.HelloReceived) -> None:
        self.floor.greeted(self)

    def _opened(self, event: events.RequestOpened) -> None:
        # This link's heads are instance requests.
        head = cast(InstanceRequest, event.head)
        try:
            screen(head, self.floor.max_body)
            begin = HealthCheck if head.path == HEALTH else Exchange
            exchange = begin(self, event.stream, head)
        except SluiceError as error:
            failure = ErrorHead(error.code, error.message, error.retry_after)
            self.connection.send_error(event.stream, failure)
            if self.floor.leaving:
                self.send_away()
            self.endpoint.wake()
        else:
            self._exchanges[event.stream] = exchange

    def _received(self, event: events.DataReceived) -> None:
        exchange = self._exchanges.get(event.stream)
        if exchange is None:
            # The answer was whole before the body was: the rest is on its way still.
            self.connection.consume(event.stream, len(event.data))
        else:
            exchange.receive(event.data)

    def _ended(self, event: events.StreamEnded) -> None:
        exchange = self._exchanges.get(event.stream)
        if exchange is not None:
            exchange.end()

    def _cancelled(self, event: events.StreamCancelled) -> None:
        exchange = self._exchanges.get(event.stream)
        if exchange is not None:
            exchange.cancel()

    def _flushed(self) -> None:
        if self._held:
            held, self._held = self._held, []
            for exchange in held:
                exchange.resume()

    def _lost(self, why: str) -> None:
        self._break_off()
        self.floor.gone(self, why)

    def _break_off(self) -> None:
        for exchange in tuple(self._exchanges.values()):
            exchange.cancel()


class Exchange:
    """One request: its body goes to the engine as it comes, its answer back as it comes.

    The answer's head goes on at once where it is a stream's: an engine accepts it long before it has read the
    prompt. Any other goes on with the first byte of its body. As long as none has come this can still be an
    error, after which the relay asks another instance.
    """

    def __init__(self, relay: Relay, stream: int, head: InstanceRequest) -> None:
        self.stream = stream
        self._relay = relay
        self._left = head.length
        self._owed = 0
        self._responded = False
        self._began = False
        self._complete = False
        self._over = False
        self._heard: Optional[float] = None
        # Health is answered even by an instance that is full.
        self._counted = head.method == "POST"
        self._places = head.places
        # What is only counted is answered without that which generates.
        self._generates = self._counted and PATHS[head.path] not in COUNTING
        self._prelude = PRELUDE.get(head.path, 0)
        self._refused = False
        self._served = False
        floor = relay.floor
        if self._counted:
            floor.enter(self._places)
        if self._generates:
            floor.pulse.asked(time.monotonic())
        path = floor.health_path if head.path == HEALTH else head.path
        written = request_head(head.method, path, head.length, head.id)
        self._call = Call(floor.engine, self, written, head.length)

    def receive(self, data: bytes) -> None:
        """Take a part of the body; its credit goes back once the engine takes it."""
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
        """The body is complete."""
        if self._left:
            self._fail("invalid_request", "the body is shorter than announced")
            return
        self._complete = True
        self._call.finish()

    def cancel(self) -> None:
        """Nobody wants the answer any more."""
        if not self._over:
            self._call.abort()
            self._finish()

    def resume(self) -> None:
        """Read on, or wait on, as much as the relay has taken."""
        if self._over:
            return
        if self._relay.connection.pending(self.stream) > LOW_WATER:
            self._relay.hold(self)
        else:
            self._call.resume()

    def tick(self, now: float) -> None:
        """Give up a body that does not come; what waits for the engine is not counted."""
        if self._complete or self._owed:
            self._heard = None
        elif self._heard is None:
            self._heard = now
        elif now - self._heard > BODY_TIMEOUT:
            self._fail("invalid_request", "the body did not arrive in time")

    # --- from the engine ---------------------------------------------------------------------------------

    def accepted(self) -> None:
        """Pass on a stream's head, which is there before anything of its body."""
        head = self._call.head
        if head is not None and head.status == 200 and head.media_type == EVENT_STREAM:
            self._respond(head)
            self._relay.endpoint.wake(urgent=True)

    def answered(self, data: bytes) -> None:
        """Pass on a part of the answer."""
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
        """Note that the engine gave something: of an error and of a stream's first events it did not."""
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
            # As an error's status would, it leaves no doubt behind, and proves nothing.
            self._served = whole
            return
        self._served = True
        self._relay.floor.pulse.moved(time.monotonic())

    def _begin(self, data: bytes) -> bool:
        """Begin the answer with its first bytes; return whether it can be one."""
        head = self._call.head
        if head is None or head.media_type not in CONTENT_TYPES:
            self._fail(INSTANCE_FAILED, "the engine's answer has a media type that is not allowed")
            return False
        if head.status == 200 and not data:
            # No client could read it: not an answer, but an engine that broke on the request.
            self._fail(INSTANCE_FAILED, "the engine's answer is empty")
            return False
        if not self._responded:
            self._respond(head)
        return True

    def _respond(self, head: AnswerHead) -> None:
        self._responded = True
        self._relay.connection.respond(self.stream, ResponseHead(head.status, head.media_type))

    def broken(self, code: str, reason: str) -> None:
        """End with the engine's failure."""
        self._fail(code, reason)

    def give_up(self) -> None:
        """End because the engine gives nothing any more, whatever it was asked to generate."""
        if self._generates:
            self._fail(INSTANCE_FAILED, "the engine does not answer any more")

    def room(self) -> None:
        """Give the relay credit for what the engine has taken."""
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
            # The engine has refused a body that it has not read: what is left of it goes nowhere.
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
            self._relay.floor.leave(self._places)
        if self._generates:
            self._relay.floor.pulse.left(served=self._served)


class HealthCheck(Exchange):
    """Whether the engine answers its own health path; the answer is the front's own."""

    _deadline: Optional[float] = None

    def accepted(self) -> None:
        """Wait for the whole: the answer is the front's own."""

    def answered(self, data: bytes) -> None:
        """Answer by the engine's status alone."""
        head = self._call.head
        if head is None or head.status != 200:
            self._fail(NO_INSTANCE, "the engine is not ready")
            return
        if not self._began:
            self._began = True
            self._relay.connection.respond(self.stream, ResponseHead(200, "application/json"))
            floor = self._relay.floor
            stalled = int(floor.pulse.stalled(time.monotonic()))
            self._relay.connection.send_data(self.stream, _health(floor.leaving, stalled))
            self._answered_whole()
            self._relay.endpoint.wake(urgent=True)

    def broken(self, code: str, reason: str) -> None:
        """Say that there is no instance: to the one who asks, it is not there yet or not any more."""
        self._fail(NO_INSTANCE, reason)

    def tick(self, now: float) -> None:
        """Give up an engine that does not answer."""
        super().tick(now)
        if self._deadline is None:
            self._deadline = now + HEALTH_TIMEOUT
        elif now > self._deadline:
            self._fail(NO_INSTANCE, "the engine does not answer in time")
