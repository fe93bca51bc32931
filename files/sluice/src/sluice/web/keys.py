"""Making keys, and what is stored of them."""

from __future__ import annotations

import hashlib
import hmac
import secrets

from sluice.keys import API_PREFIX, PAGE_PREFIX, checksum, credential, well_formed

__all__ = [
    "API_PREFIX",
    "PAGE_PREFIX",
    "checksum",
    "credential",
    "hint",
    "mint",
    "stored_form",
    "well_formed",
]

_RANDOM_BYTES = 32


def mint(prefix: str) -> str:
    """Return a new key with 256 random bits."""
    body = prefix + secrets.token_urlsafe(_RANDOM_BYTES)
    return f"{body}-{checksum(body)}"


def stored_form(credential_hex: str, secret: str) -> str:
    """Return what the database holds: HMAC-SHA-256 over the credential's bytes under the site's secret.

    Without the secret, a copy of the database lets nobody test a key.
    """
    return hmac.new(secret.encode(), bytes.fromhex(credential_hex), hashlib.sha256).hexdigest()


def hint(key: str) -> str:
    """Return the start of a key by which its owner recognises it."""
    return key[: len(API_PREFIX) + 4]
