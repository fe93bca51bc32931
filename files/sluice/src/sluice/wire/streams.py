"""The state of one stream on one side: what waits to be sent, and the credit of both directions."""

from __future__ import annotations

from collections import deque
from typing import Union

from sluice.wire.frames import HEADER, LAST, MAX_PAYLOAD, FrameType

# A stream sends at most this many bytes in its turn: a small answer beside a large one waits for one such
# frame, not for 64 KiB.
DATA_TURN = 16_384
# Queued pieces of data are joined up to this size, in bytes.
SMALL = 2048

# Plain names for use in each frame: looking up an enum's attributes is slow.
DATA = int(FrameType.DATA)
TYPE = LAST - 1
PACK = HEADER.pack

Payload = Union[bytes, memoryview]


class Stream:
    """One side of a stream.

    `send_credit`: bytes of data that may still be sent. `window`: bytes that the peer may still send.
    `allowance`: the window's size when everything is consumed; it grows for a reader that keeps up.
    `unconsumed`: bytes passed to the owner and not yet consumed. `owed`: consumed bytes for which credit has
    not been sent yet. `drained`: bytes consumed since the allowance last grew. `begun`: whether this side has
    sent a frame. `outbox`: the queued frames, each with its type byte and payload.
    """

    __slots__ = (
        "allowance",
        "begun",
        "drained",
        "local_ended",
        "number",
        "outbox",
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
        self.outbox: deque[tuple[int, Payload]] = deque()

    @property
    def all_sent(self) -> bool:
        """Whether this side's direction is complete and sent, not just queued."""
        return self.local_ended and not self.outbox

    def queue(self, frame_type: int, payload: bytes) -> None:
        """Queue a frame at the end. Raises ValueError for a payload of more than MAX_PAYLOAD bytes."""
        if len(payload) > MAX_PAYLOAD:
            raise ValueError(f"a frame carries at most {MAX_PAYLOAD} bytes, not {len(payload)}")
        self.outbox.append((frame_type, payload))

    def queue_data(self, data: bytes) -> None:
        """Queue data of any length; small pieces are joined, so that they do not cost a frame each."""
        self.pending += len(data)
        if self.outbox:
            frame_type, before = self.outbox[-1]
            if frame_type == DATA and len(before) + len(data) <= SMALL:
                self.outbox[-1] = (DATA, b"".join((before, data)))
                return
        self.outbox.append((DATA, data))

    def queue_end(self) -> None:
        """Mark the newest queued frame as the last one, or queue an empty last data frame."""
        if self.outbox:
            frame_type, payload = self.outbox[-1]
            self.outbox[-1] = (frame_type | LAST, payload)
        else:
            self.outbox.append((DATA | LAST, b""))

    def drop_queued(self) -> None:
        """Drop everything that has not been sent."""
        self.outbox.clear()
        self.pending = 0

    def take_turn(self, parts: list[Payload], session_credit: int) -> tuple[int, bool]:
        """Append one turn's frames to `parts`; return their bytes of data, and whether credit ran out.

        A turn has at most DATA_TURN bytes of data.
        """
        outbox, number = self.outbox, self.number
        credit = min(self.send_credit, session_credit)
        most = min(credit, DATA_TURN)
        taken = 0
        while outbox:
            frame_type, payload = outbox[0]
            size = len(payload)
            if frame_type & TYPE == DATA:
                if size > most - taken:
                    break
                taken += size
            outbox.popleft()
            parts += (PACK(size << 8 | frame_type, number), payload)
        if outbox and most > taken:
            size = most - taken
            frame_type, payload = outbox[0]
            view = memoryview(payload)
            outbox[0] = (frame_type, view[size:])
            parts += (PACK(size << 8 | DATA, number), view[:size])
            taken = most
        self.begun = True
        self.send_credit -= taken
        self.pending -= taken
        return taken, bool(outbox) and taken == credit
