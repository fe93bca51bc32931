"""Asks a front whether its engine answers, by the wire over TLS pinned to the certificate of its record.

Nothing is sent before the peer has shown that very certificate: who merely took the port learns no key.
One deadline holds for all of it: a job that drips one byte at a time would stop the scheduler otherwise.
"""

from __future__ import annotations

import secrets
import socket
import ssl
import time
from typing import Optional

from sluice.errors import SluiceError
from sluice.records import InstanceRequest, JobRecord
from sluice.version import version
from sluice.wire import events
from sluice.wire.connection import Connection, Role
from sluice.wire.frames import ProtocolError
from sluice.wire.hello import Hello, Limits
from sluice.wire.links import RELAY_FRONT

READ_SIZE = 4096
# A front's hello, a load frame or two, the head of an answer.
MOST_READ = 65_536
LIMITS = Limits(stream_credit=4096, session_credit=65_536, max_streams=1, max_body=1)


def healthy(record: JobRecord, timeout: float) -> str:
    """Return "" when the front answers 200 to its health path within `timeout` seconds, else why not."""
    deadline = time.monotonic() + timeout
    try:
        return _ask(record, deadline)
    except (OSError, ValueError, ProtocolError, SluiceError) as error:
        # The class and the system's own words only: nothing that the peer wrote goes into a log.
        return f"{type(error).__name__}: {getattr(error, 'strerror', None) or 'refused'}"[:200]


def _ask(record: JobRecord, deadline: float) -> str:
    pinned = ssl.PEM_cert_to_DER_cert(record.certificate)
    with socket.create_connection((record.host, record.port), timeout=_left(deadline)) as plain:
        plain.settimeout(_left(deadline))
        with _context().wrap_socket(plain, server_hostname=None) as secure:
            if secure.getpeercert(binary_form=True) != pinned:
                raise ValueError("another certificate than the record's")
            return _exchange(secure, record.key, deadline)


def _context() -> ssl.SSLContext:
    """Return a context that verifies nothing by itself: the comparison of the certificate's bytes does."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _exchange(secure: ssl.SSLSocket, key: str, deadline: float) -> str:
    connection = Connection(Role.CLIENT, Hello(version(), LIMITS), RELAY_FRONT, key=key)
    read = 0
    while read <= MOST_READ:
        secure.settimeout(_left(deadline))
        secure.sendall(connection.data_to_send())
        secure.settimeout(_left(deadline))
        piece = secure.recv(READ_SIZE)
        if not piece:
            break
        read += len(piece)
        for event in connection.receive(piece):
            found = _found(connection, event)
            if found is not None:
                return found
    raise ValueError("no answer")


def _found(connection: Connection, event: events.Event) -> Optional[str]:
    """Ask once the front has greeted; return what is known of its health when it has answered."""
    if isinstance(event, events.HelloReceived):
        head = InstanceRequest(f"req-{secrets.token_hex(16)}", "GET", "/health", 0)
        connection.send_end(connection.open_request(head))
    elif isinstance(event, events.ResponseStarted):
        return "" if event.head.status == 200 else f"health answers {event.head.status}"
    elif isinstance(event, events.StreamFailed):
        return f"health answers {event.error.code}"
    return None


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise socket.timeout("deadline passed")
    return left
