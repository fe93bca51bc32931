"""Kernel settings that are changed for beds and given back."""

from __future__ import annotations

from pathlib import Path

import pytest

from demo.bed import kernel

INSTANCES = "fs/inotify/max_user_instances"


@pytest.fixture
def sysctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, value in ((kernel.IP_FORWARD, 0), (INSTANCES, 128)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{value}\n")
    monkeypatch.setattr(kernel, "SETTINGS", tmp_path)
    return tmp_path


def test_the_last_bed_gives_back_what_the_first_one_found(sysctl: Path) -> None:
    saved = sysctl / "saved"
    kernel.raise_all(saved)
    kernel.raise_all(saved)
    assert (kernel.read(kernel.IP_FORWARD), kernel.read(INSTANCES)) == (1, 2048)

    kernel.restore_all(saved)

    assert (kernel.read(kernel.IP_FORWARD), kernel.read(INSTANCES)) == (0, 128)
    assert not saved.exists()


def test_a_setting_that_is_enough_stays(sysctl: Path) -> None:
    (sysctl / INSTANCES).write_text("8192\n")

    kernel.raise_all(sysctl / "saved")

    assert kernel.read(INSTANCES) == 8192


def test_without_anything_saved_nothing_is_set(sysctl: Path) -> None:
    kernel.restore_all(sysctl / "saved")

    assert kernel.read(INSTANCES) == 128
