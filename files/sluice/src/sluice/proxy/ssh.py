"""The SSH transport: paramiko, in threads of its own.

One connection has three threads: paramiko's own (socket and decryption), a reader that hands bytes to the
event loop, and a writer that encrypts what the event loop left for it. The event loop never waits for any of
them, and each of the two hand-overs is bounded in bytes.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable, Sequence

import paramiko

from sluice.proxy.config import ClusterConfig
from sluice.proxy.transport import (
    READ_BUFFER,
    WRITE_BUFFER,
    AuthenticationFailed,
    HostKeyChanged,
    Receiver,
    TransportError,
)

log = logging.getLogger("sluice.proxy.ssh")

# Any word would do: the login node's ForceCommand decides what runs.
COMMAND = "relay"
PREFERRED_CIPHER = "aes128-gcm@openssh.com"
READ_SIZE = 64 * 1024
# How long a thread sleeps in paramiko before it looks at standard error and at whether it is still wanted.
THREAD_TICK = 5.0
EXIT_STATUS_WAIT = 1.0
# Of what the far side says on standard error, this much is logged over a connection's life.
MAX_STDERR_LOGGED = 2000
# paramiko keeps 64 bytes of a packet to itself.
SEND_SIZE = 32 * 1024 - 64


def silence_paramiko() -> None:
    """Turn paramiko's own logging off: its lines quote the other side. The session logs what matters."""
    logging.getLogger("paramiko").setLevel(logging.CRITICAL + 1)


class SshTransport:
    """One SSH connection with its one channel, as `sluice.proxy.transport.Transport` describes."""

    def __init__(self, config: ClusterConfig) -> None:
        self._config = config
        self._loop: asyncio.AbstractEventLoop | None = None
        self._receiver: Receiver | None = None
        self._connected: asyncio.Future[None] | None = None
        self._lock = threading.Condition()
        self._inbox: collections.deque[bytes] = collections.deque()
        self._inbox_bytes = 0
        self._delivery_due = False
        self._outbox: collections.deque[bytes] = collections.deque()
        self._outbox_bytes = 0
        self._wants_room = False
        self._closed = False
        self._lost = False
        self._socket: socket.socket | None = None
        self._stderr_logged = 0

    # --- On the event loop's thread -----------------------------------------------------------------------

    async def connect(self, receiver: Receiver) -> None:
        """Connect, check the host key, authenticate and start the relay, or raise TransportError."""
        self._loop = asyncio.get_running_loop()
        self._receiver = receiver
        self._connected = self._loop.create_future()
        threading.Thread(target=self._run, name=f"ssh-{self._config.name}", daemon=True).start()
        try:
            await self._connected
        except asyncio.CancelledError:
            self.close()
            raise

    def can_write(self) -> bool:
        """Return whether the buffer has room. If not, `writable` follows."""
        with self._lock:
            if self._outbox_bytes < WRITE_BUFFER:
                return True
            self._wants_room = True
            return False

    def write(self, data: bytes) -> None:
        """Leave bytes for the writer's thread."""
        with self._lock:
            if self._closed:
                return
            self._outbox.append(data)
            self._outbox_bytes += len(data)
            self._lock.notify_all()

    def close(self) -> None:
        """Let go of the connection. The threads end by themselves, within THREAD_TICK."""
        with self._lock:
            self._closed = True
            self._lock.notify_all()
            connection = self._socket
        if connection is not None:
            _shut(connection)

    def _deliver(self) -> None:
        with self._lock:
            chunks = list(self._inbox)
            self._inbox.clear()
            self._inbox_bytes = 0
            self._delivery_due = False
            self._lock.notify_all()
        receiver = self._receiver
        if receiver is None or self._lost:
            return
        for chunk in chunks:
            receiver.data_received(chunk)

    def _announce_room(self) -> None:
        if self._receiver is not None and not self._lost:
            self._receiver.writable()

    def _settle_connect(self, error: TransportError | None) -> None:
        if self._connected is None or self._connected.done():
            return
        if error is None:
            self._connected.set_result(None)
        else:
            self._lost = True
            self._connected.set_exception(error)

    def _lose(self, error: TransportError) -> None:
        if self._lost:
            return
        self._lost = True
        if self._receiver is not None:
            self._receiver.connection_lost(error)

    # --- On threads of our own ----------------------------------------------------------------------------

    def _call(self, function: Callable[..., None], *arguments: object) -> None:
        if self._loop is None:
            return
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:
            self.close()  # the loop is gone, and with it everybody who could listen

    def _run(self) -> None:
        """Connect, then read until the end; the reader's thread."""
        try:
            client, channel = self._open()
        except TransportError as error:
            self._call(self._settle_connect, error)
            return
        writer = threading.Thread(
            target=self._write_all, args=(channel,), name=f"ssh-write-{self._config.name}", daemon=True
        )
        writer.start()
        self._call(self._settle_connect, None)
        reason = "the connection ended in a fault of ours"
        try:
            reason = self._read_all(channel)
        finally:
            self.close()
            self._call(self._deliver)
            self._call(self._lose, TransportError(reason))
            client.close()

    def _open(self) -> tuple[paramiko.Transport, paramiko.Channel]:
        config = self._config
        pinned = _pinned_keys(config)
        key = _private_key(config)
        connection = self._connect_socket()
        try:
            client = paramiko.Transport(connection)
            try:
                return client, self._handshake(client, pinned, key)
            except BaseException:
                client.close()
                raise
        except BaseException:
            connection.close()
            raise

    def _connect_socket(self) -> socket.socket:
        config = self._config
        try:
            connection = socket.create_connection((config.host, config.port), timeout=config.connect_timeout)
        except OSError as error:
            raise TransportError(
                f"{config.host}:{config.port} cannot be reached ({error.strerror or type(error).__name__})"
            ) from None
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        with self._lock:
            self._socket = connection
            closed = self._closed
        if closed:
            connection.close()
            raise TransportError("the connection is no longer wanted")
        return connection

    def _handshake(
        self, client: paramiko.Transport, pinned: dict[str, paramiko.PKey], key: paramiko.PKey
    ) -> paramiko.Channel:
        config = self._config
        client.banner_timeout = config.connect_timeout
        client.handshake_timeout = config.connect_timeout
        client.auth_timeout = config.connect_timeout
        _prefer(client, pinned)
        try:
            client.start_client(timeout=config.connect_timeout)
            _check_host_key(client, pinned, config)
            if client.auth_publickey(config.user, key):
                raise AuthenticationFailed(f"{config.host} wants more than the key of {config.user}")
            channel = client.open_session(timeout=config.connect_timeout)
            channel.settimeout(config.connect_timeout)
            channel.exec_command(COMMAND)
        except paramiko.AuthenticationException:
            raise AuthenticationFailed(
                f"{config.host} does not accept the key in {config.key_file} for {config.user}"
            ) from None
        except (paramiko.SSHException, OSError, EOFError) as error:
            raise TransportError(
                f"{config.host} broke off the SSH handshake ({type(error).__name__})"
            ) from None
        channel.settimeout(THREAD_TICK)
        cipher = getattr(client, "remote_cipher", "")
        log.info("ssh connection made", extra={"cluster": config.name, "cipher": cipher})
        return channel

    def _read_all(self, channel: paramiko.Channel) -> str:
        """Hand over what comes until nothing more does; return why."""
        while True:
            try:
                data = channel.recv(READ_SIZE)
            except TimeoutError:
                data = None
            except (OSError, EOFError, paramiko.SSHException) as error:
                return f"reading failed ({type(error).__name__})"
            self._log_stderr(channel)
            if data == b"":
                return _ending(channel)
            if data is not None:
                self._hand_over(data)
            with self._lock:
                if self._closed:
                    return "closed by us"

    def _hand_over(self, data: bytes) -> None:
        with self._lock:
            while self._inbox_bytes >= READ_BUFFER and not self._closed:
                self._lock.wait(THREAD_TICK)
            self._inbox.append(data)
            self._inbox_bytes += len(data)
            due, self._delivery_due = self._delivery_due, True
        if not due:
            self._call(self._deliver)

    def _log_stderr(self, channel: paramiko.Channel) -> None:
        """Empty standard error: it shares the channel's window and would stop the relay when full."""
        while channel.recv_stderr_ready():
            text = channel.recv_stderr(4096)
            room = MAX_STDERR_LOGGED - self._stderr_logged
            if room > 0 and text:
                self._stderr_logged += len(text)
                line = "".join(
                    char if char.isprintable() else " " for char in text[:room].decode("utf-8", "replace")
                )
                log.warning("the login node says: %s", line.strip(), extra={"cluster": self._config.name})

    def _write_all(self, channel: paramiko.Channel) -> None:
        """Send what the event loop leaves, until the connection is closed; the writer's thread."""
        while True:
            with self._lock:
                while not self._outbox and not self._closed:
                    self._lock.wait(THREAD_TICK)
                if self._closed:
                    return
                data = b"".join(self._outbox)
                self._outbox.clear()
            if not self._send(channel, data):
                self.close()
                return
            with self._lock:
                self._outbox_bytes -= len(data)
                announce = self._wants_room and self._outbox_bytes < WRITE_BUFFER
                if announce:
                    self._wants_room = False
            if announce:
                self._call(self._announce_room)

    def _send(self, channel: paramiko.Channel, data: bytes) -> bool:
        at = 0
        while at < len(data):
            try:
                sent = channel.send(data[at : at + SEND_SIZE])
            except TimeoutError:
                with self._lock:
                    if self._closed:
                        return False
                continue
            except (OSError, EOFError, paramiko.SSHException):
                return False
            if sent == 0:
                return False
            at += sent
        return True


def _shut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # not connected any more, or closed by its thread already
        connection.shutdown(socket.SHUT_RDWR)


def _ending(channel: paramiko.Channel) -> str:
    """Say how the far side ended; its exit status may come a moment after its last byte."""
    deadline = time.monotonic() + EXIT_STATUS_WAIT
    while not channel.exit_status_ready() and time.monotonic() < deadline:
        time.sleep(0.02)
    status = channel.recv_exit_status() if channel.exit_status_ready() else -1
    if status < 0:
        return "the connection was cut"
    return f"the relay ended with status {status}; the login node's system log says why"


def _pinned_keys(config: ClusterConfig) -> dict[str, paramiko.PKey]:
    """Return the host keys pinned for this host, by type; read anew for each connection."""
    name = config.host if config.port == 22 else f"[{config.host}]:{config.port}"
    try:
        known = paramiko.HostKeys(config.known_hosts)
    except (OSError, paramiko.SSHException) as error:
        raise HostKeyChanged(f"{config.known_hosts} cannot be read ({type(error).__name__})") from None
    found = known.lookup(name)
    if not found:
        raise HostKeyChanged(f"{config.known_hosts} pins no host key for {name}; run the playbook to pin one")
    return dict(found.items())


def _private_key(config: ClusterConfig) -> paramiko.PKey:
    try:
        return paramiko.PKey.from_path(config.key_file)
    except (OSError, ValueError, paramiko.SSHException, paramiko.pkey.UnknownKeyType) as error:
        raise AuthenticationFailed(
            f"{config.key_file} cannot be used as a key ({type(error).__name__})"
        ) from None


def _prefer(client: paramiko.Transport, pinned: dict[str, paramiko.PKey]) -> None:
    """Put the cheap cipher first, and host keys of the pinned types before others."""
    options = client.get_security_options()
    options.ciphers = _first(options.ciphers, [PREFERRED_CIPHER])
    wanted = [name for kind in pinned for name in _signatures(kind)]
    options.key_types = _first(options.key_types, wanted)


def _signatures(kind: str) -> list[str]:
    return ["rsa-sha2-512", "rsa-sha2-256"] if kind == "ssh-rsa" else [kind]


def _first(offered: Sequence[str], wanted: list[str]) -> tuple[str, ...]:
    preferred = [name for name in wanted if name in offered]
    return (*preferred, *(name for name in offered if name not in preferred))


def _check_host_key(
    client: paramiko.Transport, pinned: dict[str, paramiko.PKey], config: ClusterConfig
) -> None:
    shown = client.get_remote_server_key()
    expected = pinned.get(shown.get_name())
    if expected is None or expected.asbytes() != shown.asbytes():
        raise HostKeyChanged(
            f"{config.host} shows the host key {shown.fingerprint}, which is not the one pinned in "
            f"{config.known_hosts}; if the key was replaced on purpose, pin the new one with the playbook"
        )
