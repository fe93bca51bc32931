"""What readers of pages get from nginx: below a path, in their language, and where web does not answer.

The role's configuration on Debian's nginx. Behind it, in place of web and proxy, is a server that tells what
it was asked.
"""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import re
import shutil
import socketserver
import ssl
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from lab.bench.stack import Nginx

pytestmark = pytest.mark.integration

SCRIPT = b"text of a script " * 200


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def asked(self) -> dict[str, Any]:
        """What the server behind nginx was asked."""
        found: dict[str, Any] = json.loads(self.body)
        return found


class Echo(BaseHTTPRequestHandler):
    """Tells the path and some headers of what it was asked; does not answer below /slow."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path.startswith("/slow"):
            # The other side gives up first.
            self.connection.recv(1)
            return
        kind = "text/javascript" if self.path.startswith("/static/") else "application/json"
        if self.path.startswith("/page"):
            kind = "text/html"
        names = ("Cookie", "X-Request-Id", "Host")
        said = {"path": self.path, **{name: self.headers.get(name) for name in names}}
        body = SCRIPT if kind == "text/javascript" else json.dumps({**said, "more": "x" * 2000}).encode()
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self.do_GET()

    def log_message(self, *_arguments: object) -> None:
        """Be quiet."""


class Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True

    def handle_error(self, *_arguments: object) -> None:
        """Be quiet: nginx ends what takes too long."""


@contextlib.contextmanager
def echoing(path: Path) -> Iterator[None]:
    server = Server(str(path), Echo)
    path.chmod(0o666)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        path.unlink()


class Front:
    """nginx before the echo, with changed inputs."""

    def __init__(self, folder: Path, **inputs: Any) -> None:
        folder.mkdir()
        self._ending = contextlib.ExitStack()
        self.web = folder / "http.sock"
        self.nginx = Nginx(folder / "nginx")
        self._ending.callback(self.nginx.stop)
        self.nginx.start(self.web, folder / "no-log", {"nginx_web_socket": str(self.web), **inputs})
        self.context = ssl.create_default_context(cafile=str(self.nginx.certificate))

    def stop(self) -> None:
        """End it."""
        self._ending.close()

    def ask(self, path: str, method: str = "GET", body: bytes = b"", **headers: str) -> Answer:
        """Send one request."""
        connection = http.client.HTTPSConnection(
            "localhost", self.nginx.port, context=self.context, timeout=30
        )
        try:
            given = {name.replace("_", "-"): value for name, value in headers.items() if value}
            connection.request(method, path, body=body or None, headers=given)
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, found, answer.read())
        finally:
            connection.close()


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    # Not below pytest's own folder: that is closed to nginx's account.
    made = Path(tempfile.mkdtemp(prefix="nginx-pages-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture(scope="module")
def root(folder: Path) -> Iterator[Front]:
    """At the root of its host, and impatient."""
    front = Front(folder / "root", nginx_timeout=1)
    yield front
    front.stop()


@pytest.fixture(scope="module")
def below(folder: Path) -> Iterator[Front]:
    """Below a path."""
    front = Front(folder / "below", nginx_path="/a.i/x")
    yield front
    front.stop()


@pytest.fixture
def answering(root: Front, below: Front) -> Iterator[None]:
    """Both have something behind them."""
    with echoing(root.web), echoing(below.web):
        yield


# --- below a path ----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("answering")
@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/keys",
        "/keys?sort=a%2Fb&x=%20",
        "/c/0b0f",
        "/static/chat-A.js",
        "/auth/login?next=/a.i/x/keys",
        "/v1/models",
        "/v1/models/a%2Fb",
        "/v1/chat/completions",
        "/chat/completions",
    ],
)
def test_the_parts_behind_it_do_not_see_the_path_of_the_site(below: Front, path: str) -> None:
    answer = below.ask(f"/a.i/x{path}")
    assert answer.status == 200
    if not path.startswith("/static/"):
        assert answer.asked["path"] == path


@pytest.mark.usefixtures("answering")
def test_the_api_below_a_path_gets_no_cookies(below: Front) -> None:
    assert below.ask("/a.i/x/v1/models", Cookie="__Secure-sluice=x").asked["Cookie"] is None
    assert below.ask("/a.i/x/keys", Cookie="__Secure-sluice=x").asked["Cookie"] == "__Secure-sluice=x"


@pytest.mark.usefixtures("answering")
@pytest.mark.parametrize(
    ("path", "status", "location"),
    [
        ("/", 302, "/a.i/x/"),
        ("/a.i/x", 308, "/a.i/x/"),
        ("/a.i/x/v1", 308, "/a.i/x/v1/"),
        ("/v1/models", 404, ""),
        ("/keys", 404, ""),
        ("/a.i/", 404, ""),
        ("/abi/x/keys", 404, ""),
        ("/a.i/xx/keys", 404, ""),
        ("/a.i/x/../../v1/models", 404, ""),
        ("/a.i/x/v1/../keys", 400, ""),
        ("/%61.i/x/v1/models", 400, ""),
        ("/%61.i/x/keys", 400, ""),
        ("//a.i/x/keys", 400, ""),
        ("/b/../a.i/x/keys", 400, ""),
    ],
)
def test_what_is_not_below_the_path_is_not_ours(below: Front, path: str, status: int, location: str) -> None:
    answer = below.ask(path)
    assert answer.status == status
    site = f"https://localhost:{below.nginx.port}"
    assert answer.headers.get("location", "").removeprefix(site) == location


@pytest.mark.usefixtures("answering")
def test_only_the_document_that_draws_may_be_framed(root: Front, below: Front) -> None:
    for front, prefix in ((root, ""), (below, "/a.i/x")):
        found = {path: front.ask(prefix + path).headers["x-frame-options"] for path in ("/drawing", "/keys")}
        assert found == {"/drawing": "SAMEORIGIN", "/keys": "DENY"}


# --- where web does not answer ---------------------------------------------------------------------------

TITLES = {
    "en": "The pages are not available",
    "de": "Die Seiten sind nicht verfügbar",
    "ja": "ページを利用できません",
}


@pytest.mark.parametrize(
    ("cookie", "accepted", "language"),
    [
        ("", "", "en"),
        ("", "de", "de"),
        ("", "de-AT,de;q=0.9,en;q=0.8", "de"),
        ("", "fr-FR, ja;q=0.5, de;q=0.4", "ja"),
        ("", "en-US,en;q=0.9,de;q=0.8", "en"),
        ("", "fr", "en"),
        ("a=b; c=d", "ja", "ja"),
        ("__Host-sluice-language=de", "ja", "de"),
        ("a=b; __Host-sluice-language=en; c=d", "ja", "en"),
        ("__Secure-sluice-language=ja", "", "ja"),
        ("__Host-sluice-language=xx", "de", "de"),
        ("x__Host-sluice-language=ja", "", "en"),
    ],
)
def test_a_page_says_in_the_readers_language_that_web_is_away(
    root: Front, cookie: str, accepted: str, language: str
) -> None:
    answer = root.ask("/keys", Cookie=cookie, Accept_Language=accepted)
    page = answer.body.decode()
    assert answer.status == 502
    assert f'<html lang="{language}">' in page
    assert TITLES[language] in page
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["retry-after"] == "5"
    assert answer.headers["cache-control"] == "no-store"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    # The number that support finds in the log.
    assert answer.headers["x-request-id"] in page
    assert "color-scheme:light dark" in page


@pytest.mark.parametrize("path", ["/", "/auth/login", "/static/chat-A.js"])
def test_every_place_of_pages_has_them(root: Front, path: str) -> None:
    assert b"<!doctype html>" in root.ask(path).body


@pytest.mark.usefixtures("answering")
def test_a_form_that_is_too_large_and_a_page_that_takes_too_long_are_told_so(root: Front) -> None:
    large = root.ask("/keys", "POST", b"x" * 70_000)
    assert (large.status, b"That is too large" in large.body) == (413, True)
    slow = root.ask("/slow")
    assert (slow.status, b"No answer came in time" in slow.body) == (504, True)


def test_the_rest_of_the_host_has_a_page_too_with_a_link_to_the_site(below: Front) -> None:
    page = below.ask("/elsewhere", Accept_Language="de").body.decode()
    assert "Hier ist nichts" in page
    assert '<a href="/a.i/x/">Zur Startseite</a>' in page


def test_the_api_keeps_errors_for_programs(root: Front) -> None:
    for path in ("/v1/models", "/chat/completions"):
        answer = root.ask(path, Accept="text/html", Accept_Language="de")
        assert (answer.status, answer.headers["content-type"]) == (502, "application/json")
        assert answer.asked["error"]["code"] == "internal_error"


def test_too_many_requests_are_told_in_words(folder: Path) -> None:
    front = Front(folder / "busy", nginx_address_rate=1, nginx_address_burst=1)
    try:
        with echoing(front.web):
            answers = [front.ask("/keys", Accept_Language="ja") for _ in range(6)]
    finally:
        front.stop()
    refused = [answer for answer in answers if answer.status == 429]
    assert refused
    assert "リクエストが多すぎます" in refused[0].body.decode()
    assert refused[0].headers["retry-after"] == "1"


# --- compression -----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("answering")
def test_files_are_compressed_and_pages_and_answers_are_not(root: Front) -> None:
    """A page holds tokens beside text that others can choose: its compressed length would tell of them."""
    script = root.ask("/static/chat-A.js", Accept_Encoding="gzip")
    assert script.headers["content-encoding"] == "gzip"
    assert gzip.decompress(script.body) == SCRIPT
    for path in ("/page", "/keys", "/v1/models"):
        assert "content-encoding" not in root.ask(path, Accept_Encoding="gzip").headers


def test_the_texts_are_there_in_every_language() -> None:
    source = Path("roles/nginx/templates/pages.j2")
    text = (Path(__file__).parents[2] / source).read_text(encoding="utf-8")
    statuses = re.findall(r"(?m)^  (\d{3}): \{$", text)
    for language in ("en", "de", "ja"):
        assert len(re.findall(rf"(?m)^    '{language}': \(", text)) == len(statuses) == 6
