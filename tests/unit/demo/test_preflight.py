"""Whether a machine can carry a bed: the checks that need no machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from demo.bed import preflight, registry
from demo.bed.errors import BedError
from demo.bed.registry import Entry

GIB = 1024**3


def test_available_memory_is_the_kernels_estimate() -> None:
    assert preflight.available_memory("MemTotal: 900 kB\nMemAvailable:   512 kB\n") == 512 * 1024


def test_a_machine_without_that_estimate_is_refused() -> None:
    with pytest.raises(BedError, match="no MemAvailable"):
        preflight.available_memory("MemTotal: 900 kB\n")


def test_root_of_a_container_is_told_what_it_lacks() -> None:
    without_network = f"CapEff:\t{(1 << 41) - 1 - (1 << 12):016x}\n"

    assert preflight.missing_capabilities(without_network) == ["CAP_NET_ADMIN"]
    assert preflight.missing_capabilities("CapEff:\t000001ffffffffff\n") == []


def test_the_index_is_asked_as_pip_itself_would_ask_it() -> None:
    settings = {
        "index-url": "https://pip.example/simple",
        "extra-index-url": "file:///x",
        "trusted-host": "a b",
    }

    assert preflight.index_options(settings) == [
        *("--index-url", "https://pip.example/simple"),
        *("--trusted-host", "a", "--trusted-host", "b"),
    ]


def test_too_little_disk_names_folder_figures_and_remedy(tmp_path: Path) -> None:
    with pytest.raises(BedError, match=r"GiB free, 1000000\.0 GiB are needed.*SLUICE_CACHE"):
        preflight.check_disk([tmp_path / "not" / "made" / "yet"], 10**6 * GIB)

    assert list(tmp_path.iterdir()) == []


def test_memory_too_short_for_a_second_bed_names_the_one_that_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "entries", lambda: [Entry("demo", "10.77.0", "/x", "bare", complete=True)])

    with pytest.raises(BedError, match="the bed demo is up: take it down first"):
        preflight.check_memory("test", 10**6 * GIB)


def test_memory_is_no_matter_for_a_bed_that_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "entries", lambda: [Entry("demo", "10.77.0", "/x", "bare", complete=True)])

    preflight.check_memory("demo", 10**6 * GIB)
