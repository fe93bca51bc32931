"""One request, from its head to its outcome: a state machine driven by two connections and the clock.

It has a Body (from the proxy), an Answer (to the proxy) and one Attempt at a time (at an instance), and
decides what happens with them. Nothing is passed back before the first byte of an answer's body, so another
attempt is possible until then.
"""

from __future__ import annotations

import logging
import secrets
import time
from typing import Any, Callable, Optional

from sluice.contracts.heads import EVENT_STREAM, MOST_BREAKS, ErrorHead, RequestHead, ResponseHead
from sluice.contracts.routing import RoutedModel
from sluice.errors import CODES, SluiceError
from sluice.gate import choice
from sluice.gate.answer import check_size, may_pass
from sluice.gate.body import COLLECTED, Body
from sluice.gate.request import check_head, check_model, check_places, check_room, find_model
from sluice.gate.session import reserve
from sluice.relay.answer import Answer
from sluice.relay.attempt import Attempt
from sluice.relay.connections import InstanceConnection
from sluice.relay.services import Services
from sluice.wire.hello import PLACES_SINCE

logger = logging.getLogger(__name__)

MAX_ATTEMPTS = 3
OVERLOADED_RETRY_AFTER = 1.0

OK, CANCELLED = "ok", "cancelled"

# A front's error codes if nothing of the request has reached the engine: another instance may be tried.
_UNTOUCHED = {"overloaded": "overloaded", "no_instance": "no_instance", "cluster_unreachable": "no_instance"}


class Request:
    """A request of the proxy. `on_over` is called once, with the stream."""

    __slots__ = (
        "_answer",
        "_attempt",
        "_began",
        "_body",
        "_breaks",
        "_failure",
        "_head",
        "_heard",
        "_instance",
        "_known",
        "_on_over",
        "_over",
        "_renewed",
        "_reserved",
        "_services",
        "_stream",
        "_tried",
        "places",
    )

    def __init__(
        self, services: Services, stream: int, head: RequestHead, on_over: Callable[[int], None]
    ) -> None:
        self._services = services
        self._stream = stream
        self._head = head
        self._on_over = on_over
        self._began = self._heard = time.monotonic()
        self._body = Body(head, services.config.schemas)
        self._answer = Answer(services.endpoint, services.outflow, stream)
        self._reserved = 0
        self._known = False
        self._attempt: Optional[Attempt] = None
        self._instance = ""
        # The results of earlier attempts.
        self._tried: set[str] = set()
        self._renewed: set[str] = set()
        # Broken attempts on other sessions count too.
        self._breaks = head.breaks
        self.places = head.places
        self._failure: Optional[tuple[str, str]] = None
        self._over = False

    # --- from the proxy ----------------------------------------------------------------------------------

    def run(self, step: Callable[..., None], *arguments: Any) -> None:
        """Run a step; any failure ends only this request, with an error."""
        try:
            step(*arguments)
        except SluiceError as error:
            self.fail(error)
        except Exception:
            # No failure of a request goes beyond this point. The log has its type and place, not its text.
            logger.exception("unexpected fault", extra={"request_id": self._head.id})
            self.fail(SluiceError("internal_error", "the relay has a fault"))

    def open(self) -> None:
        """Check the head against the routing table; reserve memory for the body. Raises SluiceError."""
        model = self._model(self._began)
        self._known = True
        check_head(self._head, model)
        size = min(self._head.length, COLLECTED)
        reserve(self._services.memory, size)
        self._reserved = size

    def receive(self, data: bytes) -> None:
        """Take the next bytes of the body. Raises SluiceError if the checks refuse them."""
        self._heard = time.monotonic()
        size = len(data)
        self._services.counters.bytes_in += size
        self._body.receive(data)
        if not self._body.streams:
            self._answer.consumed(size)
            return
        if self._body.model is not None:
            check_model(self._body.model, self._head)
        self._check_places()
        self._go_on()

    def body_ended(self) -> None:
        """The body is complete: send it to an instance, or send its last byte. Raises SluiceError."""
        check_model(self._body.finish(), self._head)
        self._check_places()
        self._body.complete = True
        self._go_on()

    def _go_on(self) -> None:
        """Send on what has arrived, or choose an instance for it."""
        if self._attempt is None:
            self._next_instance()
        elif self._attempt.stream:
            self._attempt.push(self._body)

    def cancel(self) -> None:
        """End because the proxy has cancelled the request or is gone."""
        self._finish(CANCELLED)

    def fail(self, error: SluiceError) -> None:
        """End with an error."""
        if self._over:
            return
        self._answer.fail(ErrorHead(error.code, error.message, error.retry_after, self._breaks))
        self._finish(error.code)

    def tick(self, now: float) -> None:
        """Give up if something takes too long; `now` is the monotonic clock. Raises SluiceError."""
        config = self._services.config
        if now - self._began > config.total_timeout:
            raise SluiceError("instance_timeout", "the request took longer than this cluster allows")
        if self._answer.begun:
            self._tick_answer(now)
        elif not self._body.complete:
            self._tick_body(now)
        elif self._attempt is not None and self._attempt.stream:
            self._tick_attempt(now, self._attempt)

    def _tick_attempt(self, now: float, attempt: Attempt) -> None:
        config = self._services.config
        # After the head the engine still reads the prompt; a long one takes minutes.
        patience = config.first_byte_timeout if attempt.head is None else config.first_token_timeout
        if now - attempt.sent_at > patience:
            attempt.broke()
            # After such a long wait, a second one at another instance does not help.
            self._failed("instance_timeout", "the instance did not answer in time", sent=True, final=True)

    def _tick_answer(self, now: float) -> None:
        if self._answer.waits_for_reader:
            # The reader is slow, not the instance: the reader's credit is used up.
            self._heard = now
        elif now - self._heard > self._services.config.idle_timeout:
            self._broke()
            raise SluiceError("instance_timeout", "the instance stopped in the middle of its answer")

    def _tick_body(self, now: float) -> None:
        if now - self._heard <= self._services.config.idle_timeout:
            return
        if self._attempt is not None and self._attempt.stuck:
            self._broke()
            raise SluiceError("instance_timeout", "the instance does not read the body")
        raise SluiceError("invalid_request", "the body did not arrive in time")

    # --- choosing an instance ----------------------------------------------------------------------------

    def _model(self, now: float) -> RoutedModel:
        return find_model(self._services.routing.current(now), self._head.model)

    def _check_places(self) -> None:
        """Check the places that the body needs; count them if the proxy is too old to send their number."""
        needed = self._body.places
        if needed <= self.places:
            return
        peer = self._services.endpoint.connection.peer
        if self._body.streams or peer is None or peer.minor >= PLACES_SINCE:
            check_places(needed, self.places)
        self.places = needed
        check_room(needed, self._model(time.monotonic()))

    def _next_instance(self) -> None:
        now = time.monotonic()
        connection = self._choose(self._model(now), now)
        self._instance = connection.instance.id
        self._services.demand.began(self._head.model, self._instance, self.places)
        self._attempt = Attempt(self, connection, self._head.user)
        self._attempt.start()

    def _choose(self, model: RoutedModel, now: float) -> InstanceConnection:
        affinity = self._head.affinity
        ready = choice.ready(model)
        ranked = choice.rank(affinity or (secrets.token_hex(8) if len(ready) > 1 else ""), ready)
        known = (self._services.connections.of(one) for one in ranked if one.id not in self._tried)
        connections = [connection for connection in known if not connection.leaving]
        user = self._head.user
        sound = [connection for connection in connections if connection.breaker.allows(now, user)]
        connection = choice.choose(
            sound,
            _load,
            choice.room(model.concurrency),
            least=not affinity,
            places=self.places,
            most=2 * model.concurrency,
        )
        if connection is not None:
            return connection
        if self._failure is not None:
            raise self._final_error(*self._failure)
        if sound:
            raise SluiceError("overloaded", "all instances are full", retry_after=OVERLOADED_RETRY_AFTER)
        if connections:
            raise self._not_used(connections, now)
        raise choice.without_instance(model, time.time())

    def _not_used(self, connections: list[InstanceConnection], now: float) -> SluiceError:
        """Return the error if no instance may be used: for this user, or for everybody."""
        user = self._head.user
        wait = max(1.0, min(connection.breaker.wait(now, user) for connection in connections))
        if any(connection.breaker.allows(now) for connection in connections):
            # With `no_instance` the proxy would assume a lack of room and hold other users' requests back.
            self._breaks = max(self._breaks, MOST_BREAKS)
            return SluiceError(
                "instance_failed", "your last requests all failed at the model's instances", retry_after=wait
            )
        return SluiceError("no_instance", "the model's instances keep failing", retry_after=wait)

    def _final_error(self, code: str, reason: str) -> SluiceError:
        if code == "overloaded":
            return SluiceError(code, reason, retry_after=OVERLOADED_RETRY_AFTER)
        if CODES[code] == 503:
            return SluiceError(
                code, reason, retry_after=choice.retry_after(self._model(time.monotonic()), time.time())
            )
        return SluiceError(code, reason)

    # --- from the connection to the instance -------------------------------------------------------------

    def connection_open(self, *, fresh: bool) -> None:
        """Send the request, or the part that has arrived."""
        self.run(self._send, fresh)

    def instance_unreachable(self, reason: str) -> None:
        """Try another instance: nothing was sent to this one."""
        self.run(self._failed, "no_instance", "the instance cannot be reached", reason)

    def connection_lost(self, *, protocol_broken: bool) -> None:
        """Try again if nothing was passed on yet."""
        self.run(self._lost, protocol_broken)

    def answer_begins(self, head: ResponseHead) -> None:
        """Keep the head until the first byte of the body: an engine may still break on the prompt."""
        if may_pass(head.status):
            if self._attempt is not None:
                self._attempt.head = head
            if head.status == 200 and head.content_type == EVENT_STREAM:
                self._answer.accepted()
        else:
            self.run(self._withhold, head.status)

    def answer_data(self, data: bytes) -> None:
        """Pass bytes on."""
        self.run(self._pass_on, data)

    def answer_ends(self) -> None:
        """The answer is complete."""
        self.run(self._pass_end)

    def answer_fails(self, error: ErrorHead) -> None:
        """The front gives up: its code decides what follows, and its message is not passed on."""
        self.run(self._refused, error.code)

    def answered_since(self, when: float) -> bool:
        """Whether bytes of the answer arrived after `when`."""
        return self._answer.begun and self._heard > when

    def _send(self, fresh: bool) -> None:
        attempt = self._attempt
        if attempt is None:
            return
        attempt.fresh = fresh
        try:
            attempt.send(self._head, self.places, self._body, self._answer)
        except SluiceError as error:
            code = _UNTOUCHED.get(error.code, "no_instance")
            self._failed(code, "the instance accepts no requests now")

    def _lost(self, protocol_broken: bool) -> None:
        if self._answer.begun:
            raise SluiceError("instance_failed", "the connection to the instance was lost during its answer")
        attempt = self._attempt
        if attempt is None:
            return
        connection = attempt.connection
        if connection.leaving and not protocol_broken:
            # It ended as announced: that is not the request's fault.
            self._failed("no_instance", "the instance ended before its answer")
            return
        again = not (protocol_broken or self._body.streams or attempt.fresh or connection.retired)
        if again and self._breaks + 1 < MOST_BREAKS and attempt.instance not in self._renewed:
            # The connection was older than the request: its loss proves nothing about the instance.
            self._renewed.add(attempt.instance)
            self._breaks += 1
            self._services.counters.retries += 1
            attempt.start()
        else:
            self._failed(
                "instance_failed", ("the connection to the instance was lost before its answer"), sent=True
            )

    def _withhold(self, status: int) -> None:
        self._broke()
        own = status >= 500
        reason = "the instance failed to answer" if own else "the instance's answer cannot be passed on"
        self._failed("instance_failed", reason, sent=True)

    def _refused(self, code: str) -> None:
        if self._answer.begun:
            self._broke()
            if code == "instance_timeout":
                raise SluiceError(code, "the instance stopped in the middle of its answer")
            raise SluiceError("instance_failed", "the connection to the instance was lost during its answer")
        if code in _UNTOUCHED:
            attempt = self._attempt
            if code == "no_instance" and attempt is not None and not attempt.connection.leaving:
                # The engine has seen nothing of the request, so the request is not at fault.
                attempt.connection.failed()
            self._failed(_UNTOUCHED[code], "the instance accepts no requests now")
        elif code == "instance_failed":
            self._broke()
            self._failed(code, "the connection to the instance was lost before its answer", sent=True)
        elif code == "instance_timeout":
            self._broke()
            self._failed(code, "the instance did not answer in time", sent=True, final=True)
        elif code == "body_too_large":
            self._failed(code, "the instance accepts no body of this size", final=True)
        else:
            # For example a front of another release that does not know the path.
            self._failed("instance_failed", "the instance refused this request")

    def _failed(
        self, code: str, reason: str, cause: str = "", *, sent: bool = False, final: bool = False
    ) -> None:
        """End an attempt of which nothing was passed on, and begin the next one if that is allowed.

        `sent`: the instance may have worked on the request. `final`: another attempt would not help.
        """
        instance = self._instance
        begun = self._attempt is not None and self._attempt.stream != 0
        self._leave()
        logger.warning(
            "attempt failed",
            extra={
                "request_id": self._head.id,
                "instance": instance,
                "code": code,
                "reason": reason,
                "cause": cause,
            },
        )
        self._tried.add(instance)
        self._breaks += sent
        if sent and not final and self._breaks >= MOST_BREAKS:
            raise SluiceError(
                "instance_failed", ("the connections to the instances were lost before their answers")
            )
        if final or (begun and self._body.streams) or len(self._tried) >= MAX_ATTEMPTS:
            raise self._final_error(code, reason)
        self._services.counters.retries += 1
        self._failure = (code, reason)
        self._next_instance()

    def _pass_on(self, data: bytes) -> None:
        self._heard = time.monotonic()
        if not self._answer.begun:
            self._begin_answer()
        services = self._services
        services.counters.bytes_out += len(data)
        check_size(self._answer.sent + len(data), services.config.max_answer)
        self._answer.data(data)

    def _begin_answer(self) -> None:
        """Pass the head on: no other instance can take over from now on, and the body is not needed."""
        if self._attempt is None:
            raise SluiceError("instance_failed", "the instance's answer has no head")
        self._attempt.begin(self._answer)
        self._let_body_go()

    def _pass_end(self) -> None:
        if not self._answer.begun:
            self._begin_answer()
        self._answer.end()
        self._services.demand.answered(self._head.model, self._instance, time.time())
        if self._attempt is not None:
            self._attempt.finish()
        self._finish(OK)

    # --- ends --------------------------------------------------------------------------------------------

    def _broke(self) -> None:
        """Report that the attempt broke."""
        if self._attempt is not None:
            self._attempt.broke()

    def _leave(self) -> None:
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            self._services.demand.ended(self._head.model, attempt.instance, self.places)
            attempt.leave()

    def _let_body_go(self) -> None:
        self._body.let_go()
        self._services.memory.release(self._reserved)
        self._reserved = 0

    def _finish(self, outcome: str) -> None:
        if self._over:
            return
        self._over = True
        self._on_over(self._stream)
        self._leave()
        self._let_body_go()
        services, head = self._services, self._head
        # With names that are not in the table, the other side could create any number of counters.
        services.counters.count(head.model if self._known else "", outcome)
        services.audit.request(
            request_id=head.id,
            user=head.user,
            class_=head.class_,
            model=head.model,
            path=head.path,
            instance=self._instance,
            status=self._answer.status or CODES.get(outcome, 0),
            outcome=outcome,
            bytes_in=self._body.received,
            bytes_out=self._answer.sent,
            duration=time.monotonic() - self._began,
        )


def _load(connection: InstanceConnection) -> int:
    return connection.load
