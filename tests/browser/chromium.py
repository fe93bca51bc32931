"""Debian's headless Chromium under Playwright: one process, in which each test has profiles of its own."""

from __future__ import annotations

import base64
import hashlib
import socket
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from playwright.sync_api import Browser, BrowserType, expect, sync_playwright

CHROMIUM = "/usr/bin/chromium"
# In seconds. What hangs ends then; no test passes or fails by it otherwise.
PATIENCE = 30.0

# The last three keep Chromium from calling its maker, which a closed network only makes slow.
FLAGS = (
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@dataclass(frozen=True)
class Target:
    """A site to visit: its address, its provider's, the CA of both, and accounts as login → password."""

    url: str
    issuer: str
    ca_file: Path
    accounts: Mapping[str, str]

    @classmethod
    def named(cls, values: Mapping[str, str]) -> Target:
        """Return the site that the values of an env file name; its accounts are `login:password …`."""
        accounts = (pair.partition(":") for pair in values["SLUICE_ACCOUNTS"].split())
        return cls(
            url=values["SLUICE_URL"],
            issuer=values["SLUICE_ISSUER"],
            ca_file=Path(values["SLUICE_CA"]),
            accounts={login: password for login, _, password in accounts},
        )

    def pins(self) -> list[str]:
        """Return the keys of both hosts' certificates, after checking these against the CA."""
        return [pin(url, self.ca_file) for url in (self.url, self.issuer)]

    def is_own(self, url: str) -> bool:
        """Tell whether an address belongs to the site or its provider, or needs no network."""
        parts = urlsplit(url)
        return parts.scheme in ("about", "blob", "data") or _origin(url) in map(
            _origin, (self.url, self.issuer)
        )


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def pin(url: str, ca_file: Path) -> str:
    """Return the key of a host's certificate, after checking this against a CA."""
    parts = urlsplit(url)
    address = (parts.hostname or "", parts.port or 443)
    context = ssl.create_default_context(cafile=str(ca_file))
    with (
        socket.create_connection(address, 10) as plain,
        context.wrap_socket(plain, server_hostname=address[0]) as secured,
    ):
        raw = secured.getpeercert(binary_form=True)
    key = x509.load_der_x509_certificate(raw or b"").public_key()
    info = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(info).digest()).decode()


def started(kind: BrowserType, pins: Sequence[str] = (), *further: str) -> Browser:
    """Start a Chromium as `launched` does; of one that runs, `kind` is its `browser_type`."""
    trust = ["--ignore-certificate-errors-spki-list=" + ",".join(pins)] if pins else []
    return kind.launch(executable_path=CHROMIUM, chromium_sandbox=False, args=[*FLAGS, *trust, *further])


@contextmanager
def launched(pins: Sequence[str] = (), *further: str) -> Iterator[Browser]:
    """Run a Chromium that trusts exactly the certificates whose keys are `pins`, and no others.

    Whoever gives pins has checked these certificates against the site's CA: `Target.pins`. `further` are more
    of Chromium's flags.
    """
    expect.set_options(timeout=PATIENCE * 1000)
    with sync_playwright() as playwright:
        browser = started(playwright.chromium, pins, *further)
        try:
            yield browser
        finally:
            browser.close()
