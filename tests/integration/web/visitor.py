"""Somebody with a browser at a running site, and the proxy's question to its authority."""

from __future__ import annotations

import hashlib
import json
import re
import socket
from typing import Any
from urllib.parse import parse_qs, urlsplit

import requests
from cachelib.file import FileSystemCache

from tests.browser.loopback import Site


class Visitor:
    """Somebody with a browser, as far as requests and cookies go."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.http = requests.Session()
        self.http.verify = str(site.ca_file)
        # An environment's CA bundle would win over the one above.
        self.http.trust_env = False

    def get(self, path: str) -> requests.Response:
        """Load a page and follow where it leads."""
        return self.http.get(self.site.url + path, timeout=60)

    def post(self, path: str, **fields: str) -> requests.Response:
        """Send a form of the page at `/keys`."""
        token = re.search(r'data-csrf="([^"]+)"', self.get("/keys").text)
        assert token, "nobody is signed in"
        headers = {"Origin": self.site.url, "Sec-Fetch-Site": "same-origin"}
        data = {"csrf_token": token[1], **fields}
        return self.http.post(self.site.url + path, data=data, headers=headers, timeout=60)

    def sign_in(self, login: str, password: str, path: str = "/") -> requests.Response:
        """Go through the provider's form."""
        form = self.get(f"/auth/login?next={path}")
        assert form.url.startswith(self.site.issuer + "/interaction/"), form.text
        return self.http.post(form.url, data={"login": login, "password": password}, timeout=60)

    def until_the_answer(self, login: str, password: str) -> str:
        """Go through the provider's form; return the address that leads back, and do not go there."""
        form = self.get("/auth/login")
        data = {"login": login, "password": password}
        answer = self.http.post(form.url, data=data, allow_redirects=False, timeout=60)
        for _ in range(5):
            target = answer.headers["Location"]
            if target.startswith(self.site.url):
                return target
            answer = self.http.get(target, allow_redirects=False, timeout=60)
        raise AssertionError("the provider does not send the browser back")

    def begin(self) -> dict[str, str]:
        """Start to sign in; return what the provider is asked."""
        answer = self.http.get(self.site.url + "/auth/login", allow_redirects=False, timeout=60)
        return {
            name: values[0] for name, values in parse_qs(urlsplit(answer.headers["Location"]).query).items()
        }

    def is_signed_in(self) -> bool:
        """Tell whether the pages know this browser."""
        answer = self.http.get(self.site.url + "/auth/account", allow_redirects=False, timeout=60)
        return answer.status_code == 200

    def kept(self) -> dict[str, Any]:
        """Return what the server keeps of this browser's session."""
        store = FileSystemCache(str(self.site.folder / "sessions"), threshold=0, mode=0o600)
        found: dict[str, Any] = store.get(f"session:{self.session_id()}")
        return found

    def session_id(self) -> str | None:
        """Return the id of Sluice's session."""
        return self.http.cookies.get("__Host-sluice")


def ask_authority(site: Site, key: str) -> tuple[int, Any]:
    """Ask whose key this is, as the proxy does, on the authority's socket."""
    credential = hashlib.sha256(key.encode()).hexdigest()
    body = f'{{"version": 1, "credential": "{credential}"}}'
    request = (
        f"POST /v1/principal HTTP/1.1\r\nHost: authority\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    )
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(site.authority_socket))
        connection.sendall(request.encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, content = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(content)["principal"]
