"""One stream's half of the bookkeeping: what waits to be sent, and both directions' credit."""

from __future__ import annotations

from collections import deque
from typing import Union

from sluice.wire.frames import HEADER, LAST, MAX_PAYLOAD, FrameType

# A turn of the round robin sends at most this much of one stream: a small answer beside a large one
# waits for one such frame, not for 64 KiB.
DATA_TURN = 16_384
# Pieces of data that wait are joined up to this size.
SMALL = 2048

# Plain names of what runs for each frame: an enum's attributes are looked up slowly.
DATA = int(FrameType.DATA)
TYPE = LAST - 1
PACK = HEADER.pack

Payload = Union[bytes, memoryview]


class Stream:
    """A stream as one side sees it.

    `send_credit`: bytes of data that may still be sent. `window`: bytes that the peer may still send.
    `allowance`: what the window is when everything has been taken; it grows for a reader that drains.
    `unconsumed`: bytes handed to the owner and not yet taken by `consume`. `owed`: bytes taken whose credit
    has not been sent yet. `drained`: bytes taken since the allowance last grew. `begun`: whether a frame of
    this side's has left. `outbox`: the frames that wait, each its type byte and payload.
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
        """Whether this side's direction is complete and has left, not merely queued."""
        return self.local_ended and not self.outbox

    def queue(self, frame_type: int, payload: bytes) -> None:
        """Queue a frame behind what is queued already. Raises ValueError beyond MAX_PAYLOAD."""
        if len(payload) > MAX_PAYLOAD:
            raise ValueError(f"a frame carries at most {MAX_PAYLOAD} bytes, not {len(payload)}")
        self.outbox.append((frame_type, payload))

    def queue_data(self, data: bytes) -> None:
        """Queue data of any length; small pieces that wait grow together, else each costs a frame."""
        self.pending += len(data)
        if self.outbox:
            frame_type, before = self.outbox[-1]
            if frame_type == DATA and len(before) + len(data) <= SMALL:
                self.outbox[-1] = (DATA, b"".join((before, data)))
                return
        self.outbox.append((DATA, data))

    def queue_end(self) -> None:
        """Mark the newest queued frame as the last, or queue an empty last data frame."""
        if self.outbox:
            frame_type, payload = self.outbox[-1]
            self.outbox[-1] = (frame_type | LAST, payload)
        else:
            self.outbox.append((DATA | LAST, b""))

    def drop_queued(self) -> None:
        """Forget what has not been sent."""
        self.outbox.clear()
        self.pending = 0

    def take_turn(self, parts: list[Payload], session_credit: int) -> tuple[int, bool]:
        """Append one turn's frames to `parts`: return the bytes of data in them, and whether credit is short.

        A turn is at most DATA_TURN bytes of data and the frames around them.
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
