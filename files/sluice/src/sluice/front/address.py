"""`sluice address PEER`: prints the address by which the nodes of a job on several nodes reach each other.

A host's name is no help: on many nodes it stands for a loopback address. The kernel says by which address
and interface the peer is reached, without a packet being sent.
"""

from __future__ import annotations

import argparse
import fcntl
import socket
import struct

from sluice.errors import SluiceError

SIOCGIFADDR = 0x8915
# Any port: a datagram socket that is connected sends nothing.
DISCARD = 9


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `sluice address`."""
    parser.add_argument("peer", help="name or address of another node of the job")


def run(arguments: argparse.Namespace) -> int:
    """Print `ADDRESS INTERFACE PORT`: this node's, and a TCP port of it that is free now."""
    address = toward(arguments.peer)
    print(address, interface(address), free_port(address))
    return 0


def toward(peer: str) -> str:
    """Return this node's IPv4 address on the way to a peer. Raises SluiceError."""
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
