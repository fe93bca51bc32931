"""The SSH transport: OpenSSH's client as a child process, with one socket as its standard input and output.

The cryptography runs in the child process, outside of Python's interpreter lock. All of the child's options
are on its command line: it reads no configuration files, asks no questions and uses no agent.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import socket
from asyncio.subprocess import Process
from typing import cast

from sluice.proxy.clusters.transport import (
    WRITE_BUFFER,
    AuthenticationFailed,
    HostKeyChanged,
    Receiver,
    TransportError,
)
from sluice.proxy.config import ClusterConfig

log = logging.getLogger("sluice.proxy.clusters.ssh")

PROGRAM = "ssh"
# Ignored by the login node, whose ForceCommand decides what runs.
COMMAND = "relay"
PREFERRED_CIPHER = "aes128-gcm@openssh.com"
READ_BUFFER = 128 * 1024
# How long to wait for the child's end and its last output after its connection has ended (seconds).
LAST_WORDS_SECONDS = 1.0
# How long the child may take to end before it gets SIGTERM (seconds).
GRACE_SECONDS = 0.4
# Bytes of the child's standard error: kept before authentication, to name the cause of a failure; and logged
# after it, over the life of the connection.
MAX_STDERR_KEPT = 8192
MAX_STDERR_LOGGED = 2000
# The exit status of ssh for its own errors; a lower status is the relay's.
SSH_FAULT = 255

_OPTIONS = (
    "BatchMode=yes",
    "PreferredAuthentications=publickey",
    "IdentitiesOnly=yes",
    "IdentityAgent=none",
    "StrictHostKeyChecking=yes",
    "GlobalKnownHostsFile=/dev/null",
    "UpdateHostKeys=no",
    "VerifyHostKeyDNS=no",
    "ControlMaster=no",
    "ControlPath=none",
    "PermitLocalCommand=no",
    f"Ciphers=^{PREFERRED_CIPHER}",
    # The default marks a session without a terminal as bulk traffic, to which networks may give low priority.
    "IPQoS=none",
    # VERBOSE reports the authentication, and what is wrong with a host key.
    "LogLevel=VERBOSE",
)
# Not the proxy's own environment. LC_ALL: messages on standard error must be in English.
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}
THROUGH = b"Authenticated to "
# Lines of statistics that ssh writes at its end.
_STATISTICS = (b"Transferred: ", b"Bytes per second: ")
_FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}")


class SshTransport(asyncio.BufferedProtocol):
    """One SSH connection with one channel; implements `sluice.proxy.clusters.transport.Transport`."""

    def __init__(self, config: ClusterConfig) -> None:
        self._config = config
        self._receiver: Receiver | None = None
        self._process: Process | None = None
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray(READ_BUFFER)
        self._view = memoryview(self._buffer)
        self._paused = False
        self._connected = False
        self._ended = False
        self._closed = False
        self._through = asyncio.Event()
        self._said = bytearray()
        self._logged = 0
        self._listening: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None

    # --- calls of the session -----------------------------------------------------------------------------

    async def connect(self, receiver: Receiver) -> None:
        """Connect, check the host key, authenticate and start the relay. Raises TransportError."""
        # Set now: the relay's first bytes may arrive before ssh's message about the authentication is read.
        self._receiver = receiver
        try:
            self._process = await self._spawn()
            self._listening = asyncio.create_task(self._listen(self._process))
            await self._until_through(self._process)
        except BaseException:
            self.close()
            raise
        log.info("ssh connection made", extra={"cluster": self._config.name})
        self._connected = True
        if self._ended:
            self._say_lost()

    def can_write(self) -> bool:
        """Return whether the buffer has room. If not, `writable` follows."""
        return not self._paused

    def write(self, data: bytes) -> None:
        """Send bytes to the child, or buffer them."""
        if self._transport is not None:
            self._transport.write(data)

    def close(self) -> None:
        """Close the connection: the child ends at the end of its input, or gets SIGTERM a moment later."""
        if self._closed:
            return
        self._closed = True
        if self._transport is not None:
            self._transport.abort()
        if self._process is not None:
            # Not at once: signalling a child that has just ended would reap it and lose its status.
            asyncio.get_running_loop().call_later(GRACE_SECONDS, _end, self._process)

    async def wait_closed(self) -> None:
        """After `close`, wait until the child has ended; kill it if it does not end."""
        process = self._process
        if process is None:
            return
        try:
            async with asyncio.timeout(GRACE_SECONDS + LAST_WORDS_SECONDS):
                await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        await self._last_words()

    # --- the child ----------------------------------------------------------------------------------------

    async def _spawn(self) -> Process:
        """Start the child with one end of a socket pair and keep the other. Raises TransportError."""
        try:
            ours, theirs = socket.socketpair()
        except OSError as error:
            raise TransportError(f"no sockets can be created for {PROGRAM}: {error.strerror}") from None
        ours.setblocking(False)
        try:
            process = await asyncio.create_subprocess_exec(
                *arguments(self._config),
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=asyncio.subprocess.PIPE,
                env=ENVIRONMENT,
                # A separate process session: a terminal's signals to the proxy do not end its connections.
                start_new_session=True,
            )
        except OSError as error:
            ours.close()
            raise TransportError(
                f"the program {PROGRAM} cannot be started ({error.strerror}); install the OpenSSH client"
            ) from None
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        await asyncio.get_running_loop().create_connection(lambda: self, sock=ours)
        return process

    async def _until_through(self, process: Process) -> None:
        """Wait until the key is accepted. Raises TransportError if it is not, or not in time."""
        through = asyncio.create_task(self._through.wait())
        ended = asyncio.create_task(process.wait())
        try:
            # The child has its own timeout for the network; this one covers the whole handshake.
            await asyncio.wait(
                (through, ended),
                timeout=self._config.connect_timeout + LAST_WORDS_SECONDS,
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            through.cancel()
            ended.cancel()
        if process.returncode is not None:
            await self._last_words()
        if self._through.is_set():
            return
        if process.returncode is None:
            raise TransportError(
                f"{self._config.host} did not complete the SSH handshake within "
                f"{self._config.connect_timeout:g} s"
            )
        raise refusal(self._said.decode("utf-8", "replace"), self._config)

    async def _listen(self, process: Process) -> None:
        """Read the child's standard error: ssh's messages first, the far side's after authentication."""
        stream = process.stderr
        while stream is not None and (text := await stream.read(4096)):
            if self._through.is_set():
                self._log(text)
                continue
            self._said += text[: MAX_STDERR_KEPT - len(self._said)]
            if THROUGH in self._said:
                self._through.set()

    def _log(self, text: bytes) -> None:
        text = b" ".join(line for line in text.splitlines() if not line.startswith(_STATISTICS))
        room = MAX_STDERR_LOGGED - self._logged
        if text and room > 0 and not self._closed:
            self._logged += len(text)
            log.warning(
                "said on standard error: %s", printable(text[:room]), extra={"cluster": self._config.name}
            )

    async def _last_words(self) -> None:
        """Wait a short time until standard error is read to its end."""
        if self._listening is not None:
            await asyncio.wait((self._listening,), timeout=LAST_WORDS_SECONDS)

    # --- from the event loop --------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the transport of this side's socket."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=WRITE_BUFFER)

    def get_buffer(self, sizehint: int) -> bytearray:
        """Return the buffer into which everything is read."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Pass the bytes to the receiver."""
        if self._receiver is not None and not self._closed:
            self._receiver.data_received(bytes(self._view[:nbytes]))

    def pause_writing(self) -> None:
        """Note that the buffer is full."""
        self._paused = True

    def resume_writing(self) -> None:
        """Note that the buffer has room again."""
        self._paused = False
        if self._receiver is not None and not self._closed:
            self._receiver.writable()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the child has closed its end."""
        self._ended = True
        if self._connected:
            self._say_lost()

    def _say_lost(self) -> None:
        if self._ending is None:
            self._ending = asyncio.create_task(self._tell_ending())

    async def _tell_ending(self) -> None:
        """Report how the connection ended; the exit status may come a moment after the last byte."""
        process, receiver = self._process, self._receiver
        if process is None or receiver is None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS_SECONDS):
                await process.wait()
        status = process.returncode
        _end(process)
        receiver.connection_lost(TransportError(_ending(status)))


def arguments(config: ClusterConfig) -> list[str]:
    """Return the child's command line. It contains no secrets, only names of files."""
    return [PROGRAM, *options(config), "--", f"{config.user}@{config.host}", COMMAND]


def options(config: ClusterConfig) -> list[str]:
    """Return the options with which ssh connects as the proxy, and with nothing else of this host."""
    settings = (
        *_OPTIONS,
        f"UserKnownHostsFile={config.known_hosts}",
        f"ConnectTimeout={max(1, round(config.connect_timeout))}",
    )
    found = ["-F", "none", "-T", "-a", "-x", "-i", config.key_file, "-p", str(config.port)]
    for setting in settings:
        found += ["-o", setting]
    return found


def refusal(said: str, config: ClusterConfig) -> TransportError:
    """Return the error for a failed connection; `said` is ssh's standard error."""
    if "host key is known for" in said:
        return HostKeyChanged(
            f"{config.known_hosts} pins no host key for {config.host}:{config.port}; "
            "run the playbook to pin one"
        )
    if "Host key verification failed" in said:
        shown = _FINGERPRINT.search(said)
        return HostKeyChanged(
            f"{config.host} has the host key {(shown[0] if shown else '(not told)')}, which is not "
            f"the one pinned in {config.known_hosts}; if the key was replaced on purpose, pin the new "
            "one with the playbook"
        )
    if key := _line(said, "Load key ", f"Identity file {config.key_file} "):
        return AuthenticationFailed(f"{config.key_file} cannot be used as a key: {key}")
    if _line(said, "Permission denied ("):
        return AuthenticationFailed(
            f"{config.host} does not accept the key in {config.key_file} for {config.user}"
        )
    if unreachable := _line(said, "ssh: connect to host ", "ssh: Could not resolve hostname "):
        return TransportError(f"{config.host}:{config.port} cannot be reached: {unreachable}")
    return TransportError(f"{config.host} ended the SSH handshake: {_line(said, '') or 'without a message'}")


def _line(said: str, *words: str) -> str:
    """Return the last line that contains one of the words, made printable, "" if there is none."""
    lines = [line for line in said.splitlines() if line.strip() and any(word in line for word in words)]
    return printable(lines[-1].encode())[:200] if lines else ""


def printable(text: bytes) -> str:
    """Return text of the other side as one line without control characters."""
    return "".join(char if char.isprintable() else " " for char in text.decode("utf-8", "replace")).strip()


def _ending(status: int | None) -> str:
    if status is None or status == SSH_FAULT or status < 0:
        return "the connection was closed"
    return f"the relay ended with status {status}; see the login node's system log for the reason"


def _end(process: Process) -> None:
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
