"""The alert rules, by Prometheus' own `promtool test rules`."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from demo.bed import packages

TESTS = Path(__file__).parent / "prometheus"


@pytest.fixture(scope="module")
def promtool(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return promtool: the one that is installed, or the one in Debian's package, unpacked into the cache."""
    installed = shutil.which("promtool")
    if installed:
        return installed
    cache = Path(os.environ.get("SLUICE_CACHE") or Path.home() / ".cache" / "sluice")
    tool = cache / "promtool"
    if not tool.exists():
        _unpack(tmp_path_factory.mktemp("promtool"), tool)
    return str(tool)


def _unpack(folder: Path, tool: Path) -> None:
    for argv in (
        ["apt-get", "download", "--quiet", "prometheus"],
        ["sh", "-c", "dpkg-deb --extract prometheus_*.deb root"],
    ):
        # While another program's `apt-get update` puts new lists in place, there may be none.
        with packages.alone():
            done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, timeout=110, check=False)
        assert done.returncode == 0, f"{argv[0]}: {done.stderr}\nwhat helps: apt-get update"
    tool.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(folder / "root" / "usr" / "bin" / "promtool", tool)


@pytest.mark.parametrize("path", sorted(TESTS.glob("*.test.yml")), ids=lambda path: path.name)
def test_each_alert_fires_when_it_should(path: Path, promtool: str) -> None:
    done = subprocess.run(
        [promtool, "test", "rules", str(path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
