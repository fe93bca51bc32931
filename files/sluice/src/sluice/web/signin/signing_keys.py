"""The provider's signing keys: which of them are usable, and which one made a signature.

RFC 7517 allows a provider to publish other keys too: of other types, for other uses, of unknown curves. Keys
that cannot be used are ignored one by one.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from joserfc import jws, jwt
from joserfc.errors import BadSignatureError, InvalidKeyIdError, JoseError, KeyParameterError
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

logger = logging.getLogger(__name__)

# The allowed signature algorithms, with their key type and curves. Only asymmetric ones: none with a shared
# secret, and never "none".
_MADE_BY: dict[str, tuple[str, tuple[str, ...]]] = {
    **{f"{family}{bits}": ("RSA", ()) for family in ("RS", "PS") for bits in (256, 384, 512)},
    "ES256": ("EC", ("P-256",)),
    "ES384": ("EC", ("P-384",)),
    "ES512": ("EC", ("P-521",)),
    "EdDSA": ("OKP", ("Ed25519", "Ed448")),
    "Ed25519": ("OKP", ("Ed25519",)),
    "Ed448": ("OKP", ("Ed448",)),
}
ALGORITHMS = tuple(_MADE_BY)

_KINDS: dict[str, type[RSAKey] | type[ECKey] | type[OKPKey]] = {"RSA": RSAKey, "EC": ECKey, "OKP": OKPKey}

# The members of a key that are read. Others are ignored: an unreadable certificate must not spoil the key.
_MEMBERS = ("kty", "kid", "alg", "n", "e", "crv", "x", "y")

# How many keys are read, and how many are tried for one signature.
MAX_KEYS = 100
MAX_TRIED = 10


class _Registry(JWSRegistry):
    """Accepts headers with certificate chains, payloads with hundreds of groups, and long signatures."""

    max_header_length = 32 << 10
    max_payload_length = 1 << 20
    max_signature_length = 4 << 10


_UNREADABLE = (
    JoseError,
    UnsupportedAlgorithm,
    KeyError,
    TypeError,
    ValueError,
    AttributeError,
    OverflowError,
)


def usable_keys(document: object) -> list[Key]:
    """Return the keys of a JWKS document that can check a signature; the log counts the others.

    Raises ValueError if it is not a JWKS document, or has no usable key.
    """
    listed = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(listed, list):
        raise ValueError("it has no list of keys")  # noqa: TRY004
    found = [key for key in map(_usable_key, listed[:MAX_KEYS]) if key is not None]
    if len(found) < len(listed):
        logger.info(
            "ignored keys of the provider: not for signatures, or not readable here",
            extra={"passed_over": len(listed) - len(found), "kept": len(found)},
        )
    if not found:
        raise ValueError("none of its keys can check a signature")
    return found


def _usable_key(data: object) -> Key | None:
    if not isinstance(data, dict) or data.get("use", "sig") != "sig":
        return None
    operations = data.get("key_ops", ["verify"])
    kind = data.get("kty")
    if not isinstance(kind, str) or kind not in _KINDS:
        return None
    if not isinstance(operations, list) or "verify" not in operations:
        return None
    if data.get("alg", ALGORITHMS[0]) not in ALGORITHMS:
        return None
    try:
        key: Key = _KINDS[kind].import_key({name: data[name] for name in _MEMBERS if name in data})
        # A key that cannot become a public key must fail here, not at a sign-in.
        key.get_op_key("verify")
    except _UNREADABLE:
        return None
    return key


def decode(text: str, keys: Sequence[Key], announced: object) -> jwt.Token:
    """Return a token that one of `keys` signed. `announced`: the algorithms in the metadata, if any.

    A token with a key id (`kid`) is checked with the keys of that id, or else with keys without an id: some
    providers leave out the id on one side. Raises JoseError.
    """
    allowed = [name for name in ALGORITHMS if not isinstance(announced, list) or name in announced]
    # joserfc would replace an empty list by its own defaults.
    registry = _Registry(algorithms=allowed or ["RS256"], strict_check_header=False)
    try:
        header: Mapping[str, Any] = jws.extract_compact(text.encode(), registry=registry).headers()
        fitting = list(_fitting(keys, header.get("kid"), header.get("alg")))
        return _decode(text, fitting[:MAX_TRIED], registry)
    except (ValueError, TypeError, RecursionError) as error:
        raise JoseError("it is not a signed token") from error


def _decode(text: str, keys: Sequence[Key], registry: JWSRegistry) -> jwt.Token:
    failed: JoseError = InvalidKeyIdError("no key of the provider matches")
    for key in keys:
        try:
            return jwt.decode(text, key, registry=registry)
        except (BadSignatureError, KeyParameterError) as error:
            failed = error
    raise failed


def _fitting(keys: Sequence[Key], name: object, algorithm: object) -> Iterator[Key]:
    kind, curves = _MADE_BY.get(str(algorithm), ("", ()))
    named = [key for key in keys if key.kid == name] if name else list(keys)
    for key in named or [key for key in keys if not key.kid]:
        fits = key.key_type == kind and (not curves or key.get("crv") in curves)
        if fits and key.alg in (None, algorithm):
            yield key
