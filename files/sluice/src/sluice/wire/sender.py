"""What this side has to send: control frames first, then each stream in turn, as far as credit allows."""

from __future__ import annotations

from collections import deque
from typing import Optional

from sluice.wire.credit import NUMBER_BYTES, ReceiveCredit
from sluice.wire.frames import FrameType, ProtocolError, encode
from sluice.wire.streams import Payload, Stream

SEND_LIMIT = 262_144
MAX_CREDIT = 1 << 31
# A bound, because a peer that pings and does not read would make the queue of pongs grow.
MAX_CONTROL = 1024


class Sender:
    """The queued frames, and the credit that the peer has granted.

    `receive_credit`: the source of the credit frames, which are sent with the control frames.
    """

    def __init__(self, receive_credit: ReceiveCredit) -> None:
        self._receive_credit = receive_credit
        self._control: deque[bytes] = deque()
        self._turn: deque[Stream] = deque()
        # A dict serves as an ordered set. Neither it nor `_turn` holds a stream twice, or one that has ended:
        # a peer that keeps granting, or opening and cancelling, must not make them grow.
        self._starved: dict[Stream, None] = {}
        self._load: Optional[int] = None
        self._credit = 0

    def __bool__(self) -> bool:
        """Whether something may be ready to send."""
        return bool(self._control or self._receive_credit.grants or self._turn) or self._load is not None

    def control(self, frame_type: FrameType, stream: int, payload: bytes) -> None:
        """Queue a frame that is sent before all data."""
        self._control.append(encode(frame_type, stream, payload))

    def pong(self, payload: bytes) -> None:
        """Queue the answer to a ping. Raises ProtocolError if too many are queued."""
        if len(self._control) >= MAX_CONTROL:
            raise ProtocolError("the peer pings without reading")
        self.control(FrameType.PONG, 0, payload)

    def load(self, running: int) -> None:
        """Report the places taken; a newer value replaces one that has not been sent."""
        self._load = running

    def schedule(self, stream: Stream) -> None:
        """Give the stream a turn if it has something to send."""
        if stream.outbox and not stream.scheduled:
            stream.scheduled = True
            self._turn.append(stream)

    def forget(self, stream: Stream) -> None:
        """Send nothing more on the stream."""
        self._starved.pop(stream, None)
        if stream.scheduled:
            self._turn.remove(stream)
        stream.drop_queued()

    def start(self, credit: int) -> None:
        """Start with the session credit of the peer's hello, in bytes."""
        self._credit = credit

    def granted(self, grant: int) -> None:
        """Add credit for the session, in bytes. Raises ProtocolError beyond MAX_CREDIT."""
        self._credit += grant
        if self._credit > MAX_CREDIT:
            raise ProtocolError("more credit than a session can hold")
        starved, self._starved = self._starved, {}
        for stream in starved:
            self.schedule(stream)

    def granted_to(self, stream: Stream, grant: int) -> None:
        """Add credit for one stream, in bytes. Raises ProtocolError beyond MAX_CREDIT."""
        stream.send_credit += grant
        if stream.send_credit > MAX_CREDIT:
            raise ProtocolError(f"more credit than stream {stream.number} can hold")
        self.schedule(stream)

    def take(self, limit: int) -> tuple[bytes, list[Stream]]:
        """Return the next bytes to write, about `limit` at most, and the streams whose queue is now empty."""
        parts: list[Payload] = []
        if self._control:
            parts += self._control
            self._control.clear()
        if self._receive_credit.grants:
            parts += self._receive_credit.take_frames()
        if self._load is not None:
            parts.append(encode(FrameType.LOAD, 0, self._load.to_bytes(NUMBER_BYTES, "big")))
            self._load = None
        size = sum(map(len, parts))
        emptied = []
        turn = self._turn
        while turn and size < limit:
            stream = turn.popleft()
            stream.scheduled = False
            first = len(parts)
            taken, short = stream.take_turn(parts, self._credit)
            self._credit -= taken
            if not stream.outbox:
                emptied.append(stream)
            elif not short:
                self.schedule(stream)
            elif stream.send_credit:
                self._starved[stream] = None
            if not turn:  # The usual case: no need to add up the size.
                break
            size += sum(map(len, parts[first:]))
        return b"".join(parts), emptied
