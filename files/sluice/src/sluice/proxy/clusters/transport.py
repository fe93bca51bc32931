"""The interface between a session and its byte connection, and the errors of such a connection.

A transport carries bytes in both directions between this process and one relay. All code runs on the event
loop's thread.
"""

from __future__ import annotations

from typing import Callable, Protocol

# How many bytes a transport buffers. More waits in the wire's queues, where streams take turns.
WRITE_BUFFER = 64 * 1024


class TransportError(Exception):
    """The connection failed or was lost; the text names the cause and contains no data.

    `state`: the session's state in the health document.
    """

    state = "down"


class HostKeyChanged(TransportError):
    """The other side does not have the pinned host key."""

    state = "host_key_changed"


class AuthenticationFailed(TransportError):
    """The other side does not accept the key, or the key cannot be read."""

    state = "auth_failed"


class Receiver(Protocol):
    """The callbacks of a transport."""

    def data_received(self, data: bytes) -> None:
        """Take bytes, in order."""

    def writable(self) -> None:
        """The transport's buffer has room again."""

    def connection_lost(self, error: TransportError) -> None:
        """Called once: the connection has ended."""


class Transport(Protocol):
    """A connection with one relay; it connects only once."""

    async def connect(self, receiver: Receiver) -> None:
        """Connect; `receiver` is called from now on. Raises TransportError."""

    def can_write(self) -> bool:
        """Return whether the buffer has room. If not, `receiver.writable` follows."""

    def write(self, data: bytes) -> None:
        """Take bytes to send; never blocks. Callers ask `can_write` first."""

    def close(self) -> None:
        """Close the connection, in any state; returns at once."""

    async def wait_closed(self) -> None:
        """After `close`, wait a short time until the connection is gone."""


TransportFactory = Callable[[], Transport]
