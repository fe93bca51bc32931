"""The root file system all guests start from: built once, kept in the cache as an archive and unpacked."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from demo.bed import command
from demo.bed.errors import BedError
from demo.bed.machine import Machine
from demo.bed.progress import Report

PACKAGES = (
    "systemd", "systemd-sysv", "libpam-systemd", "dbus", "openssh-server", "python3", "python3-apt",
    "iproute2", "sudo", "ca-certificates", "procps", "curl",
)  # fmt: skip
_RECIPE = 1
_BUILD_PREFIX = "building-"
# Cleaned where the base is made, so that every guest gets its own: host keys, machine id.
_FINISH = """set -eu
root=$1
chroot "$root" update-ca-certificates >/dev/null
rm -f "$root"/etc/ssh/ssh_host_*
rm -f "$root"/etc/machine-id "$root"/var/lib/dbus/machine-id "$root"/etc/resolv.conf "$root"/etc/hostname
chroot "$root" systemctl disable --quiet e2scrub_reap.service apt-daily.timer apt-daily-upgrade.timer \
  dpkg-db-backup.timer || true
"""


@dataclass(frozen=True)
class BaseImage:
    """The guests' base for this machine's settings, below ``cache``."""

    machine: Machine
    cache: Path

    @property
    def key(self) -> str:
        """A hash of everything that decides what the image contains."""
        recipe = {
            "recipe": _RECIPE,
            "packages": PACKAGES,
            "finish": _FINISH,
            "sources": [source.line() for source in self.machine.apt_sources],
            "options": self.machine.apt_options,
            "certificates": [_digest(path) for path in self.machine.certificates],
        }
        return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def archive(self) -> Path:
        """Where the image is kept."""
        return self.cache / "base" / f"{self.machine.suite}-{self.key}.tar.zst"

    @property
    def tree(self) -> Path:
        """The folder of the unpacked image; overlays use it, nothing writes to it."""
        return self.cache / "base" / f"{self.machine.suite}-{self.key}"

    def ensure(self, report: Report) -> Path:
        """Build and unpack the image unless that was done already; return the unpacked tree."""
        if self.tree.is_dir():
            return self.tree
        self.archive.parent.mkdir(parents=True, exist_ok=True)
        with locked(self.archive.with_suffix(".lock")):
            if not self.archive.exists():
                report("building the base image (about a minute, once)")
                self._build()
            if not self.tree.is_dir():
                report("unpacking the base image")
                self._unpack()
        return self.tree

    def _build(self) -> None:
        if not self.machine.apt_sources:
            raise BedError(
                "apt's sources on this machine name no Debian release that the guests could be made from",
                "run this on Debian with a 'main' archive in /etc/apt/sources.list or sources.list.d",
            )
        for left in self.archive.parent.glob(f"{_BUILD_PREFIX}*"):  # by a run that was killed
            shutil.rmtree(left)
        with tempfile.TemporaryDirectory(prefix=_BUILD_PREFIX, dir=self.archive.parent) as folder:
            Path(folder).chmod(0o755)  # apt's own account reads in it
            fresh = Path(folder) / "base.tar.zst"
            argv = self._mmdebstrap(Path(folder), fresh)
            command.run(argv, timeout=900, env={**os.environ, "TMPDIR": folder})
            fresh.rename(self.archive)

    def _mmdebstrap(self, folder: Path, target: Path) -> list[str]:
        sources = folder / "sources.list"
        sources.write_text("".join(f"{source.line()}\n" for source in self.machine.apt_sources))
        options = folder / "apt.conf"
        options.write_text(self.machine.apt_options)
        finish = folder / "finish.sh"
        finish.write_text(_FINISH)
        argv = ["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase"]
        argv.append(f"--include={','.join(PACKAGES)}")
        argv += [f"--aptopt={options}"] if self.machine.apt_options else []
        for certificate in self.machine.certificates:
            argv.append(f"--customize-hook=copy-in {certificate} /usr/local/share/ca-certificates")
        for key in {source.signed_by for source in self.machine.apt_sources} - {""}:
            argv.append(f'--customize-hook=mkdir -p "$1"{Path(key).parent}')
            argv.append(f"--customize-hook=upload {key} {key}")
        argv.append(f'--customize-hook=sh {finish} "$1"')
        return [*argv, self.machine.suite, str(target), str(sources)]

    def _unpack(self) -> None:
        fresh = self.tree.with_suffix(".new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
        command.run(
            ["tar", "--extract", "--zstd", "--numeric-owner", "--xattrs", "--xattrs-include=*",
             f"--file={self.archive}", f"--directory={fresh}"],
            timeout=300,
        )  # fmt: skip
        # Ansible's cache_valid_time would take the base's empty lists for fresh ones.
        os.utime(fresh / "var/lib/apt/lists", (0, 0))
        fresh.rename(self.tree)


def cache_folder(environment: dict[str, str] | os._Environ[str]) -> Path:
    """Where built things are kept between beds: $SLUICE_CACHE, or a folder in the home."""
    named = environment.get("SLUICE_CACHE")
    return Path(named) if named else Path(environment.get("HOME", "/root")) / ".cache/sluice"


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file against other processes that build the same thing."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
