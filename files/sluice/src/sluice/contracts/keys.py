"""The form of API keys and page bearers (docs/contracts.md), and what it shows without the authority.

A key is `<prefix><32 random characters><11 characters of mark>-<CRC-32 of all before the dash>`. With the
checksum, a typing error or an incomplete paste differs from an unknown key, and scanners find leaked keys; it
proves nothing. The mark is an HMAC over the characters before it, with a secret of the site. It shows that
this site created the key, so guessed keys are recognised without a question to the authority. It does not
show that the key still works. Keys of earlier versions have 11 more random characters in place of the mark.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import zlib
from collections.abc import Iterable

API_PREFIX = "sk-sluice-"
PAGE_PREFIX = "pt-sluice-"

MARK_LENGTH = 11

FORM = re.compile(r"(?:sk|pt)-sluice-[A-Za-z0-9_-]{43}-[0-9a-f]{8}")


def checksum(body: str) -> str:
    """Return the CRC-32 of `body` as 8 hexadecimal digits."""
    return f"{zlib.crc32(body.encode('ascii')):08x}"


def mark(stem: str, secret: bytes) -> str:
    """Return the mark for `stem`, a key's prefix and random characters: 66 bits of an HMAC-SHA-256."""
    digest = hmac.new(secret, stem.encode("ascii"), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest).decode()[:MARK_LENGTH]


def marked(key: str, secrets: Iterable[bytes]) -> bool:
    """Return whether `key`, which is well formed, has a mark made with one of `secrets`."""
    body, _, _ = key.rpartition("-")
    stem, given = body[:-MARK_LENGTH], body[-MARK_LENGTH:]
    return any(hmac.compare_digest(mark(stem, secret), given) for secret in secrets)


def well_formed(key: str) -> bool:
    """Return whether `key` has the form of an API key or page bearer, with a correct checksum."""
    if not FORM.fullmatch(key):
        return False
    body, _, given = key.rpartition("-")
    return checksum(body) == given


def credential(key: str) -> str:
    """Return what other processes get in place of a key: its SHA-256, in hexadecimal."""
    return hashlib.sha256(key.encode()).hexdigest()
