"""The form of keys: what can be told of a key without asking anybody."""

from __future__ import annotations

import hashlib
import re
import zlib

KEY = re.compile(r"(?:sk|pt)-sluice-[A-Za-z0-9_-]{43}-[0-9a-f]{8}")
BEARER = re.compile(r"[Bb]earer +(\S{1,256}) *")


def presented_key(authorization: str | None) -> str | None:
    """Return the bearer key of an Authorization header if it is well formed, else None."""
    if authorization is None:
        return None
    match = BEARER.fullmatch(authorization)
    if match is None or not well_formed(match.group(1)):
        return None
    return match.group(1)


def well_formed(key: str) -> bool:
    """Return whether `key` has the form of a key and its checksum is right.

    The checksum spares the authority what is mistyped or cut off; it proves nothing.
    """
    if not KEY.fullmatch(key):
        return False
    stem, _, checksum = key.rpartition("-")
    return f"{zlib.crc32(stem.encode('ascii')):08x}" == checksum


def credential(key: str) -> str:
    """Return what stands for the key outside of this process's memory: its SHA-256 in hex."""
    return hashlib.sha256(key.encode("ascii")).hexdigest()
