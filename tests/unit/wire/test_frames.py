"""Frames: golden bytes, any cut of the stream, and no memory for what is too long."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.wire.frames import HEADER_BYTES, MAX_PAYLOAD, Decoder, Frame, FrameType, ProtocolError, encode


def test_golden_bytes() -> None:
    assert encode(FrameType.DATA, 3, b"hi") == bytes.fromhex("00000207 00000003 6869".replace(" ", ""))
    assert encode(FrameType.PING, 0, b"12345678").hex() == "0000080c000000003132333435363738"


@given(
    st.lists(st.tuples(st.integers(0, 255), st.integers(0, 0xFFFFFFFF), st.binary(max_size=300)), max_size=8),
    st.lists(st.integers(1, 50), min_size=1),
)
def test_frames_survive_any_cut(frames: list[tuple[int, int, bytes]], cuts: list[int]) -> None:
    stream = b"".join(encode(*frame) for frame in frames)
    decoder = Decoder()
    found: list[Frame] = []
    position = 0
    while position < len(stream):
        size = cuts[len(found) % len(cuts)]
        found += decoder.feed(stream[position : position + size])
        position += size
    assert [(frame.type, frame.stream, frame.payload) for frame in found] == frames


def test_a_frame_beyond_the_limit_is_refused_by_its_header_alone() -> None:
    header = (((MAX_PAYLOAD + 1) << 8) | FrameType.DATA).to_bytes(4, "big") + bytes(4)
    with pytest.raises(ProtocolError, match="65537"):
        Decoder().feed(header[:HEADER_BYTES])


def test_the_largest_frame_passes() -> None:
    (frame,) = Decoder().feed(encode(FrameType.DATA, 1, bytes(MAX_PAYLOAD)))
    assert len(frame.payload) == MAX_PAYLOAD


def test_encoding_beyond_the_limit_is_a_programming_error() -> None:
    with pytest.raises(ValueError, match="at most"):
        encode(FrameType.DATA, 1, bytes(MAX_PAYLOAD + 1))
