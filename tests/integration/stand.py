"""Everything that a user's program meets, out of the deployed programs, with a stub engine at the end.

nginx (TLS, the role's configuration), proxy, authority, sshd, relay and front as `lab.bench.stack` starts
them; the engine is `tests.fakes.engine`, which answers on every path of the API.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import ssl
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from demo.bed import packages
from lab.bench.processes import ROOT
from lab.bench.stack import (
    GROUP,
    MODEL,
    Authority,
    Build,
    Front,
    Login,
    Nginx,
    Options,
    Proxy,
    Running,
    Together,
)
from sluice.contracts.files import write_json
from sluice.contracts.paths import CAPABILITIES
from sluice.contracts.routing import RoutedModel, RoutingTable
from tests.fakes.routed import routed
from tests.integration import tools
from tests.integration.login import UID

# Of the words that it says, a test knows the number.
WORDS, WORD = 5, "Paris "
# Every stream has comments before its first token (seconds): no client may stumble over them.
READING, COMMENTS = 0.4, 0.1
# It serves completions alone, and sleeps.
PLAIN = "plain"
# It is nobody's: of a group in which no key is.
FORBIDDEN = "forbidden"
# Its pages may use the API from a browser.
SITE = "https://notes.example.org"
# More answers than any request of the contract's test asks for: how many a model takes is no schema's to say.
PLACES = 4096
# Connections from there come through a load balancer, for all that nginx knows.
BALANCER = "127.0.0.9"
SECONDS = 60.0


class StubEngine(Running):
    """The stub engine on a unix socket."""

    def start(self) -> None:
        """Start and wait until it listens."""
        self.socket = self.directory / "engine.sock"
        argv = [sys.executable, "-m", "tests.fakes.engine", "--socket", str(self.socket)]
        paths = os.pathsep.join([str(ROOT), str(ROOT / "files/sluice/src")])
        environment = {**os.environ, "PYTHONPATH": paths}
        argv += ["--tokens", str(WORDS), "--token", WORD, "--reading", str(READING)]
        self.run(argv, env=environment, cwd=ROOT)
        self.wait_until(self.socket)


class Stand(Together):
    """All parts; `url` is the API's base, `ca` what its certificate is checked by, `key` may use MODEL."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="stand-", dir=directory))
        self.directory.chmod(0o711)
        self._ending.callback(shutil.rmtree, self.directory, ignore_errors=True)

    def _start(self) -> None:
        build = Build.make(self.directory / "build")
        engine = self._ended(StubEngine(self.directory / "engine"))
        engine.start()
        front = self._ended(Front(self.directory / "job"))
        front.start(engine.socket, build.zipapp, PLACES)
        (self.directory / "login").mkdir(mode=0o755)
        login = Login(self.directory / "login", build.zipapp, {})
        self._ending.callback(login.stop)
        _route(login, front)
        login.start()
        self.authority = self._ended(Authority(self.directory / "authority"))
        self.authority.start(build.site)
        self.key = self.authority.make_key("stand")
        self.proxy = self._ended(Proxy(self.directory / "proxy"))
        options = Options(
            sessions=1, proxy={"proxy_cors_origins": [SITE], "proxy_comment_interval": COMMENTS}
        )
        self.proxy.start(build.site, login, self.authority.socket, options)
        nginx = self._ended(Nginx(self.directory / "nginx"))
        nginx.start(
            self.proxy.socket,
            login.directory / "log" / "socket",
            {"nginx_balancers": [BALANCER], "nginx_cors_origins": [SITE]},
        )
        self.url = f"https://localhost:{nginx.port}"
        self.ca = nginx.certificate
        self._wait_ready()

    def _ended(self, part: Any) -> Any:
        self._ending.callback(part.stop)
        return part

    @property
    def environment(self) -> dict[str, str]:
        """What a program gets that is to use the service, by the names that docs/api.md uses."""
        return {"SLUICE_URL": self.url, "SLUICE_API_KEY": self.key, "SLUICE_CA": str(self.ca)}

    @property
    def context(self) -> ssl.SSLContext:
        """Trusts the stand's certificate."""
        return ssl.create_default_context(cafile=str(self.ca))

    def get(self, path: str) -> tuple[int, Any]:
        """Return status and decoded body."""
        connection = http.client.HTTPSConnection(
            self.url.removeprefix("https://"), context=self.context, timeout=30
        )
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {self.key}"})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + SECONDS
        while not self._ready():
            assert time.monotonic() < deadline, self.proxy.log.read_text()[-2000:]
            time.sleep(0.1)

    def _ready(self) -> bool:
        with contextlib.suppress(OSError):
            status, model = self.get(f"/v1/models/{MODEL}")
            return status == 200 and model["ready"] == 1
        return False


def prepare() -> None:
    """Install what the machine lacks."""
    tools.ensure()
    packages.ensure({"/usr/sbin/nginx": "nginx"})


def _route(login: Login, front: Front) -> None:
    """Write the routing table as the scheduler does."""
    models = {
        MODEL: _model(CAPABILITIES, GROUP, front),
        PLAIN: _model(("completions",), GROUP, None),
        FORBIDDEN: _model(CAPABILITIES, "nobody", None),
    }
    table = RoutingTable("bench", 1, time.time(), models)
    write_json(login.directory / "state" / "routing.json", table.dump(), mode=0o640, group=UID)


def _model(capabilities: tuple[str, ...], group: str, front: Front | None) -> RoutedModel:
    return routed(
        () if front is None else (front.instance(),),
        context_length=32_768,
        capabilities=capabilities,
        groups=(group,),
        concurrency=PLACES,
        usage="continuous",
    )
