"""Debian packages of this machine: one installs at a time, none of their services starts."""

from __future__ import annotations

import fcntl
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest

from demo.bed import command, packages
from demo.bed.errors import BedError


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have lock and policy in a folder of the test's own."""
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(packages, "POLICY", tmp_path / "policy-rc.d")
    return tmp_path


def locked(own: Path) -> bool:
    """Tell whether somebody holds the lock."""
    with (own / "sluice-packages.lock").open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def test_packages_are_installed_alone_and_their_services_stay_off(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []

    def run(argv: Any, **_more: Any) -> None:
        assert locked(own)
        assert packages.POLICY.read_text() == "#!/bin/sh\nexit 101\n"
        assert packages.POLICY.stat().st_mode & 0o777 == 0o755
        ran.append(" ".join(argv))

    monkeypatch.setattr(command, "run", run)
    packages.install(["zstd", "nftables"])
    assert [line.split()[-1] for line in ran] == ["update", "nftables"]
    assert all("DPkg::Lock::Timeout=120" in line for line in ran)
    assert not packages.POLICY.exists()


def test_whoever_looks_for_a_program_waits_for_those_who_install(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """dpkg unpacks a program before it makes the folders and accounts that the program needs."""
    installed: list[list[str]] = []
    looked: list[bool] = []

    def which(program: str) -> str | None:
        looked.append(locked(own))
        return None if program.startswith("/usr/sbin") else program

    monkeypatch.setattr(shutil, "which", which)
    monkeypatch.setattr(packages, "install", installed.append)
    packages.ensure({"/usr/sbin/nginx": "nginx", "/usr/sbin/sshd": "openssh-server", "ssh": "openssh-client"})
    assert installed == [["nginx", "openssh-server"]]
    assert looked == [True] * 3
    packages.ensure({"ssh": "openssh-client"})
    assert len(installed) == 1


def test_after_a_failure_others_may_install_and_services_may_start(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(argv: Any, **_more: Any) -> None:
        raise BedError("E: no such package")

    monkeypatch.setattr(command, "run", run)
    with pytest.raises(BedError, match="no such package"):
        packages.install(["zstd"])
    assert not packages.POLICY.exists()
    with packages.alone():
        assert (own / "sluice-packages.lock").exists()


def test_a_policy_of_the_machines_own_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    packages.POLICY.write_text("#!/bin/sh\nexit 0\n")
    with packages.no_services():
        assert packages.POLICY.read_text() == "#!/bin/sh\nexit 0\n"
    assert packages.POLICY.exists()
