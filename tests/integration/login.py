"""A login node on loopback: a real sshd with the deployment's own templates, in namespaces of its own.

The accounts, /run and /dev/log that the sshd and its sessions see exist in a private mount namespace alone:
nothing of the machine changes, and when the tests are killed the kernel clears everything away.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import jinja2

ROOT = Path(__file__).resolve().parents[2]
TEMPLATES = ROOT / "files" / "forcecommand"
ACCOUNT = "sluice-test"
# One for each run of the tests: runs beside each other must not see each other's processes. Above those that
# systemd gives to services, in a bed's hosts too (to 65,519).
UID = 66_000 + os.getpid() % 30_000
# Where the bed's directory lies inside the namespace.
INSIDE = "/run/sluice-test"
# Below those that the kernel takes for clients. Tests run beside each other: each takes any of them.
PORTS = range(10_000, 20_000)
# The machine's own: the account in the namespace cannot read a virtual environment below a home.
PYTHON = "/usr/bin/python3"

NAMESPACE = """\
set -eu
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -m 755 /run/sshd /run/sluice-test
mount --bind "$1" /run/sluice-test
for name in passwd group shadow; do
  mount --bind "$1/accounts/$name" "/etc/$name"
done
mount -t tmpfs -o mode=755 tmpfs "$1/dev"
for node in null zero full random urandom tty; do
  touch "$1/dev/$node"
  mount --bind "/dev/$node" "$1/dev/$node"
done
mkdir "$1/dev/pts"
mount --bind /dev/pts "$1/dev/pts"
ln -s pts/ptmx "$1/dev/ptmx"
ln -s /proc/self/fd "$1/dev/fd"
ln -s /run/sluice-test/log/socket "$1/dev/log"
if [ -e "$1/etc/ssh/sshrc" ]; then
  mount --bind "$1/etc/ssh" /etc/ssh
fi
mount --rbind "$1/dev" /dev
exec /usr/sbin/sshd -D -e -f /run/sluice-test/etc/sshd_config
"""

# Permissive: what holds is the drop-in or the key's own options, nothing else. The key's options cannot keep
# variables out, and neither can what comes after sshd (the loader of /bin/sh obeys LD_PRELOAD): there the
# distribution's own AcceptEnv has to do.
SSHD_CONFIG = """\
{% if drop_in %}
Include /run/sluice-test/etc/sshd_config.d/*.conf
{% endif %}
Port {{ port }}
ListenAddress 127.0.0.1
HostKey /run/sluice-test/etc/host_key
PidFile none
UsePAM no
PermitTTY yes
PermitUserRC yes
AllowTcpForwarding yes
AllowAgentForwarding yes
AllowStreamLocalForwarding yes
GatewayPorts yes
X11Forwarding yes
AcceptEnv {{ "*" if drop_in else "LANG LC_*" }}
# Tells the cipher.
LogLevel DEBUG1
Subsystem sftp internal-sftp
Match User other
    PermitTunnel yes
"""


@dataclass
class Secured:
    """By what the account is confined: the sshd drop-in, or the options of its key.

    And what a site's own hand has left there: `sshrc` is its /etc/ssh/sshrc, `earlier` a drop-in that sshd
    reads before ours. `startups`: connections of one address that have not signed in; 0 leaves sshd alone.
    """

    drop_in: bool
    key_options: bool
    sshrc: str = ""
    earlier: str = ""
    startups: int = 0


class LoginNode:
    """A running sshd; `directory` is the bed's, seen as INSIDE by what runs behind it."""

    def __init__(self, directory: Path, zipapp: Path, secured: Secured) -> None:
        self.directory = directory
        self.port = free_port()
        self.log = SyslogCatcher(directory / "log" / "socket")
        self._secured = secured
        self._process: Optional[subprocess.Popen[bytes]] = None
        self._lay_out(zipapp)

    def start(self) -> None:
        """Start sshd and wait until it listens."""
        self.log.start()
        # unshare kills what is inside when it dies, and it dies with this process.
        command = ["setpriv", "--pdeathsig", "KILL", "--", "unshare", "--mount", "--pid", "--fork"]
        command += ["--kill-child=KILL", "--mount-proc", "--propagation", "private", "/bin/sh", "-c"]
        with (self.directory / "sshd.log").open("wb") as log:
            self._process = subprocess.Popen(
                [*command, NAMESPACE, "sh", str(self.directory)], stdin=subprocess.DEVNULL, stderr=log
            )
        wait_for_port(self.port)

    @property
    def inner_pid(self) -> int:
        """A process that sees the namespaces' files: sshd itself."""
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        return int(children[0])

    def stop(self) -> None:
        """End sshd and every session."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self.log.stop()

    def ssh(self, *options: str, command: tuple[str, ...] = (), key: str = "client") -> list[str]:
        """Return the argv of an ssh client with the proxy's key."""
        arguments = ["ssh", *self.options(key), "-p", str(self.port), *options]
        # The dashes keep ssh from taking parts of the command for options of its own.
        return [*arguments, "--", f"{ACCOUNT}@127.0.0.1", *command]

    def options(self, key: str = "client") -> list[str]:
        """Return the options that ssh, scp and sftp share."""
        settings = (
            "BatchMode=yes",
            "IdentitiesOnly=yes",
            "StrictHostKeyChecking=yes",
            f"UserKnownHostsFile={self.directory / 'known_hosts'}",
            "ConnectTimeout=10",
        )
        found = ["-F", "none", "-i", str(self.directory / "keys" / key)]
        for setting in settings:
            found += ["-o", setting]
        return found

    def sshd_log(self) -> str:
        """Return what sshd has said so far."""
        return (self.directory / "sshd.log").read_text(errors="replace")

    # --- the files ---------------------------------------------------------------------------------------

    def _lay_out(self, zipapp: Path) -> None:
        for name in ("etc/sshd_config.d", "accounts", "dev", "log", "keys", "state/demand", "home/.ssh"):
            (self.directory / name).mkdir(parents=True)
        self.directory.chmod(0o755)
        self.install(zipapp)
        self._make_accounts()
        self._make_keys()
        self._render("sshd_config", SSHD_CONFIG, 0o644)
        self._render("sshd_config.d/10-sluice.conf", template("sshd-sluice.conf.j2"), 0o644)
        self._lay_out_site()
        self._render("relay", template("relay.sh.j2"), 0o755)
        self._make_home()
        os.chown(self.directory / "state", 0, UID)
        (self.directory / "state").chmod(0o2750)
        os.chown(self.directory / "state" / "demand", UID, UID)
        self.configure()

    def _lay_out_site(self) -> None:
        if self._secured.earlier:
            self._render("sshd_config.d/05-site.conf", self._secured.earlier, 0o644)
        if self._secured.startups:
            self._render("sshd_config.d/09-sluice-startups.conf", template("sshd-startups.conf.j2"), 0o644)
        if self._secured.sshrc:
            (self.directory / "etc" / "ssh").mkdir(mode=0o755)
            self._render("ssh/sshrc", self._secured.sshrc, 0o644)

    def install(self, zipapp: Path) -> None:
        """Put the program in place, as the playbook does: written beside it, then renamed."""
        fresh = self.directory / "sluice.pyz.new"
        shutil.copy(zipapp, fresh)
        fresh.rename(self.directory / "sluice.pyz")

    def configure(self, **changes: Any) -> None:
        """Write relay.json; sessions that begin later read it."""
        state = f"{INSIDE}/state"
        settings: dict[str, Any] = {
            "cluster": "test",
            "routing_table": f"{state}/routing.json",
            "demand_dir": f"{state}/demand",
            "figures": f"{state}/figures.json",
            "closed_file": f"{INSIDE}/etc/closed",
            # Whoever measures or attacks here means the path behind the bound; a test of the bound sets it.
            "requests_per_second": 0,
            **changes,
        }
        path = self.directory / "etc" / "relay.json"
        path.write_text(json.dumps(settings))
        os.chown(path, 0, UID)
        path.chmod(0o640)

    def _variables(self) -> dict[str, Any]:
        return {
            "relay_account": ACCOUNT,
            "relay_python": PYTHON,
            "relay_zipapp": f"{INSIDE}/sluice.pyz",
            "relay_config_file": f"{INSIDE}/etc/relay.json",
            "relay_launcher": f"{INSIDE}/etc/relay",
            "relay_authorized_keys": f"{INSIDE}/etc/authorized_keys",
            "relay_max_sessions": 8,
            "relay_public_keys": [self._public("client")],
            "relay_from": ["127.0.0.0/8"],
            "port": self.port,
            "drop_in": self._secured.drop_in,
            "relay_startups_per_source": self._secured.startups,
        }

    def _render(self, name: str, source: str, mode: int) -> None:
        path = self.directory / "etc" / name
        path.write_text(render(source, self._variables()))
        path.chmod(mode)

    def _make_accounts(self) -> None:
        accounts = {
            "passwd": f"{ACCOUNT}:x:{UID}:{UID}::{INSIDE}/home:/bin/sh\n",
            "group": f"{ACCOUNT}:x:{UID}:\n",
            "shadow": f"{ACCOUNT}:*:19000:0:99999:7:::\n",
        }
        for name, line in accounts.items():
            path = self.directory / "accounts" / name
            path.write_text(Path("/etc", name).read_text() + line)
            path.chmod(0o600 if name == "shadow" else 0o644)

    def _make_keys(self) -> None:
        for name in ("client", "stranger"):
            make_key(self.directory / "keys" / name)
        make_key(self.directory / "etc" / "host_key")
        host = (self.directory / "etc" / "host_key.pub").read_text()
        (self.directory / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {host}")
        plain = self._public("client") + "\n"
        keys = template("authorized_keys.j2") if self._secured.key_options else plain
        self._render("authorized_keys", keys, 0o644)

    def _make_home(self) -> None:
        """What the account might have left behind: a key of its own, an rc file, an environment.

        Where no drop-in names the key file, the key with its options is in the account's own.
        """
        ssh = self.directory / "home" / ".ssh"
        own = "" if self._secured.drop_in else (self.directory / "etc" / "authorized_keys").read_text()
        stranger = self._public("stranger") + "\n" if self._secured.drop_in else ""
        (ssh / "authorized_keys").write_text(own + stranger)
        (ssh / "rc").write_text(f"touch {INSIDE}/home/rc-ran\n")
        (ssh / "environment").write_text("LD_PRELOAD=/evil.so\nPYTHONPATH=/evil\n")
        for path in (ssh.parent, ssh, *ssh.iterdir()):
            os.chown(path, UID, UID)
            path.chmod(0o700 if path.is_dir() else 0o600)

    def _public(self, name: str) -> str:
        return (self.directory / "keys" / f"{name}.pub").read_text().strip()


def account_processes() -> list[tuple[int, list[str]]]:
    """Return pid and argv of every process of the account."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and entry.stat().st_uid == UID:
                argv = (entry / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
                found.append((int(entry.name), [part.decode() for part in argv]))
    return found


def relay_processes() -> list[int]:
    """Return the relays that run now. `env`, which becomes one, has the same words behind its own."""
    return [pid for pid, argv in account_processes() if argv[0] == PYTHON and "relay" in argv]


class SyslogCatcher:
    """Stands for the site's syslog: keeps what is sent to its socket."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._lines: list[str] = []

    def start(self) -> None:
        """Listen."""
        self._socket.bind(str(self._path))
        self._path.chmod(0o666)
        self._socket.settimeout(0.2)
        self._thread.start()

    def stop(self) -> None:
        """Stop listening."""
        self._socket.close()
        if self._thread.is_alive():
            self._thread.join(2)

    def text(self) -> str:
        """Return everything logged so far."""
        return "\n".join(self._lines)

    def entries(self, **wanted: object) -> list[dict[str, Any]]:
        """Return the JSON lines in which all the `wanted` fields stand."""
        found = [json.loads(line[line.index("{") :]) for line in tuple(self._lines) if "{" in line]
        return [entry for entry in found if wanted.items() <= entry.items()]

    def _run(self) -> None:
        while True:
            try:
                data = self._socket.recv(65536)
            except socket.timeout:
                continue
            except OSError:
                return
            self._lines.append(data.decode("utf-8", "replace"))


def template(name: str) -> str:
    """Return the text of one of the deployment's templates."""
    return (TEMPLATES / name).read_text()


def render(source: str, variables: dict[str, Any]) -> str:
    """Render as Ansible does."""
    environment = jinja2.Environment(  # noqa: S701 - configuration, not HTML
        undefined=jinja2.StrictUndefined, keep_trailing_newline=True, trim_blocks=True
    )
    return environment.from_string(source).render(**variables)


def make_key(path: Path) -> None:
    """Make an ed25519 key pair."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)


def build_zipapp(directory: Path) -> Path:
    """Build the zipapp as a release does."""
    path = directory / "sluice.pyz"
    builder = ROOT / "files" / "sluice" / "build_zipapp.py"
    subprocess.run([sys.executable, str(builder), "--out", str(path)], check=True, capture_output=True)
    return path


def free_port(address: str = "127.0.0.1") -> int:
    """Return a port that is free now, and that the kernel gives to no client until somebody listens on it."""
    while True:
        port = random.choice(PORTS)
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.bind((address, port))
            return port


def wait_for_port(port: int, seconds: float = 60.0) -> None:
    """Wait until somebody listens on the port."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            assert time.monotonic() < deadline, f"nobody listens on port {port}"
            time.sleep(0.05)
        else:
            return
