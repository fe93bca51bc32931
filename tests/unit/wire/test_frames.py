"""Frames: cut anywhere, the last bit, and no memory for frames that are too long."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.wire.frames import HEADER_BYTES, MAX_PAYLOAD, Decoder, Frame, FrameType, ProtocolError, encode

FRAMES = st.lists(
    st.builds(Frame, st.integers(0, 127), st.integers(0, 0xFFFFFFFF), st.binary(max_size=300), st.booleans()),
    max_size=8,
)


def bytes_of(frames: list[Frame]) -> bytes:
    return b"".join(encode(frame.type, frame.stream, frame.payload, last=frame.last) for frame in frames)


@given(FRAMES, st.lists(st.integers(1, 50), min_size=1))
def test_frames_survive_any_cut(frames: list[Frame], cuts: list[int]) -> None:
    stream = bytes_of(frames)
    decoder = Decoder()
    found: list[Frame] = []
    position = turn = 0
    while position < len(stream):
        size = cuts[turn % len(cuts)]
        found += decoder.feed(stream[position : position + size])
        position += size
        turn += 1
    assert found == frames


@given(FRAMES)
def test_frames_survive_byte_by_byte_and_wait_for_nothing(frames: list[Frame]) -> None:
    decoder = Decoder()
    for frame in frames:
        stream = bytes_of([frame])
        for position in range(len(stream) - 1):
            assert decoder.feed(stream[position : position + 1]) == []
        assert decoder.feed(stream[-1:]) == [frame]


def test_a_frame_beyond_the_limit_is_refused_by_its_header_alone() -> None:
    header = (((MAX_PAYLOAD + 1) << 8) | FrameType.DATA).to_bytes(4, "big") + bytes(4)
    with pytest.raises(ProtocolError, match="65537"):
        Decoder().feed(header[:HEADER_BYTES])
    with pytest.raises(ProtocolError, match="101"):
        Decoder(100).feed(encode(FrameType.DATA, 1, bytes(101))[:HEADER_BYTES])


def test_the_largest_frame_passes() -> None:
    (frame,) = Decoder().feed(encode(FrameType.DATA, 1, bytes(MAX_PAYLOAD)))
    assert len(frame.payload) == MAX_PAYLOAD


def test_encoding_beyond_the_limit_is_a_programming_error() -> None:
    with pytest.raises(ValueError, match="at most"):
        encode(FrameType.DATA, 1, bytes(MAX_PAYLOAD + 1))
