"""One stream's half of the bookkeeping: what waits to be sent, and both directions' credit."""

from __future__ import annotations

from collections import deque
from typing import Optional, Union

from sluice.wire.frames import HEADER, LAST, MAX_PAYLOAD, FrameType

# A turn of the round robin sends at most this much of one stream: a small answer beside a large one
# waits for one such frame, not for 64 KiB.
DATA_TURN = 16_384
# Pieces of data that wait are joined up to this size.
SMALL = 2048

_Payload = Union[bytes, memoryview]


class Stream:
    """A stream as one side sees it.

    `send_credit`: bytes of data that may still be sent. `window`: bytes that the peer may still send.
    `allowance`: what the window is when everything has been taken; it grows for a reader that drains.
    `unconsumed`: bytes handed to the owner and not yet taken by `consume`. `owed`: bytes taken whose credit
    has not been sent yet. `drained`: bytes taken since the allowance last grew. `begun`: whether a frame of
    this side's has left.
    """

    __slots__ = (
        "_outbox",
        "allowance",
        "begun",
        "drained",
        "local_ended",
        "number",
        "owed",
        "pending",
        "remote_ended",
        "responded",
        "scheduled",
        "send_credit",
        "unconsumed",
        "window",
    )

    def __init__(self, number: int, send_credit: int, window: int) -> None:
        self.number = number
        self.send_credit = send_credit
        self.window = window
        self.allowance = window
        self.unconsumed = 0
        self.owed = 0
        self.drained = 0
        self.pending = 0
        self.begun = False
        self.scheduled = False
        self.local_ended = False
        self.remote_ended = False
        self.responded = False
        self._outbox: deque[tuple[int, _Payload]] = deque()

    @property
    def finished(self) -> bool:
        """Whether both directions are complete; received data may still wait for its reader."""
        return self.local_ended and self.remote_ended and not self._outbox

    @property
    def waiting(self) -> bool:
        """Whether something is queued."""
        return bool(self._outbox)

    def queue(self, frame_type: int, payload: bytes) -> None:
        """Queue a frame behind what is queued already; data of any length, other payloads of one frame."""
        if frame_type == FrameType.DATA:
            self.pending += len(payload)
            self._append_data(payload)
            return
        if len(payload) > MAX_PAYLOAD:
            raise ValueError(f"a frame carries at most {MAX_PAYLOAD} bytes, not {len(payload)}")
        self._outbox.append((frame_type, payload))

    def _append_data(self, payload: bytes) -> None:
        """Queue data; small pieces that wait grow together, else each costs a frame and more to hold."""
        if self._outbox:
            frame_type, before = self._outbox[-1]
            if frame_type == FrameType.DATA and len(before) + len(payload) <= SMALL:
                self._outbox[-1] = (frame_type, b"".join((before, payload)))
                return
        self._outbox.append((FrameType.DATA, payload))

    def queue_end(self) -> None:
        """Mark the newest queued frame as the last, or queue an empty last data frame."""
        if self._outbox:
            frame_type, payload = self._outbox[-1]
            self._outbox[-1] = (frame_type | LAST, payload)
        else:
            self._outbox.append((FrameType.DATA | LAST, b""))

    def drop_queued(self) -> None:
        """Forget what has not been sent."""
        self._outbox.clear()
        self.pending = 0

    def next_frame(self, session_credit: int) -> Optional[tuple[bytes, int]]:
        """Return the next frame that credit allows and the bytes of data in it, or None."""
        frame_type, payload = self._outbox[0]
        whole = len(payload)
        if frame_type & ~LAST != FrameType.DATA:
            self._outbox.popleft()
            self.begun = True
            return HEADER.pack(whole << 8 | frame_type, self.number) + payload, 0
        size = min(whole, self.send_credit, session_credit, DATA_TURN)
        if size < whole:
            if size <= 0:
                return None
            view = memoryview(payload)
            self._outbox[0] = (frame_type, view[size:])
            frame_type, payload = FrameType.DATA, view[:size]
        else:
            self._outbox.popleft()
        self.send_credit -= size
        self.pending -= size
        return b"".join((HEADER.pack(size << 8 | frame_type, self.number), payload)), size
