"""A bed: its hosts, and how to start, stop and use them."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Literal

from demo.bed import command, network, packages, registry
from demo.bed.cgroup import Groups
from demo.bed.errors import BedError
from demo.bed.host import Host, make_key
from demo.bed.image import BaseImage, cache_folder
from demo.bed.layer import HOST_PACKAGES, PackageLayer
from demo.bed.machine import Machine, discover
from demo.bed.progress import Report, silent
from demo.bed.topology import HOST_NAMES, SUITES, Plan

MACHINE_PACKAGES = {
    "systemd-nspawn": "systemd-container",
    "mmdebstrap": "mmdebstrap",
    "nft": "nftables",
    "zstd": "zstd",
    "ssh": "openssh-client",
    "ip": "iproute2",
}
"""Command to the Debian package that has it, for what this machine itself needs."""

Layers = Literal["bare", "fast"]

_BOOT_SECONDS = 120.0
_SSH_CONFIG = """Host {names}
  User root
  IdentityFile {ssh}/id_ed25519
  IdentitiesOnly yes
  UserKnownHostsFile {ssh}/known_hosts
  GlobalKnownHostsFile /dev/null
  StrictHostKeyChecking yes
  HostKeyAlgorithms ssh-ed25519
  UpdateHostKeys no
  ConnectTimeout 5
  LogLevel ERROR
"""


@dataclass(frozen=True)
class HostStatus:
    """The state of one host. ``memory`` is in bytes."""

    name: str
    address: str
    up: bool
    memory: int


class Bed:
    """Test-bed hosts ``gw``, ``idp``, ``login``, ``c1`` and ``c2``, or some of them, on one subnet.

    ``name`` and ``subnet`` differ from bed to bed. ``hosts`` and ``suite`` say what it consists of (see
    Plan). ``state`` is the folder of this bed; ``cache`` is the folder of what all beds share. With
    ``layers="fast"`` the hosts start with the playbooks' packages installed, with ``bare`` without. As a
    context manager, the bed is up inside and down after.
    """

    def __init__(
        self,
        name: str,
        subnet: str,
        state: Path,
        *,
        layers: Layers = "bare",
        hosts: tuple[str, ...] = HOST_NAMES,
        suite: str = SUITES[0],
        cache: Path | None = None,
        report: Report = silent,
    ) -> None:
        self.plan = Plan(name, subnet, hosts, suite)
        self.state = state.resolve()
        self.cache = (cache or cache_folder(os.environ)).resolve()
        self._layers = layers
        self._report = report
        self._groups = Groups(self.plan)
        for path in (self.state, self.cache):
            if any(character in str(path) for character in ":, \t\n"):
                raise BedError(f"the path {path} has a colon, comma or blank", "overlays need one without")

    def __enter__(self) -> Bed:
        self.up()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()

    @property
    def ssh_config(self) -> Path:
        """An ssh client's configuration that knows every host by name, with pinned host keys."""
        return self.state / "ssh/config"

    @property
    def shared(self) -> Path:
        """The folder that login, c1 and c2 see as /shared."""
        return self.state / "shared"

    def up(self) -> bool:
        """Bring all hosts up and switch on hosts that are off; return False if all were running already."""
        with registry.exclusive(self.plan):
            if self._own_or_leftover().complete:
                return self._resume()
            self._check_subnet()
            self._install_packages()
            self._remove()
            try:
                self._create()
            except BaseException:
                self._report("stopping what had been started")
                self._remove()
                raise
            return True

    def down(self) -> bool:
        """End everything of this bed and remove its hosts' files; return False if there was nothing."""
        with registry.exclusive(self.plan):
            present = network.exists(self.plan) or bool(self._groups.names())
            self._own_or_leftover()
            self._remove()
            return present

    def clean(self) -> None:
        """Take the bed down and remove its whole state folder."""
        self.down()
        shutil.rmtree(self.state, ignore_errors=True)

    def status(self) -> list[HostStatus]:
        """Every host's address, whether it runs, and its memory."""
        return [
            HostStatus(
                name,
                self.plan.address(name),
                self._groups.init(name) is not None,
                self._groups.memory(name),
            )
            for name in self.plan.hosts
        ]

    def run(
        self,
        host: str,
        argv: Sequence[str],
        *,
        stdin: str | None = None,
        timeout: float = 120.0,
        check: bool = False,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as root on a host. With ``check``, a failure is a BedError that shows its output."""
        return command.run(self.ssh_argv(host, argv), stdin=stdin, timeout=timeout, check=check)

    def ssh_argv(self, host: str, argv: Sequence[str] = ()) -> list[str]:
        """The ssh command that runs ``argv`` on a host, or a shell without one."""
        self._known(host)
        remote = [shlex.join(argv)] if argv else []
        return ["ssh", "-F", str(self.ssh_config), host, *remote]

    def power_cut(self, host: str) -> None:
        """Kill a host's PID 1 without warning. The host stays off."""
        self._known(host)
        os.kill(self._running(host), signal.SIGKILL)
        self._host(host).wait_off()

    def reboot(self, host: str) -> None:
        """Reboot a host from the inside and wait until it has booted."""
        self._known(host)
        before = self._running(host)
        # sshd may end before the command has answered.
        self.run(host, ["systemctl", "reboot"])
        deadline = time.monotonic() + _BOOT_SECONDS
        while self._groups.init(host) in (before, None):
            if time.monotonic() > deadline:
                raise self._boot_failure(host, "it does not come back from a reboot")
            time.sleep(0.1)
        self._wait_booted(host)

    def power_on(self, host: str) -> None:
        """Switch a host on with the files it had when it went off, and wait until it has booted."""
        self._known(host)
        entry = registry.find(self.plan.name)
        if entry is None or not entry.complete:
            raise BedError(f"the bed {self.plan.name} is not up", "bring it up first")
        if not self._groups.processes(host):
            machine = discover(os.environ, self.plan.suite)
            self._host(host).start(self._lower(host, machine, entry.layers), machine)
        self._wait_booted(host)

    def _create(self) -> None:
        machine = discover(os.environ, self.plan.suite)
        lower = {name: self._lower(name, machine, self._layers) for name in self.plan.hosts}
        self._report("making the network")
        registry.register(self._entry())
        with registry.network_lock():
            network.create(self.plan)
        self._report("making the hosts")
        self._create_hosts(machine)
        self._report(f"booting {', '.join(self.plan.hosts)}")
        for name in self.plan.hosts:
            self._host(name).start(lower[name], machine)
        self._wait_all_booted()
        entry = registry.find(self.plan.name)
        if entry is None:
            raise BedError(f"the bed {self.plan.name} was unregistered while it came up", "bring it up again")
        registry.write(replace(entry, complete=True))

    def _resume(self) -> bool:
        off = [host for host in self.status() if not host.up]
        for host in off:
            self._report(f"switching {host.name} on")
            self.power_on(host.name)
        return bool(off)

    def _install_packages(self) -> None:
        missing = sorted(
            {package for name, package in MACHINE_PACKAGES.items() if shutil.which(name) is None}
        )
        if not missing:
            return
        self._report(f"installing {', '.join(missing)} on this machine")
        packages.install(missing)

    def _lower(self, host: str, machine: Machine, layers: str) -> list[Path]:
        further = HOST_PACKAGES.get(host, ()) if layers == "fast" else ()
        return PackageLayer(BaseImage(machine, self.cache), further).ensure(self._report)

    def _create_hosts(self, machine: Machine) -> None:
        ssh = self.state / "ssh"
        ssh.mkdir(parents=True, exist_ok=True, mode=0o700)
        make_key(ssh / "id_ed25519", f"bed {self.plan.name}")
        authorized = (ssh / "id_ed25519.pub").read_text()
        keys = {name: self._host(name).create(machine, authorized) for name in self.plan.hosts}
        lines = [f"{name},{self.plan.address(name)} {key}\n" for name, key in keys.items()]
        (ssh / "known_hosts").write_text("".join(lines))
        config = _SSH_CONFIG.format(names=" ".join(self.plan.hosts), ssh=ssh)
        config += "".join(f"Host {name}\n  HostName {self.plan.address(name)}\n" for name in self.plan.hosts)
        self.ssh_config.write_text(config)

    def _wait_all_booted(self) -> None:
        with ThreadPoolExecutor(len(self.plan.hosts)) as pool:
            for _ in pool.map(self._wait_booted, self.plan.hosts):
                continue

    def _wait_booted(self, host: str) -> None:
        deadline = time.monotonic() + _BOOT_SECONDS
        while not self._accepts(host):
            if time.monotonic() > deadline:
                raise self._boot_failure(host, "no sshd answers")
            time.sleep(0.1)
        # Its exit status tells "degraded" (a unit failed) from "running"; either way the boot has ended.
        remaining = max(1.0, deadline - time.monotonic())
        argv = self.ssh_argv(host, ["systemctl", "is-system-running", "--wait"])
        done = command.run(argv, check=False, timeout=remaining)
        if done.stdout.strip() not in ("running", "degraded"):
            raise self._boot_failure(host, done.stderr.strip() or done.stdout.strip())

    def _accepts(self, host: str) -> bool:
        try:
            with socket.create_connection((self.plan.address(host), 22), timeout=1.0) as connection:
                return connection.recv(4) == b"SSH-"
        except OSError:
            return False

    def _boot_failure(self, host: str, what: str) -> BedError:
        console = self._host(host).console
        tail = "\n".join(console.read_text(errors="replace").splitlines()[-15:]) if console.exists() else ""
        return BedError(f"{host} did not boot within {_BOOT_SECONDS:.0f} s: {what}\n{tail}")

    def _remove(self) -> None:
        self._groups.kill_all()
        self._remove_network(self.plan)
        for name in HOST_NAMES:
            # A killed systemd-nspawn leaves this behind.
            shutil.rmtree(Path("/run/systemd/nspawn/propagate", self.plan.machine(name)), ignore_errors=True)
        for folder in ("hosts", "ssh", "shared"):
            shutil.rmtree(self.state / folder, ignore_errors=True)
        registry.unregister(self.plan.name)

    def _remove_network(self, plan: Plan) -> None:
        with registry.network_lock():
            network.remove(plan, guard=registry.neighbour(plan) is None)

    def _entry(self) -> registry.Entry:
        plan = self.plan
        return registry.Entry(
            plan.name, plan.subnet, str(self.state), self._layers, hosts=plan.hosts, suite=plan.suite
        )

    def _own_or_leftover(self) -> registry.Entry:
        """Return this bed's entry, or the one it would get; refuse a living bed of this name from elsewhere.

        A bed from elsewhere none of whose processes lives is what a run left whose processes were all killed,
        perhaps with its checkout gone. Its network goes; its hosts' files, in its own state folder, stay.
        """
        own, entry = self._entry(), registry.find(self.plan.name)
        if entry is None:
            return own
        if entry == replace(own, layers=entry.layers, complete=entry.complete):
            return entry
        if self._groups.alive():
            raise BedError(
                f"a bed named {self.plan.name} is up from {entry.state} on {entry.subnet}.0/24"
                f" with {', '.join(entry.hosts)} on {entry.suite}",
                f"use that --state, --subnet, --hosts and --suite, or another --name than {self.plan.name}",
            )
        self._report(f"removing the network of a bed that ended without 'down', from {entry.state}")
        self._remove_network(Plan(entry.name, entry.subnet, entry.hosts, entry.suite))
        return own

    def _check_subnet(self) -> None:
        other = registry.neighbour(self.plan)
        if other is not None:
            raise BedError(
                f"the subnet {self.plan.network} belongs to the bed {other.name}, which is up",
                f"choose another --subnet, or take that one down with --name {other.name}",
            )

    def _running(self, host: str) -> int:
        init = self._groups.init(host)
        if init is None:
            raise BedError(f"{host} is not running", f"switch it on: power-on {host}")
        return init

    def _host(self, name: str) -> Host:
        return Host(self.plan, name, self.state, self.cache)

    def _known(self, host: str) -> None:
        if host not in self.plan.hosts:
            raise BedError(f"there is no host {host!r}", f"choose one of {', '.join(self.plan.hosts)}")
