"""Debian packages of this machine: one installs at a time, none of their services starts."""

from __future__ import annotations

import fcntl
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


def test_packages_are_installed_alone_and_their_services_stay_off(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []

    def run(argv: Any, **_more: Any) -> None:
        with (own / "sluice-packages.lock").open() as lock, pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert packages.POLICY.read_text() == "#!/bin/sh\nexit 101\n"
        assert packages.POLICY.stat().st_mode & 0o777 == 0o755
        ran.append(" ".join(argv))

    monkeypatch.setattr(command, "run", run)
    packages.install(["zstd", "nftables"])
    assert [line.split()[-1] for line in ran] == ["update", "nftables"]
    assert all("DPkg::Lock::Timeout=120" in line for line in ran)
    assert not packages.POLICY.exists()


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
