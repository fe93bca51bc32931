"""With the proxy's own key, whatever is asked for: only the relay's bytes come back, nothing else runs.

Each test is one attack, against a real sshd that is otherwise as permissive as it can be, once confined by
the drop-in alone and once by the key's options alone.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sluice.wire.frames import Decoder, Frame, FrameType
from tests.integration.login import INSIDE, PYTHON, LoginNode, account_processes, free_port, relay_processes

pytestmark = pytest.mark.integration

SECONDS = 60


def run(argv: list[str], stdin: bytes = b"", **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run a client to its end."""
    return subprocess.run(
        argv, input=stdin, capture_output=True, timeout=SECONDS, env={**os.environ, **environment}
    )


def only_the_relay(output: bytes) -> list[Frame]:
    """Check that the output is the wire's frames from a hello on, and return them."""
    decoder = Decoder()
    frames = decoder.feed(output)
    assert frames, "the relay said nothing"
    assert frames[0].type == FrameType.HELLO
    assert {frame.type for frame in frames} <= {FrameType.HELLO, FrameType.GO_AWAY, FrameType.CREDIT}
    assert sum(8 + len(frame.payload) for frame in frames) == len(output), "bytes that are no frame"
    return frames


@contextmanager
def held(argv: list[str], **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """Hold a client open for the time of a test."""
    client = subprocess.Popen(
        argv,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **environment},
    )
    try:
        yield client
    finally:
        client.kill()
        client.communicate()
        wait_for_no_relay()


def relays() -> list[int]:
    """Return the pids of the relays that run now."""
    return relay_processes()


def wait_for_no_relay() -> None:
    """Wait until the relays of the test before are gone: they would be taken for this one's."""
    deadline = time.monotonic() + SECONDS
    while relays():
        assert time.monotonic() < deadline, "a relay outlives its session"
        time.sleep(0.05)


def relay_pid(node: LoginNode) -> int:
    """Wait for the relay behind a held session and return its pid."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        found = relays()
        if found:
            return found[0]
        time.sleep(0.05)
    raise AssertionError("no relay came up: " + node.sshd_log())


def marker(node: LoginNode, name: str) -> tuple[str, Path]:
    """Return a path that an attack tries to make, as seen inside and outside."""
    return f"{INSIDE}/home/{name}", node.directory / "home" / name


def test_trying_a_command(half_secured: LoginNode) -> None:
    inside, outside = marker(half_secured, "command")
    done = run(half_secured.ssh(command=("touch", inside)))
    only_the_relay(done.stdout)
    assert done.stderr == b""
    assert not outside.exists()


@pytest.mark.parametrize(
    "trick", ["$(touch {})", "; touch {}", "`touch {}`", "\ntouch {}\n", "--config /dev/null; touch {}"]
)
def test_trying_a_command_with_shell_syntax(half_secured: LoginNode, trick: str) -> None:
    inside, outside = marker(half_secured, "syntax")
    only_the_relay(run(half_secured.ssh(command=(trick.format(inside),))).stdout)
    assert not outside.exists()


def test_trying_a_shell(half_secured: LoginNode) -> None:
    inside, outside = marker(half_secured, "shell")
    frames = only_the_relay(run(half_secured.ssh(), f"touch {inside}\nid\nexit\n".encode()).stdout)
    assert frames[-1].type == FrameType.GO_AWAY
    assert not outside.exists()


def test_trying_a_pty(half_secured: LoginNode) -> None:
    done = run(half_secured.ssh("-tt"), b"id\n")
    assert b"PTY allocation request failed" in done.stderr
    # The client gives up or goes on without one, as its version has it.
    if done.stdout:
        only_the_relay(done.stdout)


def test_trying_sftp(half_secured: LoginNode) -> None:
    inside, outside = marker(half_secured, "sftp")
    argv = ["sftp", *half_secured.options(), "-P", str(half_secured.port), "-b", "-"]
    source = half_secured.directory / "sluice.pyz"
    done = run([*argv, "sluice-test@127.0.0.1"], f"put {source} {inside}\n".encode())
    assert done.returncode != 0
    assert not outside.exists()


@pytest.mark.parametrize("subsystem", ["sftp", "anything"])
def test_trying_a_subsystem(half_secured: LoginNode, subsystem: str) -> None:
    done = run(half_secured.ssh("-s", command=(subsystem,)))
    if done.stdout:
        only_the_relay(done.stdout)
    else:
        assert b"subsystem request failed" in done.stderr


@pytest.mark.parametrize("protocol", ["-O", "-s"])
def test_trying_scp(half_secured: LoginNode, protocol: str) -> None:
    inside, outside = marker(half_secured, "scp")
    source = str(half_secured.directory / "sluice.pyz")
    argv = ["scp", protocol, *half_secured.options(), "-P", str(half_secured.port)]
    assert run([*argv, source, f"sluice-test@127.0.0.1:{inside}"]).returncode != 0
    assert not outside.exists()


def test_trying_scp_to_read(half_secured: LoginNode, tmp_path: Path) -> None:
    argv = ["scp", "-O", *half_secured.options(), "-P", str(half_secured.port)]
    with held([*argv, "sluice-test@127.0.0.1:/etc/passwd", str(tmp_path / "stolen")]):
        # scp takes the first byte of the relay's hello for a yes, and waits.
        relay_pid(half_secured)
        time.sleep(0.5)
    assert not (tmp_path / "stolen").exists()


def test_trying_local_forwarding(half_secured: LoginNode) -> None:
    with socket.create_server(("127.0.0.1", 0)) as target:
        target.settimeout(1)
        local = free_port()
        forward = f"127.0.0.1:{local}:127.0.0.1:{target.getsockname()[1]}"
        with held(half_secured.ssh("-N", "-L", forward)):
            connection = connect(("127.0.0.1", local))
            assert connection.recv(10) == b""
            connection.close()
        with pytest.raises(socket.timeout):
            target.accept()


def test_trying_dynamic_forwarding(half_secured: LoginNode) -> None:
    with socket.create_server(("127.0.0.1", 0)) as target:
        target.settimeout(1)
        local = free_port()
        with held(half_secured.ssh("-N", "-D", f"127.0.0.1:{local}")):
            connection = connect(("127.0.0.1", local))
            port = target.getsockname()[1].to_bytes(2, "big")
            connection.sendall(b"\x05\x01\x00" + b"\x05\x01\x00\x01\x7f\x00\x00\x01" + port)
            connection.close()
        with pytest.raises(socket.timeout):
            target.accept()


def test_trying_remote_forwarding(half_secured: LoginNode) -> None:
    remote = free_port()
    done = run(
        half_secured.ssh("-N", "-o", "ExitOnForwardFailure=yes", "-R", f"127.0.0.1:{remote}:127.0.0.1:22")
    )
    assert done.returncode != 0
    assert b"remote port forwarding failed" in done.stderr


def test_trying_standard_input_forwarding(half_secured: LoginNode) -> None:
    with socket.create_server(("127.0.0.1", 0)) as target:
        target.settimeout(1)
        done = run(half_secured.ssh("-W", f"127.0.0.1:{target.getsockname()[1]}"), b"hello")
        assert done.returncode != 0
        assert done.stdout == b""
        with pytest.raises(socket.timeout):
            target.accept()


def test_trying_local_forwarding_to_a_unix_socket(half_secured: LoginNode, tmp_path: Path) -> None:
    path = half_secured.directory / "home" / "target.sock"
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as target:
        target.bind(str(path))
        path.chmod(0o777)
        target.listen()
        target.settimeout(1)
        local = tmp_path / "local.sock"
        with held(half_secured.ssh("-N", "-L", f"{local}:{INSIDE}/home/target.sock")):
            connection = connect(str(local))
            assert connection.recv(10) == b""
            connection.close()
        with pytest.raises(socket.timeout):
            target.accept()


def test_trying_remote_forwarding_of_a_unix_socket(half_secured: LoginNode) -> None:
    inside, outside = marker(half_secured, "remote.sock")
    done = run(half_secured.ssh("-N", "-o", "ExitOnForwardFailure=yes", "-R", f"{inside}:/dev/null"))
    assert done.returncode != 0
    assert not outside.exists()


def test_trying_agent_and_x11_forwarding_and_an_environment(half_secured: LoginNode, tmp_path: Path) -> None:
    agent = subprocess.run(["ssh-agent", "-s"], capture_output=True, text=True, check=True).stdout
    variables = dict(part.split("=", 1) for part in agent.split(";") if part.strip().startswith("SSH_A"))
    pid = int(agent.split("SSH_AGENT_PID=")[1].split(";")[0])
    evil = "-o", "SetEnv=LD_PRELOAD=/evil.so PYTHONPATH=/evil PYTHONSTARTUP=/evil BASH_ENV=/evil LC_ALL=evil"
    try:
        with held(half_secured.ssh("-A", "-Y", *evil), DISPLAY="127.0.0.1:9", **variables):
            raw = Path(f"/proc/{relay_pid(half_secured)}/environ").read_bytes()
    finally:
        os.kill(pid, 15)
    found = dict(entry.split(b"=", 1) for entry in raw.rstrip(b"\0").split(b"\0"))
    assert set(found) == {b"PATH", b"LANG", b"SSH_CONNECTION"}
    assert found[b"PATH"] == b"/usr/bin:/bin"


def test_trying_a_tunnel(half_secured: LoginNode) -> None:
    done = run(half_secured.ssh("-N", "-o", "ExitOnForwardFailure=yes", "-w", "any:any"))
    assert done.returncode != 0
    assert b"unnel" in done.stderr


def test_trying_a_second_session_on_one_connection(half_secured: LoginNode, tmp_path: Path) -> None:
    control = str(tmp_path / "control")
    inside, outside = marker(half_secured, "second")
    with held(half_secured.ssh("-M", "-S", control)):
        relay_pid(half_secured)
        only_the_relay(run(half_secured.ssh("-S", control, command=("touch", inside))).stdout)
    assert not outside.exists()


def test_trying_the_rc_file(half_secured: LoginNode) -> None:
    only_the_relay(run(half_secured.ssh()).stdout)
    assert not (half_secured.directory / "home" / "rc-ran").exists()


def test_trying_a_key_of_ones_own(login: LoginNode) -> None:
    done = run(login.ssh(key="stranger"))
    assert done.returncode == 255
    assert b"Permission denied (publickey)" in done.stderr


def test_trying_a_password(login: LoginNode) -> None:
    done = run(
        login.ssh("-o", "PreferredAuthentications=password,keyboard-interactive", "-o", "BatchMode=no")
    )
    assert b"Permission denied (publickey)" in done.stderr


def test_nothing_but_the_relay_runs(login: LoginNode) -> None:
    with held(login.ssh(command=("/bin/bash", "-i"))):
        relay_pid(login)
        time.sleep(0.3)
        running = [argv for _, argv in account_processes() if not argv[0].startswith("sshd:")]
    config = f"{INSIDE}/etc/relay.json"
    assert sorted(running) == [
        [PYTHON, "-I", "-S", f"{INSIDE}/sluice.pyz", "relay", "--config", config],
        # The shell by which sshd starts the forced command.
        ["sh", "-c", f"{INSIDE}/etc/relay"],
    ]


def test_the_relay_ends_with_its_session(login: LoginNode) -> None:
    with held(login.ssh()):
        pid = relay_pid(login)
    deadline = time.monotonic() + 5
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < deadline, "the relay outlives its session"
        time.sleep(0.05)


def connect(address: object) -> socket.socket:
    """Connect to a forwarding of the client, once it listens."""
    deadline = time.monotonic() + SECONDS
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    while True:
        connection = socket.socket(family)
        connection.settimeout(5)
        try:
            connection.connect(address)  # type: ignore[arg-type]  # goes with the family
        except OSError:
            connection.close()
            assert time.monotonic() < deadline, "the client does not listen"
            time.sleep(0.05)
        else:
            return connection
