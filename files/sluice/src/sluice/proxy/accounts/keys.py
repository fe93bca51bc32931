"""Reads the key from a request."""

from __future__ import annotations

import re

from sluice.contracts.keys import credential, well_formed

__all__ = ["credential", "presented_key", "well_formed"]

# The scheme's name may be in any case (RFC 9110, 11.1); any number of blanks may be around the key.
BEARER = re.compile(r"[ \t]*(?i:bearer)[ \t]+(\S{1,256})[ \t]*")


def presented_key(authorization: str | None) -> str | None:
    """Return the bearer key of an Authorization header if it is well formed, else None.

    The checksum detects keys that are mistyped or cut off, without a question to the authority.
    """
    if authorization is None:
        return None
    match = BEARER.fullmatch(authorization)
    if match is None or not well_formed(match.group(1)):
        return None
    return match.group(1)
