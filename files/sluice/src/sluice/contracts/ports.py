"""A range of ports, as configuration and jobs write it: `FIRST-LAST`. Pure."""

from __future__ import annotations

import re

PORTS = re.compile(r"([0-9]{4,5})-([0-9]{4,5})")


def port_range(text: str) -> range:
    """Return the ports of `FIRST-LAST`, both ends included. Raises ValueError."""
    found = PORTS.fullmatch(text)
    if found is None or not 1024 <= int(found[1]) <= int(found[2]) <= 65535:
        raise ValueError(f"{text!r} is not FIRST-LAST within 1024-65535")
    return range(int(found[1]), int(found[2]) + 1)
