"""Reads the key from a request."""

from __future__ import annotations

import re

from sluice.contracts.keys import credential, well_formed

__all__ = ["credential", "presented_key", "well_formed"]

# The scheme's name is read in any case (RFC 9110, 11.1), and blanks around the key are as good as one.
BEARER = re.compile(r"[ \t]*(?i:bearer)[ \t]+(\S{1,256})[ \t]*")


def presented_key(authorization: str | None) -> str | None:
    """Return the bearer key of an Authorization header if it is well formed, else None.

    What is mistyped or cut off is told apart by its checksum, and spares the authority a question.
    """
    if authorization is None:
        return None
    match = BEARER.fullmatch(authorization)
    if match is None or not well_formed(match.group(1)):
        return None
    return match.group(1)
