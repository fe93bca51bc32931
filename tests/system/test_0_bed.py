"""The test bed itself: real hosts, and nothing of them left when they are down. It has a bed of its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.bed import Bed, BedError, kernel
from demo.bed.cgroup import Groups
from demo.bed.topology import CLUSTER_HOSTS, HOST_NAMES
from tests.lanes import ROOT

NAME, SUBNET = "bedtest", "10.76.0"
# Brings a bed up and dies at once, as a test run that is killed does.
KILLED_OWNER = """
import os, signal, sys
from pathlib import Path
from demo.bed import Bed
Bed(sys.argv[1], sys.argv[2], Path(sys.argv[3])).up()
os.kill(os.getpid(), signal.SIGKILL)
"""


def traces() -> list[str]:
    """Everything that the machine has of this bed: interfaces, mounts, rules, groups, routes, programs."""
    listed = [
        *(["ip", "-o", "link"], ["ip", "netns", "list"], ["ip", "route"]),
        *(["findmnt", "--list", "--noheadings"], ["nft", "list", "tables"], ["ps", "-eo", "stat,args"]),
    ]
    lines = [
        line
        for argv in listed
        for line in subprocess.run(argv, capture_output=True, text=True, check=True).stdout.splitlines()
        if not line.startswith("Z")  # waits for the machine's PID 1 alone
    ]
    own = [line for line in lines if any(mark in line for mark in (f"-{NAME}", f"_{NAME}", f"{SUBNET}."))]
    return own + Groups(Bed(NAME, SUBNET, ROOT).plan).names()


@pytest.fixture(scope="module")
def settings() -> dict[str, int]:
    """The kernel's settings before the bed."""
    return {name: kernel.read(name) for name in kernel.WANTED}


@pytest.fixture(scope="module")
def own_bed(settings: dict[str, int], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    """A bed that is up though the process that brought it up was killed."""
    state = tmp_path_factory.mktemp("bed")
    bed = Bed(NAME, SUBNET, state)
    bed.down()
    argv = [sys.executable, "-c", KILLED_OWNER, NAME, SUBNET, str(state)]
    owner = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert owner.returncode == -9, owner.stderr
    yield bed
    bed.down()
    shutil.rmtree(state)


def test_every_host_is_a_machine_of_its_own(own_bed: Bed) -> None:
    asked = "hostname; hostname --all-ip-addresses; cat /etc/machine-id; systemctl is-system-running"

    answers = {host: own_bed.run(host, ["sh", "-c", asked]).stdout.split() for host in HOST_NAMES}

    assert {host: answer[0] for host, answer in answers.items()} == {host: host for host in HOST_NAMES}
    assert [answer[1] for answer in answers.values()] == [own_bed.plan.address(host) for host in HOST_NAMES]
    assert len({answer[2] for answer in answers.values()}) == len(HOST_NAMES)
    assert {host: answer[3] for host, answer in answers.items()} == dict.fromkeys(HOST_NAMES, "running")


def test_hosts_reach_each_other_by_name(own_bed: Bed) -> None:
    banner = "import socket; print(socket.create_connection(('login', 22), 5).recv(4))"

    assert own_bed.run("gw", ["python3", "-c", banner], check=True).stdout == "b'SSH-'\n"


def test_only_the_cluster_shares_a_folder(own_bed: Bed) -> None:
    own_bed.run("login", ["sh", "-c", "echo seen >/shared/note"], check=True)

    saw = {host for host in HOST_NAMES if own_bed.run(host, ["cat", "/shared/note"]).stdout == "seen\n"}

    assert saw == set(CLUSTER_HOSTS)


def test_known_hosts_are_the_guests_own_keys(own_bed: Bed) -> None:
    pinned = (own_bed.state / "ssh/known_hosts").read_text()
    for host in HOST_NAMES:
        key = own_bed.run(host, ["cat", "/etc/ssh/ssh_host_ed25519_key.pub"], check=True).stdout.split()

        assert f"{host},{own_bed.plan.address(host)} {key[0]} {key[1]}\n" in pinned


def test_up_again_says_so_and_changes_nothing(own_bed: Bed) -> None:
    groups = Groups(own_bed.plan)
    before = [groups.init(host) for host in HOST_NAMES]

    assert own_bed.up() is False
    assert [groups.init(host) for host in HOST_NAMES] == before


def test_a_host_whose_power_is_cut_stays_off_until_it_is_switched_on(own_bed: Bed) -> None:
    own_bed.run("c1", ["sh", "-c", "echo kept >/root/note"], check=True)
    own_bed.power_cut("c1")

    assert [host.name for host in own_bed.status() if not host.up] == ["c1"]
    with pytest.raises(BedError, match="switch it on: power-on c1"):
        own_bed.power_cut("c1")

    own_bed.power_on("c1")
    assert own_bed.run("c1", ["cat", "/root/note"]).stdout == "kept\n"


def test_a_host_reboots_from_the_inside(own_bed: Bed) -> None:
    init = Groups(own_bed.plan).init("c2")
    own_bed.run("c2", ["touch", "/run/before"], check=True)

    own_bed.reboot("c2")

    assert Groups(own_bed.plan).init("c2") != init
    assert own_bed.run("c2", ["test", "-e", "/run/before"]).returncode == 1


def test_a_second_bed_may_not_take_the_subnet(own_bed: Bed, tmp_path: Path) -> None:
    with pytest.raises(BedError, match=f"belongs to the bed {NAME}"):
        Bed("other", SUBNET, tmp_path).up()

    assert all(host.up for host in own_bed.status())


def test_down_leaves_nothing(own_bed: Bed, settings: dict[str, int]) -> None:
    assert traces() != []

    assert own_bed.down() is True

    assert traces() == []
    assert {name: kernel.read(name) for name in kernel.WANTED} == settings
    assert own_bed.down() is False


def test_a_bed_of_another_checkout_is_left_alone_while_it_lives_and_removed_once_it_is_dead(
    own_bed: Bed, settings: dict[str, int], tmp_path: Path
) -> None:
    own_bed.up()
    said: list[str] = []
    other = Bed(NAME, "10.75.0", tmp_path, report=said.append)
    for act in (other.up, other.down):
        with pytest.raises(BedError, match=f"is up from {own_bed.state}"):
            act()
    assert all(host.up for host in own_bed.status())

    Groups(own_bed.plan).kill_all()  # as a machine does that ends all programs of a run

    assert other.down() is True
    assert traces() == []
    assert {name: kernel.read(name) for name in kernel.WANTED} == settings
    assert said == [f"removing the network of a bed that ended without 'down', from {own_bed.state}"]
    assert (own_bed.state / "ssh/config").exists()
