"""The connections to instances: one to each, pinned to the certificate that its job created.

A connection is made in advance for every instance that takes requests, kept as long as it does, and made
again when it is lost and somebody asks. All requests for an instance share it.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Iterable
from typing import Any, Callable, Optional

from sluice.contracts.heads import InstanceRequest
from sluice.contracts.routing import Instance
from sluice.endpoint import Endpoint
from sluice.errors import SluiceError
from sluice.relay.breaker import Breaker
from sluice.relay.callbacks import Asker
from sluice.relay.config import RelayConfig
from sluice.relay.flow import Flow, Outflow
from sluice.relay.handshake import Door, PacedEndpoint
from sluice.relay.metrics import Counters
from sluice.version import version
from sluice.wire import events
from sluice.wire.connection import Connection, Role
from sluice.wire.hello import PLACES_SINCE, Hello, Limits
from sluice.wire.links import RELAY_FRONT

logger = logging.getLogger(__name__)

# A connection to an instance that takes no new requests is closed when it has been idle for this long.
IDLE_SECONDS = 60.0
# A node that vanished without a word is noticed after three of these.
PING_INTERVAL = 10.0
# What an answer may have on its way to a reader that takes nothing. Together with the proxy's share it
# bounds what a stalled reader costs; on a cluster's network it is enough for any engine.
MAX_WINDOW = 40_960
MAX_SESSION_CREDIT = 1 << 30
# Handshakes begun by one tick: a relay that has just started must not spend its first second on them.
AT_ONCE = 16

# An instance that gave somebody a whole answer within so many seconds works: it is the request that broke.
RECENT = 5.0

# NO_HELLO: it has the right certificate, was shown the key, and closed without a word, as fronts do for a
# wrong key.
PROTOCOL, BROKEN, NO_HELLO = "protocol", "broken off", "no hello"
# Why a connection can be lost or not come about, for the figures; all the system's own reasons are
# "unreachable".
LOSSES = frozenset((PROTOCOL, BROKEN, NO_HELLO, "timeout", "certificate"))

# A fixed name: it is sent in clear, and which name it is says nothing. Trust comes from the pin alone.
SERVER_NAME = "sluice"


class Line:
    """The connection to one instance: none, in the making, or open. Without a task for each request."""

    def __init__(self, instance: Instance, config: RelayConfig, context: ssl.SSLContext, counters: Counters):
        self.instance = instance
        self.breaker = Breaker()
        self.retired = False
        self.endpoint: Optional[Endpoint] = None
        self.outflow: Optional[Outflow] = None
        self._config = config
        self._context = context
        self._counters = counters
        self._open = False
        self._others = 0
        self._own = 0
        self._waiting: dict[Asker, None] = {}
        self._asked: dict[int, Asker] = {}
        self._connecting: Optional[asyncio.Task[None]] = None
        self._door: Optional[Door] = None
        self._left = False
        self._deadline = 0.0
        self._answered = float("-inf")
        self._used = time.monotonic()

    # --- what requests ask -------------------------------------------------------------------------------

    @property
    def open(self) -> bool:
        """Whether requests can be sent now."""
        return self._open

    @property
    def left(self) -> bool:
        """Whether the front said that its instance is about to end; it takes no new request ever again."""
        return self._left

    @property
    def standing(self) -> bool:
        """Whether there is a connection, or one in the making."""
        return self.endpoint is not None or self._connecting is not None

    @property
    def busy(self) -> bool:
        """Whether any request needs this line."""
        waits = bool(self._waiting or self._asked)
        return waits or (self.endpoint is not None and self.endpoint.connection.open_streams > 0)

    @property
    def load(self) -> int:
        """The places that are taken at the instance now, by all relays, as far as this one can know.

        Its own it counts itself, those included that have not got there yet. What other relays have is what
        the front reported beyond this relay's own at that moment. A report errs by what was on its way
        then, mostly to the low side; the next one mends it, and the front refuses what is really too much.
        """
        return self._own + self._others

    def ask(self, asker: Asker) -> None:
        """Call the asker's `line_open` as soon as the line stands, at once if it does."""
        if self._open:
            asker.line_open(fresh=False)
            return
        self._waiting[asker] = None
        self._own += asker.places
        self.connect()

    def request(self, asker: Asker, head: InstanceRequest) -> int:
        """Open a stream for the asker and return its number. Raises SluiceError when none can be opened."""
        if self.endpoint is None:
            raise SluiceError("no_instance", "there is no connection")
        if head.places > 1 and not self._counts_places:
            head = head._replace(places=1)
        stream = self.endpoint.connection.open_request(head)
        self._asked[stream] = asker
        self._own += asker.places
        return stream

    def send(self, stream: int, body: bytes) -> None:
        """Send a whole body on a stream."""
        if self.endpoint is not None:
            self.endpoint.connection.send_data(stream, body)
            self.endpoint.connection.send_end(stream)
            self.endpoint.wake()

    def pass_on(self, flow: Flow, data: bytes, *, last: bool) -> None:
        """Send a part of a body on the flow's stream; `last`: nothing follows."""
        if self.endpoint is None or self.outflow is None:
            return
        self.endpoint.connection.send_data(flow.stream, data)
        self.outflow.passed(flow, len(data))
        if last:
            self.endpoint.connection.send_end(flow.stream)
            self.outflow.finish(flow)
        self.endpoint.wake()

    def leave(self, asker: Asker, stream: int) -> None:
        """The asker wants nothing more; `stream` is 0 where none was opened. The front hears it at once."""
        if asker in self._waiting:
            del self._waiting[asker]
            self._own -= asker.places
        if self._asked.pop(stream, None) is None:
            return
        self._own -= asker.places
        self._used = time.monotonic()
        if self.endpoint is not None and self.outflow is not None:
            self.endpoint.connection.cancel(stream)
            self.outflow.dropped(stream)
            self.endpoint.wake(urgent=True)

    def finished(self, stream: int) -> None:
        """The answer was complete. What of it has not left yet keeps the stream, not the asker."""
        asker = self._asked.pop(stream, None)
        if asker is not None:
            self._own -= asker.places
        self._used = self._answered = time.monotonic()
        self.breaker.succeed()
        if self.outflow is not None:
            self.outflow.dropped(stream)

    def pending(self, stream: int) -> int:
        """Return the bytes queued on the stream that have not left yet."""
        return self.endpoint.connection.pending(stream) if self.endpoint is not None else 0

    def failed(self) -> None:
        """Count a failure in which no request had a part."""
        self._count(lambda: self.breaker.fail(time.monotonic()))

    def broke(self, asker: Asker, user: str, asked_at: float) -> None:
        """Count an attempt, made at `asked_at`, that broke: the request or the instance may be at fault."""
        now = time.monotonic()
        others = (one for one in self._asked.values() if one is not asker)
        works = self._answered > min(asked_at, now - RECENT) or any(
            one.answered_since(asked_at) for one in others
        )
        self._count(lambda: self.breaker.suspect(user, now, alone=not works))

    def _count(self, count: Callable[[], None]) -> None:
        opened = self.breaker.open
        count()
        if self.breaker.open and not opened:
            logger.warning(
                ("the instance keeps failing: it is not used for a while"),
                extra={"instance": self.instance.id},
            )

    # --- making and ending -------------------------------------------------------------------------------

    def connect(self) -> None:
        """Begin to make the connection, if there is none."""
        if self.standing:
            return
        self._deadline = time.monotonic() + self._config.connect_timeout
        self._connecting = asyncio.get_running_loop().create_task(self._connect())

    def close(self) -> None:
        """Close at once; whoever still asks hears nothing more."""
        self._waiting.clear()
        self._asked.clear()
        self._own = 0
        self._give_up_connecting()
        self._drop_endpoint()

    def tick(self, now: float, *, wanted: bool) -> bool:
        """Do what time brings; `wanted`: connect in advance. Return whether a handshake began."""
        endpoint = self.endpoint
        if endpoint is None or not self._open:
            if self.standing:
                if now > self._deadline:
                    self._unreachable("timeout")
            elif wanted and not self._left and self.breaker.allows(now):
                self.connect()
                return True
            return False
        endpoint.tick(now)
        if not self.busy and self._dispensable(now):
            self._drop_endpoint()
        return False

    def _dispensable(self, now: float) -> bool:
        if self.endpoint is not None and self.endpoint.connection.peer_going_away:
            return True
        # Whatever is ready keeps its connection: nobody's request shall cost a handshake.
        draining = self.instance.state != "ready"
        return self.retired or (draining and now - self._used > IDLE_SECONDS)

    async def _connect(self) -> None:
        door = Door(self.instance, self._trusted)
        self._door = door
        reason = ""
        try:
            await asyncio.get_running_loop().create_connection(
                lambda: door,
                self.instance.host,
                self.instance.port,
                ssl=self._context,
                server_hostname=SERVER_NAME,
            )
        except (OSError, UnicodeError) as error:
            # UnicodeError: a host name that no resolver can be asked for, a label of 64 letters say.
            reason = type(error).__name__
        self._connecting = None
        reason = reason or door.reason
        if reason and self._door is door:
            self._unreachable(reason)

    def _trusted(self, transport: asyncio.Transport) -> None:
        """The peer is the instance: speak the wire with it."""
        hello = Hello(version(), _limits(self._config))
        connection = Connection(
            Role.CLIENT, hello, RELAY_FRONT, key=self.instance.key, max_stream_credit=MAX_WINDOW
        )
        endpoint = PacedEndpoint(
            connection, self._handlers(), on_lost=self._on_lost, ping_interval=PING_INTERVAL
        )
        self.endpoint = endpoint
        self.outflow = Outflow(endpoint)
        transport.set_protocol(endpoint)
        endpoint.connection_made(transport)

    def _give_up_connecting(self) -> None:
        if self._door is not None:
            self._door.shut()
            self._door = None
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None

    def _unreachable(self, reason: str) -> None:
        self._give_up_connecting()
        self._drop_endpoint()
        if not self._left:
            self._counters.lost(reason if reason in LOSSES else "unreachable")
            logger.warning(
                "the instance closed without a word: it takes another key than its record's, or has no room"
                if reason == NO_HELLO
                else "the instance cannot be reached",
                extra={"instance": self.instance.id, "reason": reason},
            )
            self.failed()
        waiting, self._waiting = self._waiting, {}
        self._own -= _places(waiting)
        for asker in waiting:
            asker.line_unreachable(reason)

    def _drop_endpoint(self) -> Optional[Endpoint]:
        endpoint, self.endpoint = self.endpoint, None
        self.outflow = None
        self._open = False
        self._others = 0
        if endpoint is not None and not endpoint.lost:
            endpoint.lost = True
            endpoint.abort()
        return endpoint

    # --- what the front says -----------------------------------------------------------------------------

    def _handlers(self) -> dict[type, Callable[[Any], None]]:
        return {
            events.HelloReceived: self._on_hello,
            events.ResponseStarted: self._on_response,
            events.DataReceived: self._on_data,
            events.StreamEnded: self._on_end,
            events.StreamFailed: self._on_failed,
            events.CreditGranted: self._on_credit,
            events.GoAwayReceived: self._on_go_away,
            events.LoadReported: self._on_load,
        }

    def _on_hello(self, event: events.HelloReceived) -> None:
        self._open = True
        self._used = time.monotonic()
        waiting, self._waiting = self._waiting, {}
        self._own -= _places(waiting)
        for asker in waiting:
            asker.line_open(fresh=True)

    def _on_response(self, event: events.ResponseStarted) -> None:
        asker = self._asked.get(event.stream)
        if asker is not None:
            asker.answer_begins(event.head)

    def _on_data(self, event: events.DataReceived) -> None:
        asker = self._asked.get(event.stream)
        if asker is not None:
            asker.answer_data(event.data)

    def _on_end(self, event: events.StreamEnded) -> None:
        asker = self._asked.get(event.stream)
        if asker is not None:
            asker.answer_ends()

    def _on_failed(self, event: events.StreamFailed) -> None:
        asker = self._asked.get(event.stream)
        if asker is not None:
            asker.answer_fails(event.error)

    def _on_credit(self, event: events.CreditGranted) -> None:
        if self.outflow is not None:
            self.outflow.granted(event)

    def _on_go_away(self, event: events.GoAwayReceived) -> None:
        # Other codes speak of this connection alone.
        self._left = self._left or event.code == "shutdown"
        logger.info(
            ("the front accepts no more requests"), extra={"instance": self.instance.id, "code": event.code}
        )

    def _on_load(self, event: events.LoadReported) -> None:
        # A front of an older release counts requests.
        own = self._own if self._counts_places else len(self._asked)
        self._others = max(0, event.running - own)

    @property
    def _counts_places(self) -> bool:
        peer = self.endpoint.connection.peer if self.endpoint is not None else None
        return peer is not None and peer.minor >= PLACES_SINCE

    def _on_lost(self, why: str) -> None:
        endpoint = self.endpoint
        if endpoint is None:
            return
        nonsense = isinstance(endpoint, PacedEndpoint) and endpoint.broke_protocol
        if not self._open:
            self._unreachable(PROTOCOL if nonsense else NO_HELLO)
            return
        self._drop_endpoint()
        asked, self._asked = self._asked, {}
        self._own -= _places(asked.values())
        if not self._left or nonsense:
            self._counters.lost(PROTOCOL if nonsense else BROKEN)
        if asked:
            logger.warning(
                "the connection was lost",
                extra={"instance": self.instance.id, "why": why[:200], "asked": len(asked)},
            )
            if not self._left or nonsense:
                self.failed()
        for asker in asked.values():
            asker.line_lost(nonsense=nonsense)


class Lines:
    """The lines to all instances of the routing table."""

    def __init__(self, config: RelayConfig, counters: Counters) -> None:
        self._config = config
        self._counters = counters
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._context.minimum_version = ssl.TLSVersion.TLSv1_3
        # The certificate is compared byte by byte below; names and authorities play no part.
        self._context.check_hostname = False
        self._context.verify_mode = ssl.CERT_NONE
        self._lines: dict[str, Line] = {}
        self._leaving: list[Line] = []

    def of(self, instance: Instance) -> Line:
        """Return the line to an instance."""
        line = self._lines.get(instance.id)
        if line is not None:
            if line.instance is instance or _address(line.instance) == _address(instance):
                line.instance = instance
                return line
            self._retire(line)
        line = Line(instance, self._config, self._context, self._counters)
        self._lines[instance.id] = line
        return line

    def get(self, instance_id: str) -> Optional[Line]:
        """Return the line of this id, if there is one."""
        return self._lines.get(instance_id)

    def left(self, instance: Instance) -> bool:
        """Whether an instance is known to take no new request although the table says that it does."""
        line = self._lines.get(instance.id)
        return line is not None and _address(line.instance) == _address(instance) and line.left

    def tick(self, now: float, instances: Iterable[Instance]) -> None:
        """Do what time brings, for exactly the instances of the table; `now` is the monotonic clock."""
        routed = {instance.id: instance for instance in instances}
        for line in tuple(self._lines.values()):
            if line.instance.id not in routed:
                self._retire(line)
        handshakes = 0
        for instance in routed.values():
            line = self.of(instance)
            wanted = instance.state == "ready" and handshakes < AT_ONCE
            handshakes += line.tick(now, wanted=wanted)
        for line in tuple(self._leaving):
            line.tick(now, wanted=False)
            if not line.busy and not line.standing:
                self._leaving.remove(line)

    def close(self) -> None:
        """Close every connection at once."""
        for line in (*self._lines.values(), *self._leaving):
            line.close()
        self._lines.clear()
        self._leaving.clear()

    def _retire(self, line: Line) -> None:
        line.retired = True
        del self._lines[line.instance.id]
        self._leaving.append(line)


def _limits(config: RelayConfig) -> Limits:
    """Return what a front may send: answers that nobody reads must not use up the connection's credit."""
    session = min(MAX_SESSION_CREDIT, config.max_streams * MAX_WINDOW)
    return Limits(min(config.stream_credit, MAX_WINDOW), session, config.max_streams, config.max_body)


def _places(askers: Iterable[Asker]) -> int:
    return sum(asker.places for asker in askers)


def _address(instance: Instance) -> tuple[str, int, str, str]:
    return (instance.host, instance.port, instance.certificate, instance.key)
