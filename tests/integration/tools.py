"""The programs that the integration tests need from the machine, installed where they are missing."""

from __future__ import annotations

from demo.bed import packages

PACKAGES = {
    "/usr/sbin/sshd": "openssh-server",
    "ssh": "openssh-client",
    "unshare": "util-linux",
    "setpriv": "util-linux",
    "openssl": "openssl",
    "bwrap": "bubblewrap",
    "/usr/bin/python3": "python3",
}


def ensure() -> None:
    """Install what is missing; Debian's own sshd is not started by that."""
    packages.ensure(PACKAGES)
