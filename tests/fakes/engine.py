"""A stub engine: OpenAI's protocol on a unix socket (or loopback), remembering what it was asked.

Its behaviour is fixed at start, never chosen by a request. In process: `async with StubEngine(Behaviour(...),
path)`, then look at `received` and `left`. As a process: `python -m tests.fakes.engine --socket PATH …`,
which writes one JSON line per event to `--journal`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

import h11

from tests.fakes import shapes

READ_SIZE = 65536
FAULTS = (
    "none",
    "refuse",  # answers 400, as an engine does to a request that it does not like
    "drop",  # takes the request and closes without a byte
    "head",  # sends the head of an answer and closes
    "break",  # closes in the middle of the answer
    "hang",  # takes the request and never answers
    "nonsense",  # answers with something that is not HTTP
    "endless",  # an answer whose end cannot be told from a break
    "stall",  # sends one token, then nothing
    "reset",  # takes the request and resets the connection
    "half",  # closes within the first event, or within a document
    "empty",  # answers 200 with nothing in it
    "short",  # announces more bytes than it sends
    "error",  # answers 500
    "accept",  # sends the head of a stream, then nothing
)


_STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_WHOLE_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 400\r\n\r\n"
_EMPTY = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 0\r\n\r\n"
_ENDLESS = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{"
_NONSENSE = b"\x00\x01 this is not HTTP\r\n\r\n"
# By fault, the bytes written before the connection is closed: for a complete answer, and for a stream.
_RAW = {
    "nonsense": (_NONSENSE, _NONSENSE),
    "endless": (_ENDLESS, _ENDLESS),
    "head": (b"HEAD", b"HEAD"),
    "half": (b'HEAD{"choices": [', b'HEAD20\r\ndata: {"choices": ['),
    "empty": (_EMPTY, b"HEAD0\r\n\r\n"),
    "short": (b'HEAD{"choices": []}', b"HEAD40\r\ndata: {}\n\n"),
}


@dataclass(frozen=True)
class Behaviour:
    """What the engine does with every request. Times are seconds.

    `delay` before each token, `reading` before the first, behind the head of a stream; `only`: the fault is
    for bodies with this text alone.
    """

    tokens: int = 8
    delay: float = 0.0
    token: str = "ab "
    fault: str = "none"
    warm_up: float = 0.0
    reading: float = 0.0
    only: str = ""


@dataclass
class Received:
    """One request as the engine saw it; `left` is when its client went before the answer was whole."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    at: float = field(default_factory=time.monotonic)
    left: Optional[float] = None
    finished: bool = False


class StubEngine:
    """Serves until it is closed. `address` is a unix socket's path, or a TCP port on 127.0.0.1."""

    def __init__(self, behaviour: Behaviour, path: Optional[Path] = None) -> None:
        self.behaviour = behaviour
        self.received: list[Received] = []
        self.port = 0
        self._path = path
        self._born = time.monotonic()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: Optional[asyncio.AbstractServer] = None

    async def __aenter__(self) -> StubEngine:
        if self._path is not None:
            self._server = await asyncio.start_unix_server(self._accept, path=str(self._path))
        else:
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
            self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def requests(self) -> list[Received]:
        """Return the requests for answers, without probes of health and metrics."""
        return [one for one in self.received if one.method == "POST"]

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        exchange = _Exchange(self, reader, writer)
        try:
            await exchange.run()
            writer.close()
            await writer.wait_closed()  # an abort would drop the end of a large answer
        except (OSError, h11.ProtocolError):
            pass
        finally:
            writer.transport.abort()

    def kill(self) -> None:
        """End like a killed process: nothing listens any more, and every connection is closed."""
        assert self._server is not None
        self._server.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)
        for task in tuple(self._tasks):
            task.cancel()

    def fault_of(self, received: Received) -> str:
        """Return the fault for a request."""
        behaviour = self.behaviour
        return behaviour.fault if behaviour.only.encode() in received.body else "none"

    def healthy(self) -> bool:
        """Whether the warm-up is over."""
        return time.monotonic() - self._born >= self.behaviour.warm_up


class _Exchange:
    def __init__(
        self, engine: StubEngine, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._engine = engine
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.SERVER)

    async def run(self) -> None:
        while True:
            request = await self._event()
            if not isinstance(request, h11.Request):
                return
            received = await self._receive(request)
            self._engine.received.append(received)
            await self._answer_watched(received)
            if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
                return
            self._http.start_next_cycle()

    async def _receive(self, request: h11.Request) -> Received:
        body = b""
        event = await self._event()
        while isinstance(event, h11.Data):
            body += bytes(event.data)
            event = await self._event()
        headers = {name.decode(): value.decode("latin-1") for name, value in request.headers}
        return Received(bytes(request.method).decode(), bytes(request.target).decode(), headers, body)

    async def _event(self) -> object:
        while True:
            event = self._http.next_event()
            if event is not h11.NEED_DATA:
                return event
            self._http.receive_data(await self._reader.read(READ_SIZE))

    async def _answer_watched(self, received: Received) -> None:
        """Answer, and stop when the client leaves, like a real engine."""
        answer = asyncio.ensure_future(self._answer(received))
        gone = asyncio.ensure_future(self._reader.read(1))
        try:
            await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done() and not _came(gone):
                raise ConnectionResetError
            await answer
            received.finished = True
        except ConnectionError:
            received.left = time.monotonic()
            raise
        finally:
            for task in (answer, gone):
                task.cancel()
            await asyncio.gather(answer, gone, return_exceptions=True)
            if _came(gone):
                # Not gone: on a kept connection that is the first byte of the next request.
                self._http.receive_data(_came(gone))

    async def _answer(self, received: Received) -> None:
        if received.method == "GET":
            await self._answer_get(received)
            return
        fault = self._engine.fault_of(received)
        stream = bool(json.loads(received.body).get("stream"))
        if fault == "refuse":
            await self._json(400, {"error": {"message": "refused", "type": "BadRequestError", "code": 400}})
        elif fault == "error":
            await self._json(500, {"error": {"message": "a fault", "type": "InternalError", "code": 500}})
        elif fault == "hang":
            await asyncio.sleep(3600)
        elif fault in ("drop", "reset"):
            self._hang_up(reset=fault == "reset")
        elif fault in _RAW:
            head = _STREAM_HEAD if stream else _WHOLE_HEAD
            self._writer.write(_RAW[fault][stream].replace(b"HEAD", head))
            await self._writer.drain()
            raise ConnectionResetError
        elif stream:
            await self._stream(received)
        else:
            await self._whole(received)

    def _hang_up(self, *, reset: bool) -> None:
        if reset:
            sock = self._writer.get_extra_info("socket")
            with contextlib.suppress(OSError):  # a unix socket has no such option
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()
        raise ConnectionResetError

    async def _answer_get(self, received: Received) -> None:
        if received.path == "/health":
            status = 200 if self._engine.healthy() else 503
            await self._send_body(status, "application/json", b"{}")
        elif received.path == "/metrics":
            text = f"# TYPE stub_requests counter\nstub_requests {len(self._engine.received)}\n"
            await self._send_body(200, "text/plain; version=0.0.4; charset=utf-8", text.encode())
        else:
            await self._send_body(404, "application/json", b"{}")

    async def _whole(self, received: Received) -> None:
        behaviour = self._engine.behaviour
        await asyncio.sleep(behaviour.delay * behaviour.tokens)
        other = shapes.whole(received.path, self._asked(received))
        if other is not None:
            await self._json(200, other)
            return
        text = behaviour.token * behaviour.tokens
        chat = received.path == "/v1/chat/completions"
        choice: dict[str, Any] = {"index": 0, "finish_reason": "stop"}
        choice.update({"message": {"role": "assistant", "content": text}} if chat else {"text": text})
        answer = self._envelope(received, "chat.completion" if chat else "text_completion", choice)
        answer["usage"] = self._usage(behaviour.tokens)
        await self._json(200, answer)

    async def _stream(self, received: Received) -> None:
        behaviour = self._engine.behaviour
        headers = [("Content-Type", "text/event-stream; charset=utf-8"), ("Transfer-Encoding", "chunked")]
        await self._send(h11.Response(status_code=200, headers=headers))
        fault = self._engine.fault_of(received)
        if fault == "accept":
            await asyncio.sleep(3600)
        await asyncio.sleep(behaviour.reading)
        other = shapes.events(received.path, self._asked(received))
        if other is not None:
            await self._send_events(other, fault)
            return
        chat = received.path == "/v1/chat/completions"
        options = json.loads(received.body).get("stream_options") or {}
        asked = bool(options.get("include_usage"))
        each = asked and bool(options.get("continuous_usage_stats"))
        for number in range(behaviour.tokens):
            await asyncio.sleep(behaviour.delay)
            choice: dict[str, Any] = {"index": 0, "finish_reason": None}
            choice.update({"delta": {"content": behaviour.token}} if chat else {"text": behaviour.token})
            kind = "chat.completion.chunk" if chat else "text_completion"
            event = self._envelope(received, kind, choice)
            await self._send_event({**event, "usage": self._usage(number + 1)} if each else event)
            if fault == "break" and number >= behaviour.tokens // 2:
                raise ConnectionResetError
            if fault == "stall":
                await asyncio.sleep(3600)
        last: dict[str, Any] = {"index": 0, "finish_reason": "stop"}
        last["delta" if chat else "text"] = {} if chat else ""
        final = self._envelope(received, "chat.completion.chunk" if chat else "text_completion", last)
        # Unasked, some engines report usage in the last chunk; asked, in an additional one.
        told = self._usage(behaviour.tokens)
        await self._send_event({**final, "usage": told} if each or not asked else final)
        if asked:
            await self._send_event({**final, "choices": [], "usage": told})
        await self._send(h11.Data(data=b"data: [DONE]\n\n"))
        await self._send(h11.EndOfMessage())

    def _asked(self, received: Received) -> shapes.Question:
        behaviour = self._engine.behaviour
        words = [behaviour.token] * behaviour.tokens
        return shapes.Question(json.loads(received.body), words, received.headers.get("x-request-id", "none"))

    async def _send_events(self, events: Iterator[bytes], fault: str) -> None:
        for number, event in enumerate(events):
            await asyncio.sleep(self._engine.behaviour.delay)
            await self._send(h11.Data(data=event))
            if fault == "stall":
                await asyncio.sleep(3600)
            if fault == "break" and number >= self._engine.behaviour.tokens // 2:
                raise ConnectionResetError
        await self._send(h11.EndOfMessage())

    def _envelope(self, received: Received, kind: str, choice: dict[str, Any]) -> dict[str, Any]:
        return {
            "id": "stub-" + received.headers.get("x-request-id", "none"),
            "object": kind,
            "created": int(time.time()),
            "model": json.loads(received.body).get("model", ""),
            "choices": [choice],
        }

    @staticmethod
    def _usage(tokens: int) -> dict[str, int]:
        return {"prompt_tokens": 5, "completion_tokens": tokens, "total_tokens": 5 + tokens}

    async def _send_event(self, document: dict[str, Any]) -> None:
        await self._send(h11.Data(data=b"data: " + json.dumps(document).encode() + b"\n\n"))

    async def _json(self, status: int, document: dict[str, Any]) -> None:
        await self._send_body(status, "application/json", json.dumps(document).encode())

    async def _send_body(self, status: int, content_type: str, body: bytes) -> None:
        headers = [("Content-Type", content_type), ("Content-Length", str(len(body)))]
        await self._send(h11.Response(status_code=status, headers=headers))
        await self._send(h11.Data(data=body))
        await self._send(h11.EndOfMessage())

    async def _send(self, event: h11.Event) -> None:
        data = self._http.send(event)
        if data:
            self._writer.write(data)
            await self._writer.drain()


def _came(reading: asyncio.Future[bytes]) -> bytes:
    """Return what a read brought; b"" where the client has left."""
    if not reading.done() or reading.cancelled() or reading.exception() is not None:
        return b""
    return reading.result()


async def _run(args: argparse.Namespace) -> None:
    behaviour = Behaviour(
        args.tokens, args.delay, args.token, args.fault, args.warm_up, args.reading, args.only
    )
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    async with StubEngine(behaviour, args.socket) as engine:
        if args.socket is None:
            args.port_file.write_text(str(engine.port))
        await ended.wait()
        if args.journal is not None:
            args.journal.write_text("".join(json.dumps(_line(one)) + "\n" for one in engine.received))


def _line(one: Received) -> dict[str, Any]:
    return {
        "method": one.method,
        "path": one.path,
        "headers": one.headers,
        "body": one.body.decode("utf-8", "replace"),
        "left": one.left is not None,
        "finished": one.finished,
    }


def main() -> None:
    """Run a stub engine as a process until SIGTERM; the journal is written at its end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--socket", type=Path, help="unix socket; without it a port on 127.0.0.1")
    parser.add_argument("--port-file", type=Path, help="where the port is written")
    parser.add_argument("--journal", type=Path)
    parser.add_argument("--tokens", type=int, default=8)
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--token", default="ab ")
    parser.add_argument("--fault", choices=FAULTS, default="none")
    parser.add_argument("--only", default="", help="the text of bodies that meet the fault")
    parser.add_argument("--warm-up", type=float, default=0.0)
    parser.add_argument("--reading", type=float, default=0.0)
    asyncio.run(_run(parser.parse_args()))


if __name__ == "__main__":
    main()
