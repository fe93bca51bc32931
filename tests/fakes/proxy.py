"""The proxy's end of the wire, for tests, over any pair of streams, such as an sshd's session."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Optional

from sluice.contracts.heads import DemandHead, ErrorHead, RequestHead, ResponseHead
from sluice.wire import events
from sluice.wire.connection import Connection, Side
from sluice.wire.hello import Hello, Limits

READ_SIZE = 65536


@dataclass
class Answer:
    """What came back on one stream; `done` is set at its end, however it ended."""

    stream: int
    head: Optional[ResponseHead] = None
    body: bytearray = field(default_factory=bytearray)
    error: Optional[ErrorHead] = None
    ended: bool = False
    done: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def code(self) -> str:
        """The error's code, "" without one."""
        return self.error.code if self.error else ""

    def document(self) -> Any:
        """The body as JSON."""
        return json.loads(bytes(self.body))


def number(value: int) -> str:
    """Return a request id with this number."""
    return f"req-{value:032x}"


class WireClient:
    """A client of the wire, like a proxy. Answers are consumed as they come unless `reading` is False."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limits: Optional[Limits] = None
    ) -> None:
        self.connection = Connection(Side.CLIENT, Hello("test", limits or Limits()))
        self.answers: dict[int, Answer] = {}
        self.went_away: Optional[str] = None
        self.pongs = 0
        self.raw = bytearray()
        self.reading = True
        self.closed = asyncio.Event()
        self._opened = asyncio.Event()
        self._credit = asyncio.Event()
        self._reader = reader
        self._writer = writer
        self._receiving = asyncio.ensure_future(self._receive())
        self._numbers = 0

    async def open(self, seconds: float = 60.0) -> None:
        """Exchange hellos."""
        await self.flush()
        await asyncio.wait_for(self._opened.wait(), seconds)

    async def close(self) -> None:
        """Close and wait until the other side has closed too."""
        self._writer.close()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self.closed.wait(), 5)
        self._receiving.cancel()
        await asyncio.gather(self._receiving, return_exceptions=True)

    async def flush(self) -> None:
        """Write what the connection has to send."""
        while True:
            data = self.connection.data_to_send()
            if not data:
                return
            self._writer.write(data)
            await self._writer.drain()

    def head(self, model: str, length: int, **changes: Any) -> RequestHead:
        """Return a request's head with the next number as its id."""
        self._numbers += 1
        fields: dict[str, Any] = {
            "id": number(self._numbers),
            "model": model,
            "method": "POST",
            "path": "/v1/chat/completions",
            "user": "u-1",
            "class_": "api",
            "length": length,
            "affinity": "",
        }
        return RequestHead(**{**fields, **changes})

    async def begin(self, model: str, body: bytes, **changes: Any) -> Answer:
        """Send a request; return its answer, which is filled as it comes."""
        stream = self.connection.open_request(self.head(model, changes.pop("length", len(body)), **changes))
        answer = self._expect(stream)
        self.connection.send_data(stream, body)
        self.connection.send_end(stream)
        await self.flush()
        return answer

    async def request(self, model: str, body: bytes, seconds: float = 60.0, **changes: Any) -> Answer:
        """Send a request and wait for the end of its answer."""
        return await self.wait(await self.begin(model, body, **changes), seconds)

    async def wait(self, answer: Answer, seconds: float = 60.0) -> Answer:
        """Wait for the end of an answer."""
        await asyncio.wait_for(answer.done.wait(), seconds)
        return answer

    async def verb(self, name: str, waiting: Optional[dict[str, int]] = None) -> Answer:
        """Ask `models`, `metrics` or `demand` and wait for the answer."""
        openers: dict[str, Callable[[], int]] = {
            "models": self.connection.open_models,
            "metrics": self.connection.open_metrics,
            "demand": lambda: self.connection.open_demand(DemandHead(waiting or {})),
        }
        answer = self._expect(openers[name]())
        await self.flush()
        return await self.wait(answer)

    async def cancel(self, answer: Answer) -> None:
        """Cancel this answer."""
        self.connection.cancel(answer.stream)
        await self.flush()

    async def ping(self) -> None:
        """Send a ping."""
        self.connection.ping(b"12345678")
        await self.flush()

    def write_raw(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._writer.write(data)

    def _expect(self, stream: int) -> Answer:
        answer = Answer(stream)
        self.answers[stream] = answer
        return answer

    async def _receive(self) -> None:
        try:
            while True:
                data = await self._reader.read(READ_SIZE)
                if not data:
                    return
                self.raw += data[: 4096 - len(self.raw)] if len(self.raw) < 4096 else b""
                for event in self.connection.receive(data):
                    self._take(event)
                await self.flush()
        except OSError:
            return
        finally:
            for answer in self.answers.values():
                answer.done.set()
            self.closed.set()

    def _take(self, event: events.Event) -> None:
        if isinstance(event, events.HelloReceived):
            self._opened.set()
        elif isinstance(event, events.GoAwayReceived):
            self.went_away = event.code
        elif isinstance(event, events.PongReceived):
            self.pongs += 1
        elif isinstance(
            event, (events.ResponseStarted, events.DataReceived, events.StreamEnded, events.StreamFailed)
        ):
            self._take_answer(self.answers[event.stream], event)

    def _take_answer(self, answer: Answer, event: events.Event) -> None:
        if isinstance(event, events.ResponseStarted):
            answer.head = event.head
        elif isinstance(event, events.DataReceived):
            answer.body += event.data
            if self.reading:
                self.connection.consume(event.stream, len(event.data))
        elif isinstance(event, events.StreamEnded):
            answer.ended = True
            answer.done.set()
        elif isinstance(event, events.StreamFailed):
            answer.error = event.error
            answer.done.set()
