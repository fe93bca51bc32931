"""The bare ceiling beside a running stack: how fast proxy and relay would be if they only passed bytes on.

generator → proxy (plain HTTP) → SSH → relay → engine's socket. proxy.py and relay.py say what is missing.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from lab.bench import processes
from lab.bench.processes import ROOT
from lab.bench.stack import MODEL, Login, Proxy, Running, Stack, Together
from lab.bench.target import Target
from tests.integration.login import INSIDE, PYTHON

RELAY = Path(__file__).with_name("relay.py")
LAUNCHER = """\
#!/bin/sh
exec {python} -I -S {inside}/etc/bare_relay.py {inside}/sluice.pyz {inside}/etc/relay.json {engine} \\
    2>/dev/null
"""


class BareLogin(Login):
    """A login node whose forced command is the bare relay."""

    def confine(self, engine: Path) -> None:
        """Let the launcher start the bare relay."""
        etc = self.directory / "etc"
        shutil.copy(RELAY, etc / "bare_relay.py")
        (etc / "relay").write_text(LAUNCHER.format(python=PYTHON, inside=INSIDE, engine=engine))


class BareProxy(Running):
    """The bare proxy's process."""

    def start(self, config: Path) -> None:
        """Start and wait for its port."""
        port_file = self.directory / "port"
        self.run([sys.executable, "-m", "lab.bench.ceiling.proxy", str(config), str(port_file)], cwd=ROOT)
        self.wait_until(port_file)
        self.port = int(port_file.read_text())


class Bare(Together):
    """The whole ceiling."""

    def __init__(self, stack: Stack) -> None:
        super().__init__()
        self._stack = stack

    def _start(self) -> None:
        stack = self._stack
        place = stack.directory / "bare"
        self._ending.callback(shutil.rmtree, place, ignore_errors=True)
        (place / "login").mkdir(parents=True)
        self.login = BareLogin(place / "login", stack.build.zipapp, {})
        self._ending.callback(self.login.stop)
        self.login.confine(stack.engine.socket)
        self.login.route(stack.front.instance(), concurrency=stack.options.concurrency)
        self.login.start()
        self.proxy = BareProxy(place / "proxy")
        config = self._config(place / "proxy")
        self._ending.callback(self.proxy.stop)
        self.proxy.start(config)

    def _config(self, place: Path) -> Path:
        document = Proxy.document(
            self.login, self._stack.authority.socket, place / "http.sock", self._stack.options
        )
        config = place / "proxy.json"
        config.write_text(json.dumps(document))
        return config

    def target(self) -> Target:
        """Return the target of the load."""
        return Target("bare", port=self.proxy.port, model=MODEL)

    def cpu(self) -> dict[str, float]:
        """Return the CPU seconds so far: `vm` (proxy, ssh) and `login` (sshd, relay)."""
        everything = processes.table()
        vm = processes.below(self.proxy.pid, everything)
        login = processes.below(self.login.pid, everything)
        return {"vm": sum(one.cpu for one in vm), "login": sum(one.cpu for one in login)}
