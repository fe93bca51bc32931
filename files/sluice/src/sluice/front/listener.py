"""The front's TLS listener: accepts a bounded number of connections and holds what they share."""

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
from sluice.front.connections import Relay
from sluice.front.engine import Engine
from sluice.front.identity import Identity
from sluice.front.stall import Pulse, Trial
from sluice.front.tally import Tally
from sluice.front.unauthenticated import Strangers, source_of
from sluice.version import version
from sluice.wire.hello import Hello, Limits

logger = logging.getLogger(__name__)

# Why a front sends its relays away: Slurm said that the job's time ends, or asked it to end now.
WARNED, TERMINATED = "warned", "terminated"

# Who has not shown the key yet has as long for the handshake, and again for the key.
STRANGER_SECONDS = 10.0
MAX_RELAYS = 256
# The kernel's queue of connections: whoever floods it is taken out of it faster than it fills.
BACKLOG = 1024
# Accepted in one turn of the event loop, and the pause when the process has no descriptors left.
ACCEPT_TURN = 16
ACCEPT_PAUSE = 1.0
TICK = 1.0
LOAD_PAUSE = 0.1
QUIET_PAUSE = 0.05
# Streams beyond the requests that may run: health, metrics, and such as end while others begin.
SPARE_STREAMS = 16
STREAM_CREDIT = 32_768
GROWTH = 2_097_152
MAX_CREDIT = 1 << 30


class Listener:
    """Serves the closed list of paths to whoever has the job's key."""

    def __init__(self, config: FrontConfig, identity: Identity) -> None:
        self.config = config
        self.key = identity.key
        self.running = 0
        self.leaving = ""
        self.health_path = config.health_path
        self.max_body = config.max_body
        self.engine = Engine(config.engine, config.concurrency)
        self.pulse = Pulse(config.trial_after)
        self._trial = Trial(self.engine, self.pulse, config.model)
        self._context = identity.context
        self._hello = _hello(config)
        self._socket: Optional[socket.socket] = None
        self._strangers: Strangers[Relay] = Strangers()
        # The task is held here because the event loop itself keeps none alive.
        self._handshakes: dict[Relay, tuple[socket.socket, asyncio.Task[None]]] = {}
        # A dictionary that serves as a set which keeps its order.
        self._relays: dict[Relay, None] = {}
        self._timer: Optional[asyncio.TimerHandle] = None
        self._load_timer: Optional[asyncio.TimerHandle] = None
        self._told = 0
        self._turned_away = Tally(logger, "connections without the key were closed")

    async def start(self) -> int:
        """Take a free port of the site's range and listen on it; return the port. Raises OSError."""
        sock = bind(self.config.ports)
        sock.listen(BACKLOG)
        sock.setblocking(False)
        self._socket = sock
        self._listen()
        self._tick()
        port: int = sock.getsockname()[1]
        return port

    def depart(self, why: str) -> None:
        """Send every relay away, with what runs going on; `why` is `warned` or `terminated`.

        Still listens: whoever probes is to learn why.
        """
        if self.leaving != TERMINATED:
            self.leaving = why
        hangs = self.pulse.hangs(time.monotonic())
        self._trial.stop()
        self.pulse.unasked()
        for relay in self._relays:
            relay.send_away()
            if why == TERMINATED and hangs:
                # They are told now, as broken, so that one on which engines hang does not go on from here.
                relay.give_up()

    async def quiet(self, grace: float) -> None:
        """Return when nothing runs and every answer has left, after `grace` seconds at the latest."""
        deadline = time.monotonic() + grace
        for _ in range(math.ceil(grace / QUIET_PAUSE)):
            if not self._busy() or time.monotonic() >= deadline:
                return
            await asyncio.sleep(QUIET_PAUSE)

    def stop(self) -> None:
        """Stop listening and break every connection."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None
        for timer in (self._timer, self._load_timer):
            if timer is not None:
                timer.cancel()
        for _, task in self._handshakes.values():
            task.cancel()
        for relay in (*self._strangers, *self._relays):
            relay.close("shutdown", "the job ends")
        self._trial.stop()
        self.engine.close()

    # --- what relays share -------------------------------------------------------------------------------

    def enter(self, places: int) -> None:
        """Count a request that begins, by its places. Raises SluiceError `no_instance` or `overloaded`."""
        if self.leaving:
            raise SluiceError("no_instance", "this instance is about to end", retry_after=1)
        if self.running + places > 2 * self.config.concurrency:
            raise SluiceError("overloaded", "this instance is full", retry_after=1)
        self.running += places
        self._load_changed()

    def leave(self, places: int) -> None:
        """Count a request that is over."""
        self.running -= places
        self._load_changed()

    def greeted(self, relay: Relay) -> None:
        """Take a relay that has shown the key, if there is room."""
        self._strangers.showed_the_key(relay)
        if len(self._relays) >= MAX_RELAYS:
            # Not `shutdown`: the instance stays, and there may be room the next time.
            relay.close("closed", f"more than {MAX_RELAYS} connections")
            return
        self._relays[relay] = None
        relay.tell_load(self.running)

    def gone(self, relay: Relay, why: str) -> None:
        """Drop a connection that has ended."""
        if not relay.known:
            self._turned_away.add(reason=why)
        self._strangers.leave(relay)
        self._relays.pop(relay, None)

    def _busy(self) -> bool:
        # An answer that is whole here may still wait for a slow relay to take it.
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
        relay = Relay(self, self._hello, self.key)
        leaving = self._strangers.enter(relay, source)
        if leaving is not None:
            self._send_away(leaving)
        task = asyncio.get_running_loop().create_task(self._greet(relay, accepted))
        self._handshakes[relay] = (accepted, task)

    def _send_away(self, stranger: Relay) -> None:
        """Hang up on a stranger, for whom there is no room any more."""
        if stranger not in self._handshakes:
            stranger.endpoint.abort("too many connections without the key")
            return
        self._turned_away.add(reason="too many connections without the key")
        # In its handshake the socket is the transport's: this one only has it see the connection's end.
        with contextlib.suppress(OSError):
            self._handshakes[stranger][0].shutdown(socket.SHUT_RDWR)

    def _pause_accepting(self, sock: socket.socket) -> None:
        """Leave the backlog alone for a moment: without a descriptor, the loop would only turn."""
        logger.error("no connection can be accepted: the process has no file descriptors left")
        loop = asyncio.get_running_loop()
        loop.remove_reader(sock.fileno())
        loop.call_later(ACCEPT_PAUSE, self._listen)

    async def _greet(self, relay: Relay, accepted: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            # Not a server of the event loop: that takes any number of strangers into its handshakes.
            await loop.connect_accepted_socket(
                lambda: relay.endpoint, accepted, ssl=self._context, ssl_handshake_timeout=STRANGER_SECONDS
            )
        except (OSError, asyncio.TimeoutError):
            accepted.close()
            self._strangers.leave(relay)
            self._turned_away.add(reason="no handshake")
        finally:
            del self._handshakes[relay]

    def _tick(self) -> None:
        # First, so that no fault below stops the clock: deadlines are what strangers and engines end by.
        self._timer = asyncio.get_running_loop().call_later(TICK, self._tick)
        now = time.monotonic()
        for relay in (*self._strangers, *self._relays):
            relay.tick(now)
        if self.leaving:
            # Not as soon as they connect: a probe asks only then.
            for relay in self._relays:
                relay.send_away()
        else:
            self._trial.tick(now)
        self.engine.sweep(now)


def _hello(config: FrontConfig) -> Hello:
    """Return what the front takes: its credit is never used up by bodies that stand still."""
    streams = 2 * config.concurrency + SPARE_STREAMS
    credit = min(streams * STREAM_CREDIT + GROWTH, MAX_CREDIT)
    return Hello(version(), Limits(STREAM_CREDIT, credit, streams, config.max_body))


def bind(ports: range) -> socket.socket:
    """Return a socket bound to a free port of `ports`, tried in random order. Raises OSError if none is.

    Dual-stack where the node speaks IPv6. SO_REUSEPORT stays off: nobody may share the port.
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
    # The protocol is named: asyncio sets TCP_NODELAY only where it is, and an answer's second write would
    # wait 40 ms for an acknowledgement.
    if socket.has_dualstack_ipv6():
        sock = socket.socket(socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    else:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return sock
