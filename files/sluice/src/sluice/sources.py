"""What counts as one source of requests or connections: an IPv4 address, or an IPv6 network."""

from __future__ import annotations

import ipaddress

# A host with one IPv6 address can use its whole network.
NETWORK_BITS = 64


def source(address: str) -> str:
    """Return the source of an address: the IPv4 address itself, or the /64 network of an IPv6 address.

    IPv4 may also be written as `::ffff:192.0.2.7`, as by a dual-stack socket. Raises ValueError if `address`
    is not an IP address.
    """
    found = ipaddress.ip_address(address)
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((int(found), NETWORK_BITS), strict=False))
