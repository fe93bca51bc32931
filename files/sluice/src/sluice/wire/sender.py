"""What this side has to send: control frames first, then each stream in turn, as far as credit goes."""

from __future__ import annotations

from collections import deque
from typing import Optional

from sluice.wire.credit import NUMBER_BYTES, Ledger
from sluice.wire.frames import FrameType, ProtocolError, encode
from sluice.wire.streams import Payload, Stream

SEND_LIMIT = 262_144
MAX_CREDIT = 1 << 31
# A peer that pings and does not read would make the queue of pongs grow.
MAX_CONTROL = 1024


class Sender:
    """The frames that wait, and the credit that the peer has granted.

    `ledger`: whose credit frames go out with the control frames.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._control: deque[bytes] = deque()
        self._turn: deque[Stream] = deque()
        # A dict for a set that keeps its order. Neither it nor the turn holds a stream twice, or one that is
        # over: a peer that grants, or opens and cancels, without end would make them grow.
        self._starved: dict[Stream, None] = {}
        self._load: Optional[int] = None
        self._credit = 0

    def __bool__(self) -> bool:
        """Whether something may be ready to leave."""
        return bool(self._control or self._ledger.grants or self._turn) or self._load is not None

    def control(self, frame_type: FrameType, stream: int, payload: bytes) -> None:
        """Queue a frame that goes before all data."""
        self._control.append(encode(frame_type, stream, payload))

    def pong(self, payload: bytes) -> None:
        """Queue the answer to a ping. Raises ProtocolError when the peer lets them pile up."""
        if len(self._control) >= MAX_CONTROL:
            raise ProtocolError("the peer pings without reading")
        self.control(FrameType.PONG, 0, payload)

    def load(self, running: int) -> None:
        """Say how many requests run; a newer figure replaces one that has not left."""
        self._load = running

    def schedule(self, stream: Stream) -> None:
        """Give the stream a turn when it has something to send."""
        if stream.outbox and not stream.scheduled:
            stream.scheduled = True
            self._turn.append(stream)

    def forget(self, stream: Stream) -> None:
        """Send nothing more of the stream."""
        self._starved.pop(stream, None)
        if stream.scheduled:
            self._turn.remove(stream)
        stream.drop_queued()

    def start(self, credit: int) -> None:
        """Begin with the credit of the peer's hello, in bytes."""
        self._credit = credit

    def granted(self, grant: int) -> None:
        """Add credit of the session. Raises ProtocolError beyond MAX_CREDIT."""
        self._credit += grant
        if self._credit > MAX_CREDIT:
            raise ProtocolError("more credit than a session can hold")
        starved, self._starved = self._starved, {}
        for stream in starved:
            self.schedule(stream)

    def granted_to(self, stream: Stream, grant: int) -> None:
        """Add credit of one stream. Raises ProtocolError beyond MAX_CREDIT."""
        stream.send_credit += grant
        if stream.send_credit > MAX_CREDIT:
            raise ProtocolError(f"more credit than stream {stream.number} can hold")
        self.schedule(stream)

    def take(self, limit: int) -> tuple[bytes, list[Stream]]:
        """Return the next bytes to write, about `limit` at most, and the streams that have nothing more."""
        parts: list[Payload] = []
        if self._control:
            parts += self._control
            self._control.clear()
        if self._ledger.grants:
            parts += self._ledger.take_frames()
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
            if not turn:  # The usual case: nothing more to measure.
                break
            size += sum(map(len, parts[first:]))
        return b"".join(parts), emptied
