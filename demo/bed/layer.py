"""Packages installed once and shared by hosts: a folder of the cache that lies between base and host.

For development, where each bed need not install everything anew. Without layers, hosts start bare.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from demo.bed import command
from demo.bed.image import BaseImage, locked
from demo.bed.progress import Report

HOST_PACKAGES = {
    "gw": ("nginx", "prometheus", "python3-venv"),
    "login": ("munge", "slurmctld", "slurm-client", "cron", "python3-venv", "libgomp1"),
    "c1": ("munge", "slurmd", "slurm-client", "libgomp1", "bubblewrap"),
    "c2": ("munge", "slurmd", "slurm-client", "libgomp1", "bubblewrap"),
}
"""What the playbooks install on each host."""

_BUILD_PREFIX = "building-"
# A package's services must not start while it is installed; policy-rc.d's 101 says so.
# deb-systemd-helper enables them nevertheless, so that they start when the host boots. Not Slurm's: without a
# configuration a newer slurmd looks for one in the domain's names and holds the boot up for 90 s.
_INSTALL = """set -eu
overlay=$1 root=$2
shift 2
mount -t overlay overlay -o "$overlay" "$root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
chroot "$root" apt-get update -qq
chroot "$root" apt-get install -qq --yes --no-install-recommends "$@"
chroot "$root" apt-get clean
for unit in slurmctld slurmd; do
    rm -f "$root/etc/systemd/system/multi-user.target.wants/$unit.service"
done
"""


@dataclass(frozen=True)
class PackageLayer:
    """Packages on top of a base image."""

    base: BaseImage
    packages: tuple[str, ...]

    @property
    def key(self) -> str:
        """A hash of everything that decides what the layer contains."""
        recipe = {"base": self.base.key, "packages": sorted(self.packages), "install": _INSTALL}
        return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def tree(self) -> Path:
        """The folder of the layer; overlays use it, nothing writes to it."""
        return self.base.cache / "layers" / self.key

    def ensure(self, report: Report) -> list[Path]:
        """Create the layer unless it exists; return the lower folders, topmost first."""
        base = self.base.ensure(report)
        if not self.packages:
            return [base]
        self.tree.parent.mkdir(parents=True, exist_ok=True)
        with locked(self.tree.with_suffix(".lock")):
            if not self.tree.is_dir():
                report(f"installing {', '.join(self.packages)} into a layer (once)")
                self._build(base)
        return [self.tree, base]

    def _build(self, base: Path) -> None:
        prefix = f"{_BUILD_PREFIX}{self.key}-"
        for left in self.tree.parent.glob(f"{prefix}*"):  # by a run that was killed
            shutil.rmtree(left)
        with tempfile.TemporaryDirectory(prefix=prefix, dir=self.tree.parent) as name:
            folder = Path(name)
            upper = folder / "upper"
            for path in (upper / "usr/sbin", upper / "etc", folder / "work", folder / "root"):
                path.mkdir(parents=True)
            for path in (upper, *upper.rglob("*/")):
                path.chmod(0o755)
            policy = upper / "usr/sbin/policy-rc.d"
            policy.write_text("#!/bin/sh\nexit 101\n")
            policy.chmod(0o755)
            (upper / "etc/resolv.conf").write_text(self.base.machine.resolv_conf)
            self._install(f"lowerdir={base},upperdir={upper},workdir={folder / 'work'}", folder / "root")
            for path in (policy, upper / "etc/resolv.conf"):
                path.unlink()
            upper.rename(self.tree)

    def _install(self, overlay: str, root: Path) -> None:
        # The mounts are in a namespace of this command and end with it.
        argv = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "slave"]
        argv += ["sh", "-c", _INSTALL, "sh", overlay, str(root), *self.packages]
        command.run(
            argv, timeout=600, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
        )
