"""What a browser loads of the chat page, from web behind nginx with the role's configuration."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import page.build
from lab.bench.processes import ROOT
from lab.bench.stack import Authority, Nginx
from tests.integration.pages import Pages
from tests.integration.stand import prepare

pytestmark = pytest.mark.integration

# All that a first visit loads, in bytes as they pass, and what the page itself takes of it.
MOST = 150_000
PAGE = 25_000
SECONDS = 60.0


class Site:
    """nginx and web; `get` asks as a browser does that takes compressed answers."""

    def __init__(self, port: int, certificate: Path) -> None:
        self._port = port
        self._context = ssl.create_default_context(cafile=str(certificate))

    def get(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers (names in small letters) and body as it passed."""
        connection = http.client.HTTPSConnection("localhost", self._port, context=self._context, timeout=60)
        with contextlib.closing(connection):
            connection.request("GET", path, headers={"Accept-Encoding": "gzip, deflate, br"})
            answer = connection.getresponse()
            headers = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, headers, answer.read()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    prepare()
    place = tmp_path_factory.mktemp("first-load")
    for folder in (place, *place.parents):
        if folder.is_relative_to("/tmp") and folder != Path("/tmp"):
            folder.chmod(0o755)
    with contextlib.ExitStack() as ending:
        authority = Authority(place / "authority")
        ending.callback(authority.stop)
        authority.start(ROOT / "files/sluice/src")
        pages = Pages(place / "pages")
        ending.callback(pages.stop)
        pages.start(authority)
        pages.directory.chmod(0o755)
        pages.socket.chmod(0o666)
        nginx = Nginx(place / "nginx")
        ending.callback(nginx.stop)
        changes = {"nginx_web_socket": str(pages.socket)}
        nginx.start(place / "no-proxy", place / "no-log", changes)
        found = Site(nginx.port, nginx.certificate)
        deadline = time.monotonic() + SECONDS
        while found.get("/")[0] != 200:
            assert time.monotonic() < deadline, pages.log.read_text()[-1000:]
            time.sleep(0.05)
        yield found


def _loaded() -> list[str]:
    """Return the addresses of what the chat page loads."""
    manifest = json.loads((page.build.ensure() / "manifest.json").read_text())["files"]
    chat = manifest["chat.js"]
    others = [manifest[name]["file"] for name in ("early.en.js", "icon.svg")]
    return [f"/static/{name}" for name in (chat["file"], *chat["imports"], *chat["styles"], *others)]


def test_what_the_chat_page_loads_comes_compressed_and_is_kept(site: Site) -> None:
    weight = 0
    for path in _loaded():
        status, headers, body = site.get(path)
        assert status == 200, path
        assert headers["cache-control"] == "public, max-age=31536000, immutable"
        assert headers["strict-transport-security"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["content-encoding"] == "gzip"
        assert headers["vary"] == "Accept-Encoding"
        assert gzip.decompress(body) == (page.build.STATIC / Path(path).name).read_bytes()
        weight += len(body) + len(str(headers))
    assert weight + PAGE < MOST


def test_pages_and_answers_of_the_api_are_not_compressed(site: Site) -> None:
    """How long a compressed page is tells of the secrets in it."""
    for path, expected in (("/", 200), ("/auth/signed-out", 200), ("/v1/models", 502)):
        status, headers, _ = site.get(path)
        assert status == expected
        assert "content-encoding" not in headers
        assert "immutable" not in headers.get("cache-control", "")
