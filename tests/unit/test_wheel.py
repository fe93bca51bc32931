"""The wheel for the gateway VM: what it is called, what it carries, and that it says so itself."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import page.build
from sluice.version import RELEASE

SOURCE = Path(__file__).parents[2] / "files/sluice"
SECONDS = 120


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, str(SOURCE / "build_wheel.py"), "--out", str(out)], check=True, timeout=SECONDS
    )
    (built,) = out.glob("*.whl")
    return built


def test_the_wheel_carries_all_files_of_the_package(wheel: Path) -> None:
    """Templates, texts, pages' scripts, migrations and py.typed too, not the modules alone."""
    page.build.ensure()
    files = (path for path in (SOURCE / "src").rglob("*") if path.is_file())
    expected = {str(path.relative_to(SOURCE / "src")) for path in files if "__pycache__" not in path.parts}
    assert "sluice/web/static/manifest.json" in expected
    with zipfile.ZipFile(wheel) as bundle:
        names = {name for name in bundle.namelist() if ".dist-info/" not in name}
    assert "sluice/py.typed" in expected
    assert names == expected | {"sluice/_build.py"}


def test_name_metadata_and_program_tell_one_version(wheel: Path) -> None:
    _, version, _ = wheel.name.split("-", 2)
    with zipfile.ZipFile(wheel) as bundle:
        (metadata,) = (name for name in bundle.namelist() if name.endswith(".dist-info/METADATA"))
        assert f"\nVersion: {version}\n" in bundle.read(metadata).decode()
    program = (
        f"import sys; sys.path.insert(0, {str(wheel)!r}); from sluice import cli; cli.main(['--version'])"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", program], capture_output=True, text=True, timeout=SECONDS
    )
    assert done.stdout == f"sluice {version}\n"
    assert version.startswith(f"{RELEASE}+")
