"""One request to one front: over the wire and TLS, with a pinned certificate and one deadline for everything.

Nothing is sent before the peer has shown exactly that certificate, so a program that took over the port
does not learn the job's key.
"""

from __future__ import annotations

import errno
import secrets
import socket
import ssl
import time
from typing import NamedTuple, Optional, Union

from sluice.contracts.heads import InstanceRequest
from sluice.contracts.jobs import JobRecord
from sluice.contracts.routing import RoutedInstance
from sluice.errors import SluiceError
from sluice.version import version
from sluice.wire import events
from sluice.wire.connection import Connection, Side
from sluice.wire.frames import ProtocolError
from sluice.wire.hello import Hello, Limits
from sluice.wire.links import RELAY_FRONT

READ_SIZE = 16_384
# Enough for a front's hello, a few load frames and a small answer.
MOST_READ = 262_144
LIMITS = Limits(stream_credit=MOST_READ, session_credit=MOST_READ, max_streams=1, max_body=1)


class Answer(NamedTuple):
    """What a front answered: an HTTP status and a body, or status 0 and an error code."""

    status: int
    code: str
    body: bytes


class Unanswered(Exception):
    """There was no answer. The text has an exception's class and message, nothing that the peer wrote."""


def ask(
    front: Union[JobRecord, RoutedInstance], method: str, path: str, body: bytes, timeout: float
) -> Answer:
    """Send a request and return the answer, within `timeout` seconds; for bodies of a few KiB.

    Raises Unanswered.
    """
    try:
        return _ask(front, InstanceRequest(_request_id(), method, path, len(body)), body, timeout)
    except (OSError, ValueError, ProtocolError, SluiceError) as error:
        words = getattr(error, "strerror", None) or "refused"
        raise Unanswered(f"{type(error).__name__}: {words}"[:200]) from None


def _ask(
    front: Union[JobRecord, RoutedInstance], head: InstanceRequest, body: bytes, timeout: float
) -> Answer:
    deadline = time.monotonic() + timeout
    pinned = ssl.PEM_cert_to_DER_cert(front.certificate)
    with socket.create_connection((front.host, front.port), timeout=_left(deadline)) as plain:
        plain.settimeout(_left(deadline))
        with _context().wrap_socket(plain, server_hostname=None) as secure:
            if secure.getpeercert(binary_form=True) != pinned:
                raise ValueError("another certificate than the record's")
            return _Exchange(secure, front.key, deadline).run(head, body)


def _request_id() -> str:
    return f"req-{secrets.token_hex(16)}"


class _Exchange:
    """The request, on a connection whose certificate was checked."""

    def __init__(self, secure: ssl.SSLSocket, key: str, deadline: float) -> None:
        self._secure = secure
        self._deadline = deadline
        self._wire = Connection(Side.CLIENT, Hello(version(), LIMITS), RELAY_FRONT, key=key)
        self._status = 0
        self._body = b""

    def run(self, head: InstanceRequest, body: bytes) -> Answer:
        """Send the request after the front's hello; return the answer.

        Raises OSError, ValueError, ProtocolError and SluiceError.
        """
        read = 0
        while read <= MOST_READ:
            self._secure.settimeout(_left(self._deadline))
            self._secure.sendall(self._wire.data_to_send())
            self._secure.settimeout(_left(self._deadline))
            piece = self._secure.recv(READ_SIZE)
            if not piece and self._wire.peer is None:
                raise ConnectionResetError(errno.ECONNRESET, "it closed without a word, as for a wrong key")
            if not piece:
                break
            read += len(piece)
            for event in self._wire.receive(piece):
                if isinstance(event, events.HelloReceived):
                    stream = self._wire.open_request(head)
                    self._wire.send_data(stream, body)
                    self._wire.send_end(stream)
                answer = self._take(event)
                if answer is not None:
                    return answer
        raise ValueError("no answer")

    def _take(self, event: events.Event) -> Optional[Answer]:
        if isinstance(event, events.ResponseStarted):
            self._status = event.head.status
        elif isinstance(event, events.DataReceived):
            self._body += event.data
        elif isinstance(event, events.StreamEnded):
            return Answer(self._status, "", self._body)
        elif isinstance(event, events.StreamFailed):
            return Answer(0, event.error.code, b"")
        return None


def _context() -> ssl.SSLContext:
    """Return a context that verifies nothing: the caller compares the certificate's bytes."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise socket.timeout("deadline passed")
    return left
