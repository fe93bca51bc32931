"""What the load generator takes for a whole answer: by its content, however the bytes come."""

from __future__ import annotations

import pytest

from lab.bench.answer import Answer, Samples

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
LAST = b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n'
DONE = b"data: [DONE]\n\n"
FAILURE = b'data: {"error":{"code":"instance_failed"}}\n\n'
END = b"0\r\n\r\n"
SENT = 1_000_000_000
NOW = SENT + 5_000_000


def event(number: int) -> bytes:
    """Return an event as the engine writes it."""
    content = b"t=%019d n=%06d " % (SENT, number)
    return b'data: {"choices":[{"delta":{"content":"' + content + b'"}}]}\n\n'


def chunk(data: bytes) -> bytes:
    """Return an HTTP chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def stream(*numbers: int, last: bytes = LAST, done: bytes = DONE) -> bytes:
    """Return a streamed answer with these tokens."""
    return HEAD + b"".join(chunk(event(number)) for number in numbers) + chunk(last + done) + END


def outcome(data: bytes, *, size: int = 1 << 20, stream: bool = True) -> str:
    """Feed an answer in pieces; return its outcome, or "open" where its end did not come."""
    answer = Answer(Samples())
    over = False
    for at in range(0, len(data), size):
        over = answer.feed(data[at : at + size], NOW)
    return answer.outcome(3, stream) if over else "open"


@pytest.mark.parametrize("size", [1, 2, 7, 100, 1 << 20])
def test_an_answer_is_whole_however_its_bytes_come(size: int) -> None:
    assert outcome(stream(0, 1, 2), size=size) == "ok"


def test_events_that_lie_across_chunks_are_counted_once() -> None:
    text = event(0) + event(1) + event(2) + LAST + DONE
    data = HEAD + b"".join(chunk(text[at : at + 50]) for at in range(0, len(text), 50)) + END
    assert outcome(data) == "ok"


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (stream(0, 1), "truncated"),
        (stream(0, 1, 2, last=b""), "truncated"),
        (stream(0, 1, 2, done=b""), "truncated"),
        (stream(0, 2, 1), "out of order"),
        (stream(0, 1, 1, 2), "out of order"),
        (stream(0, 1, 2)[: -len(END)], "open"),
        (stream(0, last=FAILURE, done=b""), "error event instance_failed"),
    ],
)  # fmt: skip
def test_what_is_lacking_is_told(data: bytes, found: str) -> None:
    assert outcome(data) == found


def test_a_refusal_is_told_with_its_code() -> None:
    body = b'{"error":{"code":"overloaded"}}'
    data = b"HTTP/1.1 503 Unavailable\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    assert outcome(data) == "status 503 overloaded"


def test_a_whole_answer_is_counted_by_the_engines_word() -> None:
    body = b'{"choices":[],"usage":{"completion_tokens":3}}'
    data = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    assert outcome(data, stream=False) == "ok"
    assert outcome(data.replace(b":3}", b":2}"), stream=False) == "truncated"


def test_delay_and_jitter_are_taken_of_each_token() -> None:
    samples = Samples()
    answer = Answer(samples)
    answer.feed(HEAD + chunk(event(0)), SENT + 5_000_000)
    answer.feed(chunk(event(1)), SENT + 9_000_000)
    assert list(samples.delays) == [5000, 9000]
    assert list(samples.jitters) == [4000]
