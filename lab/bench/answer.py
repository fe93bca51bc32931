"""One HTTP answer as the load generator reads it: whether it is complete, and when each token arrived.

Pure: callers pass the bytes and the time. An answer counts as complete by its content: every token once and
in order (in a stream), or the engine's own count of them, the final events and the end of the message.
"""

from __future__ import annotations

import re
from array import array

TOKEN = re.compile(rb'"(?:content|text)":"t=(\d{19}) n=(\d{6}) ')
STATUS = re.compile(rb"HTTP/1\.1 ([0-9]{3}) ")
LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)\r\n", re.IGNORECASE)
CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked\r\n", re.IGNORECASE)
CLOSE = re.compile(rb"\r\nconnection: *close\r\n", re.IGNORECASE)
COUNT = re.compile(rb'"completion_tokens": ?([0-9]+)')
CODE = re.compile(rb'"code": ?"([a-z_]+)"')
DONE = b"data: [DONE]"
FINISHED = b'"finish_reason":"stop"'


class Samples:
    """The delays and the jitter of the tokens of many answers, in microseconds; counted while `on`.

    Delay: from the engine's write to the generator's read. Jitter: the difference of two successive delays.
    """

    def __init__(self) -> None:
        self.on = True
        self.tokens = 0
        self.delays = array("i")
        self.jitters = array("i")


class Answer:
    """Reads one answer; `feed` returns true when it is over. Each request needs a new reader."""

    __slots__ = (
        "_chunked", "_done", "_events", "_finished", "_head", "_last", "_missing", "_rest", "_samples",
        "_text", "closing", "code", "counted", "disorder", "status", "tokens",
    )  # fmt: skip

    def __init__(self, samples: Samples) -> None:
        self.status = 0
        self.code = ""
        self.tokens = 0
        self.counted = -1  # completion_tokens, as the engine says
        self.disorder = False
        self.closing = False
        self._samples = samples
        self._head = True
        self._chunked = False
        self._missing = 0
        self._rest = b""
        self._text = b""
        self._events = False
        self._done = False
        self._finished = False
        self._last = -1

    def feed(self, data: bytes, now: int) -> bool:
        """Take bytes that were read at `now` (nanoseconds, monotonic)."""
        if self._rest:
            data = self._rest + data
            self._rest = b""
        if self._head:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self._rest = data
                return False
            self._begin(data[: end + 2])
            data = data[end + 4 :]
        return self._chunks(data, now) if self._chunked else self._whole(data)

    def outcome(self, wanted: int, stream: bool) -> str:
        """Return "ok", or what was wrong with the answer; `wanted`: how many tokens were asked for."""
        if self.status != 200:
            return f"status {self.status} {self.code}".rstrip()
        if self.code:
            return f"error event {self.code}"
        if self.disorder:
            return "out of order"
        # Who did not ask a stream for the engine's count does not see it.
        ended = self.tokens == wanted and self._finished and self._done
        return "ok" if (ended if stream else self.counted == wanted) else "truncated"

    def _begin(self, head: bytes) -> None:
        status = STATUS.match(head)
        self.status = int(status[1]) if status else 599
        self._head = False
        self._chunked = CHUNKED.search(head) is not None
        self.closing = CLOSE.search(head) is not None
        self._events = b"text/event-stream" in head.lower()
        length = LENGTH.search(head)
        self._missing = int(length[1]) if length else 0

    def _whole(self, data: bytes) -> bool:
        self._missing -= len(data)
        self._text += data
        if self._missing > 0:
            return False
        self._look(self._text)
        return True

    def _chunks(self, data: bytes, now: int) -> bool:
        at, parts, over = 0, [], False
        while not over:
            line = data.find(b"\r\n", at)
            if line < 0:
                break
            size = int(data[at:line].split(b";")[0], 16)
            end = line + 2 + size
            if len(data) < end + 2:
                break
            parts.append(data[line + 2 : end])
            at = end + 2
            over = not size
        self._rest = data[at:]
        if parts:
            self._take(parts[0] if len(parts) == 1 else b"".join(parts), now)
        return over

    def _take(self, text: bytes, now: int) -> None:
        if self._text:
            text = self._text + text
            self._text = b""
        if not self._events:
            self._text = text
            self._look(text)
            return
        if not text.endswith(b"\n\n"):
            end = text.rfind(b"\n\n") + 2
            self._text = text[end:] if end > 1 else text
            text = text[:end] if end > 1 else b""
        found = TOKEN.findall(text)
        if found:
            self._count(found, now)
        if len(found) != text.count(b"\n\n"):
            self._look(text)

    def _count(self, found: list[tuple[bytes, bytes]], now: int) -> None:
        samples, last = self._samples, self._last
        samples.tokens += len(found)
        for sent, number in found:
            if int(number) != self.tokens:
                self.disorder = True
            self.tokens += 1
            delay = (now - int(sent)) // 1000
            if samples.on:
                samples.delays.append(delay)
                if last >= 0:
                    samples.jitters.append(abs(delay - last))
            last = delay
        self._last = last

    def _look(self, text: bytes) -> None:
        """Read an event without a token: the usage, the end, an error."""
        count = COUNT.search(text)
        if count:
            self.counted = int(count[1])
        if FINISHED in text:
            self._finished = True
        if DONE in text:
            self._done = True
        if b'"error"' in text:
            code = CODE.search(text)
            self.code = code[1].decode() if code else "unnamed"
