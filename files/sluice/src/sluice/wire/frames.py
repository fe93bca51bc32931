"""Frames: an 8-byte header (length 24 bits, type 8 bits, stream 32 bits, big-endian) and a payload."""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass

HEADER = struct.Struct(">II")
HEADER_BYTES = HEADER.size
MAX_PAYLOAD = 65_536
MAX_STREAM = 0xFFFF_FFFF


class ProtocolError(Exception):
    """The other side broke the protocol: trust in the session is gone, it must be closed."""


class FrameType(enum.IntEnum):
    """What a frame says; the closed list of the wire."""

    HELLO = 1
    REQUEST = 2
    MODELS = 3
    DEMAND = 4
    METRICS = 5
    RESPONSE = 6
    DATA = 7
    END = 8
    ERROR = 9
    CANCEL = 10
    CREDIT = 11
    PING = 12
    PONG = 13
    GO_AWAY = 14


@dataclass(frozen=True)
class Frame:
    """One frame; `type` is a plain number, since a newer peer may send types that this code does not know."""

    type: int
    stream: int
    payload: bytes


def encode(frame_type: int, stream: int, payload: bytes = b"") -> bytes:
    """Return the bytes of one frame. Raises ValueError beyond MAX_PAYLOAD."""
    if len(payload) > MAX_PAYLOAD:
        raise ValueError(f"a frame carries at most {MAX_PAYLOAD} bytes, not {len(payload)}")
    return HEADER.pack(len(payload) << 8 | frame_type, stream) + payload


class Decoder:
    """Cuts a stream of bytes into frames; holds at most one unfinished frame."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """Return the frames that `data` completes.

        Raises ProtocolError as soon as a header announces more than MAX_PAYLOAD: nothing of such a frame
        is ever held.
        """
        buffer = self._buffer
        buffer += data
        frames = []
        position = 0
        while len(buffer) - position >= HEADER_BYTES:
            word, stream = HEADER.unpack_from(buffer, position)
            length = word >> 8
            if length > MAX_PAYLOAD:
                raise ProtocolError(f"a frame of {length} bytes, more than {MAX_PAYLOAD}")
            end = position + HEADER_BYTES + length
            if len(buffer) < end:
                break
            frames.append(Frame(word & 0xFF, stream, bytes(buffer[position + HEADER_BYTES : end])))
            position = end
        del buffer[:position]
        return frames
