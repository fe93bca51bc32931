"""The form of API keys and page bearers (docs/contracts.md): what can be told of a key without asking.

A key is `<prefix><43 random characters>-<CRC-32 of all before the dash>`: the checksum tells a typing error
or a cut-off paste from an unknown key, and lets scanners find leaked keys. It proves nothing.
"""

from __future__ import annotations

import hashlib
import re
import zlib

API_PREFIX = "sk-sluice-"
PAGE_PREFIX = "pt-sluice-"

FORM = re.compile(r"(?:sk|pt)-sluice-[A-Za-z0-9_-]{43}-[0-9a-f]{8}")


def checksum(body: str) -> str:
    """Return the CRC-32 of `body` as 8 hexadecimal digits."""
    return f"{zlib.crc32(body.encode('ascii')):08x}"


def well_formed(key: str) -> bool:
    """Tell whether `key` has the form of an API key or page bearer, checksum included."""
    if not FORM.fullmatch(key):
        return False
    body, _, given = key.rpartition("-")
    return checksum(body) == given


def credential(key: str) -> str:
    """Return what stands for a key outside of the process it was given to: its SHA-256, in hexadecimal."""
    return hashlib.sha256(key.encode()).hexdigest()
