"""The SSH client's command line, and the errors that are read from its messages."""

from __future__ import annotations

import asyncio
import errno
import socket
import stat
from pathlib import Path

import pytest

from sluice.proxy.clusters import ssh
from sluice.proxy.clusters.transport import AuthenticationFailed, HostKeyChanged, TransportError
from sluice.proxy.config import ClusterConfig
from tests.unit.proxy.conftest import eventually

CONFIG = ClusterConfig(
    name="demo",
    host="login.example.org",
    port=2222,
    user="sluice-relay",
    key_file="/etc/sluice/ssh/id_ed25519",
    known_hosts="/etc/sluice/ssh/known_hosts",
    connect_timeout=2.0,
)
SHOWN = "SHA256:" + "x" * 43
CHANGED = f"""\
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @
The fingerprint for the ED25519 key sent by the remote host is
{SHOWN}.
Host key for [login.example.org]:2222 has changed and you have requested strict checking.
Host key verification failed.
"""
UNKNOWN = """\
No ED25519 host key is known for [login.example.org]:2222 and you have requested strict checking.
Host key verification failed.
"""
MISSING = """\
Warning: Identity file /etc/sluice/ssh/id_ed25519 not accessible: No such file or directory.
sluice-relay@login.example.org: Permission denied (publickey).
"""
UNREADABLE = """\
Load key "/etc/sluice/ssh/id_ed25519": Permission denied
sluice-relay@login.example.org: Permission denied (publickey).
"""


@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [
        (CHANGED, HostKeyChanged, (SHOWN, "/etc/sluice/ssh/known_hosts", "playbook")),
        (UNKNOWN, HostKeyChanged, ("pins no host key for login.example.org:2222", "playbook")),
        (MISSING, AuthenticationFailed, ("cannot be used as a key", "No such file")),
        (UNREADABLE, AuthenticationFailed, ("cannot be used as a key", "Permission denied")),
        (
            "sluice-relay@login.example.org: Permission denied (publickey).\n",
            AuthenticationFailed,
            ("does not accept the key in /etc/sluice/ssh/id_ed25519 for sluice-relay",),
        ),
        (
            "ssh: connect to host login.example.org port 2222: Connection refused\r\n",
            TransportError,
            ("login.example.org:2222 cannot be reached", "Connection refused"),
        ),
        (
            "ssh: Could not resolve hostname login.example.org: Name or service not known\r\n",
            TransportError,
            ("cannot be reached", "Name or service not known"),
        ),
        (
            "kex_exchange_identification: Connection closed by remote host\r\n",
            TransportError,
            ("ended the SSH handshake", "closed by remote host"),
        ),
        ("", TransportError, ("without a message",)),
    ],
)
def test_a_refusal_is_named_and_its_remedy_told(
    said: str, kind: type[TransportError], words: tuple[str, ...]
) -> None:
    refused = ssh.refusal(said, CONFIG)
    assert type(refused) is kind
    for word in words:
        assert word in str(refused)


def test_what_the_far_side_writes_does_not_reach_a_log_as_it_is() -> None:
    refused = str(ssh.refusal("\x1b[31mssh: connect to host x" + "y" * 5000, CONFIG))
    assert "\x1b" not in refused
    assert len(refused) < 400


def test_the_command_line_asks_nobody_and_trusts_only_the_pinned_keys() -> None:
    told = ssh.arguments(CONFIG)
    options = {told[at + 1] for at, word in enumerate(told) if word == "-o"}
    assert told[:3] == ["ssh", "-F", "none"]
    assert {
        "BatchMode=yes",
        "StrictHostKeyChecking=yes",
        "GlobalKnownHostsFile=/dev/null",
        "UserKnownHostsFile=/etc/sluice/ssh/known_hosts",
        "IdentitiesOnly=yes",
        "IdentityAgent=none",
    } <= options
    assert told[-3:] == ["--", "sluice-relay@login.example.org", "relay"]


# --- an ssh that does what the test wants ---------------------------------------------------------------


class Listener:
    """Takes what a transport brings."""

    def __init__(self) -> None:
        self.data = b""
        self.lost: asyncio.Future[TransportError] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        """Take bytes."""
        self.data += data

    def writable(self) -> None:
        """Take note of room."""

    def connection_lost(self, error: TransportError) -> None:
        """Take the end, which comes once."""
        self.lost.set_result(error)


def pretend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Put a program in ssh's place."""
    program = tmp_path / "ssh"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(ssh, "PROGRAM", str(program))


THROUGH = "echo 'Authenticated to login ([::1]:22) using \"publickey\".' >&2; "


async def test_bytes_go_both_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(tmp_path, monkeypatch, THROUGH + "exec cat")
    transport, listener = ssh.SshTransport(CONFIG), Listener()
    await transport.connect(listener)
    sent = bytes(range(256)) * 2000
    for at in range(0, len(sent), 50_000):
        await eventually(transport.can_write)
        transport.write(sent[at : at + 50_000])
    await eventually(lambda: len(listener.data) >= len(sent))
    assert listener.data == sent
    transport.close()
    await transport.wait_closed()


async def test_what_does_not_go_out_is_not_taken_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(tmp_path, monkeypatch, THROUGH + "exec sleep 60")
    transport = ssh.SshTransport(CONFIG)
    await transport.connect(Listener())
    for _ in range(100):
        if transport.can_write():
            transport.write(bytes(16_384))
    assert not transport.can_write()
    transport.close()
    await transport.wait_closed()


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (THROUGH + "exit 2", "the relay ended with status 2"),
        (THROUGH + "exit 255", "the connection was closed"),
        (THROUGH + "kill -9 $$", "the connection was closed"),
    ],
)
async def test_the_end_is_told_once_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, words: str
) -> None:
    pretend(tmp_path, monkeypatch, script)
    transport, listener = ssh.SshTransport(CONFIG), Listener()
    await transport.connect(listener)
    assert words in str(await asyncio.wait_for(listener.lost, 5))
    transport.close()
    await transport.wait_closed()


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo 'Host key verification failed.' >&2; exit 255", "is not the one pinned"),
        ("exit 255", "without a message"),
        ("exec sleep 60", "within 0.1 s"),
    ],
)
async def test_a_connection_that_does_not_come_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, words: str
) -> None:
    monkeypatch.setattr(ssh, "GRACE_SECONDS", 0.1)
    pretend(tmp_path, monkeypatch, script)
    config = ClusterConfig(**{**vars(CONFIG), "connect_timeout": 0.1})
    transport = ssh.SshTransport(config)
    with pytest.raises(TransportError, match=words):
        await transport.connect(Listener())
    await transport.wait_closed()


async def test_a_machine_without_the_program_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ssh, "PROGRAM", "/nowhere/ssh")
    with pytest.raises(TransportError, match="install the OpenSSH client"):
        await ssh.SshTransport(CONFIG).connect(Listener())


async def test_a_process_without_descriptors_is_told_and_tries_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail() -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    # Any other error would end the keeper of the session, and with it the whole proxy.
    monkeypatch.setattr(socket, "socketpair", fail)
    with pytest.raises(TransportError, match="Too many open files"):
        await ssh.SshTransport(CONFIG).connect(Listener())


async def test_a_talkative_far_side_is_logged_in_part_and_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pretend(
        tmp_path, monkeypatch, THROUGH + "sleep 0.1; yes canary | head -c 1000000 >&2; echo done; exec cat"
    )
    transport, listener = ssh.SshTransport(CONFIG), Listener()
    await transport.connect(listener)
    await eventually(lambda: listener.data == b"done\n")
    assert 0 < sum(len(record.message) for record in caplog.records) < 10_000
    transport.close()
    await transport.wait_closed()
