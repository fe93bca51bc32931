"""`sluice proxy --attack`, as the check on the gateway runs it: a wrong sshd is found by trying it."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sluice.proxy.clusters import attack
from tests.integration.conftest import MakeNode
from tests.integration.login import ACCOUNT, INSIDE, PYTHON, LoginNode, Secured
from tests.integration.test_login_node_as_it_comes import cluster_of, on_the_gateway

pytestmark = pytest.mark.integration

ALL = {*(one.name for one in attack.attacks()), "a connection to a socket"}
COMMANDS = {"a command", "a shell", "bytes that are no frames", "sftp"}
LOCAL = "DisableForwarding no\n    AllowTcpForwarding local\n    PermitOpen any"
REMOTE = "DisableForwarding no\n    AllowTcpForwarding remote\n    PermitListen any"
# A site's own launcher, which runs what is asked for.
OBEDIENT = f'ForceCommand /bin/sh -c "exec $SSH_ORIGINAL_COMMAND {INSIDE}"'


@pytest.fixture
def make_node(make_node: MakeNode) -> Iterator[MakeNode]:
    """Start a login node as a test wants it, with D-Bus."""
    with contextlib.ExitStack() as stack:

        def make(secured: Secured) -> LoginNode:
            node = make_node(secured)
            _start_dbus(node, stack)
            return node

        yield make


def _start_dbus(node: LoginNode, stack: contextlib.ExitStack) -> None:
    """Let a socket listen where D-Bus has its own, for as long as the node runs."""
    program = (
        "import os, socket, time; os.mkdir('/run/dbus'); listening = socket.socket(socket.AF_UNIX);"
        "listening.bind('/run/dbus/system_bus_socket'); os.chmod('/run/dbus/system_bus_socket', 0o666);"
        "listening.listen(); print(flush=True); time.sleep(600)"
    )
    inside = ["nsenter", "--target", str(node.inner_pid), "--mount", "--pid", "--", PYTHON, "-c", program]
    started = stack.enter_context(subprocess.Popen(inside, stdout=subprocess.PIPE))
    stack.callback(started.kill)
    assert started.stdout is not None
    assert started.stdout.read(1) == b"\n"


def attacked(node: LoginNode, tmp_path: Path, status: int) -> dict[str, str]:
    """Attack a login node; return the problem of each attack."""
    done = on_the_gateway(node, tmp_path, "--attack", "--json")
    assert done.returncode == status, done.stdout + done.stderr
    (told,) = json.loads(done.stdout)["login_nodes"]
    assert (told["cluster"], told["host"], told["problem"]) == ("test", "127.0.0.1", "")
    return {one["name"]: one["problem"] for one in told["attacks"]}


def test_a_node_that_either_of_both_confines_refuses_all(half_secured: LoginNode, tmp_path: Path) -> None:
    assert attacked(half_secured, tmp_path, 0) == dict.fromkeys(ALL, "")


@pytest.mark.parametrize(
    ("earlier", "found", "remedy"),
    [
        ("ForceCommand none", COMMANDS, "ForceCommand"),
        ("ForceCommand internal-sftp", COMMANDS, "ForceCommand"),
        (OBEDIENT, COMMANDS, "ForceCommand"),
        ("PermitTTY yes", {"a terminal"}, "PermitTTY no"),
        (f"{LOCAL}\n    AllowStreamLocalForwarding no", {"a connection to a port"}, "AllowTcpForwarding no"),
        (f"{REMOTE}\n    AllowStreamLocalForwarding no", {"a port that listens"}, "AllowTcpForwarding no"),
        (
            f"{LOCAL}\n    AllowStreamLocalForwarding local",
            {"a connection to a port", "a connection to a socket"},
            "",
        ),
        (
            f"{REMOTE}\n    AllowStreamLocalForwarding remote",
            {"a port that listens", "a socket that listens"},
            "",
        ),
    ],
)
def test_what_a_site_says_first_and_opens_the_node_by_is_found(
    earlier: str, found: set[str], remedy: str, make_node: MakeNode, tmp_path: Path
) -> None:
    site = f"Match User {ACCOUNT}\n    {earlier}\nMatch all\n"
    told = attacked(make_node(Secured(True, False, earlier=site)), tmp_path, 1)
    assert told.keys() == ALL
    problems = {name: problem for name, problem in told.items() if problem}
    assert problems.keys() == found
    assert all(f"not refused ({remedy or _of(name)})" in problem for name, problem in problems.items())


def _of(name: str) -> str:
    return "AllowStreamLocalForwarding no" if "socket" in name else "AllowTcpForwarding no"


def test_the_words_of_a_banner_are_no_refusal(make_node: MakeNode, tmp_path: Path) -> None:
    opened = f"{LOCAL}\n    AllowStreamLocalForwarding local\n    PermitTTY yes\n    Banner {INSIDE}/banner"
    site = f"Match User {ACCOUNT}\n    {opened}\nMatch all\n"
    node = make_node(Secured(True, False, earlier=site))
    words = ("administratively prohibited", "open failed: ", "PTY allocation request failed")
    (node.directory / "banner").write_text("\n".join(words))
    told = attacked(node, tmp_path, 1)
    found = {name for name, problem in told.items() if problem}
    assert found == {"a connection to a port", "a connection to a socket", "a terminal"}


def test_a_long_name_of_the_folder_for_temporary_files_is_no_opening(
    half_secured: LoginNode, tmp_path: Path
) -> None:
    long = tmp_path / ("x" * 120)
    long.mkdir()
    done = on_the_gateway(half_secured, tmp_path, "--attack", TMPDIR=str(long))
    assert done.returncode == 0, done.stdout


def test_nothing_runs_on_after_an_attack_that_was_killed(
    half_secured: LoginNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An ssh that only forwards would hold the gateway's key's session for good."""
    started: list[subprocess.Popen[bytes]] = []

    def killed(near: Path, ssh: subprocess.Popen[bytes], _seconds: float) -> None:
        for _ in range(500):
            if near.exists():
                break
            time.sleep(0.02)
        assert near.exists()
        # As the kernel does it for a process that is killed.
        if ssh.stdin is not None:
            ssh.stdin.close()
            ssh.stdin = None
        started.append(ssh)
        with contextlib.suppress(subprocess.TimeoutExpired):
            ssh.wait(10)

    monkeypatch.setattr(attack, "_connect_once", killed)
    attack._to_a_socket(cluster_of(half_secured))
    assert [ssh.returncode for ssh in started] == [0]


def test_people_read_a_line_for_each_attack(half_secured: LoginNode, tmp_path: Path) -> None:
    done = on_the_gateway(half_secured, tmp_path, "--attack")
    first, *lines = done.stdout.splitlines()
    assert first == "127.0.0.1 (cluster test)"
    assert set(lines) == {f"  {name}: refused" for name in ALL}


def test_a_node_that_cannot_be_attacked_is_not_taken_for_a_good_one(
    make_node: MakeNode, tmp_path: Path
) -> None:
    node = make_node(Secured(True, True, earlier="AllowUsers alice\n"))
    done = on_the_gateway(node, tmp_path, "--attack", "--json")
    assert done.returncode == 1, done.stdout
    (told,) = json.loads(done.stdout)["login_nodes"]
    assert "does not accept the key" in told["problem"] and told["attacks"] == []
    node.stop()
    (gone,) = json.loads(on_the_gateway(node, tmp_path, "--attack", "--json").stdout)["login_nodes"]
    assert "cannot be reached" in gone["problem"]
