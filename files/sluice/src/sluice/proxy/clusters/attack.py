"""Tries, with the proxy's own key, what a thief of the key would try: a login node must refuse all of it.

A wrong sshd is found by trying here. What gives no answer to the client is not tried: environment variables,
agent and X11 forwarding (nothing of them reaches a relay), and tunnels (ssh needs root for them). Nor are
other keys and passwords: programs such as fail2ban would shut the gateway out. The login node's own check
reads these settings (`sluice_health`, part `relay`).
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from sluice.proxy.clusters.ssh import ENVIRONMENT, PROGRAM, THROUGH, options, printable, refusal
from sluice.proxy.clusters.transport import TransportError
from sluice.proxy.config import ClusterConfig
from sluice.wire.frames import HEADER_BYTES, Decoder, FrameType, ProtocolError

# How many connections at once: sshd may bound those of one address that have not signed in.
AT_ONCE = 3
# How long a refusal may take after the connection is made, in seconds.
PATIENCE = 10.0
MAX_TOLD = 100

_MARK = "sluice-attack"
# The first message of a client of SFTP, version 3.
_SFTP = bytes((0, 0, 0, 5, 1, 0, 0, 0, 3))
# Without -N: where the forwarding is granted, ssh ends with the relay.
_FORWARD = ("-o", "ExitOnForwardFailure=yes", "-R")
_OF_A_RELAY = frozenset((FrameType.HELLO, FrameType.GO_AWAY, FrameType.CREDIT))
_AUTHENTICATED = THROUGH.decode()
_PROHIBITED = "administratively prohibited"
# Of a Unix socket sshd tells no reason. This one exists on almost every host, and all may connect to it.
_SOCKET = "/run/dbus/system_bus_socket"
_NOT_OPENED = "open failed: "


class Outcome(NamedTuple):
    """How an attack ended; `ended` is False if ssh still ran after PATIENCE."""

    output: bytes
    said: str
    ended: bool


class Attack(NamedTuple):
    """What is asked for, how ssh asks for it, how a refusal looks, and what in sshd refuses it."""

    name: str
    options: tuple[str, ...]
    command: tuple[str, ...]
    stdin: bytes
    refused: Callable[[Outcome], bool]
    setting: str


class Result(NamedTuple):
    """The end of one attack: `problem` is "" if the login node refused it."""

    name: str
    problem: str


def only_a_relay(outcome: Outcome) -> bool:
    """Return whether the whole output is a relay's frames, from its hello on, and the session ended."""
    try:
        frames = Decoder().feed(outcome.output)
    except ProtocolError:
        return False
    whole = sum(HEADER_BYTES + len(frame.payload) for frame in frames) == len(outcome.output)
    types = [frame.type for frame in frames]
    return outcome.ended and whole and types[:1] == [FrameType.HELLO] and _OF_A_RELAY.issuperset(types)


def attacks() -> Iterator[Attack]:
    """Return all attacks that one run of ssh makes."""
    shell = f"echo {_MARK}; id\nexit\n".encode()
    command = ("echo", _MARK)
    yield Attack("a command", (), command, b"", only_a_relay, "ForceCommand")
    yield Attack("a shell", (), (), shell, only_a_relay, "ForceCommand")
    yield Attack("bytes that are no frames", (), (), os.urandom(65_536), only_a_relay, "ForceCommand")
    yield Attack("sftp", ("-s",), ("sftp",), _SFTP, _no_subsystem, "ForceCommand")
    # The second -t asks although standard input is no terminal.
    yield Attack("a terminal", ("-tt",), command, b"", _says("PTY allocation request failed"), "PermitTTY no")
    to_sshd = ("-W", "127.0.0.1:22")
    yield Attack("a connection to a port", to_sshd, (), b"", _says(_PROHIBITED), "AllowTcpForwarding no")
    port = (*_FORWARD, "127.0.0.1:0:127.0.0.1:9")
    failed = _says("remote port forwarding failed")
    yield Attack("a port that listens", port, (), b"", failed, "AllowTcpForwarding no")
    there = f"/tmp/{_MARK}-{secrets.token_hex(8)}"  # noqa: S108 - on the login node, should it be granted
    listening = (*_FORWARD, f"{there}:127.0.0.1:9")
    yield Attack("a socket that listens", listening, (), b"", failed, "AllowStreamLocalForwarding no")


def attack(config: ClusterConfig) -> list[Result]:
    """Make all attacks on a login node. Raises TransportError if it cannot be reached or refuses the key."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        socket_ = pool.submit(_to_a_socket, config)
        results = list(pool.map(lambda one: _one(config, one), attacks()))
        return [*results, socket_.result()]


def _one(config: ClusterConfig, one: Attack) -> Result:
    argv = _argv(config, one.options, one.command)
    try:
        done = subprocess.run(
            argv,
            input=one.stdin,
            capture_output=True,
            timeout=config.connect_timeout + PATIENCE,
            env=ENVIRONMENT,
            check=False,
        )
        outcome = Outcome(done.stdout, done.stderr.decode("utf-8", "replace"), ended=True)
    except subprocess.TimeoutExpired as error:
        outcome = Outcome(error.stdout or b"", (error.stderr or b"").decode("utf-8", "replace"), ended=False)
    except OSError as error:
        raise TransportError(f"the program {PROGRAM} cannot be started ({error.strerror})") from None
    return _judged(config, one.name, one.setting, outcome, refused=one.refused(outcome))


def _to_a_socket(config: ClusterConfig) -> Result:
    """Ask for a connection to a Unix socket there: ssh asks when somebody connects to its own socket here."""
    # Not in TMPDIR: a socket's path has at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix=f"{_MARK}-", dir="/tmp") as folder:
        near = Path(folder, "near.sock")
        # Not -N: if this process is killed, its end of ssh's input closes, and with the relay ssh ends too.
        argv = _argv(config, ("-L", f"{near}:{_SOCKET}"), ())
        with subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT
        ) as ssh:
            _connect_once(near, ssh, config.connect_timeout)
            # Not SIGTERM: ssh can miss it between two looks at its connections, and stay.
            ssh.kill()
            _, said = ssh.communicate()
    outcome = Outcome(b"", said.decode("utf-8", "replace"), ended=True)
    setting, refused = "AllowStreamLocalForwarding no", _NOT_OPENED in _said_through(outcome)
    return _judged(config, "a connection to a socket", setting, outcome, refused=refused)


def _connect_once(near: Path, ssh: subprocess.Popen[bytes], seconds: float) -> None:
    """Connect to ssh's own socket as soon as it listens, and wait until ssh closes the connection."""
    deadline = time.monotonic() + seconds
    while ssh.poll() is None and time.monotonic() < deadline:
        with socket.socket(socket.AF_UNIX) as client, contextlib.suppress(OSError):
            client.settimeout(PATIENCE)
            client.connect(str(near))
            client.recv(1)
            return
        time.sleep(0.02)


def _judged(config: ClusterConfig, name: str, setting: str, outcome: Outcome, *, refused: bool) -> Result:
    if _AUTHENTICATED not in outcome.said:
        raise refusal(outcome.said, config)
    if refused:
        return Result(name, "")
    text = printable(outcome.output[:MAX_TOLD] or outcome.said[-MAX_TOLD:].encode())
    how = "answered" if outcome.ended else "did not refuse it in time and said"
    return Result(name, f"not refused ({setting}): sshd {how} {text!r}")


def _argv(config: ClusterConfig, further: tuple[str, ...], command: tuple[str, ...]) -> list[str]:
    return [PROGRAM, *options(config), *further, "--", f"{config.user}@{config.host}", *command]


def _says(words: str) -> Callable[[Outcome], bool]:
    return lambda outcome: outcome.ended and words in _said_through(outcome)


def _said_through(outcome: Outcome) -> str:
    """Return what ssh said after the authentication: a site's banner before it may have any words."""
    return outcome.said.partition(_AUTHENTICATED)[2]


def _no_subsystem(outcome: Outcome) -> bool:
    return _says("subsystem request failed")(outcome) or only_a_relay(outcome)
