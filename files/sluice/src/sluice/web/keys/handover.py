"""Takes a new key's text over a redirect to the page that shows it, once.

A key is stored nowhere. Until its page is loaded, half of it is in the session's file on the gateway, and
half in a cookie of the browser that made it. The halves are a one-time pad and what it hides: each alone is
random.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

# How long the page may take to be loaded, in seconds. A key that was not seen is revoked and created again.
SECONDS = 600


@dataclass(frozen=True)
class Halves:
    """The two halves of a key's text, in hexadecimal digits: neither tells more than its length."""

    hidden: str
    pad: str


def divide(text: str) -> Halves:
    """Return the halves of a text."""
    plain = text.encode()
    pad = secrets.token_bytes(len(plain))
    return Halves(_combined(plain, pad).hex(), pad.hex())


def join(halves: Halves) -> str:
    """Return the text of two halves; "" if they do not belong together."""
    try:
        hidden, pad = bytes.fromhex(halves.hidden), bytes.fromhex(halves.pad)
        return _combined(hidden, pad).decode("ascii") if len(hidden) == len(pad) else ""
    except ValueError:
        return ""


def _combined(one: bytes, other: bytes) -> bytes:
    return bytes(left ^ right for left, right in zip(one, other, strict=True))
