"""The pure parts of a bed's network."""

from __future__ import annotations

from demo.bed.network import default_mtu, nft_rules
from demo.bed.topology import Plan

LINKS = '[{"ifname": "lo", "mtu": 65536}, {"ifname": "up0", "mtu": 1400}]'


def test_the_mtu_is_that_of_the_default_route() -> None:
    assert default_mtu('[{"dst": "default", "dev": "up0"}]', LINKS) == 1400


def test_without_a_default_route_the_mtu_is_ethernets() -> None:
    assert default_mtu("[]", LINKS) == 1500
    assert default_mtu("", "") == 1500


def test_only_what_leaves_the_subnet_is_translated() -> None:
    rules = nft_rules(Plan("demo", "10.77.0"))

    assert rules.startswith("table ip sluice_demo {")
    assert "ip saddr 10.77.0.0/24 ip daddr != 10.77.0.0/24 masquerade" in rules
