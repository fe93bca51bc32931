"""The design that starts processes for each request, on loopback: what Sluice is compared with.

nginx (the same as before Sluice) → gateway.py → `ssh` over shared connections → sshd → serve.sh → curl →
engine's socket. No such design is cheaper: it has no handshake and starts no interpreter except bash. It
checks no key, and limits and counts nothing. sshd has its default limits, so a connection takes ten requests
at once. There are enough connections for the load.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from lab.bench import processes
from lab.bench.processes import ROOT
from lab.bench.stack import MODEL, WEB_GROUP, Login, Nginx, Running, Stack, Together
from lab.bench.target import Target

MASTERS = 8
SCRIPT = Path(__file__).with_name("serve.sh")


class ScriptedLogin(Login):
    """A login node whose forced command is serve.sh; sshd's own limit of sessions holds."""

    def _lay_out(self, zipapp: Path) -> None:
        super()._lay_out(zipapp)
        shutil.copy(SCRIPT, self.directory / "etc" / "relay")

    def _variables(self) -> dict[str, Any]:
        return {**super()._variables(), "relay_max_sessions": 10}


class Gateway(Running):
    """gateway.py and the ssh connections that it uses."""

    def start(self, login: Login) -> None:
        """Open the connections, start, wait for the socket."""
        shutil.chown(self.directory, group=WEB_GROUP)
        self.directory.chmod(0o2755)
        masters = self.directory / "masters"
        masters.mkdir()
        self.masters: list[subprocess.Popen[bytes]] = []
        for number in range(MASTERS):
            place = masters / f"m{number}"
            self.masters.append(processes.start(login.ssh("-M", "-N", "-S", str(place)), self.log))
            processes.wait_until(place, self.masters[-1], self.log)
        self.socket = self.directory / "http.sock"
        argv = [sys.executable, "-m", "lab.bench.per_request.gateway", "--socket", str(self.socket)]
        self.run([*argv, "--masters", str(masters), "--model", MODEL], cwd=ROOT)
        self.wait_until(self.socket)
        self.socket.chmod(0o666)

    def stop(self) -> None:
        """End gateway and connections."""
        super().stop()
        for master in self.masters:
            processes.end(master)


class PerRequest(Together):
    """The whole design beside a running stack, whose engine it uses."""

    def __init__(self, stack: Stack) -> None:
        super().__init__()
        self._stack = stack

    def _start(self) -> None:
        place = self._stack.directory / "per-request"
        self._ending.callback(shutil.rmtree, place, ignore_errors=True)
        (place / "login").mkdir(parents=True)
        self.login = ScriptedLogin(place / "login", self._stack.build.zipapp, {})
        self._ending.callback(self.login.stop)
        routes = self.login.directory / "etc" / "routes"
        routes.write_text(f"other /nowhere\n{MODEL} {self._stack.engine.socket}\n")
        self.login.start()
        self.gateway = Gateway(place / "gateway")
        self._ending.callback(self.gateway.stop)
        self.gateway.start(self.login)
        self.nginx = Nginx(place / "nginx")
        self._ending.callback(self.nginx.stop)
        self.nginx.start(self.gateway.socket, self.login.directory / "log" / "socket", {})

    def target(self) -> Target:
        """Return the target of the load."""
        return Target("per-request", port=self.nginx.port, tls=True)

    def cpu(self) -> dict[str, float]:
        """Return the CPU seconds so far: `vm` (nginx, gateway, ssh) and `login` (sshd, bash, curl)."""
        everything = processes.table()
        roots = [self.nginx.pid, self.gateway.pid, *(master.pid for master in self.gateway.masters)]
        vm = [one for root in roots for one in processes.below(root, everything)]
        login = processes.below(self.login.pid, everything)
        return {"vm": sum(one.cpu for one in vm), "login": sum(one.cpu for one in login)}
