"""The state of one session: bytes in, events out; calls in, bytes out. No sockets, no clocks.

Both ends of both links use this class. `Side` says which side opens streams, `Link` which verbs exist. The
owner passes received bytes to `receive` and writes what `data_to_send` returns. The limits in the two hellos
bound the memory: a peer that sends more than it was granted violates the protocol.
"""

from __future__ import annotations

import enum
from typing import Any, Callable, Optional, Union

from sluice.contracts.encoding import decode_json, encode_json
from sluice.contracts.fields import Fields
from sluice.contracts.heads import (
    GO_AWAY_CODES,
    DemandHead,
    ErrorHead,
    InstanceRequest,
    RequestHead,
    ResponseHead,
)
from sluice.contracts.values import PRINTABLE
from sluice.errors import RecordError, SluiceError
from sluice.wire import events
from sluice.wire.credit import NUMBER_BYTES, ReceiveCredit
from sluice.wire.frames import MAX_STREAM, Decoder, Frame, FrameType, ProtocolError
from sluice.wire.guard import Guard
from sluice.wire.hello import MAJOR, Hello
from sluice.wire.links import PROXY_RELAY, Link
from sluice.wire.sender import SEND_LIMIT, Sender
from sluice.wire.streams import Stream

PING_BYTES = 8
MAX_STREAM_CREDIT = 262_144

_KNOWN = frozenset(int(known) for known in FrameType)
_MAY_BE_LAST = frozenset((FrameType.REQUEST, FrameType.RESPONSE, FrameType.DATA))


class Side(enum.Enum):
    """Which side of the wire this is: the one that opens streams, or the one that answers them."""

    CLIENT = "client"
    SERVER = "server"


_Handler = Callable[[Frame], Optional[events.Event]]


class Connection:
    """One side of a session.

    If the peer violates the protocol, `receive` raises ProtocolError and, unless the peer is still
    unauthenticated, queues a go-away with the reason. The owner then sends what `data_to_send` returns and
    closes; the connection accepts nothing more.

    `key`: on a keyed link, the key that the client shows and the server expects. `max_stream_credit`: the
    largest window, in bytes, of a stream whose reader keeps up.
    """

    def __init__(
        self,
        side: Side,
        hello: Hello,
        link: Link = PROXY_RELAY,
        *,
        key: str = "",
        max_stream_credit: int = MAX_STREAM_CREDIT,
    ) -> None:
        self.side = side
        self._serves = side is Side.SERVER
        self.link = link
        self.hello = hello
        self.peer: Optional[Hello] = None
        self.going_away = False
        self.peer_going_away = False
        self._guard = Guard(key, keyed=link.keyed, serves=self._serves)
        self._receive_credit = ReceiveCredit(hello.limits, max_stream_credit)
        self._sender = Sender(self._receive_credit)
        self._decoder = Decoder(self._guard.most)
        self._streams: dict[int, Stream] = {}
        self._newest = -1
        self._broken = False
        self._handlers = self._server_handlers() if self._serves else self._client_handlers()
        # A server that refuses the key closes without a frame; older ones sent a go-away first.
        self._first = {FrameType.HELLO} if self._serves else {FrameType.HELLO, FrameType.GO_AWAY}
        if not self._guard.unauthenticated:
            self._say_hello()

    # --- calls of the owner ------------------------------------------------------------------------------

    @property
    def open_streams(self) -> int:
        """The number of open streams."""
        return len(self._streams)

    def open_request(self, head: Union[RequestHead, InstanceRequest]) -> int:
        """Client: open a request and return its stream; send the body with `send_data` and `send_end`.

        Raises SluiceError `cluster_unreachable` or `overloaded` if no stream can be opened.
        """
        return self._open(FrameType.REQUEST, head.encode(), body=True)

    def open_models(self) -> int:
        """Proxy: ask for the models; return the stream's number. Raises as `open_request` does."""
        return self._open(FrameType.MODELS, b"", body=False)

    def open_demand(self, head: DemandHead) -> int:
        """Proxy: report the demand by model; return the stream's number. Raises as `open_request` does."""
        return self._open(FrameType.DEMAND, encode_json(head.dump()), body=False)

    def open_metrics(self) -> int:
        """Proxy: ask for the metrics of relay and scheduler. Returns and raises as `open_models` does."""
        return self._open(FrameType.METRICS, b"", body=False)

    def respond(self, stream: int, head: ResponseHead) -> None:
        """Server: begin the answer. Like every send, it is ignored on a stream that has ended."""
        known = self._streams.get(stream)
        if known is not None and not known.local_ended:
            known.queue(FrameType.RESPONSE, head.encode())
            self._sender.schedule(known)

    def accept(self, stream: int) -> None:
        """Server of a link with accepted frames: report that an instance has accepted the request."""
        known = self._streams.get(stream)
        if known is not None and not known.local_ended:
            known.queue(FrameType.ACCEPTED, b"")
            self._sender.schedule(known)

    def send_data(self, stream: int, data: bytes) -> None:
        """Queue bytes of a body. The owner waits for CreditGranted to keep `pending` small."""
        known = self._streams.get(stream)
        if data and known is not None and not known.local_ended:
            known.queue_data(data)
            self._sender.schedule(known)

    def send_end(self, stream: int) -> None:
        """End this side's direction of the stream, after the queued data."""
        known = self._streams.get(stream)
        if known is not None and not known.local_ended:
            known.queue_end()
            known.local_ended = True
            self._sender.schedule(known)

    def send_error(self, stream: int, error: ErrorHead) -> None:
        """Server: end the stream with an error, after the queued data."""
        known = self._streams.get(stream)
        if known is None:
            return
        if not known.local_ended:
            known.queue(FrameType.ERROR, encode_json(error.dump()))
            known.local_ended = True
            self._sender.schedule(known)
        self._stop_receiving(known)
        self._close_if_finished(known)

    def cancel(self, stream: int) -> None:
        """Client: end the stream at once; data that was received but not consumed counts as consumed."""
        known = self._streams.get(stream)
        if known is None:
            return
        # If nothing of the request has been sent, the server must not hear of the stream at all.
        if known.begun and not (known.remote_ended and known.all_sent):
            self._sender.control(FrameType.CANCEL, stream, b"")
        self._forget(known)

    def consume(self, stream: int, size: int) -> None:
        """Note that the owner has used `size` bytes of received data: the peer may send as many more."""
        known = self._streams.get(stream)
        if known is None or size <= 0:
            return
        self._receive_credit.consumed(known, size)
        self._close_if_finished(known)

    def ping(self, payload: bytes) -> None:
        """Send a ping with 8 bytes, padded or cut; PongReceived returns them."""
        self._sender.control(FrameType.PING, 0, payload[:PING_BYTES].ljust(PING_BYTES, b"\0"))

    def go_away(self, code: str, message: str) -> None:
        """Refuse new streams; open ones continue. An unauthenticated peer is sent nothing."""
        if self.going_away:
            return
        self.going_away = True
        if not self._guard.unauthenticated:
            self._sender.control(FrameType.GO_AWAY, 0, encode_json({"code": code, "message": message[:500]}))

    def send_load(self, running: int) -> None:
        """Server of a link with load frames: report the places taken on the instance; the newest counts."""
        self._sender.load(running)

    def pending(self, stream: int) -> int:
        """Return how many bytes of data are queued on the stream and not yet returned by `data_to_send`."""
        known = self._streams.get(stream)
        return known.pending if known else 0

    # --- bytes out -----------------------------------------------------------------------------------------

    def has_data(self) -> bool:
        """Whether `data_to_send` may return something."""
        return bool(self._sender)

    def data_to_send(self, limit: int = SEND_LIMIT) -> bytes:
        """Return the next bytes to write, about `limit` at most: control frames, then the streams in turn."""
        data, emptied = self._sender.take(limit)
        for stream in emptied:
            self._close_if_finished(stream)
        return data

    # --- streams -------------------------------------------------------------------------------------------

    def _open(self, opener: FrameType, payload: bytes, *, body: bool) -> int:
        if self._serves:
            raise ValueError("only the client opens streams")
        peer = self.peer
        if peer is None or self.peer_going_away or self._broken or self._newest + 2 > MAX_STREAM:
            raise SluiceError("cluster_unreachable", "the session accepts no new requests", retry_after=1)
        if len(self._streams) >= peer.limits.max_streams:
            raise SluiceError("overloaded", "the session's streams are all in use", retry_after=1)
        self._newest += 2
        stream = self._add(self._newest, peer)
        stream.queue(opener, payload)
        stream.local_ended = not body
        self._sender.schedule(stream)
        return stream.number

    def _add(self, number: int, peer: Hello) -> Stream:
        stream = Stream(number, peer.limits.stream_credit, self.hello.limits.stream_credit)
        self._streams[number] = stream
        return stream

    def _close_if_finished(self, stream: Stream) -> None:
        # A server that has answered does not wait until the rest of the body is consumed: it would count more
        # open streams than the client does. A client keeps the stream until its reader has the answer.
        if stream.remote_ended and stream.all_sent and (self._serves or not stream.unconsumed):
            self._forget(stream)

    def _forget(self, stream: Stream) -> None:
        if self._streams.pop(stream.number, None) is not None:
            self._sender.forget(stream)
            self._receive_credit.close(stream)

    def _stop_receiving(self, stream: Stream) -> None:
        stream.remote_ended = True
        self._receive_credit.stop(stream)

    # --- bytes in ------------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> list[events.Event]:
        """Take bytes from the peer and return their events. Raises ProtocolError."""
        if self._broken:
            raise ProtocolError("the session is closed")
        found: list[events.Event] = []
        try:
            for frame in self._decoder.feed(data):
                self._handle(frame, found)
        except ProtocolError as error:
            self._broken = True
            self.go_away("protocol", str(error))
            raise
        return found

    def _handle(self, frame: Frame, found: list[events.Event]) -> None:
        if self.peer is None and frame.type not in self._first:
            raise ProtocolError("the first frame is not a hello")
        handler = self._handlers.get(frame.type)
        if handler is None:
            if frame.type in _KNOWN:
                raise ProtocolError(f"frame type {frame.type} is not allowed for this side")
            return
        if frame.last and frame.type not in _MAY_BE_LAST:
            raise ProtocolError(f"frame type {frame.type} ends no direction")
        event = handler(frame)
        if event is not None:
            found.append(event)
        if frame.last:
            self._on_last(frame.stream, found)

    def _client_handlers(self) -> dict[int, _Handler]:
        handlers = {
            **self._common_handlers(),
            FrameType.RESPONSE: self._on_response,
            FrameType.ERROR: self._on_error,
        }
        if self.link.tells_load:
            handlers[FrameType.LOAD] = self._on_load
        if self.link.tells_accepted:
            handlers[FrameType.ACCEPTED] = self._on_accepted
        return handlers

    def _server_handlers(self) -> dict[int, _Handler]:
        return {
            **self._common_handlers(),
            **dict.fromkeys(self.link.openers, self._on_opened),
            FrameType.CANCEL: self._on_cancel,
        }

    def _common_handlers(self) -> dict[int, _Handler]:
        return {
            FrameType.HELLO: self._on_hello,
            FrameType.DATA: self._on_data,
            FrameType.CREDIT: self._on_credit,
            FrameType.PING: self._on_ping,
            FrameType.PONG: self._on_pong,
            FrameType.GO_AWAY: self._on_go_away,
        }

    def _say_hello(self) -> None:
        document = self.hello.dump()
        self._guard.show(document)
        self._sender.control(FrameType.HELLO, 0, encode_json(document))

    def _on_hello(self, frame: Frame) -> events.Event:
        if self.peer is not None or frame.stream != 0:
            raise ProtocolError("a second hello")
        document = _read(decode_json, frame)
        if self._guard.unauthenticated:
            # The key first: an unauthenticated peer does not even learn the version.
            self._guard.admit(document)
            self._decoder.limit = self._guard.most
            self._say_hello()
        hello = _read(lambda _: Hello.parse(document), frame)
        if hello.major != MAJOR:
            raise ProtocolError(
                f"protocol {hello.major}.{hello.minor} of {hello.software} does not work with {MAJOR} "
                f"of {self.hello.software}: install the same release on both sides"
            )
        self.peer = hello
        self._sender.start(hello.limits.session_credit)
        return events.HelloReceived(hello)

    def _on_opened(self, frame: Frame) -> events.Event:
        if frame.stream % 2 == 0 or frame.stream <= self._newest:
            raise ProtocolError(f"stream {frame.stream} cannot be opened after {self._newest}")
        if len(self._streams) >= self.hello.limits.max_streams:
            raise ProtocolError(f"more than {self.hello.limits.max_streams} streams")
        self._newest = frame.stream
        if self.peer is None:
            raise ProtocolError("the first frame is not a hello")
        stream = self._add(frame.stream, self.peer)
        stream.remote_ended = frame.type != FrameType.REQUEST
        if self.going_away:
            return self._refuse(stream, "cluster_unreachable", "the session accepts no new requests")
        try:
            event = self._opened_event(frame)
        except RecordError as error:
            return self._refuse(stream, "invalid_request", str(error))
        most = self.hello.limits.max_body
        if isinstance(event, events.RequestOpened) and event.head.length > most:
            return self._refuse(
                stream, "body_too_large", f"this cluster accepts bodies of at most {most} bytes"
            )
        return event

    def _refuse(self, stream: Stream, code: str, problem: str) -> events.Event:
        printable = "".join(c if c.isprintable() else "?" for c in problem)[:300]
        retry_after = 1.0 if code == "cluster_unreachable" else None
        self.send_error(stream.number, ErrorHead(code, printable, retry_after))
        return events.RequestRefused(stream.number, printable)

    def _on_response(self, frame: Frame) -> Optional[events.Event]:
        stream = self._receiving(frame)
        if stream is None:
            return None
        if stream.responded:
            raise ProtocolError(f"a second response on stream {frame.stream}")
        stream.responded = True
        return events.ResponseStarted(frame.stream, _read(ResponseHead.read, frame))

    def _on_accepted(self, frame: Frame) -> Optional[events.Event]:
        stream = self._receiving(frame)
        if stream is None:
            return None
        if stream.responded:
            raise ProtocolError(f"accepted after the response on stream {frame.stream}")
        return events.AcceptedReceived(frame.stream)

    def _on_data(self, frame: Frame) -> Optional[events.Event]:
        size = len(frame.payload)
        self._receive_credit.received(size)
        stream = self._receiving(frame)
        if stream is None:
            self._receive_credit.owe_session(size)
            return None
        if not self._serves and not stream.responded:
            raise ProtocolError(f"data before the response on stream {frame.stream}")
        self._receive_credit.received_on(stream, size)
        return events.DataReceived(frame.stream, frame.payload) if size else None

    def _on_last(self, number: int, found: list[events.Event]) -> None:
        """Note that the peer's direction is complete; comes after the event of the frame itself."""
        stream = self._streams.get(number)
        if stream is None or stream.remote_ended:
            return
        stream.remote_ended = True
        if not self._serves and not stream.all_sent:
            # The answer was complete before the body: nobody reads the rest of the body.
            self._sender.control(FrameType.CANCEL, number, b"")
            stream.drop_queued()
            stream.local_ended = True
        self._close_if_finished(stream)
        found.append(events.StreamEnded(number))

    def _on_error(self, frame: Frame) -> Optional[events.Event]:
        stream = self._receiving(frame)
        if stream is None:
            return None
        error = _read(lambda raw: ErrorHead.parse(decode_json(raw)), frame)
        stream.remote_ended = True
        stream.local_ended = True
        stream.drop_queued()
        self._close_if_finished(stream)
        return events.StreamFailed(frame.stream, error)

    def _on_cancel(self, frame: Frame) -> Optional[events.Event]:
        if frame.stream > self._newest:
            raise ProtocolError(f"stream {frame.stream} was never opened")
        stream = self._streams.get(frame.stream)
        if stream is None:
            return None
        self._forget(stream)
        return events.StreamCancelled(frame.stream)

    def _on_credit(self, frame: Frame) -> Optional[events.Event]:
        if len(frame.payload) != NUMBER_BYTES:
            raise ProtocolError("a credit frame of the wrong length")
        grant = int.from_bytes(frame.payload, "big")
        if frame.stream == 0:
            self._sender.granted(grant)
            return events.CreditGranted(0)
        stream = self._streams.get(frame.stream)
        if stream is None:
            return None
        self._sender.granted_to(stream, grant)
        return events.CreditGranted(frame.stream)

    def _on_ping(self, frame: Frame) -> None:
        if len(frame.payload) != PING_BYTES:
            raise ProtocolError("a ping of the wrong length")
        self._sender.pong(frame.payload)

    def _on_pong(self, frame: Frame) -> events.Event:
        if len(frame.payload) != PING_BYTES:
            raise ProtocolError("a pong of the wrong length")
        return events.PongReceived(frame.payload)

    def _on_go_away(self, frame: Frame) -> events.Event:
        fields = _read(lambda raw: Fields(decode_json(raw)), frame)
        try:
            code = fields.choice("code", GO_AWAY_CODES)
            message = fields.text("message", PRINTABLE)
        except RecordError as error:
            raise ProtocolError(f"go-away: {error}") from None
        self.peer_going_away = True
        return events.GoAwayReceived(code, message)

    def _on_load(self, frame: Frame) -> events.Event:
        if len(frame.payload) != NUMBER_BYTES or frame.stream:
            raise ProtocolError("a load frame of the wrong form")
        return events.LoadReported(int.from_bytes(frame.payload, "big"))

    def _opened_event(self, frame: Frame) -> events.Event:
        if frame.type == FrameType.REQUEST:
            return events.RequestOpened(frame.stream, self.link.read_request(frame.payload))
        if frame.type == FrameType.DEMAND:
            return events.DemandOpened(frame.stream, DemandHead.parse(decode_json(frame.payload)))
        if frame.payload:
            raise RecordError("", "this verb has no payload")
        opened = events.ModelsOpened if frame.type == FrameType.MODELS else events.MetricsOpened
        return opened(frame.stream)

    def _receiving(self, frame: Frame) -> Optional[Stream]:
        """Return the stream if it may still receive, None if it has ended.

        Raises ProtocolError if it was never opened.
        """
        if frame.stream == 0 or frame.stream % 2 == 0 or frame.stream > self._newest:
            raise ProtocolError(f"stream {frame.stream} was never opened")
        stream = self._streams.get(frame.stream)
        return None if stream is None or stream.remote_ended else stream


def _read(read: Callable[[bytes], Any], frame: Frame) -> Any:
    try:
        return read(frame.payload)
    except RecordError as error:
        raise ProtocolError(f"frame type {frame.type}: {error}") from None
