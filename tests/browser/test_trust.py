"""The tests' browser trusts the site's certificates and no others, and notices what a page asks of others."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path

import pytest
from playwright.sync_api import Error

from demo import ca
from tests.browser.marks import ON_STUB
from tests.browser.tab import Tab

pytestmark = ON_STUB


class _Handshakes(HTTPServer):
    """Serves files; a browser that refuses the certificate is no fault of the server."""

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing."""


@pytest.fixture
def stranger(tmp_path: Path) -> Iterator[str]:
    """Another site's address; its certificate names it, and is by another CA."""
    ca.make_authority(tmp_path)
    ca.make_certificate(tmp_path, "other", ["localhost"], ["127.0.0.1"])
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "other.pem", tmp_path / "other.key")
    with _Handshakes(("127.0.0.1", 0), SimpleHTTPRequestHandler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"https://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def test_a_certificate_of_another_authority_is_refused(tab: Tab, stranger: str) -> None:
    with pytest.raises(Error, match="ERR_CERT_AUTHORITY_INVALID"):
        tab.page.goto(stranger)
    assert tab.profile.strangers() == [stranger]
    tab.profile.requests.clear()


def test_what_a_page_asks_of_another_host_is_noticed(alice: Tab) -> None:
    """The policy stops it, and the tests see that it was tried."""
    alice.run("new Image().src = 'https://example.org/a.png'")
    alice.wait(lambda: [line for line in alice.complaints() if "Content Security Policy" in line])
    assert alice.profile.strangers() == ["https://example.org/a.png"]
    alice.profile.requests.clear()
