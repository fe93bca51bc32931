"""What counts as one source of requests or connections: an IPv4 address, or an IPv6 network."""

from __future__ import annotations

import ipaddress

# Whoever has one IPv6 address has all of its network.
NETWORK_BITS = 64


def source(address: str) -> str:
    """Return what stands for an address: an IPv4 address, or the IPv6 network of 64 bits that it is in.

    IPv4 may come as `::ffff:192.0.2.7`, as a dual-stack socket tells it. Raises ValueError for what is no
    address.
    """
    found = ipaddress.ip_address(address)
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((int(found), NETWORK_BITS), strict=False))
