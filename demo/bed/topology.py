"""What a bed consists of: pure names and addresses, nothing of the machine."""

from __future__ import annotations

import re
from dataclasses import dataclass

HOST_OCTETS = {"gw": 10, "idp": 20, "login": 30, "c1": 41, "c2": 42}
"""Host name to the last octet of its address."""

HOST_NAMES = tuple(HOST_OCTETS)
CLUSTER_HOSTS = ("login", "c1", "c2")
"""The hosts that share /shared."""

SUITES = ("bookworm", "trixie")
"""Debian releases (12 and 13) that a bed's hosts can have. The first is the usual one."""

_BED_NAME = re.compile(r"[a-z][a-z0-9]{0,6}")
_SUBNET = re.compile(r"10\.(\d{1,3})\.(\d{1,3})")


@dataclass(frozen=True)
class Plan:
    """A bed's hosts, their Debian release, names and addresses.

    ``name``: 1 to 7 small letters and digits, because Linux interface names end at 15 characters.
    ``subnet``: the first three octets of a /24 in 10.0.0.0/8, such as ``10.77.0``.
    ``hosts``: those of HOST_NAMES that it has; ``suite``: one of SUITES.
    """

    name: str
    subnet: str
    hosts: tuple[str, ...] = HOST_NAMES
    suite: str = SUITES[0]

    def __post_init__(self) -> None:
        if not _BED_NAME.fullmatch(self.name):
            raise ValueError(f"bed name {self.name!r}: use 1 to 7 small letters and digits, a letter first")
        octets = _SUBNET.fullmatch(self.subnet)
        if octets is None or any(int(octet) > 255 for octet in octets.groups()):
            raise ValueError(f"subnet {self.subnet!r}: use the first three octets of a /24, such as 10.77.0")
        unknown = sorted(set(self.hosts) - set(HOST_NAMES))
        if unknown or not self.hosts:
            raise ValueError(f"hosts {', '.join(unknown) or '(none)'}: choose from {', '.join(HOST_NAMES)}")
        if self.suite not in SUITES:
            raise ValueError(f"suite {self.suite!r}: choose from {', '.join(SUITES)}")

    @property
    def network(self) -> str:
        """The subnet in CIDR form."""
        return f"{self.subnet}.0/24"

    @property
    def gateway(self) -> str:
        """The bridge's own address."""
        return f"{self.subnet}.1"

    @property
    def bridge(self) -> str:
        """The bridge's interface name."""
        return f"slu-{self.name}"

    @property
    def nft_table(self) -> str:
        """The nft table of this bed's address translation."""
        return f"sluice_{self.name}"

    @property
    def cgroup_prefix(self) -> str:
        """What the names of all control groups of this bed start with."""
        return f"sluice-{self.name}."

    def address(self, host: str) -> str:
        """A host's IPv4 address."""
        return f"{self.subnet}.{HOST_OCTETS[host]}"

    def namespace(self, host: str) -> str:
        """A host's network namespace."""
        return f"slu-{self.name}-{host}"

    def port(self, host: str) -> str:
        """The bridge's end of a host's veth pair."""
        return f"s-{self.name}-{host}"

    def machine(self, host: str) -> str:
        """A host's name as systemd-nspawn knows it."""
        return f"sluice-{self.name}-{host}"

    def hosts_file(self) -> str:
        """``/etc/hosts`` of every host: all names of the bed."""
        lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback"]
        lines += [f"{self.address(name)} {name}" for name in self.hosts]
        return "\n".join(lines) + "\n"
