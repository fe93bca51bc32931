"""The form of API keys and page bearers, and what is stored of them.

A key is `<prefix><43 random characters>-<CRC-32 of all before the dash>`: the checksum lets a typing error or
a cut-off paste be told apart from an unknown key, and lets secret scanners find leaked keys.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import zlib

API_PREFIX = "sk-sluice-"
PAGE_PREFIX = "pt-sluice-"

_RANDOM_BYTES = 32
_FORM = re.compile(r"(?:sk|pt)-sluice-[A-Za-z0-9_-]{43}-[0-9a-f]{8}")


def mint(prefix: str) -> str:
    """Return a new key with 256 random bits."""
    body = prefix + secrets.token_urlsafe(_RANDOM_BYTES)
    return f"{body}-{checksum(body)}"


def checksum(body: str) -> str:
    """Return the CRC-32 of `body` as 8 hexadecimal digits."""
    return f"{zlib.crc32(body.encode('ascii')):08x}"


def well_formed(key: str) -> bool:
    """Tell whether `key` has the form of an API key or page bearer, checksum included."""
    if not _FORM.fullmatch(key):
        return False
    body, _, given = key.rpartition("-")
    return checksum(body) == given


def credential(key: str) -> str:
    """Return what may leave the proxy: the SHA-256 of the key, in hexadecimal."""
    return hashlib.sha256(key.encode()).hexdigest()


def stored_form(credential_hex: str, secret: str) -> str:
    """Return what the database holds: HMAC-SHA-256 over the credential's bytes under the site's secret.

    Without the secret, a copy of the database lets nobody test a key.
    """
    return hmac.new(secret.encode(), bytes.fromhex(credential_hex), hashlib.sha256).hexdigest()


def hint(key: str) -> str:
    """Return the start of a key by which its owner recognises it."""
    return key[: len(API_PREFIX) + 4]
