"""A certificate and its key: a pair, in time, for the server's name, with its chain in order. Pure."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Iterator, Sequence

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

CHAIN = "the chain in PEM, the server's own certificate first"


def problems(certificate: bytes, key: bytes, name: str, now: datetime.datetime) -> Iterator[str]:
    """Yield what is wrong with the contents of nginx_certificate and nginx_certificate_key, for a name."""
    try:
        chain = x509.load_pem_x509_certificates(certificate)
    except ValueError:
        yield f"nginx_certificate is not a certificate in PEM. Put {CHAIN}, into that file"
        chain = []
    try:
        private = serialization.load_pem_private_key(key, None)
    except TypeError:
        yield (
            "nginx_certificate_key has a passphrase, which nginx cannot ask for. Store it without one, "
            "in a vault"
        )
        return
    except (ValueError, UnsupportedAlgorithm):
        yield "nginx_certificate_key is not a private key in PEM. Put the certificate's key into that file"
        return
    if chain:
        yield from _pair(chain, _bytes(private.public_key()))
        yield from _in_time(chain, now)
        yield from _named(chain[0], name)


def authority_problems(content: bytes) -> Iterator[str]:
    """Yield what is wrong with the content of web_ca_file."""
    try:
        x509.load_pem_x509_certificates(content)
    except ValueError:
        yield "web_ca_file contains no certificate in PEM. Put those of the provider's authority into it"


def _bytes(public: object) -> bytes:
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    made: bytes = public.public_bytes(*form)  # type: ignore[attr-defined]
    return made


def _pair(chain: Sequence[x509.Certificate], public: bytes) -> Iterator[str]:
    keys = [_bytes(one.public_key()) for one in chain]
    if public not in keys:
        yield (
            "nginx_certificate_key is not the key of nginx_certificate. Put the two that belong together "
            "there"
        )
    elif keys[0] != public:
        yield f"nginx_certificate has its certificates in the wrong order. Put {CHAIN}"
    for one, issuer in zip(chain, chain[1:]):
        if public == keys[0] and one.issuer != issuer.subject:
            yield f"nginx_certificate: a certificate is not issued by the next one. Put {CHAIN}"


def _in_time(chain: Sequence[x509.Certificate], now: datetime.datetime) -> Iterator[str]:
    for one in chain:
        if one.not_valid_after_utc < now:
            yield f"nginx_certificate expired on {one.not_valid_after_utc:%Y-%m-%d}. Renew it"
        if one.not_valid_before_utc > now:
            yield f"nginx_certificate is valid only from {one.not_valid_before_utc:%Y-%m-%d}. Check the clock"


def _named(certificate: x509.Certificate, name: str) -> Iterator[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        yield (
            "nginx_certificate has no subjectAltName, which browsers need. Request it again with the "
            "server's name"
        )
        return
    hosts = names.get_values_for_type(x509.DNSName)
    found = [*hosts, *(str(one) for one in names.get_values_for_type(x509.IPAddress))]
    if not any(_matches(one.lower(), name.lower()) for one in found):
        yield (
            f"nginx_certificate is for {', '.join(found)} and not for nginx_server_name ({name}). Correct "
            f"the name, or put the certificate of that name there"
        )


def _matches(pattern: str, name: str) -> bool:
    try:
        return ipaddress.ip_address(pattern) == ipaddress.ip_address(name)
    except ValueError:
        first, _, rest = name.partition(".")
        return pattern == name or (pattern.startswith("*.") and bool(first) and pattern[2:] == rest)
