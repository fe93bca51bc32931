"""Generates keys, and the form in which the database stores them."""

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
# No credential has this form, so a mark's secret never equals a stored form.
_MARK_PURPOSE = b"the mark of keys"


def generate_key(prefix: str, secret: str) -> str:
    """Return a new key: `prefix`, 192 random bits, a mark made with the site's `secret`, and a checksum."""
    stem = prefix + secrets.token_urlsafe(_RANDOM_BYTES)
    body = stem + mark(stem, mark_secret(secret))
    return f"{body}-{checksum(body)}"


def mark_secret(secret: str) -> bytes:
    """Derive the secret of marks from the site's `secret`, which it does not reveal.

    The authority tells it to the proxy. Whoever has it can create keys that look like the site's, but none
    that works.
    """
    return hmac.new(secret.encode(), _MARK_PURPOSE, hashlib.sha256).digest()


def stored_form(credential_hex: str, secret: str) -> str:
    """Return what the database stores: HMAC-SHA-256 of the credential (SHA-256, hex), keyed with `secret`.

    With a copy of the database but without the secret, nobody can test whether a key is in it.
    """
    return hmac.new(secret.encode(), bytes.fromhex(credential_hex), hashlib.sha256).hexdigest()


def hint(key: str) -> str:
    """Return the start of a key, by which its owner recognises it."""
    return key[: len(API_PREFIX) + 4]
