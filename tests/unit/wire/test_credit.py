"""Credit: it grows for fast readers, and stopped readers do not take it from others."""

from __future__ import annotations

import pytest

from sluice.contracts.heads import ErrorHead
from sluice.wire import events
from sluice.wire.frames import Decoder, FrameType
from sluice.wire.hello import Limits
from tests.unit.wire.ends import OK, Pair, sent

ROOMY = Limits(stream_credit=32_768, session_credit=8 << 20, max_streams=8)
LARGE = 4 << 20


def answer(pair: Pair, size: int) -> int:
    """Let the server answer a new request with `size` queued bytes."""
    stream = pair.open()
    pair.client.send_end(stream)
    pair.pump()
    pair.server.respond(stream, OK)
    pair.server.send_data(stream, bytes(size))
    return stream


def window(pair: Pair, stream: int) -> int:
    """Return the window of a stream whose reader has consumed everything so far."""
    heard = len(pair.at_client)
    pair.pump()
    fresh = pair.at_client[heard:]
    return sum(len(e.data) for e in fresh if isinstance(e, events.DataReceived) and e.stream == stream)


def test_the_window_doubles_for_a_reader_that_drains_and_then_stays() -> None:
    pair = Pair(ROOMY, max_stream_credit=262_144)
    stream = answer(pair, LARGE)
    windows = []
    for _ in range(7):
        windows.append(window(pair, stream))
        pair.client.consume(stream, windows[-1])
    assert windows == [32_768, 65_536, 131_072, 262_144, 262_144, 262_144, 262_144]


def test_the_window_does_not_grow_for_a_reader_that_lags() -> None:
    pair = Pair(ROOMY)
    stream = answer(pair, LARGE)
    window(pair, stream)
    for _ in range(40):
        pair.client.consume(stream, 16_384)  # half of the window stays unread
        assert window(pair, stream) <= 16_384
    assert sum(len(e.data) for e in pair.heard_by_client(events.DataReceived)) <= 41 * 16_384 + 32_768


def test_growth_stays_within_the_session_and_comes_back() -> None:
    limits = Limits(stream_credit=32_768, session_credit=4 * 32_768 + 40_000, max_streams=4)
    pair = Pair(limits)
    for _ in range(3):
        stream = answer(pair, 400_000)
        largest = 0
        for _ in range(30):
            size = window(pair, stream)
            largest = max(largest, size)
            pair.client.consume(stream, size)
        assert largest == 32_768 + 40_000
        pair.client.cancel(stream)


def test_without_room_in_the_session_nothing_grows() -> None:
    pair = Pair(Limits(stream_credit=32_768, session_credit=131_072, max_streams=4))
    stream = answer(pair, LARGE)
    for _ in range(20):
        size = window(pair, stream)
        assert size == 32_768
        pair.client.consume(stream, size)


@pytest.mark.parametrize("step", [1, 1000, 4096, 32_768])
def test_readers_that_stop_hold_only_their_own_credit(step: int) -> None:
    """All streams except one are stopped with full windows; the last one continues for ever."""
    pair = Pair(Limits(stream_credit=32_768, session_credit=8 * 32_768, max_streams=8))
    for _ in range(7):
        answer(pair, 100_000)
    size = 100_000 if step == 1 else 400_000
    stream = answer(pair, size)
    got = 0
    for _ in range(size):
        fresh = window(pair, stream)
        if not fresh:
            break
        got += fresh
        for position in range(0, fresh, step):
            pair.client.consume(stream, min(step, fresh - position))
    assert got == size


def test_credit_that_is_owed_is_paid_when_the_window_closes() -> None:
    """A stopped reader's data may use up the window while credit for another reader is still owed."""
    limits = Limits(stream_credit=65_536, session_credit=65_536, max_streams=4)
    pair = Pair(limits)
    reads, stops = answer(pair, 20_000), answer(pair, 65_536)
    pair.pump()
    pair.client.consume(reads, 20_000)
    pair.pump()
    later = answer(pair, 10)
    pair.pump()
    received = dict.fromkeys((reads, stops, later), 0)
    for event in pair.heard_by_client(events.DataReceived):
        received[event.stream] += len(event.data)
    assert received == {reads: 20_000, stops: 65_536, later: 0}
    pair.client.consume(stops, 65_536)
    pair.pump()
    assert pair.heard_by_client(events.DataReceived)[-1] == events.DataReceived(later, bytes(10))


def test_small_reads_cost_few_credit_frames() -> None:
    pair = Pair(ROOMY)
    stream = answer(pair, 32_768)
    pair.pump()
    frames = 0
    for _ in range(32_768):
        pair.client.consume(stream, 1)
        frames += len(sent(pair.client))
    assert frames <= 2


def test_consuming_more_than_came_grants_no_more() -> None:
    pair = Pair(ROOMY)
    stream = answer(pair, LARGE)
    window(pair, stream)
    pair.client.consume(stream, 1 << 40)
    pair.client.consume(stream, -5)
    assert window(pair, stream) <= 65_536


# --- turns ----------------------------------------------------------------------------------------------


def test_a_small_answer_waits_for_one_frame_of_each_other_stream() -> None:
    pair = Pair(Limits(stream_credit=1 << 20, session_credit=16 << 20, max_streams=16))
    streams = [pair.open() for _ in range(11)]
    pair.pump()
    small = streams.pop(5)
    for stream in streams:
        pair.server.respond(stream, OK)
        pair.server.send_data(stream, bytes(1 << 20))
    pair.server.data_to_send(1_000_000)
    pair.server.respond(small, OK)
    pair.server.send_data(small, b"token")
    ahead: list[int] = []
    for frame in Decoder().feed(pair.server.data_to_send(1 << 22)):
        assert len(frame.payload) <= 16_384
        if (frame.stream, frame.payload) == (small, b"token"):
            break
        if frame.type == FrameType.DATA:
            ahead.append(frame.stream)
    assert sorted(ahead) == streams


def test_streams_that_wait_for_credit_take_no_turns() -> None:
    pair = Pair(Limits(stream_credit=1024, session_credit=65_536, max_streams=8))
    stuck = [pair.open() for _ in range(4)]
    pair.pump()
    for stream in stuck:
        pair.server.respond(stream, OK)
        pair.server.send_data(stream, bytes(100_000))
    pair.pump()
    assert not pair.server.has_data()
    assert pair.server.data_to_send() == b""
    pair.server.send_error(stuck[0], ErrorHead("instance_failed", "it died"))
    pair.pump()
    assert pair.heard_by_client(events.StreamFailed) == []
    pair.client.consume(stuck[0], 1024)
    pair.client.cancel(stuck[0])
    pair.pump()
    assert (pair.client.open_streams, pair.server.open_streams) == (3, 3)
