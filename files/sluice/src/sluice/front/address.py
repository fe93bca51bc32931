"""`sluice address PEER`: prints the address at which another node of the same job can reach this node.

The host name does not help: on many nodes it resolves to a loopback address. The kernel tells the address and
interface of the route to the peer, without sending a packet.
"""

from __future__ import annotations

import argparse
import fcntl
import socket
import struct

from sluice.errors import SluiceError

SIOCGIFADDR = 0x8915
# Any port will do: connecting a datagram socket sends nothing.
DISCARD = 9


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `sluice address`."""
    parser.add_argument("peer", help="name or address of another node of the job")


def run(arguments: argparse.Namespace) -> int:
    """Print `ADDRESS INTERFACE PORT` of this node; the TCP port is free now. Raises SluiceError."""
    address = toward(arguments.peer)
    print(address, interface(address), free_port(address))
    return 0


def toward(peer: str) -> str:
    """Return this node's IPv4 address on the route to a peer. Raises SluiceError."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((peer, DISCARD))
            return str(probe.getsockname()[0])
    except OSError as error:
        raise SluiceError("no_instance", f"the node {peer} cannot be reached: {error.strerror}") from None


def interface(address: str) -> str:
    """Return the name of the interface that has an IPv4 address. Raises SluiceError."""
    wanted = socket.inet_aton(address)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            try:
                answer = fcntl.ioctl(probe, SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
            except OSError:
                continue
            if answer[20:24] == wanted:
                return name
    raise SluiceError("no_instance", f"no interface of this node has the address {address}")


def free_port(address: str) -> int:
    """Return a TCP port that nothing listens on now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])
