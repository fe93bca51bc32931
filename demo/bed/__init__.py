"""Test-bed hosts on one machine: each with its own systemd, sshd, address and file system.

``Bed`` is the interface for tests; ``python3 -m demo.bed --help`` is the one for people.
"""

from __future__ import annotations

from demo.bed.bed import Bed, HostStatus
from demo.bed.errors import BedError
from demo.bed.topology import HOST_NAMES, Plan

__all__ = ["HOST_NAMES", "Bed", "BedError", "HostStatus", "Plan"]
