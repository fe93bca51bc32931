"""The relay of the bare ceiling: the relay's session, whose requests go straight to the engine's socket.

It has no front, no TLS, no scan of bodies, no limits, no demand, no audit line and no choice of instance. It
consists of the relay's session and the front's engine client in one process. Only the benchmark uses it.

    python3 -I -S relay.py ZIPAPP RELAY_JSON ENGINE_SOCKET
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any, cast

if __name__ == "__main__":
    sys.path.insert(0, sys.argv[1])

from sluice.contracts.heads import ErrorHead, RequestHead, ResponseHead
from sluice.front.config import EngineAddress
from sluice.front.engine import Call, Engine
from sluice.front.http import request_head
from sluice.relay import stdio
from sluice.relay.config import RelayConfig, read
from sluice.relay.session import Session
from sluice.wire import events

CONNECTIONS = 4096
SWEEP_SECONDS = 1.0
# If this many bytes of an answer wait for the reader, the relay reads no more from the engine.
HIGH_WATER = 65_536
INSTANCE = "bare-00000000"


class BareSession(Session):
    """A session whose requests are `BareRequest`."""

    def __init__(self, config: RelayConfig, engine: Engine) -> None:
        super().__init__(config)
        self.engine = engine
        self.bare: dict[int, BareRequest] = {}
        self.held: list[BareRequest] = []
        self.endpoint.after_flush = self._resume

    def _on_request(self, event: events.RequestOpened) -> None:
        self.bare[event.stream] = BareRequest(self, event.stream, cast(RequestHead, event.head))

    def _on_data(self, event: events.DataReceived) -> None:
        request = self.bare.get(event.stream)
        if request is not None:
            request.call.send(event.data)
        self._connection.consume(event.stream, len(event.data))

    def _on_end(self, event: events.StreamEnded) -> None:
        request = self.bare.get(event.stream)
        if request is not None:
            request.call.finish()

    def _on_cancel(self, event: events.StreamCancelled) -> None:
        request = self.bare.pop(event.stream, None)
        if request is not None:
            request.call.abort()

    def _resume(self) -> None:
        held, self.held = self.held, []
        for request in held:
            request.resume()


class BareRequest:
    """One request and its answer, passed on unchanged."""

    def __init__(self, session: BareSession, stream: int, head: RequestHead) -> None:
        self._session = session
        self._stream = stream
        self._began = False
        written = request_head(head.method, head.path, head.length, head.id)
        self.call = Call(session.engine, self, written, head.length)

    def accepted(self) -> None:
        """Do nothing: the first bytes of the answer come soon."""

    def answered(self, data: bytes) -> None:
        """Pass on a part of the answer."""
        session, call = self._session, self.call
        connection = session.endpoint.connection
        if not self._began and call.head is not None:
            self._began = True
            connection.respond(self._stream, ResponseHead(call.head.status, call.head.media_type, INSTANCE))
        connection.send_data(self._stream, data)
        if call.complete:
            connection.send_end(self._stream)
            call.release()
            session.bare.pop(self._stream, None)
        elif connection.pending(self._stream) > HIGH_WATER:
            call.pause()
            session.held.append(self)
        session.endpoint.wake()

    def resume(self) -> None:
        """Read more of the answer, once the reader has taken enough of it."""
        if self._stream not in self._session.bare:
            return
        if self._session.endpoint.connection.pending(self._stream) > HIGH_WATER:
            self._session.held.append(self)
        else:
            self.call.resume()

    def broken(self, code: str, reason: str) -> None:
        """End with the engine's failure."""
        if self._session.bare.pop(self._stream, None) is not None:
            self._session.endpoint.connection.send_error(self._stream, ErrorHead(code, reason, None))
            self._session.endpoint.wake()

    def room(self) -> None:
        """Do nothing: this relay holds no bytes of a body back."""


async def _serve(config: RelayConfig, socket: str) -> None:
    engine = Engine(EngineAddress(socket), CONNECTIONS)
    session = BareSession(config, engine)
    await stdio.attach(session.endpoint)
    sweeping = asyncio.get_running_loop().create_task(_sweep(engine))
    await session.run()
    sweeping.cancel()


async def _sweep(engine: Engine) -> None:
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        engine.sweep(asyncio.get_running_loop().time())


def main(arguments: list[str]) -> Any:
    """Serve one session on standard input and output."""
    asyncio.run(_serve(read(arguments[1]), arguments[2]))


if __name__ == "__main__":
    main(sys.argv[1:])
