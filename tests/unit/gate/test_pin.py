"""Whether the server at an instance's address is that instance's job."""

from __future__ import annotations

import ssl

from sluice.front.identity import Identity
from sluice.gate.pin import is_pinned


def test_only_the_very_certificate_is_the_job(identity: Identity, other_identity: Identity) -> None:
    shown = ssl.PEM_cert_to_DER_cert(identity.certificate)
    assert is_pinned(shown, identity.certificate)
    assert not is_pinned(shown, other_identity.certificate)
    assert not is_pinned(shown[:-1], identity.certificate)
    assert not is_pinned(shown + b"\0", identity.certificate)


def test_a_server_without_a_certificate_is_not_the_job(identity: Identity) -> None:
    assert not is_pinned(None, identity.certificate)
    assert not is_pinned(b"", identity.certificate)


def test_a_certificate_that_is_none_is_nobodys() -> None:
    broken = "-----BEGIN CERTIFICATE-----\nA\n-----END CERTIFICATE-----\n"
    assert not is_pinned(b"\0", broken)
    assert not is_pinned(None, broken)
