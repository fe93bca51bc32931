"""The front's TLS listener: one relay connection at a time each, copied to the engine and back.

A relay that leaves must stop the work on the GPU at once. The protocol below is told of it by the event
loop without anybody reading, and closes the engine's connection, whatever the exchange waits for.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import socket
from collections.abc import Iterable
from typing import Optional

import h11

from sluice import http1
from sluice.errors import SluiceError
from sluice.front.config import EngineAddress, FrontConfig
from sluice.front.identity import Identity
from sluice.front.screening import Accepted, screen
from sluice.records import CONTENT_TYPES

logger = logging.getLogger(__name__)

HANDSHAKE_TIMEOUT = 10.0
FIRST_HEAD_TIMEOUT = 15.0
IDLE_TIMEOUT = 120.0
BODY_TIMEOUT = 60.0
HEALTH_TIMEOUT = 10.0
LINGER_TIMEOUT = 1.0
LINGER_BYTES = 1 << 20
SPARE_CONNECTIONS = 64
BACKLOG = 256

# Marks an answer as the front's own: the engine's headers never pass, so it cannot claim this one.
ERROR_HEADER = "X-Sluice-Error"


class Listener:
    """Serves the closed list of paths to whoever has the job's key."""

    def __init__(self, config: FrontConfig, identity: Identity) -> None:
        self.config = config
        self.key = identity.key
        self.running = 0
        self._context = identity.context
        self._connections: set[RelayConnection] = set()
        self._server: Optional[asyncio.AbstractServer] = None

    async def start(self) -> int:
        """Take a free port of the site's range and listen on it; return the port. Raises OSError."""
        sock = bind(self.config.ports)
        self._server = await asyncio.get_running_loop().create_server(
            self._accept,
            sock=sock,
            ssl=self._context,
            ssl_handshake_timeout=HANDSHAKE_TIMEOUT,
            backlog=BACKLOG,
        )
        port: int = sock.getsockname()[1]
        return port

    def stop(self) -> None:
        """Stop listening and break every connection."""
        if self._server is not None:
            self._server.close()
        for connection in tuple(self._connections):
            connection.left()

    def forget(self, connection: RelayConnection) -> None:
        """Drop a connection that has ended."""
        self._connections.discard(connection)

    def admit(self, connection: RelayConnection) -> bool:
        """Whether one more connection is taken: a bound on what strangers on the network can occupy."""
        if len(self._connections) >= 2 * self.config.concurrency + SPARE_CONNECTIONS:
            return False
        self._connections.add(connection)
        return True

    def _accept(self) -> asyncio.BaseProtocol:
        return _RelayProtocol(self)


class _RelayProtocol(asyncio.StreamReaderProtocol):
    """A stream protocol that also says when the relay has left."""

    def __init__(self, listener: Listener) -> None:
        super().__init__(asyncio.StreamReader(limit=http1.READ_SIZE), self._connected)
        self._listener = listener
        self._connection: Optional[RelayConnection] = None
        self._serving: Optional[asyncio.Task[None]] = None

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = RelayConnection(self._listener, reader, writer)
        if not self._listener.admit(connection):
            writer.transport.abort()
            return
        self._connection = connection
        self._serving = asyncio.get_running_loop().create_task(connection.serve())

    def eof_received(self) -> bool:
        """Treat a half-closed connection as closed: a relay never half-closes."""
        self._left()
        super().eof_received()
        return False

    def connection_lost(self, exc: Optional[Exception]) -> None:
        """Break off what runs for this connection."""
        self._left()
        super().connection_lost(exc)

    def _left(self) -> None:
        if self._connection is not None:
            self._connection.left()


class RelayConnection:
    """One keep-alive connection from a relay or the scheduler's probe."""

    def __init__(
        self, listener: Listener, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._listener = listener
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.SERVER)
        self._engine: Optional[http1.ClientConnection] = None
        self._request_id = ""

    def left(self) -> None:
        """Break off: nobody waits for an answer any more."""
        self._leave_engine()
        self._writer.transport.abort()

    async def serve(self) -> None:
        """Serve requests until the relay leaves or one cannot be followed by another."""
        http1.keep_alive(self._writer)
        timeout = FIRST_HEAD_TIMEOUT
        try:
            while await self._exchange(timeout):
                timeout = IDLE_TIMEOUT
        except (OSError, h11.ProtocolError, http1.PeerError):
            # Each of them means: this connection is of no more use, and the relay sees it break.
            pass
        finally:
            self.left()
            self._listener.forget(self)

    async def _exchange(self, timeout: float) -> bool:
        self._request_id = ""
        try:
            request = await self._event(timeout)
        except h11.RemoteProtocolError as error:
            malformed = SluiceError("invalid_request", "not a well-formed request")
            malformed.status = error.error_status_hint
            await self._refuse(malformed)
            return False
        if not isinstance(request, h11.Request):
            return False
        try:
            accepted = screen(request, self._listener.key, self._listener.config.max_body)
            self._request_id = accepted.request_id
            await self._serve(accepted)
        except SluiceError as error:
            if self._http.our_state is not h11.SEND_RESPONSE:
                return False
            await self._refuse(error)
        return self._next_cycle()

    def _next_cycle(self) -> bool:
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
            return True
        return False

    async def _serve(self, accepted: Accepted) -> None:
        if accepted.path == "/health":
            await self._read_end()
            await self._health()
            return
        listener = self._listener
        if listener.running >= 2 * listener.config.concurrency:
            raise SluiceError("overloaded", "this instance is full", retry_after=1)
        listener.running += 1
        try:
            await self._forward(accepted)
        finally:
            listener.running -= 1
            self._leave_engine()

    async def _health(self) -> None:
        try:
            engine = await self._ask_engine("GET", self._listener.config.health_path, 0)
            await engine.finish()
            head = await engine.head(HEALTH_TIMEOUT)
        except http1.PeerError:
            raise SluiceError("no_instance", "the engine does not answer", retry_after=5) from None
        finally:
            self._leave_engine()
        if head.status != 200:
            raise SluiceError("no_instance", "the engine is not ready", retry_after=5)
        await self._answer(200, {"version": 1, "status": "ok"})

    async def _forward(self, accepted: Accepted) -> None:
        engine = await self._ask_engine(accepted.method, accepted.path, accepted.length)
        try:
            await self._copy_request(engine, accepted.length)
            head = await engine.head()
            # An engine may send its head at once and break on the prompt: until there is a first byte
            # of a body, this can still be a refusal, after which the relay asks another instance.
            first = await engine.data()
        except http1.PeerError:
            raise SluiceError("instance_failed", "the engine broke off before it answered") from None
        if head.media_type not in CONTENT_TYPES or not head.delimited or head.status < 200:
            raise SluiceError("instance_failed", "the engine's answer cannot be passed on")
        await self._copy_answer(engine, head, first)

    def _leave_engine(self) -> None:
        if self._engine is not None:
            self._engine.abort()
            self._engine = None

    async def _ask_engine(self, method: str, path: str, length: int) -> http1.ClientConnection:
        try:
            engine = await connect(self._listener.config.engine)
        except OSError:
            raise SluiceError("no_instance", "the engine does not listen", retry_after=5) from None
        self._engine = engine
        if self._writer.transport.is_closing():
            engine.abort()
        headers = [("Host", "engine"), ("Connection", "close")]
        if method == "POST":
            headers += [("Content-Type", "application/json"), ("Content-Length", str(length))]
        if self._request_id:
            headers.append(("X-Request-Id", self._request_id))
        engine.start(method, path, headers)
        return engine

    async def _copy_request(self, engine: http1.ClientConnection, length: int) -> None:
        left = length
        while True:
            event = await self._event(BODY_TIMEOUT)
            if isinstance(event, h11.EndOfMessage):
                break
            if not isinstance(event, h11.Data):
                raise ConnectionResetError
            left -= len(event.data)
            try:
                await engine.send(bytes(event.data))
            except http1.PeerError:
                # It may have answered already, a refusal say: the head decides. What is left of the
                # body is not read, so this connection carries no further request.
                return
        await engine.finish()

    async def _copy_answer(self, engine: http1.ClientConnection, head: http1.Head, data: bytes) -> None:
        headers = [("Content-Type", head.media_type)]
        if "content-length" in head.headers:
            headers.append(("Content-Length", head.headers["content-length"]))
        else:
            headers.append(("Transfer-Encoding", "chunked"))
        await self._send(h11.Response(status_code=head.status, headers=headers), h11.Data(data=data))
        while data:
            # If the engine breaks here, this connection breaks too: the relay must not take half an
            # answer for a whole one.
            data = await engine.data()
            await self._send(h11.Data(data=data))
        await self._send(h11.EndOfMessage())

    async def _read_end(self) -> None:
        event = await self._event(BODY_TIMEOUT)
        if not isinstance(event, h11.EndOfMessage):
            raise ConnectionResetError

    async def _refuse(self, error: SluiceError) -> None:
        headers = [(ERROR_HEADER, error.code)]
        if error.code == "method_not_allowed":
            headers.append(("Allow", error.message.rpartition(" ")[2]))
        complete = self._http.their_state is h11.DONE
        if not complete:
            headers.append(("Connection", "close"))
        await self._answer(error.status, error.to_openai(self._request_id), headers)
        if not complete:
            await self._linger()

    async def _answer(self, status: int, document: object, extra: Iterable[tuple[str, str]] = ()) -> None:
        body = json.dumps(document).encode()
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body))), *extra]
        response = h11.Response(status_code=status, headers=headers)
        await self._send(response, h11.Data(data=body), h11.EndOfMessage())

    async def _linger(self) -> None:
        """Take what is still on its way, within bounds.

        Closing over unread bytes makes the kernel send a reset, which can overtake the answer.
        """
        timer = asyncio.get_running_loop().call_later(LINGER_TIMEOUT, self._writer.transport.abort)
        taken = 0
        try:
            while taken < LINGER_BYTES:
                data = await self._reader.read(http1.READ_SIZE)
                if not data:
                    break
                taken += len(data)
        finally:
            timer.cancel()

    async def _event(self, timeout: float) -> object:
        timer = asyncio.get_running_loop().call_later(timeout, self._writer.transport.abort)
        try:
            while True:
                event = self._http.next_event()
                if event is not h11.NEED_DATA:
                    return event
                self._http.receive_data(await self._reader.read(http1.READ_SIZE))
        finally:
            timer.cancel()

    async def _send(self, *events: h11.Event) -> None:
        data = b"".join(self._http.send(event) or b"" for event in events)
        if data:
            self._writer.write(data)
            await self._writer.drain()


async def connect(address: EngineAddress) -> http1.ClientConnection:
    """Open a connection to the engine. Raises OSError."""
    if address.path:
        reader, writer = await asyncio.open_unix_connection(address.path, limit=http1.READ_SIZE)
    else:
        reader, writer = await asyncio.open_connection("127.0.0.1", address.port, limit=http1.READ_SIZE)
    return http1.ClientConnection(reader, writer)


def bind(ports: range) -> socket.socket:
    """Return a socket bound to a free port of `ports`, tried in random order. Raises OSError if none is.

    Dual-stack where the node speaks IPv6. SO_REUSEPORT stays off: nobody may share the port.
    """
    for port in random.sample(ports, len(ports)):
        sock = _socket()
        try:
            sock.bind(("", port))
        except OSError:
            sock.close()
            continue
        return sock
    raise OSError(f"SLUICE_PORTS: no free port from {ports[0]} to {ports[-1]}")


def _socket() -> socket.socket:
    # The protocol is named: asyncio sets TCP_NODELAY only where it is, and an answer's second write would
    # wait 40 ms for an acknowledgement.
    if socket.has_dualstack_ipv6():
        sock = socket.socket(socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    else:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return sock
