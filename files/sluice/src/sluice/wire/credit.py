"""How much the peer may still send: the windows of the session and its streams, and the credit to grant."""

from __future__ import annotations

from sluice.wire.frames import FrameType, ProtocolError, encode
from sluice.wire.hello import Limits
from sluice.wire.streams import Stream

NUMBER_BYTES = 4


class ReceiveCredit:
    """The receiving side's credit, by the rules in docs/protocol.md, "Credit".

    `limits`: the ones in this side's hello. `max_stream_credit`: the largest window, in bytes, of a stream
    whose reader keeps up.
    """

    def __init__(self, limits: Limits, max_stream_credit: int) -> None:
        self._stream_credit = limits.stream_credit
        self._max_stream_credit = max_stream_credit
        self._window = limits.session_credit
        self._owed = 0
        # How much all windows together may grow: streams with idle readers must not use up the session's
        # credit and block the others.
        self._growth = max(0, limits.session_credit - limits.max_streams * limits.stream_credit)
        self.grants: dict[int, int] = {}
        """The credit to send in bytes, by stream; 0 is the session."""

    def take_frames(self) -> list[bytes]:
        """Return the credit frames to send now."""
        frames = [
            encode(FrameType.CREDIT, stream, grant.to_bytes(NUMBER_BYTES, "big"))
            for stream, grant in self.grants.items()
        ]
        self.grants.clear()
        return frames

    def received(self, size: int) -> None:
        """Note that `size` bytes of data came. Raises ProtocolError if they exceed the session's credit."""
        self._window -= size
        if self._window < 0:
            raise ProtocolError("more data than the session's credit")
        if self._window <= self._owed:
            self.owe_session(0)

    def received_on(self, stream: Stream, size: int) -> None:
        """Note that `size` of them are for the stream. Raises ProtocolError if they exceed its credit."""
        stream.window -= size
        if stream.window < 0:
            raise ProtocolError(f"more data than the credit of stream {stream.number}")
        stream.unconsumed += size

    # Credit is granted for half a window at a time: small reads must not cost a frame each.

    def owe_session(self, size: int) -> None:
        """Owe the peer `size` more bytes; grant them when the debt is at least what the peer has left.

        Waiting for half of the whole window could deadlock: idle readers may hold the other half for ever.
        """
        self._owed += size
        if self._owed >= self._window and self._owed:
            self.grants[0] = self.grants.get(0, 0) + self._owed
            self._window += self._owed
            self._owed = 0

    def consumed(self, stream: Stream, size: int) -> None:
        """Note that the owner has used `size` bytes of the stream's data."""
        size = min(size, stream.unconsumed)
        stream.unconsumed -= size
        self.owe_session(size)
        if not stream.remote_ended:
            self._owe_stream(stream, size)

    def stop(self, stream: Stream) -> None:
        """Accept nothing more on the stream: unconsumed bytes go back to the session's credit."""
        self.grants.pop(stream.number, None)
        self.owe_session(stream.unconsumed)
        stream.unconsumed = 0

    def close(self, stream: Stream) -> None:
        """Forget a stream that has ended; other streams may use what its window had grown by."""
        self._growth += stream.allowance - self._stream_credit
        self.stop(stream)

    def _owe_stream(self, stream: Stream, size: int) -> None:
        stream.owed += size
        stream.drained += size
        if stream.owed * 2 < stream.allowance:
            return
        grant = stream.owed + self._more_for(stream)
        self.grants[stream.number] = self.grants.get(stream.number, 0) + grant
        stream.window += grant
        stream.owed = 0

    def _more_for(self, stream: Stream) -> int:
        """Return by how much the window grows now: it doubles for a reader that has emptied it."""
        if stream.unconsumed or stream.drained < stream.allowance:
            return 0
        stream.drained = 0
        more = max(0, min(stream.allowance, self._max_stream_credit - stream.allowance, self._growth))
        stream.allowance += more
        self._growth -= more
        return more
