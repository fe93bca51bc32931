"""Frames: an 8-byte header (length 24 bits, type 8 bits, stream 32 bits, big-endian) and a payload."""

from __future__ import annotations

import enum
import struct
from typing import NamedTuple

HEADER = struct.Struct(">II")
HEADER_BYTES = HEADER.size
MAX_PAYLOAD = 65_536
MAX_STREAM = 0xFFFF_FFFF
# The top bit of the type: this is the last frame in its direction of the stream.
LAST = 0x80


class ProtocolError(Exception):
    """The other side violated the protocol; the session must be closed."""


class FrameType(enum.IntEnum):
    """The types of frames."""

    HELLO = 1
    REQUEST = 2
    MODELS = 3
    DEMAND = 4
    METRICS = 5
    RESPONSE = 6
    DATA = 7
    ERROR = 9
    CANCEL = 10
    CREDIT = 11
    PING = 12
    PONG = 13
    GO_AWAY = 14
    LOAD = 15
    ACCEPTED = 16


class Frame(NamedTuple):
    """One frame; `type` is a number, because a newer peer may send types that this code does not know."""

    type: int
    stream: int
    payload: bytes
    last: bool = False


def encode(frame_type: int, stream: int, payload: bytes = b"", *, last: bool = False) -> bytes:
    """Return the bytes of one frame. Raises ValueError for a payload of more than MAX_PAYLOAD bytes."""
    if len(payload) > MAX_PAYLOAD:
        raise ValueError(f"a frame carries at most {MAX_PAYLOAD} bytes, not {len(payload)}")
    return HEADER.pack(len(payload) << 8 | frame_type | (LAST if last else 0), stream) + payload


class Decoder:
    """Splits bytes into frames; holds at most one unfinished frame.

    `limit` is the largest accepted payload in bytes; it may be changed between calls.
    """

    def __init__(self, limit: int = MAX_PAYLOAD) -> None:
        self.limit = limit
        self._rest = bytearray()
        self._needed = HEADER_BYTES

    def feed(self, data: bytes) -> list[Frame]:
        """Return the frames that `data` completes.

        Raises ProtocolError as soon as a header announces more than `limit` bytes, before holding any of
        them.
        """
        if self._rest:
            self._rest += data
            if len(self._rest) < self._needed:
                return []
            data = bytes(self._rest)
        frames = []
        position, end = 0, len(data)
        self._needed = HEADER_BYTES
        while end - position >= HEADER_BYTES:
            word, stream = HEADER.unpack_from(data, position)
            length = word >> 8
            if length > self.limit:
                raise ProtocolError(f"a frame of {length} bytes, more than {self.limit}")
            begin = position + HEADER_BYTES
            if begin + length > end:
                self._needed = HEADER_BYTES + length
                break
            position = begin + length
            frames.append(Frame(word & 0x7F, stream, data[begin:position], bool(word & LAST)))
        self._rest = bytearray(data[position:])
        return frames
