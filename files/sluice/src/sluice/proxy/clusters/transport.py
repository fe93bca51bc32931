"""What a session needs from its byte connection, and how such a connection can fail.

A transport carries bytes both ways between this process and one relay. Everything happens on the event
loop's thread.
"""

from __future__ import annotations

from typing import Callable, Protocol

# A transport takes this many bytes before it asks for patience: what waits beyond stays in the wire's
# queues, where streams take turns.
WRITE_BUFFER = 64 * 1024


class TransportError(Exception):
    """The connection cannot be made or is lost; the text names the cause, never what was carried.

    `state` is what health shows of the session.
    """

    state = "down"


class HostKeyChanged(TransportError):
    """The other side does not have the pinned host key."""

    state = "host_key_changed"


class AuthenticationFailed(TransportError):
    """The other side does not accept the key, or the key cannot be read."""

    state = "auth_failed"


class Receiver(Protocol):
    """Takes what a transport brings."""

    def data_received(self, data: bytes) -> None:
        """Take bytes in order."""

    def writable(self) -> None:
        """Learn that the transport's buffer has room again."""

    def connection_lost(self, error: TransportError) -> None:
        """Learn, once, that nothing more will come or go."""


class Transport(Protocol):
    """A connection with one relay, made once and not made again."""

    async def connect(self, receiver: Receiver) -> None:
        """Connect, or raise TransportError; `receiver` is called from now on."""

    def can_write(self) -> bool:
        """Return whether the buffer has room. If not, `receiver.writable` follows."""

    def write(self, data: bytes) -> None:
        """Take bytes to send; never blocks. Callers ask `can_write` first."""

    def close(self) -> None:
        """Let go of the connection, in whatever state; returns at once."""

    async def wait_closed(self) -> None:
        """After `close`, wait until nothing of the connection is left; not for long."""


TransportFactory = Callable[[], Transport]
