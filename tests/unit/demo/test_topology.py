"""Names and addresses of a bed."""

from __future__ import annotations

import pytest

from demo.bed.topology import HOST_NAMES, Plan

LONGEST_INTERFACE_NAME = 15


def test_addresses_end_the_same_in_every_subnet() -> None:
    demo = Plan("demo", "10.77.0")
    tests = Plan("test", "10.78.0")

    assert [demo.address(host) for host in HOST_NAMES] == [
        "10.77.0.10",
        "10.77.0.20",
        "10.77.0.30",
        "10.77.0.41",
        "10.77.0.42",
    ]
    assert tests.address("login") == "10.78.0.30"


def test_interface_names_of_the_longest_bed_name_fit_the_kernel() -> None:
    plan = Plan("abcdef7", "10.77.0")

    names = [plan.bridge, *(plan.port(host) for host in HOST_NAMES)]

    assert max(len(name) for name in names) <= LONGEST_INTERFACE_NAME


def test_two_beds_share_no_name() -> None:
    def names(plan: Plan) -> set[str]:
        own = {plan.bridge, plan.nft_table, plan.cgroup_prefix, plan.network, plan.gateway}
        for host in HOST_NAMES:
            own |= {plan.port(host), plan.namespace(host), plan.machine(host), plan.address(host)}
        return own

    assert names(Plan("demo", "10.77.0")).isdisjoint(names(Plan("test", "10.78.0")))


def test_no_beds_control_groups_start_with_those_of_another() -> None:
    assert not Plan("demo2", "10.78.0").cgroup_prefix.startswith(Plan("demo", "10.77.0").cgroup_prefix)


@pytest.mark.parametrize("name", ["", "Demo", "eightchr", "1st", "a-b", "a/b", "a b", "demo\n"])
def test_a_bed_name_that_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="use 1 to 7 small letters and digits"):
        Plan(name, "10.77.0")


@pytest.mark.parametrize(
    "subnet", ["", "10.77", "10.77.0.0", "10.256.0", "192.168.1", "10.77.0/24", "10.77.0\n"]
)
def test_a_subnet_outside_ten_is_refused(subnet: str) -> None:
    with pytest.raises(ValueError, match=r"such as 10\.77\.0"):
        Plan("demo", subnet)


def test_the_hosts_file_names_every_host() -> None:
    lines = Plan("demo", "10.77.0").hosts_file().splitlines()

    assert lines[0] == "127.0.0.1 localhost"
    assert lines[2:] == [
        "10.77.0.10 gw",
        "10.77.0.20 idp",
        "10.77.0.30 login",
        "10.77.0.41 c1",
        "10.77.0.42 c2",
    ]


def test_a_bed_may_have_few_hosts_of_a_newer_debian() -> None:
    plan = Plan("new", "10.77.0", ("login", "c1"), "trixie")

    assert plan.hosts_file().splitlines()[2:] == ["10.77.0.30 login", "10.77.0.41 c1"]
    assert Plan("demo", "10.77.0").suite == "bookworm"


@pytest.mark.parametrize("hosts", [(), ("login", "c9"), ("LOGIN",)])
def test_hosts_that_no_bed_has_are_refused(hosts: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="choose from gw, idp, login, c1, c2"):
        Plan("demo", "10.77.0", hosts)


def test_a_release_that_no_host_can_have_is_refused() -> None:
    with pytest.raises(ValueError, match="choose from bookworm, trixie"):
        Plan("demo", "10.77.0", suite="sid")
