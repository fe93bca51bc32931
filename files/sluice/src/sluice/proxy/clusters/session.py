"""One session with one relay: connects the wire's state machine with a transport and with requests.

All code here runs on the event loop's thread.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterable
from typing import Any

from sluice.bodies.costs import DEFAULTS, Bounds
from sluice.contracts.encoding import decode_json
from sluice.contracts.heads import DemandHead, RequestHead
from sluice.contracts.metrics import MetricsSnapshot
from sluice.contracts.status import ModelsAnswer
from sluice.errors import RecordError
from sluice.proxy.clusters.stream import RequestStream, SessionLost, failure
from sluice.proxy.clusters.transport import Transport, TransportError
from sluice.proxy.clusters.uploads import UPLOAD_PIECE, Uploads
from sluice.version import version
from sluice.wire import events
from sluice.wire.connection import Connection, Side
from sluice.wire.frames import MAX_PAYLOAD, ProtocolError
from sluice.wire.hello import PLACES_SINCE, Hello, Limits

log = logging.getLogger("sluice.proxy.clusters.session")

# The credit that this side grants. The session's credit covers the initial credit of all streams, so that
# slow readers cannot use it up and block others; GROWTH is for the growing windows of fast readers.
STREAM_CREDIT = 32 * 1024
MAX_STREAM_CREDIT = 64 * 1024
MAX_STREAMS = 1024
GROWTH = 32 * 1024 * 1024
LIMITS = Limits(
    stream_credit=STREAM_CREDIT,
    session_credit=STREAM_CREDIT * MAX_STREAMS + GROWTH,
    max_streams=MAX_STREAMS,
    max_body=1,
)
# How often expired waits are looked for (seconds): a timer for each wait would be expensive.
SWEEP_SECONDS = 0.5
# How many of the relay's streams are kept free for the proxy's own streams (models, demand, metrics).
RESERVED_STREAMS = 4
WRITE_SIZE = 64 * 1024
ANSWER_TIMEOUT = 10.0
# How many of the first bytes are kept, to show what was received instead of a hello.
FIRST_BYTES = 200
MAX_ANSWER = 4 * 1024 * 1024


class Session:
    """A session with a relay; it ends when the connection is lost.

    `leaving` is done when no new request may be opened, with the go-away's code, "replaced" or "lost". `lost`
    is done when the session has ended, with the cause. `idle` is set while no stream is open.
    """

    def __init__(self, transport: Transport, name: str) -> None:
        self._transport = transport
        self._name = name
        self._wire = Connection(Side.CLIENT, Hello(_software(), LIMITS), max_stream_credit=MAX_STREAM_CREDIT)
        self._streams: dict[int, RequestStream] = {}
        self._uploads = Uploads(self._wire)
        self._loop = asyncio.get_running_loop()
        self.waiter = self._loop.create_future
        self._sweeper = self._loop.call_later(SWEEP_SECONDS, self._sweep)
        self._flush_due = False
        self._pongs: dict[bytes, asyncio.Future[None]] = {}
        self._pings = 0
        self._hello: asyncio.Future[Hello] = self._loop.create_future()
        self._first = b""
        self.idle = asyncio.Event()
        self.idle.set()
        self.leaving: asyncio.Future[str] = self._loop.create_future()
        self.lost: asyncio.Future[str] = self._loop.create_future()
        self._handlers: dict[type, Callable[[Any], None]] = {
            events.HelloReceived: self._on_hello,
            events.ResponseStarted: self._on_response,
            events.AcceptedReceived: self._on_accepted,
            events.DataReceived: self._on_data,
            events.StreamEnded: self._on_ended,
            events.StreamFailed: self._on_failed,
            events.PongReceived: self._on_pong,
            events.GoAwayReceived: self._on_go_away,
        }

    # --- life -----------------------------------------------------------------------------------------------

    async def start(self, timeout: float) -> Hello:
        """Connect and exchange hellos within `timeout` seconds each. Raises TransportError."""
        try:
            await self._transport.connect(self)
            self._flush()
            async with asyncio.timeout(timeout):
                return await asyncio.shield(self._hello)
        except TimeoutError:
            self.close("no hello arrived")
            why = self._stranger() or f"the relay sent no hello within {timeout:.0f} s"
            raise TransportError(f"{self._name}: {why}") from None
        except BaseException:
            self.close("the start was cancelled")
            raise

    def close(self, why: str) -> None:
        """End the session and every stream on it. May be called twice."""
        if self.lost.done():
            return
        self.lost.set_result(why)
        if not self.leaving.done():
            self.leaving.set_result("lost")
        if not self._hello.done():
            self._hello.set_exception(TransportError(why))
            self._hello.exception()  # retrieved, because nobody may be waiting for it
        self._transport.close()
        self._sweeper.cancel()
        self._uploads.clear()
        for waiting in self._pongs.values():
            if not waiting.done():
                waiting.set_result(None)
        streams, self._streams = self._streams, {}
        self.idle.set()
        for stream in streams.values():
            stream.failed(SessionLost(why))

    async def wait_closed(self) -> None:
        """After `close`, wait a short time until the connection is gone."""
        await self._transport.wait_closed()

    def say_goodbye(self) -> None:
        """Send go-away: the proxy opens no new requests here."""
        if not self.lost.done():
            self._wire.go_away("shutdown", "the proxy no longer needs this session")
            self._flush()

    def retire(self) -> None:
        """Open no new requests, because another session replaces this one. Open streams continue."""
        if not self.leaving.done():
            self.leaving.set_result("replaced")
            self.say_goodbye()

    async def ping(self, timeout: float) -> None:
        """Send a ping and wait for the answer; without one within `timeout` seconds, close the session."""
        if self.lost.done():
            return
        self._pings += 1
        payload = self._pings.to_bytes(8, "big")
        echo = self._pongs[payload] = self._loop.create_future()
        try:
            self._wire.ping(payload)
            self._flush_soon()
            async with asyncio.timeout(timeout):
                await echo
        except TimeoutError:
            self.close(f"no answer to a ping within {timeout:.0f} s")
        finally:
            self._pongs.pop(payload, None)

    # --- requests -------------------------------------------------------------------------------------------

    @property
    def open_streams(self) -> int:
        """The number of open streams."""
        return len(self._streams)

    @property
    def takes_requests(self) -> bool:
        """Whether a new request may be opened now."""
        peer = self._wire.peer
        if peer is None or self.leaving.done() or self.lost.done():
            return False
        # Never more than MAX_STREAMS, for which this side has credit, even if the relay accepts more.
        most = min(peer.limits.max_streams, MAX_STREAMS) - RESERVED_STREAMS
        return self._wire.open_streams < max(1, most)

    @property
    def _minor(self) -> int:
        return self._wire.peer.minor if self._wire.peer is not None else 0

    @property
    def max_body(self) -> int:
        """The largest body that the relay accepts, in bytes."""
        return self._wire.peer.limits.max_body if self._wire.peer is not None else 0

    @property
    def schemas(self) -> Bounds:
        """The relay's bounds on what an engine compiles; for an older relay, this release's defaults."""
        told = self._wire.peer.schemas if self._wire.peer is not None else None
        return DEFAULTS if told is None else told

    def request(
        self,
        head: RequestHead,
        body: bytes | Iterable[bytes | bytearray],
        ends_by: float = math.inf,
    ) -> RequestStream:
        """Open a request and send its body as fast as the relay accepts it.

        `body`: the bytes, or chunks, which are copied only when they are queued. `ends_by` (monotonic clock):
        when the stream fails with `instance_timeout`. Raises SluiceError if no stream can be opened, and
        SessionLost.
        """
        if head.places > 1 and self._minor < PLACES_SINCE:
            head = head._replace(places=1)
        if head.breaks and self._minor < 1:
            head = head._replace(breaks=0)
        stream = self._track(self._wire.open_request(head), ends_by)
        number = stream.number
        chunks = (body,) if isinstance(body, bytes) else body
        if head.length <= UPLOAD_PIECE:
            self._wire.send_data(number, b"".join(chunks))
            self._wire.send_end(number)
        else:
            self._uploads.add(number, chunks)
        self._flush_soon()
        return stream

    async def models(self) -> ModelsAnswer:
        """Ask for the models. Raises SluiceError, SessionLost, RecordError, TimeoutError."""
        return ModelsAnswer.parse(decode_json(await self._answer(self._wire.open_models())))

    async def metrics(self) -> MetricsSnapshot:
        """Ask for the metrics of relay and scheduler. Raises as `models` does."""
        return MetricsSnapshot.parse(decode_json(await self._answer(self._wire.open_metrics())))

    async def demand(self, waiting: dict[str, int]) -> None:
        """Report how many places requests wait for, by model. Raises as `models` does."""
        await self._answer(self._wire.open_demand(DemandHead(models=waiting)))

    async def _answer(self, number: int) -> bytes:
        stream = self._track(number)
        self._flush_soon()
        answer = bytearray()
        try:
            head = await stream.response(ANSWER_TIMEOUT)
            while data := await stream.read(ANSWER_TIMEOUT):
                answer += data
                stream.consume(len(data))
                if len(answer) > MAX_ANSWER:
                    raise RecordError("", f"is larger than {MAX_ANSWER} bytes")
        finally:
            stream.close()
        if head.status not in (200, 204):
            raise RecordError("status", f"is {head.status}")
        return bytes(answer)

    def _track(self, number: int, ends_by: float = math.inf) -> RequestStream:
        if self.lost.done():
            raise SessionLost(self.lost.result())
        stream = self._streams[number] = RequestStream(self, number, ends_by)
        self.idle.clear()
        return stream

    def consume(self, number: int, size: int) -> None:
        """Grant the relay credit for `size` more bytes."""
        self._wire.consume(number, size)
        if self._wire.has_data():
            self._flush_soon()

    def forget(self, number: int) -> None:
        """Forget a stream, and cancel it if it is still open."""
        self._uploads.drop(number)
        if self._streams.pop(number, None) is not None:
            self._wire.cancel(number)
            self._flush_soon()
        if not self._streams:
            self.idle.set()

    # --- bytes out ------------------------------------------------------------------------------------------

    def _flush_soon(self) -> None:
        """Write everything that is queued at the end of this turn of the event loop."""
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        if self.lost.done():
            return
        wire, transport = self._wire, self._transport
        while wire.has_data() and transport.can_write():
            data = wire.data_to_send(WRITE_SIZE)
            if data:
                transport.write(data)
            if self._uploads:
                self._uploads.fill()

    # --- bytes in: the transport's receiver -----------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Take bytes from the transport."""
        if self.lost.done():
            return
        if not self._hello.done():
            self._first = (self._first + data[:FIRST_BYTES])[:FIRST_BYTES]
        try:
            found = self._wire.receive(data)
        except ProtocolError as error:
            why = self._stranger() or f"protocol: {error}"
            log.warning("the relay violated the protocol: %s", why, extra={"session": self._name})
            self._flush()
            self.close(why)
            return
        for event in found:
            handler = self._handlers.get(type(event))
            if handler is not None:
                handler(event)
        if self._wire.has_data():
            self._flush_soon()

    def writable(self) -> None:
        """Continue to write."""
        self._flush()

    def connection_lost(self, error: TransportError) -> None:
        """End the session: the transport has ended."""
        stranger = self._stranger()
        self.close(f"{error}; {stranger}" if stranger else str(error))

    def _stranger(self) -> str:
        """Return an explanation of text that came before the relay's hello, "" if there is none."""
        if self._hello.done() or not self._first or self._first[0] <= MAX_PAYLOAD >> 16:
            return ""
        return (
            f"text came before the relay's hello: {printable(self._first)!r}. A file that the login "
            "node runs before the forced command writes to standard output: /etc/ssh/sshrc, or a "
            "start-up file of the relay account's shell. Change it to write to standard error, or "
            "only if there is a terminal"
        )

    def _on_hello(self, event: events.HelloReceived) -> None:
        if not self._hello.done():
            self._hello.set_result(event.hello)

    def _on_response(self, event: events.ResponseStarted) -> None:
        stream = self._streams.get(event.stream)
        if stream is not None:
            stream.started(event.head)

    def _on_accepted(self, event: events.AcceptedReceived) -> None:
        stream = self._streams.get(event.stream)
        if stream is not None:
            stream.accept()

    def _on_data(self, event: events.DataReceived) -> None:
        stream = self._streams.get(event.stream)
        if stream is not None:
            stream.received(event.data)

    def _on_ended(self, event: events.StreamEnded) -> None:
        # If the answer is complete before the body, the wire has cancelled the rest of the body.
        self._uploads.drop(event.stream)
        stream = self._streams.get(event.stream)
        if stream is not None:
            stream.ended()

    def _on_failed(self, event: events.StreamFailed) -> None:
        self._uploads.drop(event.stream)
        stream = self._streams.get(event.stream)
        if stream is not None:
            stream.failed(failure(event.error))

    def _sweep(self) -> None:
        """End waits that took too long."""
        self._sweeper = self._loop.call_later(SWEEP_SECONDS, self._sweep)
        now = time.monotonic()
        for stream in tuple(self._streams.values()):
            stream.expire(now)

    def _on_pong(self, event: events.PongReceived) -> None:
        waiting = self._pongs.get(event.payload)
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    def _on_go_away(self, event: events.GoAwayReceived) -> None:
        log.info(
            "the relay sent go-away: %s", event.message, extra={"session": self._name, "code": event.code}
        )
        if not self.leaving.done():
            self.leaving.set_result(event.code)


def printable(text: bytes) -> str:
    """Return another program's output as one printable line."""
    shown = "".join(char if char.isprintable() else " " for char in text.decode("utf-8", "replace"))
    return " ".join(shown.split())


def _software() -> str:
    return f"sluice-proxy-{version()}"
