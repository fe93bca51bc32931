"""Creates keys, and the stored form of a key."""

from __future__ import annotations

import hashlib
import hmac
import secrets

from sluice.contracts.keys import API_PREFIX, PAGE_PREFIX, checksum, credential, mark, well_formed

__all__ = [
    "API_PREFIX",
    "PAGE_PREFIX",
    "checksum",
    "credential",
    "generate_key",
    "hint",
    "mark_secret",
    "stored_form",
    "well_formed",
]

# 192 bits, 32 characters.
_RANDOM_BYTES = 24
# No credential has this form, so a mark's secret is never what is stored of a key.
_MARK_PURPOSE = b"the mark of keys"


def generate_key(prefix: str, secret: str) -> str:
    """Return a new key with 192 random bits and the mark of those that are made under the site's `secret`."""
    stem = prefix + secrets.token_urlsafe(_RANDOM_BYTES)
    body = stem + mark(stem, mark_secret(secret))
    return f"{body}-{checksum(body)}"


def mark_secret(secret: str) -> bytes:
    """Return the secret of marks that belongs to the site's `secret`; it does not tell that one.

    The proxy learns it from the authority. With it keys can be made that look like the site's, and none that
    works.
    """
    return hmac.new(secret.encode(), _MARK_PURPOSE, hashlib.sha256).digest()


def stored_form(credential_hex: str, secret: str) -> str:
    """Return what the database holds: HMAC-SHA-256 over the credential's bytes under the site's secret.

    Without the secret, a copy of the database lets nobody test a key.
    """
    return hmac.new(secret.encode(), bytes.fromhex(credential_hex), hashlib.sha256).hexdigest()


def hint(key: str) -> str:
    """Return the start of a key by which its owner recognises it."""
    return key[: len(API_PREFIX) + 4]
