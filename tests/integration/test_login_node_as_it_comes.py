"""A login node with a site's own hand in it: what would lock the gateways out is told, with a real sshd."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import socket
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest

from module_utils import sluice_sshd
from sluice.proxy.config import ClusterConfig
from tests.integration.conftest import MakeNode
from tests.integration.login import ACCOUNT, INSIDE, LoginNode, Secured

pytestmark = pytest.mark.integration

SECONDS = 60
# As many as sshd lets in before it refuses everything (MaxStartups 10:30:100); before, it refuses by chance.
SILENT = 100
MOST_TRIES = 1500


def tried(node: LoginNode, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """Run `sluice proxy --try`, as playbooks/check.yml does on the gateway."""
    return on_the_gateway(node, tmp_path, "--try")


def cluster_of(node: LoginNode) -> ClusterConfig:
    """Return how the gateway reaches a node."""
    return ClusterConfig(
        name="test",
        host="127.0.0.1",
        port=node.port,
        user=ACCOUNT,
        key_file=str(node.directory / "keys" / "client"),
        known_hosts=str(node.directory / "known_hosts"),
    )


def on_the_gateway(
    node: LoginNode, tmp_path: Path, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run `sluice proxy` with a configuration that names this node alone."""
    config = tmp_path / "proxy.json"
    document = {
        "socket": "/run/http.sock",
        "authority_socket": "/run/a.sock",
        "clusters": [dataclasses.asdict(cluster_of(node))],
    }
    config.write_text(json.dumps(document))
    command = "import sys; from sluice.cli import main; sys.exit(main())"
    argv = [sys.executable, "-c", command, "proxy", "--config", str(config), *arguments]
    return subprocess.run(
        argv, capture_output=True, text=True, timeout=SECONDS, env=_environment() | environment
    )


def _environment() -> dict[str, str]:
    source = Path(__file__).resolve().parents[2] / "files" / "sluice" / "src"
    return {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(source)}


def effective(node: LoginNode) -> dict[str, list[str]]:
    """Return what sshd says that it would do with the relay's account, as check.yml asks it."""
    place = f"user={ACCOUNT},host=127.0.0.1,addr=127.0.0.1,laddr=127.0.0.1,lport={node.port}"
    argv = ["/usr/sbin/sshd", "-T", "-f", f"{INSIDE}/etc/sshd_config", "-C", place]
    inside = ["nsenter", "--target", str(node.inner_pid), "--mount", "--", *argv]
    done = subprocess.run(inside, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stderr
    return sluice_sshd.sshd_settings(done.stdout)


def complaints(node: LoginNode) -> list[str]:
    """Return what the check says against this node's sshd; the bed's own paths aside."""
    paths = {"forcecommand": f"{INSIDE}/etc/relay", "authorizedkeysfile": f"{INSIDE}/etc/authorized_keys"}
    settings = effective(node)
    with mock.patch.dict(sluice_sshd.CONFINED, paths):
        found = sluice_sshd.unconfined(settings)
    found += sluice_sshd.shut_out(settings, ACCOUNT, [ACCOUNT], "127.0.0.1")
    return found


def test_a_node_as_the_playbook_leaves_it_is_well(make_node: MakeNode, tmp_path: Path) -> None:
    node = make_node(Secured(True, True))
    done = tried(node, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "127.0.0.1 (cluster test): 0." in done.stdout
    assert complaints(node) == []


def test_text_of_etc_ssh_sshrc_is_told_as_what_it_is(make_node: MakeNode, tmp_path: Path) -> None:
    done = tried(make_node(Secured(True, True, sshrc="echo WELCOME to the cluster\n")), tmp_path)
    assert done.returncode == 1
    assert "text came before the relay's hello: 'WELCOME to the cluster" in done.stderr
    assert "/etc/ssh/sshrc" in done.stderr and "Traceback" not in done.stderr


def test_a_sshrc_that_writes_to_standard_error_is_let_be(make_node: MakeNode, tmp_path: Path) -> None:
    done = tried(make_node(Secured(True, True, sshrc="echo WELCOME >&2\n")), tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("earlier", "complaint"),
    [
        (
            "Match User *,!root\n    AuthenticationMethods publickey,keyboard-interactive\nMatch all\n",
            "authenticationmethods is publickey,keyboard-interactive",
        ),
        ("AllowGroups hpc-users\n", "allowgroups (hpc-users) keeps"),
        ("AllowUsers alice bob@10.*\n", "allowusers (alice bob@10.*) keeps"),
        ("DenyUsers sluice-*\n", "denyusers (sluice-*) keeps"),
        ("PubkeyAcceptedAlgorithms rsa-sha2-512\n", "lacks ssh-ed25519"),
    ],
)
def test_what_a_site_says_first_and_locks_the_gateways_out_by_is_named(
    earlier: str, complaint: str, make_node: MakeNode, tmp_path: Path
) -> None:
    node = make_node(Secured(True, True, earlier=earlier))
    assert any(complaint in found for found in complaints(node)), complaints(node)
    done = tried(node, tmp_path)
    assert done.returncode == 1 and "no new session with 127.0.0.1 (cluster test): " in done.stderr


@pytest.mark.parametrize(("startups", "comes_in"), [(0, False), (8, True)])
def test_silent_connections_of_one_address_keep_no_gateway_out(
    startups: int, comes_in: bool, make_node: MakeNode, tmp_path: Path
) -> None:
    """Without the bound they do: that they would is half of what is shown."""
    node = make_node(Secured(True, True, startups=startups))
    with contextlib.ExitStack() as stack:
        taken = tries = 0
        while taken < SILENT and tries < (MOST_TRIES if startups == 0 else 2 * SILENT):
            tries += 1
            taken += silent_connection(node, stack)
        assert taken == SILENT if startups == 0 else taken <= startups
        results = [tried(node, tmp_path).returncode == 0 for _ in range(3)]
    assert results == [comes_in] * 3


def silent_connection(node: LoginNode, stack: contextlib.ExitStack) -> bool:
    """Connect from another address and say nothing; return whether sshd took it."""
    connection = stack.enter_context(socket.socket())
    connection.bind(("127.0.0.2", 0))
    connection.settimeout(10)
    connection.connect(("127.0.0.1", node.port))
    try:
        return connection.recv(1) == b"S"
    except ConnectionResetError:
        return False
