"""The front's TLS listener: accepts a bounded number of connections and holds their shared state."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
import socket
import time
from typing import Optional

from sluice.errors import SluiceError
from sluice.front.config import FrontConfig
from sluice.front.connections import RelayConnection
from sluice.front.engine import Engine
from sluice.front.identity import Identity
from sluice.front.stall import StallDetector, Trial
from sluice.front.tally import Tally
from sluice.front.unauthenticated import Unauthenticated, source_of
from sluice.version import version
from sluice.wire.hello import Hello, Limits

logger = logging.getLogger(__name__)

# Why a front drains: Slurm warned that the job's time ends soon, or asked it to end now.
WARNED, TERMINATED = "warned", "terminated"

# An unauthenticated peer has this long for the TLS handshake, and this long again for the key (seconds).
UNAUTHENTICATED_SECONDS = 10.0
MAX_RELAYS = 256
# The kernel's queue of connections. In a flood, it is emptied faster than it fills.
BACKLOG = 1024
# Connections accepted in one turn of the event loop; the pause when no file descriptor is free (seconds).
ACCEPT_TURN = 16
ACCEPT_PAUSE = 1.0
TICK = 1.0
LOAD_PAUSE = 0.1
QUIET_PAUSE = 0.05
# Streams beyond the requests that may run: for health, metrics, and requests that end while others begin.
SPARE_STREAMS = 16
STREAM_CREDIT = 32_768
GROWTH = 2_097_152
MAX_CREDIT = 1 << 30


class Listener:
    """Serves the closed list of paths to peers that have the job's key."""

    def __init__(self, config: FrontConfig, identity: Identity) -> None:
        self.config = config
        self.key = identity.key
        self.running = 0
        self.leaving = ""
        self.health_path = config.health_path
        self.max_body = config.max_body
        self.engine = Engine(config.engine, config.concurrency)
        self.stall_detector = StallDetector(config.trial_after)
        self._trial = Trial(self.engine, self.stall_detector, config.model)
        self._context = identity.context
        self._hello = _hello(config)
        self._socket: Optional[socket.socket] = None
        self._unauthenticated: Unauthenticated[RelayConnection] = Unauthenticated()
        # Keeps a reference to each task: the event loop has only weak ones.
        self._handshakes: dict[RelayConnection, tuple[socket.socket, asyncio.Task[None]]] = {}
        # A dict serves as an ordered set.
        self._relays: dict[RelayConnection, None] = {}
        self._timer: Optional[asyncio.TimerHandle] = None
        self._load_timer: Optional[asyncio.TimerHandle] = None
        self._told = 0
        self._turned_away = Tally(logger, "connections without the key were closed")

    async def start(self) -> int:
        """Listen on a free port of the site's range; return the port. Raises OSError if none is free."""
        sock = bind(self.config.ports)
        sock.listen(BACKLOG)
        sock.setblocking(False)
        self._socket = sock
        self._listen()
        self._tick()
        port: int = sock.getsockname()[1]
        return port

    def drain(self, why: str) -> None:
        """Send go-away to every relay and let the open requests end; `why` is `warned` or `terminated`.

        The front still listens, so that a probe learns the reason.
        """
        if self.leaving != TERMINATED:
            self.leaving = why
        hangs = self.stall_detector.hangs(time.monotonic())
        self._trial.stop()
        self.stall_detector.reset()
        for relay in self._relays:
            relay.send_go_away()
            if why == TERMINATED and hangs:
                # Report these requests as broken now: a request that hangs engines must not go to another
                # one.
                relay.give_up()

    async def wait_idle(self, grace: float) -> None:
        """Wait until no request runs and all answers are sent, at most `grace` seconds."""
        deadline = time.monotonic() + grace
        for _ in range(math.ceil(grace / QUIET_PAUSE)):
            if not self._busy() or time.monotonic() >= deadline:
                return
            await asyncio.sleep(QUIET_PAUSE)

    def stop(self) -> None:
        """Stop listening and close every connection."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None
        for timer in (self._timer, self._load_timer):
            if timer is not None:
                timer.cancel()
        for _, task in self._handshakes.values():
            task.cancel()
        for relay in (*self._unauthenticated, *self._relays):
            relay.close("shutdown", "the job ends")
        self._trial.stop()
        self.engine.close()

    # --- what connections share --------------------------------------------------------------------------

    def enter(self, places: int) -> None:
        """Count the places of a request that begins. Raises SluiceError `no_instance` or `overloaded`."""
        if self.leaving:
            raise SluiceError("no_instance", "this instance is about to end", retry_after=1)
        if self.running + places > 2 * self.config.concurrency:
            raise SluiceError("overloaded", "this instance is full", retry_after=1)
        self.running += places
        self._load_changed()

    def leave(self, places: int) -> None:
        """Free the places of a request that has ended."""
        self.running -= places
        self._load_changed()

    def greeted(self, relay: RelayConnection) -> None:
        """Keep a connection that has shown the key; close it if there are too many."""
        self._unauthenticated.showed_the_key(relay)
        if len(self._relays) >= MAX_RELAYS:
            # Not `shutdown`: the instance stays, and the next attempt may succeed.
            relay.close("closed", f"more than {MAX_RELAYS} connections")
            return
        self._relays[relay] = None
        relay.tell_load(self.running)

    def gone(self, relay: RelayConnection, why: str) -> None:
        """Forget a connection that has ended."""
        if not relay.known:
            self._turned_away.add(reason=why)
        self._unauthenticated.leave(relay)
        self._relays.pop(relay, None)

    def _busy(self) -> bool:
        # A complete answer may still wait until a slow relay has read it.
        return bool(self.running) or any(relay.connection.open_streams for relay in self._relays)

    def _load_changed(self) -> None:
        if self._load_timer is None and self._relays:
            self._load_timer = asyncio.get_running_loop().call_later(LOAD_PAUSE, self._tell_load)

    def _tell_load(self) -> None:
        self._load_timer = None
        if self.running != self._told:
            self._told = self.running
            for relay in self._relays:
                relay.tell_load(self.running)

    # --- connections -------------------------------------------------------------------------------------

    def _listen(self) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().add_reader(self._socket.fileno(), self._accept)

    def _accept(self) -> None:
        for _ in range(ACCEPT_TURN):
            if self._socket is None:
                return
            try:
                accepted, address = self._socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:
                self._pause_accepting(self._socket)
                return
            accepted.setblocking(False)
            self._let_in(accepted, source_of(address[0]))

    def _let_in(self, accepted: socket.socket, source: str) -> None:
        relay = RelayConnection(self, self._hello, self.key)
        leaving = self._unauthenticated.enter(relay, source)
        if leaving is not None:
            self._close_unauthenticated(leaving)
        task = asyncio.get_running_loop().create_task(self._greet(relay, accepted))
        self._handshakes[relay] = (accepted, task)

    def _close_unauthenticated(self, peer: RelayConnection) -> None:
        """Close an unauthenticated connection to make room."""
        if peer not in self._handshakes:
            peer.endpoint.abort("too many connections without the key")
            return
        self._turned_away.add(reason="too many connections without the key")
        # During the handshake the transport owns the socket; after a shutdown it sees the end of the
        # connection.
        with contextlib.suppress(OSError):
            self._handshakes[peer][0].shutdown(socket.SHUT_RDWR)

    def _pause_accepting(self, sock: socket.socket) -> None:
        """Stop accepting for a moment: without a free file descriptor, the loop would spin."""
        logger.error("no connection can be accepted: the process has no file descriptors left")
        loop = asyncio.get_running_loop()
        loop.remove_reader(sock.fileno())
        loop.call_later(ACCEPT_PAUSE, self._listen)

    async def _greet(self, relay: RelayConnection, accepted: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            # Not loop.create_server, which has no bound on connections in their handshake.
            await loop.connect_accepted_socket(
                lambda: relay.endpoint,
                accepted,
                ssl=self._context,
                ssl_handshake_timeout=UNAUTHENTICATED_SECONDS,
            )
        except (OSError, asyncio.TimeoutError):
            accepted.close()
            self._unauthenticated.leave(relay)
            self._turned_away.add(reason="no handshake")
        finally:
            del self._handshakes[relay]

    def _tick(self) -> None:
        # First, so that an exception below does not stop the ticks: all deadlines depend on them.
        self._timer = asyncio.get_running_loop().call_later(TICK, self._tick)
        now = time.monotonic()
        for relay in (*self._unauthenticated, *self._relays):
            relay.tick(now)
        if self.leaving:
            # Not already when they connect: a probe must be able to ask first.
            for relay in self._relays:
                relay.send_go_away()
        else:
            self._trial.tick(now)
        self.engine.sweep(now)


def _hello(config: FrontConfig) -> Hello:
    """Return the front's hello: with its credit, stalled bodies cannot block others."""
    streams = 2 * config.concurrency + SPARE_STREAMS
    credit = min(streams * STREAM_CREDIT + GROWTH, MAX_CREDIT)
    return Hello(version(), Limits(STREAM_CREDIT, credit, streams, config.max_body))


def bind(ports: range) -> socket.socket:
    """Return a socket bound to a free port of `ports`, tried in random order. Raises OSError if none is free.

    Dual-stack if the node has IPv6. SO_REUSEPORT stays off: nobody may share the port.
    """
    for port in random.sample(ports, len(ports)):
        sock = _new_socket()
        try:
            sock.bind(("", port))
        except OSError:
            sock.close()
            continue
        return sock
    raise OSError(f"SLUICE_PORTS: no free port from {ports[0]} to {ports[-1]}")


def _new_socket() -> socket.socket:
    # The protocol is given because asyncio sets TCP_NODELAY only if it is. Without that, the second write of
    # an answer would wait 40 ms for an acknowledgement.
    if socket.has_dualstack_ipv6():
        sock = socket.socket(socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    else:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return sock
