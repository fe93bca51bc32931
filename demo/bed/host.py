"""One host: the files that make it itself, and the process that runs it."""

from __future__ import annotations

import shutil
import subprocess
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from demo.bed import command
from demo.bed.cgroup import Groups
from demo.bed.errors import BedError
from demo.bed.machine import Machine, pip_config
from demo.bed.topology import CLUSTER_HOSTS, Plan

_SUPERVISE = Path(__file__).with_name("supervise.sh")
_ENTER = Path(__file__).with_name("enter.sh")
_NSPAWN_ENVIRONMENT = {
    "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1",
    "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "network",
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
}
_CACHES = ("engines", "weights")
"""Folders of the cache that the cluster sees below /shared/sluice."""


@dataclass(frozen=True)
class Host:
    """One host of a bed; ``state`` is the bed's state folder."""

    plan: Plan
    name: str
    state: Path
    cache: Path

    @property
    def folder(self) -> Path:
        """What belongs to this host alone."""
        return self.state / "hosts" / self.name

    @property
    def upper(self) -> Path:
        """The host's own files, above the base."""
        return self.folder / "upper"

    @property
    def console(self) -> Path:
        """What the host printed while it booted."""
        return self.folder / "console.log"

    def create(self, machine: Machine, authorized_key: str) -> str:
        """Write the host's own files; returns its public host key, type and base64."""
        shutil.rmtree(self.folder, ignore_errors=True)
        for name in ("upper", "work", "root"):
            (self.folder / name).mkdir(parents=True)
        self._write("etc/hostname", f"{self.name}\n")
        self._write("etc/hosts", self.plan.hosts_file())
        self._write("etc/machine-id", f"{uuid.uuid4().hex}\n", 0o444)
        self._write("etc/resolv.conf", machine.resolv_conf)
        self._write("etc/environment", "".join(f"{key}={value}\n" for key, value in machine.environment))
        self._write("etc/pip.conf", pip_config(machine.pip))
        self._write("etc/apt/apt.conf.d/90machine", machine.apt_options)
        self._write("root/.ssh/authorized_keys", authorized_key, 0o600)
        if self.name == "idp" and machine.npmrc:
            self._write("root/.npmrc", machine.npmrc, 0o600)
        key = self._make_host_key()
        self._open_folders()
        return key

    def start(self, lower: list[Path], machine: Machine) -> None:
        """Start the process that runs the host, and return while it boots."""
        groups = Groups(self.plan)
        below = ":".join(str(path) for path in lower)
        overlay = f"lowerdir={below},upperdir={self.upper},workdir={self.folder / 'work'}"
        # It enters its group before it runs on its own, so that it can always be found and ended.
        argv = [*_enter(groups.supervisor_paths(self.name)), "setsid", "--fork"]
        argv += [
            "unshare",
            "--mount",
            "--propagation",
            "slave",
            str(_SUPERVISE),
            overlay,
            str(self.folder / "root"),
        ]
        argv += [*_enter(groups.enter_paths(self.name)), *self._nspawn(machine)]
        with self.console.open("ab") as console:
            subprocess.run(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                env=_NSPAWN_ENVIRONMENT,
                cwd="/",
                check=True,
            )

    def wait_off(self, seconds: float = 30.0) -> None:
        """Wait until nothing of the host runs any more."""
        groups = Groups(self.plan)
        deadline = time.monotonic() + seconds
        while groups.processes(self.name) or groups.supervised(self.name):
            if time.monotonic() > deadline:
                raise BedError(f"{self.name} has not gone off within {seconds:.0f} s", f"see {self.console}")
            time.sleep(0.05)

    def _nspawn(self, machine: Machine) -> list[str]:
        argv = [
            "systemd-nspawn", "--quiet", "--boot", "--register=no", "--keep-unit", "--resolv-conf=off",
            "--timezone=off", "--link-journal=no", "--console=pipe",
            "--capability=CAP_NET_ADMIN",  # its network namespace is its own
            f"--machine={self.plan.machine(self.name)}",
            f"--hostname={self.name}",
            f"--directory={self.folder / 'root'}",
            f"--network-namespace-path=/run/netns/{self.plan.namespace(self.name)}",
        ]  # fmt: skip
        return argv + [f"--{kind}={source}:{target}" for kind, source, target in self._binds(machine)]

    def _binds(self, machine: Machine) -> list[tuple[str, Path, Path]]:
        """Folders of this machine that the host sees: (bind or bind-ro, source, target); created here."""
        binds = [("bind", self.cache / "pip", Path("/root/.cache/pip"))]
        if self.name == "idp":
            binds.append(("bind", self.cache / "npm", Path("/root/.npm")))
        if self.name in CLUSTER_HOSTS:
            binds.append(("bind", self.state / "shared", Path("/shared")))
            binds += [("bind", self.cache / name, Path("/shared/sluice") / name) for name in _CACHES]
        for _, source, _ in binds:
            source.mkdir(parents=True, exist_ok=True)
        for name in _CACHES:
            (self.state / "shared/sluice" / name).mkdir(parents=True, exist_ok=True)
        (self.state / "shared").chmod(0o755)
        (self.state / "shared/sluice").chmod(0o755)
        return binds + [("bind-ro", folder, folder) for folder in machine.pip_folders]

    def _write(self, path: str, text: str, mode: int = 0o644) -> None:
        target = self.upper / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        target.chmod(mode)

    def _open_folders(self) -> None:
        """The guest's own folders are readable whatever this process's umask is; root's are closed."""
        for folder in [self.upper, *self.upper.rglob("*/")]:
            closed = folder.relative_to(self.upper).parts[:1] == ("root",)
            folder.chmod(0o700 if closed else 0o755)

    def _make_host_key(self) -> str:
        key = self.upper / "etc/ssh/ssh_host_ed25519_key"
        key.parent.mkdir(parents=True, exist_ok=True)
        make_key(key, f"root@{self.name}")
        return " ".join(key.with_suffix(".pub").read_text().split()[:2])


def make_key(path: Path, comment: str) -> None:
    """Make an SSH key pair without a passphrase."""
    command.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)])


def _enter(groups: list[Path]) -> list[str]:
    return [str(_ENTER), ":".join(str(path) for path in groups)]
