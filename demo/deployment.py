"""Sluice on a test bed: hosts, their cluster and provider, and the site playbook as a site runs it."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from demo.bed.bed import Bed
from demo.bed.errors import BedError
from demo.bed.progress import Report
from demo.chat import Client

ROOT = Path(__file__).resolve().parent.parent
ACCOUNTS = {"alice": "users", "bob": "users and admins"}
KEY_USER = "demo"
_PLAY_SECONDS = 1500.0
_PLAY = re.compile(r"PLAY \[(.+)\]")


class Deployment:
    """A bed and what is installed on it.

    `bed` gives hosts and state folder; everything else lies below `bed.state`: `ca/`, `log/`, `env`.
    """

    def __init__(self, bed: Bed, report: Report) -> None:
        self.bed = bed
        self._report = report

    @property
    def url(self) -> str:
        """The address of the service."""
        return f"https://{self.bed.plan.address('gw')}"

    @property
    def ca_file(self) -> Path:
        """The certificate authority that signed the bed's certificates."""
        return self.bed.state / "ca" / "ca.pem"

    @property
    def env_file(self) -> Path:
        """What scripts source: address, API key, CA, hosts and accounts."""
        return self.bed.state / "env"

    def environment(self) -> dict[str, str]:
        """Return the environment in which the inventory `inventories/demo` describes this bed."""
        return {
            **os.environ,
            "SLUICE_BED_STATE": str(self.bed.state),
            "SLUICE_BED_SUBNET": self.bed.plan.subnet,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_NOCOLOR": "1",
        }

    # --- steps ---------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Bring up the hosts and all that a site has before it installs Sluice."""
        self.bed.up()
        self._report("making certificates")
        self.run_python("demo/ca.py", "--state", str(self.bed.state), "--subnet", self.bed.plan.subnet)
        self._report("installing the OpenID provider, and the Slurm cluster with the model's weights")
        with ThreadPoolExecutor(2) as pool:
            provider = pool.submit(self.play, "demo/idp.yml")
            cluster = pool.submit(self._cluster)
            provider.result()
            cluster.result()

    def _cluster(self) -> None:
        self.play("demo/cluster.yml")
        self._report("building the engines and the model's weights (minutes, the first time)")
        self.play("demo/weights.yml")

    def install(self) -> None:
        """Run the site playbook."""
        self._report("running playbooks/site.yml")
        self.play("playbooks/site.yml")

    def write_env(self) -> None:
        """Make an API key and leave everything that scripts need in the env file (mode 0600)."""
        plan = self.bed.plan
        values = {
            "SLUICE_URL": self.url,
            "SLUICE_API_KEY": self.create_key(KEY_USER, ["users"]),
            "SLUICE_CA": str(self.ca_file),
            "SLUICE_ISSUER": f"https://{plan.address('idp')}",
            "SLUICE_ACCOUNTS": " ".join(f"{name}:{self.password(name)}" for name in ACCOUNTS),
            "SLUICE_SSH_CONFIG": str(self.bed.ssh_config),
            **{
                f"SLUICE_HOST_{name.upper()}": plan.address(name)
                for name in ("gw", "idp", "login", "c1", "c2")
            },
        }
        text = "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items())
        self.env_file.touch(mode=0o600)
        self.env_file.write_text(text)

    # --- pieces --------------------------------------------------------------------------------------------

    def play(self, playbook: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a playbook against this bed; its plays are reported, its whole output goes to a log file.

        Raises BedError with the last lines when it fails and `check` is set, or when it takes too long.
        """
        log = self.bed.state / "log" / (Path(playbook).stem + ".log")
        log.parent.mkdir(parents=True, exist_ok=True)
        argv = [self._tool("ansible-playbook"), "-i", "inventories/demo", playbook, *arguments]
        started = time.monotonic()
        status = self._follow(argv, log)
        output = log.read_text(errors="replace")
        self._report(f"{playbook} took {time.monotonic() - started:.0f} s")
        if check and status != 0:
            tail = "\n".join(output.splitlines()[-40:])
            raise BedError(f"{playbook} failed; the whole output is in {log}:\n{tail}")
        return subprocess.CompletedProcess(argv, status, output, "")

    def _follow(self, argv: list[str], log: Path) -> int:
        with (
            log.open("w") as stream,
            subprocess.Popen(
                argv,
                cwd=ROOT,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            ) as process,
        ):
            alarm = threading.Timer(_PLAY_SECONDS, process.terminate)
            alarm.start()
            try:
                for line in process.stdout or ():
                    stream.write(line)
                    stream.flush()
                    if play := _PLAY.match(line):
                        self._report(f"  {play[1]}")
                return process.wait()
            finally:
                alarm.cancel()
                process.terminate()

    def run_python(self, *argv: str) -> str:
        """Run one of the tree's scripts and return what it printed."""
        done = subprocess.run(
            [sys.executable, *argv], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
        )
        if done.returncode != 0:
            raise BedError(f"{argv[0]} failed: {done.stderr.strip()[-2000:]}")
        return done.stdout

    def create_key(self, user: str, groups: Sequence[str]) -> str:
        """Make an API key on the gateway for a service account and return it."""
        argv = [
            *("runuser", "-u", "sluice-web", "--", "/opt/sluice/venv/bin/sluice", "keys", "create"),
            *("--user", user, "--groups", ",".join(groups), "--name", "demo", "--json"),
        ]
        done = self.bed.run("gw", argv, check=True)
        return str(json.loads(done.stdout)["key"])

    def password(self, account: str) -> str:
        """Return a test account's password at the provider."""
        accounts = json.loads((self.bed.state / "ca" / "accounts.json").read_text())
        return str(accounts[account])

    def client(self) -> Client:
        """Return a client with the key of the env file."""
        values = self.read_env()
        return Client(values["SLUICE_URL"], values["SLUICE_API_KEY"], Path(values["SLUICE_CA"]))

    def read_env(self) -> dict[str, str]:
        """Return the env file's values. Raises BedError when there is none."""
        try:
            lines = self.env_file.read_text().splitlines()
        except OSError:
            raise BedError(f"{self.env_file} is not there", "bring the demo up first: make demo") from None
        pairs = (shlex.split(line)[0].partition("=") for line in lines)
        return {name: value for name, _, value in pairs}

    def _tool(self, name: str) -> str:
        return str(Path(sys.executable).parent / name)
