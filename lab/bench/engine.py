"""The benchmark's stub engine: an OpenAI-shaped server that costs as little as Python can.

It listens on a unix socket (as in a job) and on a loopback port (for `direct`). The first 2 KiB of a
request say what its answer is like: `stream`, `max_tokens` (events of a stream, words of a whole answer),
`bench_interval` (seconds between events; 0 = all at once), `bench_delay` (seconds before the first byte),
`bench_size` (bytes of padding in each event). An event's content is `t=<ns> n=<number> <padding>`: the
monotonic clock when it was written, and its number from 0, so that a reader on the same machine knows how
late each token arrived; `usage.prompt_tokens` is the size of the request's body. A stream reports its tokens
as `stream_options` asks. After `bench_stall` events a stream stops. The engine writes nothing more to a
client that does not read. `GET /bench/journal` returns what was served.

    python -m lab.bench.engine --socket PATH --port 0 --port-file PATH
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import json
import re
import signal
import time
from pathlib import Path
from typing import Any, Callable, Optional, cast

LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)\r\n", re.IGNORECASE)
REQUEST_ID = re.compile(rb"\r\nx-request-id: *([^\r]+)\r\n", re.IGNORECASE)
TOKENS = re.compile(rb'"max_tokens" *: *([0-9]+)')
SIZE = re.compile(rb'"bench_size" *: *([0-9]+)')
INTERVAL = re.compile(rb'"bench_interval" *: *([0-9.e-]+)')
DELAY = re.compile(rb'"bench_delay" *: *([0-9.e-]+)')
STALL = re.compile(rb'"bench_stall" *: *([0-9]+)')
EACH = re.compile(rb'"continuous_usage_stats" *: *true')
STREAM = re.compile(rb'"stream" *: *true')
LOOK = 2048  # bytes of a body in which the fields above must stand
MAX_HEAD = 16_384
BACKLOG = 4096
TOKENS_DEFAULT = 8
LEFT_KEPT = 10_000
KEPT = 1_000  # answers kept ready

JSON_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
)
# Of fixed width, so that an event's length is known before its numbers are.
STAMP = b"t=%019d n=%06d "
EVENT = (
    b'data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1700000000,"model":"bench",'
    b'"choices":[{"index":0,"delta":{"content":"@"},"logprobs":null,"finish_reason":null}]}\n\n'
)
LAST = (
    b'data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1700000000,"model":"bench",'
    b'"choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d}}\n\n'
)
# What follows an event's choices where the tokens up to it are told.
TOLD = b'],"usage":{"prompt_tokens":%d,"total_tokens":%d,"completion_tokens":%d}}\n\n'
LAST_TOLD = (
    b'data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1700000000,"model":"bench",'
    b'"choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}'
)
ALL_TOLD = (
    b'data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1700000000,"model":"bench",'
    b'"choices":['
)
DONE = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"
WHOLE = (
    b'{"id":"chatcmpl-bench","object":"chat.completion","created":1700000000,"model":"bench","choices":'
    b'[{"index":0,"message":{"role":"assistant","content":"n=%d %b"},"logprobs":null,'
    b'"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d}}'
)


def whole_answer(tokens: int, prompt: int) -> bytes:
    """Return the body of an answer that is not a stream; `prompt` is the size of the request's body."""
    return WHOLE % (tokens, b"word " * tokens, prompt, tokens, prompt + tokens)


def chunk(data: bytes) -> bytes:
    """Return `data` as one HTTP chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def event_chunk(size: int) -> bytes:
    """Return an event of `size` padding bytes as an HTTP chunk with places for time and number."""
    stamp = STAMP % (0, 0)
    made = chunk(EVENT.replace(b"@", stamp + b"x" * size))
    return made.replace(stamp, STAMP)


def told_chunk(start: bytes, prompt: int, tokens: int) -> bytes:
    """Return an event that reports tokens, as an HTTP chunk; `start`: its bytes up to the choices' end."""
    return chunk(start + TOLD % (prompt, prompt + tokens, tokens))


class Engine:
    """What the connections share: counts, and answers that were made in advance."""

    def __init__(self) -> None:
        self.requests = 0
        self.finished = 0
        self.open = 0
        self.bytes_in = 0
        self.tokens = 0
        self.left: collections.deque[tuple[str, float]] = collections.deque(maxlen=LEFT_KEPT)
        self._whole: dict[tuple[int, int], bytes] = {}
        self._events: dict[int, bytes] = {}

    def answer(self, tokens: int, prompt: int) -> bytes:
        """Return a whole answer with its head."""
        found = self._whole.get((tokens, prompt))
        if found is None:
            if len(self._whole) >= KEPT:
                self._whole.clear()
            found = self._whole[tokens, prompt] = answer(whole_answer(tokens, prompt))
        return found

    def event(self, size: int) -> bytes:
        """Return an event of `size` padding bytes, with places for time and number."""
        found = self._events.get(size)
        if found is None:
            found = self._events[size] = event_chunk(size)
        return found

    def journal(self) -> bytes:
        """Return what was served, as an HTTP answer."""
        names = ("requests", "finished", "open", "bytes_in", "tokens")
        document: dict[str, Any] = {name: getattr(self, name) for name in names}
        document["left"] = [{"id": name, "at": at} for name, at in self.left]
        return answer(json.dumps(document).encode())


def answer(body: bytes) -> bytes:
    """Return `body` with the head of a whole answer."""
    return JSON_HEAD % len(body) + body


class Connection(asyncio.Protocol):
    """One client, keep-alive, one request at a time."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._loop = asyncio.get_running_loop()
        self._buffer = b""
        self._head = b""
        self._start = b""  # the first bytes of the body that is being read
        self._missing = 0
        self._length = 0
        self._answering = False
        self._paused = False
        self._timer: Optional[asyncio.TimerHandle] = None
        self._resume: Optional[Callable[[], None]] = None
        self._sent = 0
        self._tokens = 0
        self._interval = 0.0
        self._next = 0.0
        self._event = b""
        self._each = False
        self._stall = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Accept a client."""
        # A cast, not an assertion: uvloop's transports are not asyncio's by class.
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Optional[Exception]) -> None:
        """Stop the work for a client that has left."""
        if self._timer is not None:
            self._timer.cancel()
        if self._answering:
            found = REQUEST_ID.search(self._head)
            self._engine.left.append((found[1].decode("latin-1") if found else "", time.monotonic()))
            self._engine.open -= 1
        self._answering = False
        self._resume = None

    def pause_writing(self) -> None:
        """Generate nothing while the client does not read."""
        self._paused = True

    def resume_writing(self) -> None:
        """Continue."""
        self._paused = False
        resume, self._resume = self._resume, None
        if resume is not None:
            self._next = self._loop.time()
            resume()

    def data_received(self, data: bytes) -> None:
        """Read a piece of a request; bodies are counted and dropped."""
        if self._missing:
            self._body(data)
            return
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > MAX_HEAD:
                self._transport.abort()
            return
        head, rest = self._buffer[: end + 2], self._buffer[end + 4 :]
        self._buffer = b""
        self._start = b""
        self._head = head
        if head.startswith(b"GET "):
            self._get(head)
            return
        length = LENGTH.search(head)
        self._length = self._missing = int(length[1]) if length else 0
        if rest:
            self._body(rest)
        elif not self._missing:
            self._answer()

    def _body(self, data: bytes) -> None:
        if len(self._start) < LOOK:
            self._start = (self._start + data)[:LOOK] if self._start else data[:LOOK]
        self._missing -= len(data)
        self._engine.bytes_in += len(data)
        if self._missing <= 0:
            self._missing = 0
            self._answer()

    def _get(self, head: bytes) -> None:
        if head.startswith(b"GET /bench/journal"):
            self._transport.write(self._engine.journal())
        else:
            self._transport.write(answer(b"{}"))

    def _answer(self) -> None:
        self._engine.requests += 1
        self._engine.open += 1
        self._answering = True
        self._tokens = int(_number(TOKENS, self._start, TOKENS_DEFAULT))
        delay = _number(DELAY, self._start, 0.0)
        begin = self._stream if STREAM.search(self._start) else self._whole
        if delay:
            self._timer = self._loop.call_later(delay, begin)
        else:
            begin()

    def _whole(self) -> None:
        self._finish()
        self._transport.write(self._engine.answer(self._tokens, self._length))

    def _finish(self) -> None:
        self._answering = False
        self._engine.finished += 1
        self._engine.open -= 1

    def _stream(self) -> None:
        self._interval = _number(INTERVAL, self._start, 0.0)
        self._stall = int(_number(STALL, self._start, 0))
        self._event = self._engine.event(int(_number(SIZE, self._start, 0)))
        self._each = EACH.search(self._start) is not None
        if self._each:
            # Its length is that of the figures too, which is known only then.
            self._event = self._event.partition(b"\r\n")[2].rpartition(b"]")[0]
        self._sent = 0
        self._transport.write(STREAM_HEAD)
        self._next = self._loop.time()
        if self._interval:
            self._token()
        else:
            self._rush()

    def _token(self) -> None:
        if self._paused:
            self._resume = self._token
            return
        self._write_token()
        if self._sent == self._stall:
            return
        if self._sent >= self._tokens:
            self._end()
            return
        self._next += self._interval
        self._timer = self._loop.call_at(self._next, self._token)

    def _rush(self) -> None:
        while self._sent < self._tokens:
            if self._paused:
                self._resume = self._rush
                return
            self._write_token()
            if self._sent == self._stall:
                return
        self._end()

    def _write_token(self) -> None:
        event = self._event % (time.monotonic_ns(), self._sent)
        self._sent += 1
        self._engine.tokens += 1
        self._transport.write(told_chunk(event, self._length, self._sent) if self._each else event)

    def _end(self) -> None:
        self._finish()
        if self._each:
            ends = [told_chunk(start, self._length, self._tokens) for start in (LAST_TOLD, ALL_TOLD)]
            self._transport.write(b"".join(ends) + DONE)
        else:
            last = LAST % (self._length, self._tokens, self._length + self._tokens)
            self._transport.write(chunk(last) + DONE)


def _number(pattern: re.Pattern[bytes], text: bytes, default: float) -> float:
    found = pattern.search(text)
    return float(found[1]) if found else default


async def _serve(path: Path, port: int, port_file: Path) -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    engine = Engine()
    inner = await loop.create_unix_server(lambda: Connection(engine), path, backlog=BACKLOG)
    outer = await loop.create_server(lambda: Connection(engine), "127.0.0.1", port, backlog=BACKLOG)
    _tell(path, port_file, outer.sockets[0].getsockname()[1])
    await ended.wait()
    for server in (inner, outer):
        server.close()


def _tell(path: Path, port_file: Path, port: int) -> None:
    path.chmod(0o666)
    before = port_file.with_suffix(".new")
    before.write_text(str(port))
    before.rename(port_file)


def runner() -> Any:
    """Return uvloop's `run` if uvloop is installed, otherwise asyncio's."""
    try:
        import uvloop  # type: ignore[import-not-found, unused-ignore]
    except ModuleNotFoundError:
        return asyncio.run
    return uvloop.run


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--socket", type=Path, required=True, help="unix socket to listen on")
    parser.add_argument("--port", type=int, default=0, help="loopback port to listen on (0: any)")
    parser.add_argument("--port-file", type=Path, required=True, help="where the port is written")
    arguments = parser.parse_args()
    runner()(_serve(arguments.socket, arguments.port, arguments.port_file))


if __name__ == "__main__":
    main()
