"""The connections to instances: one to each, pinned to the certificate that its job created.

A connection is opened in advance for every instance that takes requests, and kept as long as the instance
takes them. If it is lost, the next request opens it again. All requests to an instance share it.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Iterable
from typing import Any, Callable, Optional

from sluice.contracts.heads import InstanceRequest
from sluice.contracts.routing import RoutedInstance
from sluice.endpoint import Endpoint
from sluice.errors import SluiceError
from sluice.relay.breaker import Breaker
from sluice.relay.callbacks import RequestCallbacks
from sluice.relay.config import RelayConfig
from sluice.relay.flow import Flow, Outflow
from sluice.relay.handshake import CertificateCheck, PacedEndpoint
from sluice.relay.metrics import Counters
from sluice.version import version
from sluice.wire import events
from sluice.wire.connection import Connection, Side
from sluice.wire.hello import PLACES_SINCE, Hello, Limits
from sluice.wire.links import RELAY_FRONT

logger = logging.getLogger(__name__)

# A connection to an instance that takes no new requests is closed when it has been idle for this long.
IDLE_SECONDS = 60.0
# The loss of a node that sends nothing more is noticed after three of these (seconds).
PING_INTERVAL = 10.0
# How many bytes of an answer may wait for a reader that reads nothing. With the proxy's part this bounds the
# cost of a stalled reader; on a cluster's network it is enough for every engine.
MAX_WINDOW = 40_960
MAX_SESSION_CREDIT = 1 << 30
# How many handshakes one tick may begin: otherwise a new relay would spend its first second on them.
AT_ONCE = 16

# If an instance gave a complete answer within this many seconds, it works, and a broken request is to blame.
RECENT = 5.0

# NO_HELLO: the peer has the right certificate, got the key, and closed without a message, as fronts do if the
# key is wrong.
PROTOCOL, BROKEN, NO_HELLO = "protocol", "broken off", "no hello"
# Why a connection was lost or could not be opened, for the metrics; the operating system's reasons are
# "unreachable".
LOSSES = frozenset((PROTOCOL, BROKEN, NO_HELLO, "timeout", "certificate"))

# A fixed name, because it is sent in clear. Trust comes only from the pinned certificate.
SERVER_NAME = "sluice"


class InstanceConnection:
    """The connection to one instance: none, opening, or open. It needs no task for each request."""

    def __init__(
        self, instance: RoutedInstance, config: RelayConfig, context: ssl.SSLContext, counters: Counters
    ):
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
        self._waiting: dict[RequestCallbacks, None] = {}
        self._streams: dict[int, RequestCallbacks] = {}
        self._connecting: Optional[asyncio.Task[None]] = None
        self._check: Optional[CertificateCheck] = None
        self._leaving = False
        self._deadline = 0.0
        self._answered = float("-inf")
        self._used = time.monotonic()

    # --- for requests ------------------------------------------------------------------------------------

    @property
    def open(self) -> bool:
        """Whether requests can be sent now."""
        return self._open

    @property
    def leaving(self) -> bool:
        """Whether the front said that its instance is about to end: it takes no more requests."""
        return self._leaving

    @property
    def exists(self) -> bool:
        """Whether there is a connection, open or opening."""
        return self.endpoint is not None or self._connecting is not None

    @property
    def busy(self) -> bool:
        """Whether any request needs this connection."""
        waits = bool(self._waiting or self._streams)
        return waits or (self.endpoint is not None and self.endpoint.connection.open_streams > 0)

    @property
    def load(self) -> int:
        """The places that are taken at the instance now, by all relays, as far as this one can know.

        The relay counts its own places, including those of requests that have not arrived yet. The places of
        other relays are what the front reported, less this relay's own at that moment. A report misses what
        was on its way, so it is usually too low; the next one corrects it, and a full front refuses requests.
        """
        return self._own + self._others

    def when_open(self, request: RequestCallbacks) -> None:
        """Call the request's `connection_open` as soon as the connection is open, at once if it is."""
        if self._open:
            request.connection_open(fresh=False)
            return
        self._waiting[request] = None
        self._own += request.places
        self.connect()

    def open_stream(self, request: RequestCallbacks, head: InstanceRequest) -> int:
        """Open a stream for the request and return its number. Raises SluiceError if that is impossible."""
        if self.endpoint is None:
            raise SluiceError("no_instance", "there is no connection")
        if head.places > 1 and not self._counts_places:
            head = head._replace(places=1)
        stream = self.endpoint.connection.open_request(head)
        self._streams[stream] = request
        self._own += request.places
        return stream

    def send(self, stream: int, body: bytes) -> None:
        """Send a complete body on a stream."""
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

    def leave(self, request: RequestCallbacks, stream: int) -> None:
        """The request has ended; `stream` is 0 if none was opened. The front is told at once."""
        if request in self._waiting:
            del self._waiting[request]
            self._own -= request.places
        if self._streams.pop(stream, None) is None:
            return
        self._own -= request.places
        self._used = time.monotonic()
        if self.endpoint is not None and self.outflow is not None:
            self.endpoint.connection.cancel(stream)
            self.outflow.dropped(stream)
            self.endpoint.wake(urgent=True)

    def finished(self, stream: int) -> None:
        """The answer was complete. The stream may stay until its last bytes are sent, without the request."""
        request = self._streams.pop(stream, None)
        if request is not None:
            self._own -= request.places
        self._used = self._answered = time.monotonic()
        self.breaker.succeed()
        if self.outflow is not None:
            self.outflow.dropped(stream)

    def pending(self, stream: int) -> int:
        """Return how many bytes on the stream have not been sent yet."""
        return self.endpoint.connection.pending(stream) if self.endpoint is not None else 0

    def failed(self) -> None:
        """Count a failure that is not the fault of a request."""
        self._count(lambda: self.breaker.fail(time.monotonic()))

    def broke(self, request: RequestCallbacks, user: str, sent_at: float) -> None:
        """Count an attempt, sent at `sent_at`, that broke: the request or the instance may be at fault."""
        now = time.monotonic()
        others = (one for one in self._streams.values() if one is not request)
        works = self._answered > min(sent_at, now - RECENT) or any(
            one.answered_since(sent_at) for one in others
        )
        self._count(lambda: self.breaker.suspect(user, now, alone=not works))

    def _count(self, count: Callable[[], None]) -> None:
        opened = self.breaker.open
        count()
        if self.breaker.open and not opened:
            logger.warning(
                "the instance keeps failing: it is not used for a while", extra={"instance": self.instance.id}
            )

    # --- opening and closing -----------------------------------------------------------------------------

    def connect(self) -> None:
        """Begin to open the connection, if there is none."""
        if self.exists:
            return
        self._deadline = time.monotonic() + self._config.connect_timeout
        self._connecting = asyncio.get_running_loop().create_task(self._connect())

    def close(self) -> None:
        """Close at once; the requests on it are not told."""
        self._waiting.clear()
        self._streams.clear()
        self._own = 0
        self._give_up_connecting()
        self._drop_endpoint()

    def tick(self, now: float, *, wanted: bool) -> bool:
        """Do what is due; `wanted`: connect in advance. Return whether a handshake began."""
        endpoint = self.endpoint
        if endpoint is None or not self._open:
            if self.exists:
                if now > self._deadline:
                    self._unreachable("timeout")
            elif wanted and not self._leaving and self.breaker.allows(now):
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
        # A ready instance keeps its connection, so that no request has to wait for a handshake.
        draining = self.instance.state != "ready"
        return self.retired or (draining and now - self._used > IDLE_SECONDS)

    async def _connect(self) -> None:
        check = CertificateCheck(self.instance, self._trusted)
        self._check = check
        reason = ""
        try:
            await asyncio.get_running_loop().create_connection(
                lambda: check,
                self.instance.host,
                self.instance.port,
                ssl=self._context,
                server_hostname=SERVER_NAME,
            )
        except (OSError, UnicodeError) as error:
            # UnicodeError: a host name that cannot be looked up, for example with a label of 64 letters.
            reason = type(error).__name__
        self._connecting = None
        reason = reason or check.reason
        if reason and self._check is check:
            self._unreachable(reason)

    def _trusted(self, transport: asyncio.Transport) -> None:
        """The peer is the instance: speak the wire with it."""
        hello = Hello(version(), _limits(self._config))
        connection = Connection(
            Side.CLIENT, hello, RELAY_FRONT, key=self.instance.key, max_stream_credit=MAX_WINDOW
        )
        endpoint = PacedEndpoint(
            connection, self._handlers(), on_lost=self._on_lost, ping_interval=PING_INTERVAL
        )
        self.endpoint = endpoint
        self.outflow = Outflow(endpoint)
        transport.set_protocol(endpoint)
        endpoint.connection_made(transport)

    def _give_up_connecting(self) -> None:
        if self._check is not None:
            self._check.shut()
            self._check = None
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None

    def _unreachable(self, reason: str) -> None:
        self._give_up_connecting()
        self._drop_endpoint()
        if not self._leaving:
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
        for request in waiting:
            request.instance_unreachable(reason)

    def _drop_endpoint(self) -> Optional[Endpoint]:
        endpoint, self.endpoint = self.endpoint, None
        self.outflow = None
        self._open = False
        self._others = 0
        if endpoint is not None and not endpoint.lost:
            endpoint.lost = True
            endpoint.abort()
        return endpoint

    # --- from the front ----------------------------------------------------------------------------------

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
        for request in waiting:
            request.connection_open(fresh=True)

    def _on_response(self, event: events.ResponseStarted) -> None:
        request = self._streams.get(event.stream)
        if request is not None:
            request.answer_begins(event.head)

    def _on_data(self, event: events.DataReceived) -> None:
        request = self._streams.get(event.stream)
        if request is not None:
            request.answer_data(event.data)

    def _on_end(self, event: events.StreamEnded) -> None:
        request = self._streams.get(event.stream)
        if request is not None:
            request.answer_ends()

    def _on_failed(self, event: events.StreamFailed) -> None:
        request = self._streams.get(event.stream)
        if request is not None:
            request.answer_fails(event.error)

    def _on_credit(self, event: events.CreditGranted) -> None:
        if self.outflow is not None:
            self.outflow.granted(event)

    def _on_go_away(self, event: events.GoAwayReceived) -> None:
        # Other codes concern only this connection.
        self._leaving = self._leaving or event.code == "shutdown"
        logger.info(
            ("the front accepts no more requests"), extra={"instance": self.instance.id, "code": event.code}
        )

    def _on_load(self, event: events.LoadReported) -> None:
        # A front of an older release counts requests.
        own = self._own if self._counts_places else len(self._streams)
        self._others = max(0, event.running - own)

    @property
    def _counts_places(self) -> bool:
        peer = self.endpoint.connection.peer if self.endpoint is not None else None
        return peer is not None and peer.minor >= PLACES_SINCE

    def _on_lost(self, why: str) -> None:
        endpoint = self.endpoint
        if endpoint is None:
            return
        protocol_broken = isinstance(endpoint, PacedEndpoint) and endpoint.broke_protocol
        if not self._open:
            self._unreachable(PROTOCOL if protocol_broken else NO_HELLO)
            return
        self._drop_endpoint()
        streams, self._streams = self._streams, {}
        self._own -= _places(streams.values())
        if not self._leaving or protocol_broken:
            self._counters.lost(PROTOCOL if protocol_broken else BROKEN)
        if streams:
            logger.warning(
                "the connection was lost",
                extra={"instance": self.instance.id, "why": why[:200], "asked": len(streams)},
            )
            if not self._leaving or protocol_broken:
                self.failed()
        for request in streams.values():
            request.connection_lost(protocol_broken=protocol_broken)


class InstanceConnections:
    """The connections to all instances of the routing table."""

    def __init__(self, config: RelayConfig, counters: Counters) -> None:
        self._config = config
        self._counters = counters
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._context.minimum_version = ssl.TLSVersion.TLSv1_3
        # `CertificateCheck` compares the certificate byte by byte; names and authorities do not matter.
        self._context.check_hostname = False
        self._context.verify_mode = ssl.CERT_NONE
        self._connections: dict[str, InstanceConnection] = {}
        self._retired: list[InstanceConnection] = []

    def of(self, instance: RoutedInstance) -> InstanceConnection:
        """Return the connection to an instance."""
        connection = self._connections.get(instance.id)
        if connection is not None:
            if connection.instance is instance or _address(connection.instance) == _address(instance):
                connection.instance = instance
                return connection
            self._retire(connection)
        connection = InstanceConnection(instance, self._config, self._context, self._counters)
        self._connections[instance.id] = connection
        return connection

    def get(self, instance_id: str) -> Optional[InstanceConnection]:
        """Return the connection of this id, if there is one."""
        return self._connections.get(instance_id)

    def leaving(self, instance: RoutedInstance) -> bool:
        """Whether an instance is about to end although the table still calls it ready."""
        found = self._connections.get(instance.id)
        return found is not None and _address(found.instance) == _address(instance) and found.leaving

    def tick(self, now: float, instances: Iterable[RoutedInstance]) -> None:
        """Do what is due, for exactly the instances of the table; `now` is the monotonic clock."""
        routed = {instance.id: instance for instance in instances}
        for connection in tuple(self._connections.values()):
            if connection.instance.id not in routed:
                self._retire(connection)
        handshakes = 0
        for instance in routed.values():
            connection = self.of(instance)
            wanted = instance.state == "ready" and handshakes < AT_ONCE
            handshakes += connection.tick(now, wanted=wanted)
        for connection in tuple(self._retired):
            connection.tick(now, wanted=False)
            if not connection.busy and not connection.exists:
                self._retired.remove(connection)

    def close(self) -> None:
        """Close every connection at once."""
        for connection in (*self._connections.values(), *self._retired):
            connection.close()
        self._connections.clear()
        self._retired.clear()

    def _retire(self, connection: InstanceConnection) -> None:
        connection.retired = True
        del self._connections[connection.instance.id]
        self._retired.append(connection)


def _limits(config: RelayConfig) -> Limits:
    """Return the limits for a front: unread answers must not use up the connection's credit."""
    session = min(MAX_SESSION_CREDIT, config.max_streams * MAX_WINDOW)
    return Limits(min(config.stream_credit, MAX_WINDOW), session, config.max_streams, config.max_body)


def _places(requests: Iterable[RequestCallbacks]) -> int:
    return sum(request.places for request in requests)


def _address(instance: RoutedInstance) -> tuple[str, int, str, str]:
    return (instance.host, instance.port, instance.certificate, instance.key)
