"""The relay of the bare ceiling: the relay's session, whose requests go straight to the engine's socket.

No front and no TLS, no scan of bodies, no limits, no demand, no audit line, no choice of instance. Composed
out of the relay's session and the front's engine client in one process; for the benchmark alone.

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
# Of an answer, what may wait for its reader until the engine is read no further.
HIGH_WATER = 65_536
INSTANCE = "bare-00000000"


class BareSession(Session):
    """A session whose requests are `BareExchange`."""

    def __init__(self, config: RelayConfig, engine: Engine) -> None:
        super().__init__(config)
        self.engine = engine
        self.bare: dict[int, BareExchange] = {}
        self.held: list[BareExchange] = []
        self.endpoint.after_flush = self._resume

    def _on_request(self, event: events.RequestOpened) -> None:
        self.bare[event.stream] = BareExchange(self, event.stream, cast(RequestHead, event.head))

    def _on_data(self, event: events.DataReceived) -> None:
        exchange = self.bare.get(event.stream)
        if exchange is not None:
            exchange.call.send(event.data)
        self._connection.consume(event.stream, len(event.data))

    def _on_end(self, event: events.StreamEnded) -> None:
        exchange = self.bare.get(event.stream)
        if exchange is not None:
            exchange.call.finish()

    def _on_cancel(self, event: events.StreamCancelled) -> None:
        exchange = self.bare.pop(event.stream, None)
        if exchange is not None:
            exchange.call.abort()

    def _resume(self) -> None:
        held, self.held = self.held, []
        for exchange in held:
            exchange.resume()


class BareExchange:
    """One request and its answer, passed on as they come."""

    def __init__(self, session: BareSession, stream: int, head: RequestHead) -> None:
        self._session = session
        self._stream = stream
        self._began = False
        written = request_head(head.method, head.path, head.length, head.id)
        self.call = Call(session.engine, self, written, head.length)

    def accepted(self) -> None:
        """Nothing is passed on before the answer."""

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
        """Read on once the reader has taken what waits."""
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
        """The engine takes more; nothing is held back here."""


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
