"""Pooled connections to the fronts of instances, each pinned to the certificate that its job made."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections import deque
from collections.abc import Iterable
from typing import Optional

from sluice import http1
from sluice.records import Instance

logger = logging.getLogger(__name__)

# Shorter than the front's own limit, so that the relay closes first and no request meets a closing peer.
IDLE_SECONDS = 60.0
MAX_IDLE = 32

# A fixed name: it is sent in clear, and which name it is says nothing. Trust comes from the pin alone.
SERVER_NAME = "sluice"

_Key = tuple[str, str, int, str, str]


class Unreachable(Exception):
    """No trusted connection to the instance could be made. `reason` is for the log.

    Neither a byte of a request nor the key has been sent.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class InstancePool:
    """Connections to instances, kept alive between requests."""

    def __init__(self, connect_timeout: float) -> None:
        self._timeout = connect_timeout
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._context.minimum_version = ssl.TLSVersion.TLSv1_3
        # The certificate is compared byte by byte below; names and authorities play no part.
        self._context.check_hostname = False
        self._context.verify_mode = ssl.CERT_NONE
        self._idle: dict[_Key, deque[tuple[float, http1.ClientConnection]]] = {}

    def take_idle(self, instance: Instance) -> Optional[http1.ClientConnection]:
        """Return a pooled connection that still stands, if there is one."""
        idle = self._idle.get(_key(instance))
        while idle:
            since, connection = idle.pop()
            if time.monotonic() - since < IDLE_SECONDS and connection.idle():
                return connection
            connection.abort()
        return None

    async def connect(self, instance: Instance) -> http1.ClientConnection:
        """Open a connection and check the pin. Raises Unreachable."""
        reader, writer = await self._open(instance)
        if not _pinned(writer, instance):
            writer.transport.abort()
            logger.warning("whoever answers is not the job", extra={"instance": instance.id})
            raise Unreachable("certificate")
        http1.keep_alive(writer)
        return http1.ClientConnection(reader, writer)

    def give_back(self, instance: Instance, connection: http1.ClientConnection) -> None:
        """Keep a connection for the next request if it can carry one, else close it."""
        idle = self._idle.setdefault(_key(instance), deque())
        if connection.reusable() and len(idle) < MAX_IDLE:
            idle.append((time.monotonic(), connection))
        else:
            connection.abort()

    def keep_only(self, instances: Iterable[Instance]) -> None:
        """Close what belongs to an instance that is no longer routed, and what has idled too long."""
        kept = {_key(instance) for instance in instances}
        oldest = time.monotonic() - IDLE_SECONDS
        for key, idle in tuple(self._idle.items()):
            while idle and (key not in kept or idle[0][0] < oldest):
                idle.popleft()[1].abort()
            if not idle:
                del self._idle[key]

    def close(self) -> None:
        """Close every pooled connection."""
        self.keep_only(())

    async def _open(self, instance: Instance) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        opening = asyncio.ensure_future(
            asyncio.open_connection(
                instance.host,
                instance.port,
                limit=http1.READ_SIZE,
                ssl=self._context,
                server_hostname=SERVER_NAME,
            )
        )
        # Not `wait_for`: in Python 3.9 it can lose a connection that is made while it gives up.
        try:
            await asyncio.wait({opening}, timeout=self._timeout)
        except asyncio.CancelledError:
            _abandon(opening)
            raise
        if not opening.done():
            _abandon(opening)
            raise Unreachable("timeout")
        try:
            return opening.result()
        except (OSError, UnicodeError) as error:
            # UnicodeError: a host name that no resolver can be asked for, a label of 64 letters say.
            raise Unreachable(type(error).__name__) from None


_Opening = asyncio.Future[tuple[asyncio.StreamReader, asyncio.StreamWriter]]


def _abandon(opening: _Opening) -> None:
    """Give up an attempt; a connection that comes of it all the same is closed."""
    opening.add_done_callback(_close_late)
    opening.cancel()


def _close_late(opening: _Opening) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result()[1].transport.abort()


def _pinned(writer: asyncio.StreamWriter, instance: Instance) -> bool:
    """Whether the peer proved to hold the key of exactly this certificate (TLS 1.3 has it prove that)."""
    shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    try:
        pinned = ssl.PEM_cert_to_DER_cert(instance.certificate)
    except ValueError:
        return False
    return bool(shown == pinned)


def _key(instance: Instance) -> _Key:
    return (instance.id, instance.host, instance.port, instance.certificate, instance.key)
