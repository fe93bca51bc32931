"""Sluice's web on this machine alone: the real provider, the real apps under gunicorn, TLS in front.

What stands in is only what web does not own: nginx (a small TLS front here) and the proxy behind /v1 (a stub
that asks the real authority about each key). The system tests run the same browser tests on a whole bed.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import page.build
from demo import ca
from sluice.web.database.tables import Database
from tests.integration.login import free_port

ROOT = Path(__file__).resolve().parents[2]
WEB_ADDRESS = "127.0.0.1"
# Another address than the application's: cookies know hosts, not ports.
IDP_ADDRESS = "127.0.0.2"


@dataclass(frozen=True)
class Site:
    """A running site: addresses, the file of its CA, accounts as login → password, and its folder."""

    url: str
    issuer: str
    ca_file: Path
    accounts: Mapping[str, str]
    folder: Path
    web_metrics: int
    authority_metrics: int
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    ending: ExitStack = field(default_factory=ExitStack)

    @property
    def web_config(self) -> Path:
        """The settings of web and authority."""
        return self.folder / "web.json"

    @property
    def web_socket(self) -> Path:
        """Where web answers."""
        return self.folder / "web" / "http.sock"

    @property
    def stub_socket(self) -> Path:
        """Where the stub of the proxy answers, without TLS."""
        return self.folder / "stub.sock"

    @property
    def authority_socket(self) -> Path:
        """Where the authority answers."""
        return self.folder / "authority" / "http.sock"


@contextmanager
def running_site(
    folder: Path, prefix: str = "", changes: Mapping[str, Mapping[str, Any]] | None = None
) -> Iterator[Site]:
    """Start everything in `folder`, wait until it answers, and end it all afterwards.

    `prefix`: the path of the host below which the site is. `changes`: settings of "web" and of the "front"
    that are other than in the tests.
    """
    page.build.ensure()
    site = _lay_out(folder, prefix, changes or {})
    with site.ending as stack:
        site.processes["idp"] = stack.enter_context(provider(site))
        for name in ("web", "authority"):
            site.processes[name] = stack.enter_context(_gunicorn(site, name))
        front = [sys.executable, "-m", "tests.browser.front", str(folder / "front.json")]
        stack.enter_context(_process(front, folder / "front.log"))
        _wait_for_port(WEB_ADDRESS, urlsplit(site.url).port or 443)
        yield site


@contextmanager
def killed(site: Site, name: str) -> Iterator[None]:
    """Kill web or authority with all of its processes, and start it again when the block ends."""
    os.killpg(site.processes[name].pid, signal.SIGKILL)
    site.processes[name].wait()
    try:
        yield
    finally:
        site.processes[name] = site.ending.enter_context(_gunicorn(site, name))


@contextmanager
def provider(site: Site) -> Iterator[subprocess.Popen[bytes]]:
    """Run the OpenID provider of `site`."""
    installed = _install_provider()
    argv = [str(installed / "node"), str(installed / "provider.mjs"), str(site.folder / "idp.json")]
    environment = {**os.environ, "NODE_EXTRA_CA_CERTS": str(site.ca_file)}
    with _process(argv, site.folder / "idp.log", environment) as process:
        _wait_for_port(IDP_ADDRESS, int(site.issuer.rpartition(":")[2]))
        yield process


def _install_provider() -> Path:
    cache = Path(os.environ.get("SLUICE_CACHE", "~/.cache/sluice")).expanduser()
    target = cache / "idp"
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    argv = [str(ROOT / "demo" / "idp" / "install.sh"), str(target)]
    subprocess.run(argv, check=True, env=environment, timeout=300, capture_output=True)
    return target / "app"


def _lay_out(folder: Path, prefix: str, changes: Mapping[str, Mapping[str, Any]]) -> Site:
    folder.mkdir(parents=True, exist_ok=True)
    ca.make_authority(folder)
    ca.make_certificate(folder, "web", ["localhost"], [WEB_ADDRESS])
    ca.make_certificate(folder, "idp", ["localhost"], [IDP_ADDRESS])
    ca.make_accounts(folder)
    for name in ("web", "authority"):
        (folder / name).mkdir(mode=0o700, exist_ok=True)
    site = Site(
        url=f"https://{WEB_ADDRESS}:{free_port(WEB_ADDRESS)}{prefix}",
        issuer=f"https://{IDP_ADDRESS}:{free_port(IDP_ADDRESS)}",
        ca_file=folder / "ca.pem",
        # carol is known to the provider and in no group of this service.
        accounts={**json.loads((folder / "accounts.json").read_text()), "carol": secrets.token_urlsafe(9)},
        folder=folder,
        web_metrics=free_port(WEB_ADDRESS),
        authority_metrics=free_port(WEB_ADDRESS),
    )
    # With characters that mean something on the way to the provider.
    secret = secrets.token_urlsafe(32) + "+/=%&: %41"
    documents = {
        "idp": _idp_config(site, secret),
        "web": _web_config(site, secret),
        "front": _front_config(site),
    }
    for name, document in documents.items():
        (folder / f"{name}.json").write_text(json.dumps({**document, **changes.get(name, {})}))
    database = Database(documents["web"]["database"])
    database.create()
    database.close()
    return site


def _idp_config(site: Site, client_secret: str) -> dict[str, Any]:
    groups = {"alice": ["users"], "bob": ["users", "admins"], "carol": ["visitors"]}
    client = {
        "secret": client_secret,
        "redirect_uris": [f"{site.url}/auth/authorize"],
        "post_logout_redirect_uris": [f"{site.url}/auth/signed-out"],
        "backchannel_logout_uri": f"{site.url}/auth/backchannel-logout",
    }
    return {
        "issuer": site.issuer,
        "address": IDP_ADDRESS,
        "port": int(site.issuer.rpartition(":")[2]),
        "certificate": (site.folder / "idp.pem").read_text(),
        "key": (site.folder / "idp.key").read_text(),
        "cookie_secret": secrets.token_urlsafe(32),
        # As strict providers are: a token for moments, a refresh token for one use.
        "access_token_seconds": 20,
        "rotate_refresh_tokens": True,
        "clients": [
            {"id": "sluice", **client},
            {"id": "sluice-post", "auth": "client_secret_post", **client},
        ],
        "accounts": {
            name: {
                "password": password,
                "name": name.capitalize(),
                "email": f"{name}@example.org",
                "groups": groups[name],
            }
            for name, password in site.accounts.items()
        },
    }


def _web_config(site: Site, client_secret: str) -> dict[str, Any]:
    return {
        "version": 1,
        "public_url": site.url,
        "database": f"sqlite:///{site.folder / 'sluice.db'}",
        "session_dir": str(site.folder / "sessions"),
        "secret_key": secrets.token_urlsafe(32),
        "key_secret": {"id": "1", "value": secrets.token_urlsafe(32)},
        "oidc": {
            "issuer": site.issuer,
            "client_id": "sluice",
            "client_secret": client_secret,
            "scopes": "openid profile email",
            "claims": {"id": "sub", "name": "name", "email": "email", "groups": "groups"},
            "ca_file": str(site.ca_file),
        },
        "limits": [{"scope": "user:*", "tokens_per_day": 50_000_000, "requests_per_minute": 5_000}],
        "access": {"admins": ["admins"], "users": ["users"], "projects": {"climate": ["users"]}},
        "personas": [
            {
                "name": "Tutor",
                "description": "Asks before it tells",
                "system": "Be a tutor.",
                "temperature": 0.4,
            },
            {"name": "Poet", "system": "Answer in verse.", "model": "smollm2-light"},
        ],
        "branding": {
            "imprint": {"en": "The centre, [at its address](https://example.org/)."},
            "privacy": {"en": "# What is stored\n\nNothing that you write."},
        },
        "key_days": 180,
        "page_bearer_seconds": 600,
        "authority_socket_mode": "0660",
        "log_level": "info",
    }


def _front_config(site: Site) -> dict[str, Any]:
    return {
        "address": WEB_ADDRESS,
        "port": urlsplit(site.url).port or 443,
        "prefix": urlsplit(site.url).path,
        "certificate": str(site.folder / "web.pem"),
        "key": str(site.folder / "web.key"),
        "socket": str(site.stub_socket),
        "web_socket": str(site.web_socket),
        "authority_socket": str(site.authority_socket),
    }


@contextmanager
def _gunicorn(site: Site, name: str) -> Iterator[subprocess.Popen[bytes]]:
    metrics_port = {"web": site.web_metrics, "authority": site.authority_metrics}[name]
    bound = site.folder / name / "http.sock"
    argv = [
        *(sys.executable, "-m", "gunicorn", "--config", "python:sluice.web.gunicorn"),
        *("--bind", f"unix:{bound}", "--bind", f"{WEB_ADDRESS}:{metrics_port}", f"sluice.web.wsgi:{name}()"),
    ]
    environment = {**os.environ, "SLUICE_WEB_CONFIG": str(site.web_config)}
    environment["PYTHONPATH"] = str(ROOT / "files" / "sluice" / "src")
    with _process(argv, site.folder / f"{name}.log", environment) as process:
        _wait_for_port(WEB_ADDRESS, metrics_port)
        yield process


@contextmanager
def _process(
    argv: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("ab") as stream:
        process = subprocess.Popen(
            argv,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            # A group of its own: with the one that is killed go those that it has started.
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for_port(address: str, port: int, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection((address, port), 1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return
