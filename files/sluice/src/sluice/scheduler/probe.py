"""Asks a front whether its engine answers, over TLS pinned to the certificate of its record.

Nothing is sent before the peer has shown that very certificate: who merely took the port learns no key.
The exchange is written by hand because it needs one deadline over all of it: http.client's time-out holds
for each read, and a job that drips one byte at a time would stop the scheduler.
"""

from __future__ import annotations

import re
import socket
import ssl
import time

from sluice.records import JobRecord

STATUS_LINE = re.compile(rb"HTTP/1\.1 ([0-9]{3}) ")
MAX_HEAD = 4096


def healthy(record: JobRecord, timeout: float) -> str:
    """Return "" when the front answers 200 to its health path within `timeout` seconds, else why not."""
    deadline = time.monotonic() + timeout
    try:
        status = _ask(record, deadline)
    except (OSError, ValueError) as error:
        # The class and the system's own words only: nothing that the peer wrote goes into a log.
        return f"{type(error).__name__}: {getattr(error, 'strerror', None) or 'refused'}"[:200]
    return "" if status == 200 else f"health answers {status}"


def _ask(record: JobRecord, deadline: float) -> int:
    pinned = ssl.PEM_cert_to_DER_cert(record.certificate)
    with socket.create_connection((record.host, record.port), timeout=_left(deadline)) as plain:
        plain.settimeout(_left(deadline))
        with _context().wrap_socket(plain, server_hostname=None) as secure:
            if secure.getpeercert(binary_form=True) != pinned:
                raise ValueError("another certificate than the record's")
            secure.settimeout(_left(deadline))
            secure.sendall(_request(record))
            return _status(secure, deadline)


def _context() -> ssl.SSLContext:
    """Return a context that verifies nothing by itself: the comparison of the certificate's bytes does."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _request(record: JobRecord) -> bytes:
    return (
        f"GET /health HTTP/1.1\r\nHost: {record.host}:{record.port}\r\n"
        f"Authorization: Bearer {record.key}\r\nConnection: close\r\n\r\n"
    ).encode("ascii")


def _status(secure: ssl.SSLSocket, deadline: float) -> int:
    head = b""
    while b"\r\n" not in head:
        secure.settimeout(_left(deadline))
        piece = secure.recv(MAX_HEAD)
        head += piece
        if not piece or len(head) > MAX_HEAD:
            raise ValueError("no HTTP answer")
    found = STATUS_LINE.match(head)
    if found is None:
        raise ValueError("no HTTP answer")
    return int(found[1])


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise socket.timeout("deadline passed")
    return left
